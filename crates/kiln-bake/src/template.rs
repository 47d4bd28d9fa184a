//! What repeats and joins: templates with their directives, and `for` expressions.

use hcl_edit::Ident;
use hcl_edit::expr::ForExpr;
use hcl_edit::repr::Decorated;
use hcl_edit::template::{Directive, Element, Strip};
use serde_json::{Map, Value};

use crate::eval::{Evaluator, File, Locals, Result, text, truth, wrong};

impl Evaluator<'_> {
    /// The value of a template; one that is a single interpolation keeps that value's type.
    pub(crate) fn template<'t>(
        &self,
        elements: impl Iterator<Item = &'t Element>,
        locals: &Locals,
        file: &File,
    ) -> Result<Value> {
        let elements: Vec<&Element> = elements.collect();
        if let [Element::Interpolation(only)] = elements.as_slice() {
            return self.expr(&only.expr, locals, file);
        }
        let mut joined = String::new();
        self.join(&elements, (Strip::None, Strip::None), &mut joined, locals, file)?;
        Ok(Value::String(joined))
    }

    /// Adds the text of elements. `outer` says how the markers around them strip white space: `~}` and `%{~`.
    fn join(
        &self,
        elements: &[&Element],
        outer: (Strip, Strip),
        joined: &mut String,
        locals: &Locals,
        file: &File,
    ) -> Result<()> {
        for (index, element) in elements.iter().enumerate() {
            match element {
                Element::Literal(literal) => {
                    let before = index.checked_sub(1).map_or(outer.0, |before| strips(elements[before]).1);
                    let after = elements.get(index + 1).map_or(outer.1, |after| strips(after).0);
                    let mut text = literal.value().as_str();
                    if matches!(before, Strip::End | Strip::Both) {
                        text = text.trim_start();
                    }
                    if matches!(after, Strip::Start | Strip::Both) {
                        text = text.trim_end();
                    }
                    joined.push_str(text);
                }
                Element::Interpolation(part) => {
                    let value = self.expr(&part.expr, locals, file)?;
                    joined.push_str(&text(&value, "${...}")?);
                }
                Element::Directive(directive) => self.directive(directive, joined, locals, file)?,
            }
        }
        Ok(())
    }

    fn directive(&self, directive: &Directive, joined: &mut String, locals: &Locals, file: &File) -> Result<()> {
        match directive {
            Directive::If(directive) => {
                let (start, end) = (&directive.if_expr, directive.endif_expr.strip);
                let middle = directive.else_expr.as_ref().map_or(end, |other| other.strip);
                if truth(&self.expr(&start.cond_expr, locals, file)?, "if")? {
                    let elements: Vec<&Element> = start.template.iter().collect();
                    self.join(&elements, (start.strip, middle), joined, locals, file)
                } else if let Some(other) = &directive.else_expr {
                    let elements: Vec<&Element> = other.template.iter().collect();
                    self.join(&elements, (other.strip, end), joined, locals, file)
                } else {
                    Ok(())
                }
            }
            Directive::For(directive) => {
                let (start, end) = (&directive.for_expr, directive.endfor_expr.strip);
                let collection = self.expr(&start.collection_expr, locals, file)?;
                let elements: Vec<&Element> = start.template.iter().collect();
                for item in pairs(collection)? {
                    let locals = with(locals, start.key_var.as_ref(), &start.value_var, item);
                    self.join(&elements, (start.strip, end), joined, &locals, file)?;
                }
                Ok(())
            }
        }
    }

    /// `[for x in xs: y if z]` and `{for k, v in xs: k => v}`.
    pub(crate) fn for_expr(&self, for_expr: &ForExpr, locals: &Locals, file: &File) -> Result<Value> {
        let collection = self.expr(&for_expr.intro.collection_expr, locals, file)?;
        let mut fields = Map::new();
        let mut items = Vec::new();
        for item in pairs(collection)? {
            let locals = with(locals, for_expr.intro.key_var.as_ref(), &for_expr.intro.value_var, item);
            if let Some(condition) = &for_expr.cond
                && !truth(&self.expr(&condition.expr, &locals, file)?, "if")?
            {
                continue;
            }
            let value = self.expr(&for_expr.value_expr, &locals, file)?;
            let Some(key) = &for_expr.key_expr else {
                items.push(value);
                continue;
            };
            let key = text(&self.expr(key, &locals, file)?, "key")?;
            if !for_expr.grouping {
                fields.insert(key, value);
            } else if let Value::Array(group) = fields.entry(key).or_insert_with(|| Value::Array(vec![])) {
                group.push(value);
            }
        }
        Ok(if for_expr.key_expr.is_some() { Value::Object(fields) } else { Value::Array(items) })
    }
}

/// Keys and values of what is gone through.
fn pairs(collection: Value) -> Result<Vec<(Value, Value)>> {
    match collection {
        Value::Array(items) => Ok(items.into_iter().enumerate().map(|(i, v)| (Value::from(i), v)).collect()),
        Value::Object(fields) => Ok(fields.into_iter().map(|(k, v)| (Value::from(k), v)).collect()),
        _ => Err(wrong("for", "over a list or an object")),
    }
}

fn with(locals: &Locals, key: Option<&Decorated<Ident>>, value: &Decorated<Ident>, item: (Value, Value)) -> Locals {
    let mut locals = locals.clone();
    locals.extend(key.map(|name| (name.to_string(), item.0)));
    locals.push((value.to_string(), item.1));
    locals
}

/// How an element strips what stands before it, and what stands behind it.
fn strips(element: &Element) -> (Strip, Strip) {
    match element {
        Element::Literal(_) => (Strip::None, Strip::None),
        Element::Interpolation(part) => (part.strip, part.strip),
        Element::Directive(directive) => match &**directive {
            Directive::If(directive) => (directive.if_expr.strip, directive.endif_expr.strip),
            Directive::For(directive) => (directive.for_expr.strip, directive.endfor_expr.strip),
        },
    }
}
