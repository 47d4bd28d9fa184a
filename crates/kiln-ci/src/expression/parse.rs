//! The text of an expression as a tree. The grammar is that of GitHub's documentation ("Evaluate expressions").

use serde_json::{Number, Value};

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expression {
    Literal(Value),
    Name(String),
    /// `a.b` and `a['b']`.
    Index(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
    Call(String, Vec<Expression>),
}

/// What stands between two operands; `<=` and `>=` are negations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    Unequal,
    Less,
    Greater,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Literal(Value),
    Name(String),
    Sign(&'static str),
}

const SIGNS: [&str; 15] = ["&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", ".", ","];

/// Nesting that nobody writes.
const DEPTH: usize = 50;

/// Reads an expression; nothing if it is none.
pub(crate) fn parse(text: &str) -> Option<Expression> {
    let mut reader = Reader { tokens: tokens(text)?, at: 0, depth: 0 };
    let expression = reader.binary(0)?;
    (reader.at == reader.tokens.len()).then_some(expression)
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            let mut literal = String::new();
            rest = &rest[1..];
            loop {
                let end = rest.find('\'')?;
                literal.push_str(&rest[..end]);
                rest = &rest[end + 1..];
                let Some(more) = rest.strip_prefix('\'') else { break };
                literal.push('\'');
                rest = more;
            }
            tokens.push(Token::Literal(Value::String(literal)));
        } else if first.is_ascii_digit() || matches!(first, '-' | '+') {
            let end = rest[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '.').map_or(rest.len(), |at| at + 1);
            let number: f64 = rest[..end].parse().ok()?;
            let whole = rest[..end].parse::<i64>().ok().map(Number::from);
            tokens.push(Token::Literal(Value::Number(whole.or_else(|| Number::from_f64(number))?)));
            rest = &rest[end..];
        } else if first.is_alphabetic() || matches!(first, '_' | '*') {
            let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '*');
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            tokens.push(match &rest[..end] {
                "true" => Token::Literal(Value::Bool(true)),
                "false" => Token::Literal(Value::Bool(false)),
                "null" => Token::Literal(Value::Null),
                name => Token::Name(name.to_owned()),
            });
            rest = &rest[end..];
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign))?;
            tokens.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        }
        rest = rest.trim_start();
    }
    Some(tokens)
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Reader {
    fn take(&mut self, sign: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Sign(s)) if *s == sign);
        self.at += usize::from(found);
        found
    }

    /// Operators from a level of binding on: `||`, `&&`, comparisons.
    fn binary(&mut self, level: usize) -> Option<Expression> {
        const LEVELS: [&[(&str, Operator, bool)]; 3] = [
            &[("||", Operator::Or, false)],
            &[("&&", Operator::And, false)],
            &[
                ("==", Operator::Equal, false),
                ("!=", Operator::Unequal, false),
                ("<=", Operator::Greater, true),
                (">=", Operator::Less, true),
                ("<", Operator::Less, false),
                (">", Operator::Greater, false),
            ],
        ];
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some((_, operator, negated)) = operators.iter().find(|(sign, ..)| self.take(sign)) {
            let right = self.binary(level + 1)?;
            left = Expression::Binary(*operator, Box::new(left), Box::new(right));
            if *negated {
                left = Expression::Not(Box::new(left));
            }
        }
        Some(left)
    }

    fn unary(&mut self) -> Option<Expression> {
        self.depth += 1;
        if self.depth > DEPTH {
            return None;
        }
        let found = if self.take("!") { Some(Expression::Not(Box::new(self.unary()?))) } else { self.postfix() };
        self.depth -= 1;
        found
    }

    fn postfix(&mut self) -> Option<Expression> {
        let mut expression = match self.tokens.get(self.at)?.clone() {
            Token::Literal(value) => {
                self.at += 1;
                Expression::Literal(value)
            }
            Token::Name(name) => {
                self.at += 1;
                if self.take("(") { Expression::Call(name, self.arguments()?) } else { Expression::Name(name) }
            }
            Token::Sign("(") => {
                self.at += 1;
                let inner = self.binary(0)?;
                self.take(")").then_some(inner)?
            }
            Token::Sign(_) => return None,
        };
        loop {
            if self.take(".") {
                let Token::Name(name) = self.tokens.get(self.at)?.clone() else { return None };
                self.at += 1;
                expression =
                    Expression::Index(Box::new(expression), Box::new(Expression::Literal(Value::String(name))));
            } else if self.take("[") {
                let key = self.binary(0)?;
                self.take("]").then_some(())?;
                expression = Expression::Index(Box::new(expression), Box::new(key));
            } else {
                return Some(expression);
            }
        }
    }

    fn arguments(&mut self) -> Option<Vec<Expression>> {
        let mut arguments = Vec::new();
        if self.take(")") {
            return Some(arguments);
        }
        loop {
            arguments.push(self.binary(0)?);
            if self.take(")") {
                return Some(arguments);
            }
            self.take(",").then_some(())?;
        }
    }
}
