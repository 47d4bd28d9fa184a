//! `[target.NAME]`, `[group.NAME]` and `[variable.NAME]` of kiln.toml: the blocks of a bake file in JSON, written as TOML.

use std::sync::Arc;

use serde_json::Value;

use crate::error::{BakeError, BakeErrorKind};
use crate::eval::{File, Result};
use crate::json;
use crate::resolve::Definition;
use crate::target::object;

pub(crate) fn read(definition: &mut Definition, file: &Arc<File>) -> Result<()> {
    let value: Value = toml::from_str(&file.text).map_err(|error: toml::de::Error| {
        let kind = BakeErrorKind::Syntax { language: "TOML", message: error.message().to_owned() };
        BakeError::new(kind).at(&file.name, file.place(error.span().map_or(0, |span| span.start)))
    })?;
    // Everything else in the file is settings.
    let is_block = |name: &String| matches!(name.as_str(), "target" | "group" | "variable");
    let blocks = object(value).into_iter().filter(|(name, _)| is_block(name)).collect();
    json::define(definition, file, Value::Object(blocks));
    Ok(())
}
