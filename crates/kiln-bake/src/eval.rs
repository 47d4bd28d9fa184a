//! Evaluates expressions. Variables are evaluated when they are first needed, so their order does not matter.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use hcl_edit::expr::{BinaryOperator, Expression, ObjectKey, TraversalOperator, UnaryOperator};
use hcl_edit::{Number, Span};
use serde_json::{Map, Value};

use crate::error::{BakeError, BakeErrorKind};
use crate::functions;

/// Calls of functions in functions beyond which evaluation stops.
const MAX_DEPTH: usize = 64;

/// Looks up variables of the environment.
pub(crate) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

pub(crate) type Result<T, E = BakeError> = std::result::Result<T, E>;

/// An expression, or a JSON value whose strings are templates.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Hcl(Expression),
    Json(Value),
}

/// An expression and the file that it is in.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) expr: Expr,
    pub(crate) file: std::sync::Arc<File>,
}

/// A file and its text, for places.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl File {
    /// Line and column of a byte.
    pub(crate) fn place(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

/// A `variable` block, or an attribute at the top of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variable {
    pub(crate) default: Option<Located>,
    /// What it is for.
    pub(crate) description: Option<Located>,
    /// Its type as written.
    pub(crate) kind: Option<String>,
    /// `list(string)` and the like: how a value of the environment is read.
    pub(crate) is_list: bool,
    /// Conditions and messages.
    pub(crate) validations: Vec<(Located, Located)>,
}

/// A `function` block.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) params: Vec<String>,
    pub(crate) variadic: Option<String>,
    pub(crate) result: Located,
}

/// Everything that expressions can name.
pub(crate) struct Evaluator<'a> {
    pub(crate) variables: &'a BTreeMap<String, Variable>,
    pub(crate) functions: &'a BTreeMap<String, Function>,
    pub(crate) environment: &'a dyn Fn(&str) -> Option<String>,
    pub(crate) values: RefCell<BTreeMap<String, Value>>,
    pub(crate) pending: RefCell<BTreeSet<String>>,
    pub(crate) depth: RefCell<usize>,
    pub(crate) now: &'a str,
}

/// Names of a matrix, a `for`, or a function's parameters; the last one counts.
pub(crate) type Locals = Vec<(String, Value)>;

