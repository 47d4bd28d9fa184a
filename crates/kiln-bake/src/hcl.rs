//! Bake files in HCL.

use std::sync::Arc;

use hcl_edit::expr::{Expression, ObjectKey};
use hcl_edit::structure::{Block, Body, Structure};
use hcl_edit::{Ident, Span};
use serde_json::Value;

use crate::error::{BakeError, BakeErrorKind};
use crate::eval::{Expr, File, Function, Located, Result, Variable};
use crate::resolve::{Definition, RawGroup, RawTarget};

pub(crate) fn read(definition: &mut Definition, file: &Arc<File>) -> Result<()> {
    let body = hcl_edit::parser::parse_body(&file.text).map_err(|error| {
        let kind = BakeErrorKind::Syntax { language: "HCL", message: error.message().to_owned() };
        let at = error.location();
        BakeError::new(kind).at(&file.name, (at.line(), at.column()))
    })?;
    for structure in &body {
        match structure {
            Structure::Attribute(attribute) => {
                let default = Some(located(&attribute.value, file));
                let variable = Variable { default, ..Variable::default() };
                definition.variables.insert(attribute.key.to_string(), variable);
            }
            Structure::Block(block) => {
                let place = file.place(block.span().map_or(0, |span| span.start));
                read_block(definition, block, file).map_err(|error| error.at(&file.name, place))?;
            }
        }
    }
    Ok(())
}

fn read_block(definition: &mut Definition, block: &Block, file: &Arc<File>) -> Result<()> {
    let kind = block.ident.as_str();
    if !matches!(kind, "variable" | "function" | "group" | "target") {
        return Ok(());
    }
    let Some(name) = block.labels.first().map(|label| label.as_str().to_owned()) else {
        return Err(BakeError::new(BakeErrorKind::Unknown { what: "block without a name", name: kind.to_owned() }));
    };
    let attribute = |body: &Body, key: &str| body.get_attribute(key).map(|found| located(&found.value, file));
    match kind {
        "variable" => {
            let is_list = body_type(&block.body).is_some_and(|name| matches!(name.as_str(), "list" | "set" | "tuple"));
            let validations = block.body.get_blocks("validation").filter_map(|validation| {
                let message = attribute(&validation.body, "error_message");
                let default = || Located { expr: Expr::Json(Value::from("validation failed")), file: file.clone() };
                Some((attribute(&validation.body, "condition")?, message.unwrap_or_else(default)))
            });
            let kind = block.body.get_attribute("type");
            let kind = kind.and_then(|kind| file.text.get(kind.value.span()?)).map(|text| text.trim().to_owned());
            let variable = Variable {
                default: attribute(&block.body, "default"),
                description: attribute(&block.body, "description"),
                kind,
                is_list,
                validations: validations.collect(),
            };
            definition.variables.insert(name, variable);
        }
        "function" => {
            let params = block.body.get_attribute("params").map(|found| names(&found.value)).unwrap_or_default();
            let variadic = block.body.get_attribute("variadic_params").map(|found| names(&found.value));
            let Some(result) = attribute(&block.body, "result") else {
                return Err(BakeError::new(BakeErrorKind::Type { name, expected: "a function with a `result`" }));
            };
            let variadic = variadic.and_then(|names| names.into_iter().next());
            definition.functions.insert(name, Function { params, variadic, result });
        }
        "group" => {
            let targets = attribute(&block.body, "targets");
            definition.groups.push(RawGroup { name, targets });
        }
        _ => {
            let mut target = RawTarget { name, attributes: vec![], matrix: vec![] };
            for attribute in block.body.attributes() {
                let value = located(&attribute.value, file);
                match (attribute.key.as_str(), &attribute.value) {
                    // In the order in which the file has them: it is the order of the targets.
                    ("matrix", Expression::Object(object)) => {
                        for (key, value) in object {
                            let key = match key {
                                ObjectKey::Ident(name) => name.to_string(),
                                ObjectKey::Expression(Expression::String(name)) => name.value().clone(),
                                ObjectKey::Expression(_) => continue,
                            };
                            target.matrix.push((key, located(value.expr(), file)));
                        }
                    }
                    (key, _) => target.attributes.push((key.to_owned(), value)),
                }
            }
            definition.targets.push(target);
        }
    }
    Ok(())
}

fn located(expr: &Expression, file: &Arc<File>) -> Located {
    Located { expr: Expr::Hcl(expr.clone()), file: file.clone() }
}

fn body_type(body: &Body) -> Option<String> {
    match &body.get_attribute("type")?.value {
        Expression::FuncCall(call) => Some(call.name.name.to_string()),
        Expression::Variable(name) => Some(name.to_string()),
        _ => None,
    }
}

/// `[a, b]` as names; `a` alone as one.
fn names(expr: &Expression) -> Vec<String> {
    let name = |expr: &Expression| match expr {
        Expression::Variable(name) => Some(Ident::as_str(name).to_owned()),
        Expression::String(name) => Some(name.value().clone()),
        _ => None,
    };
    match expr {
        Expression::Array(items) => items.iter().filter_map(name).collect(),
        other => name(other).into_iter().collect(),
    }
}
