//! Bake files in JSON: the same blocks, with strings as templates.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::{BakeError, BakeErrorKind};
use crate::eval::{Expr, File, Function, Located, Result, Variable};
use crate::resolve::{Definition, RawGroup, RawTarget};
use crate::target::object;

pub(crate) fn read(definition: &mut Definition, file: &Arc<File>) -> Result<()> {
    let value: Value = serde_json::from_str(&file.text).map_err(|error| {
        let kind = BakeErrorKind::Syntax { language: "JSON", message: error.to_string() };
        BakeError::new(kind).at(&file.name, (error.line(), error.column()))
    })?;
    define(definition, file, value);
    Ok(())
}

/// Takes over the blocks of a file that has been read.
pub(crate) fn define(definition: &mut Definition, file: &Arc<File>, value: Value) {
    let located = |value: Value| Located { expr: Expr::Json(value), file: file.clone() };
    for (kind, blocks) in object(value) {
        if !matches!(kind.as_str(), "variable" | "function" | "group" | "target") {
            let variable = Variable { default: Some(located(blocks)), ..Variable::default() };
            definition.variables.insert(kind, variable);
            continue;
        }
        for (name, block) in object(blocks) {
            // A block may stand in a list, as HCL's JSON syntax has it.
            let bodies: Vec<Map<String, Value>> = match block {
                Value::Array(items) => items.into_iter().map(object).collect(),
                other => vec![object(other)],
            };
            for mut body in bodies {
                match kind.as_str() {
                    "variable" => {
                        let default = body.remove("default").map(located);
                        let description = body.remove("description").map(located);
                        let variable = Variable { default, description, ..Variable::default() };
                        definition.variables.insert(name.clone(), variable);
                    }
                    "function" => {
                        let params = strings(body.remove("params"));
                        let variadic = strings(body.remove("variadic_params")).into_iter().next();
                        let result = located(body.remove("result").unwrap_or_default());
                        definition.functions.insert(name.clone(), Function { params, variadic, result });
                    }
                    "group" => {
                        let targets = body.remove("targets").map(located);
                        definition.groups.push(RawGroup { name: name.clone(), targets });
                    }
                    _ => {
                        let matrix = body.remove("matrix").map(object).unwrap_or_default();
                        let matrix = matrix.into_iter().map(|(key, value)| (key, located(value))).collect();
                        let attributes = body.into_iter().map(|(key, value)| (key, located(value))).collect();
                        definition.targets.push(RawTarget { name: name.clone(), attributes, matrix });
                    }
                }
            }
        }
    }
}

fn strings(value: Option<Value>) -> Vec<String> {
    let Some(Value::Array(items)) = value else { return vec![] };
    items.into_iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}