impl Evaluator<'_> {
    /// Evaluates an expression where it stands.
    pub(crate) fn evaluate(&self, located: &Located, locals: &Locals) -> Result<Value> {
        match &located.expr {
            Expr::Hcl(expr) => self.expr(expr, locals, &located.file),
            Expr::Json(value) => self.json(value, locals, &located.file),
        }
    }

    fn json(&self, value: &Value, locals: &Locals, file: &File) -> Result<Value> {
        Ok(match value {
            Value::String(text) if text.contains("${") => {
                let template = hcl_edit::parser::parse_template(text).map_err(|error| {
                    let kind = BakeErrorKind::Syntax { language: "template", message: error.message().to_owned() };
                    BakeError { file: file.name.clone(), place: None, kind }
                })?;
                // Places in a string of JSON are not known.
                let file = File { name: file.name.clone(), text: String::new() };
                self.template(template.iter(), locals, &file)?
            }
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.json(item, locals, file)).collect::<Result<_>>()?)
            }
            Value::Object(fields) => {
                let fields = fields.iter().map(|(name, field)| Ok((name.clone(), self.json(field, locals, file)?)));
                Value::Object(fields.collect::<Result<_>>()?)
            }
            other => other.clone(),
        })
    }

    pub(crate) fn expr(&self, expr: &Expression, locals: &Locals, file: &File) -> Result<Value> {
        let place = || file.place(expr.span().map_or(0, |span| span.start));
        self.expr_inner(expr, locals, file).map_err(|error| error.at(&file.name, place()))
    }

    fn expr_inner(&self, expr: &Expression, locals: &Locals, file: &File) -> Result<Value> {
        Ok(match expr {
            Expression::Null(_) => Value::Null,
            Expression::Bool(value) => Value::Bool(*value.value()),
            Expression::Number(number) => number_value(number.value()),
            Expression::String(text) => Value::String(text.value().clone()),
            Expression::Array(items) => {
                Value::Array(items.iter().map(|item| self.expr(item, locals, file)).collect::<Result<_>>()?)
            }
            Expression::Object(object) => {
                let mut fields = Map::new();
                for (key, value) in object {
                    let key = match key {
                        ObjectKey::Ident(name) => name.to_string(),
                        // `(name) = x` is evaluated, `name = x` is not.
                        ObjectKey::Expression(key) => text(&self.expr(key, locals, file)?, "key")?,
                    };
                    fields.insert(key, self.expr(value.expr(), locals, file)?);
                }
                Value::Object(fields)
            }
            Expression::StringTemplate(template) => self.template(template.iter(), locals, file)?,
            Expression::HeredocTemplate(heredoc) => {
                // hcl-edit leaves the newline before the delimiter to the delimiter; HCL counts it.
                let value = self.template(heredoc.template.iter(), locals, file)?;
                let body = text(&value, "here-document")?;
                Value::String(if body.is_empty() || body.ends_with('\n') { body } else { body + "\n" })
            }
            Expression::Parenthesis(inner) => self.expr(inner.inner(), locals, file)?,
            Expression::Variable(name) => self.variable(name.as_str(), locals)?,
            Expression::Conditional(conditional) => {
                let chosen = if truth(&self.expr(&conditional.cond_expr, locals, file)?, "condition")? {
                    &conditional.true_expr
                } else {
                    &conditional.false_expr
                };
                self.expr(chosen, locals, file)?
            }
            // These two look at errors, so their arguments are not evaluated before.
            Expression::FuncCall(call) if call.name.name.as_str() == "try" => {
                let mut results = call.args.iter().map(|argument| self.expr(argument, locals, file));
                let nothing = || fails("try", "takes at least one argument");
                let first = results.next().ok_or_else(nothing)?;
                return first.or_else(|error| results.find_map(Result::ok).ok_or(error));
            }
            Expression::FuncCall(call) if call.name.name.as_str() == "can" => {
                Value::Bool(call.args.get(0).is_some_and(|argument| self.expr(argument, locals, file).is_ok()))
            }
            Expression::FuncCall(call) => {
                let mut arguments: Vec<Value> =
                    call.args.iter().map(|argument| self.expr(argument, locals, file)).collect::<Result<_>>()?;
                if call.args.expand_final()
                    && let Some(last) = arguments.pop()
                {
                    let Value::Array(items) = last else { return Err(wrong("...", "a list")) };
                    arguments.extend(items);
                }
                self.call(call.name.name.as_str(), arguments)?
            }
            Expression::Traversal(traversal) => {
                let mut value = self.expr(&traversal.expr, locals, file)?;
                for (index, operator) in traversal.operators.iter().enumerate() {
                    value = match operator.value() {
                        TraversalOperator::GetAttr(name) => field(&value, name.as_str())?,
                        TraversalOperator::Index(index) => element(&value, &self.expr(index, locals, file)?)?,
                        TraversalOperator::LegacyIndex(index) => element(&value, &Value::from(*index.value()))?,
                        TraversalOperator::AttrSplat(_) | TraversalOperator::FullSplat(_) => {
                            let items = match value {
                                Value::Array(items) => items,
                                Value::Null => vec![],
                                other => vec![other],
                            };
                            let rest = &traversal.operators[index + 1..];
                            let items = items.into_iter().map(|mut item| {
                                for operator in rest {
                                    item = match operator.value() {
                                        TraversalOperator::GetAttr(name) => field(&item, name.as_str())?,
                                        TraversalOperator::Index(index) => {
                                            element(&item, &self.expr(index, locals, file)?)?
                                        }
                                        _ => return Err(wrong("splat", "followed by names or indexes")),
                                    };
                                }
                                Ok(item)
                            });
                            return Ok(Value::Array(items.collect::<Result<_>>()?));
                        }
                    };
                }
                value
            }
            Expression::UnaryOp(operation) => {
                let value = self.expr(&operation.expr, locals, file)?;
                match operation.operator.value() {
                    UnaryOperator::Not => Value::Bool(!truth(&value, "!")?),
                    UnaryOperator::Neg => number(-functions::float(&value, "-")?),
                }
            }
            Expression::BinaryOp(operation) => {
                let left = self.expr(&operation.lhs_expr, locals, file)?;
                let right = self.expr(&operation.rhs_expr, locals, file)?;
                binary(*operation.operator.value(), &left, &right)?
            }
            Expression::ForExpr(for_expr) => self.for_expr(for_expr, locals, file)?,
        })
    }

    /// The value of a variable: a local one, or one of the file, which the environment may set.
    pub(crate) fn variable(&self, name: &str, locals: &Locals) -> Result<Value> {
        if let Some((_, value)) = locals.iter().rev().find(|(local, _)| local == name) {
            return Ok(value.clone());
        }
        if let Some(value) = self.values.borrow().get(name) {
            return Ok(value.clone());
        }
        let Some(variable) = self.variables.get(name) else {
            return Err(BakeError::new(BakeErrorKind::Unknown { what: "variable", name: name.to_owned() }));
        };
        if !self.pending.borrow_mut().insert(name.to_owned()) {
            return Err(BakeError::new(BakeErrorKind::Cycle { what: "variable", name: name.to_owned() }));
        }
        let default = variable.default.as_ref().map(|default| self.evaluate(default, &vec![]));
        self.pending.borrow_mut().remove(name);
        // As bake has it: what has neither default nor type is empty, what has a type is null.
        let unset = if variable.kind.is_none() { Value::from("") } else { Value::Null };
        let default = default.transpose()?.unwrap_or(unset);
        let value = match (self.environment)(name) {
            Some(given) => typed(name, &given, &default, variable.is_list)?,
            None => default,
        };
        self.values.borrow_mut().insert(name.to_owned(), value.clone());
        for (condition, message) in &variable.validations {
            if !truth(&self.evaluate(condition, &vec![])?, "condition")? {
                let message = text(&self.evaluate(message, &vec![])?, "error_message")?;
                let kind = BakeErrorKind::Validation { name: name.to_owned(), message };
                let offset = match &condition.expr {
                    Expr::Hcl(expr) => expr.span().map_or(0, |span| span.start),
                    Expr::Json(_) => 0,
                };
                return Err(BakeError::new(kind).at(&condition.file.name, condition.file.place(offset)));
            }
        }
        Ok(value)
    }

    fn call(&self, name: &str, arguments: Vec<Value>) -> Result<Value> {
        if name == "timestamp" {
            return Ok(Value::from(self.now));
        }
        let Some(function) = self.functions.get(name) else { return functions::call(name, &arguments) };
        let fails = |message: String| fails(name, &message);
        let (wanted, given) = (function.params.len(), arguments.len());
        if given < wanted || given > wanted && function.variadic.is_none() {
            return Err(fails(format!("takes {wanted} arguments, not {given}")));
        }
        if *self.depth.borrow() >= MAX_DEPTH {
            return Err(fails("calls itself too often".into()));
        }
        let mut arguments = arguments.into_iter();
        let mut locals: Locals = function.params.iter().cloned().zip(arguments.by_ref()).collect();
        locals.extend(function.variadic.iter().map(|name| (name.clone(), Value::Array(arguments.by_ref().collect()))));
        *self.depth.borrow_mut() += 1;
        let result = self.evaluate(&function.result, &locals);
        *self.depth.borrow_mut() -= 1;
        result
    }
}

/// A value of the environment, read as what the default is.
fn typed(name: &str, given: &str, default: &Value, is_list: bool) -> Result<Value> {
    let wrong = |expected| BakeError::new(BakeErrorKind::Type { name: name.to_owned(), expected });
    match default {
        _ if is_list => Ok(given.split(',').map(|item| Value::from(item.trim())).collect()),
        Value::Bool(_) => match given {
            "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(Value::Bool(false)),
            _ => Err(wrong("true or false in the environment, as its default is")),
        },
        Value::Number(_) => {
            given.parse().map(number).map_err(|_| wrong("a number in the environment, as its default is"))
        }
        Value::Array(_) | Value::Object(_) => Err(wrong("left out of the environment: it has no simple type")),
        Value::Null | Value::String(_) => Ok(Value::from(given)),
    }
}

fn fails(function: &str, message: &str) -> BakeError {
    BakeError::new(BakeErrorKind::Function { function: function.to_owned(), message: message.to_owned() })
}

pub(crate) fn wrong(name: &str, expected: &'static str) -> BakeError {
    BakeError::new(BakeErrorKind::Type { name: name.to_owned(), expected })
}

fn field(value: &Value, name: &str) -> Result<Value> {
    let found = value.as_object().and_then(|fields| fields.get(name));
    found.cloned().ok_or_else(|| BakeError::new(BakeErrorKind::Unknown { what: "field", name: name.to_owned() }))
}

fn element(value: &Value, index: &Value) -> Result<Value> {
    match value {
        Value::Array(items) => {
            let at = index.as_u64().and_then(|at| usize::try_from(at).ok());
            at.and_then(|at| items.get(at)).cloned().ok_or_else(|| wrong("index", "in the list"))
        }
        _ => field(value, &text(index, "index")?),
    }
}

fn binary(operator: BinaryOperator, left: &Value, right: &Value) -> Result<Value> {
    let numbers = || Ok::<_, BakeError>((functions::float(left, "operand")?, functions::float(right, "operand")?));
    Ok(match operator {
        BinaryOperator::Eq => Value::Bool(same(left, right)),
        BinaryOperator::NotEq => Value::Bool(!same(left, right)),
        BinaryOperator::And => Value::Bool(truth(left, "&&")? && truth(right, "&&")?),
        BinaryOperator::Or => Value::Bool(truth(left, "||")? || truth(right, "||")?),
        BinaryOperator::LessEq => numbers().map(|(a, b)| Value::Bool(a <= b))?,
        BinaryOperator::GreaterEq => numbers().map(|(a, b)| Value::Bool(a >= b))?,
        BinaryOperator::Less => numbers().map(|(a, b)| Value::Bool(a < b))?,
        BinaryOperator::Greater => numbers().map(|(a, b)| Value::Bool(a > b))?,
        BinaryOperator::Plus => numbers().map(|(a, b)| number(a + b))?,
        BinaryOperator::Minus => numbers().map(|(a, b)| number(a - b))?,
        BinaryOperator::Mul => numbers().map(|(a, b)| number(a * b))?,
        BinaryOperator::Div | BinaryOperator::Mod => {
            let (a, b) = numbers()?;
            if b == 0.0 {
                return Err(wrong("divisor", "other than zero"));
            }
            number(if operator == BinaryOperator::Div { a / b } else { a % b })
        }
    })
}

/// Equality, in which 1 and 1.0 are the same.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left.total_cmp(&right).is_eq(),
        _ => left == right,
    }
}

fn number_value(value: &Number) -> Value {
    value.as_i64().map(Value::from).or_else(|| value.as_f64().map(number)).unwrap_or(Value::Null)
}

/// A number; without a fraction it is an integer.
pub(crate) fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
        return Value::from(value as i64);
    }
    Value::from(value)
}

pub(crate) fn truth(value: &Value, name: &str) -> Result<bool> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::String(text) if text == "true" => Ok(true),
        Value::String(text) if text == "false" => Ok(false),
        _ => Err(wrong(name, "true or false")),
    }
}

/// A value as text, if it is one that converts.
pub(crate) fn text(value: &Value, name: &str) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(value) => Ok(value.to_string()),
        _ => Err(wrong(name, "a string")),
    }
}
