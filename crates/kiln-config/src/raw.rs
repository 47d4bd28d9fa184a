//! Values as written, each with its bytes in the file, and how a text from a variable or flag becomes one.
//!
//! This is the only module that knows the TOML crate: `toml`, because its `DeTable` keeps the span of every key and value
//! without the weight of a format-preserving editor, and kiln only ever writes TOML afresh.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::error::{ConfigError, Location};
use crate::kind::Kind;

/// A value as written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Raw {
    /// Bytes of the text it was read from.
    pub(crate) span: Range<usize>,
    /// The value.
    pub(crate) data: Data,
}

/// The types that TOML has, as far as kiln tells them apart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Text(String),
    Integer(i64),
    /// A number that is no 64-bit integer, or a date, as written.
    Other(String),
    Bool(bool),
    List(Vec<Raw>),
    Table(Table),
}

/// The entries of a table in the order in which they were written.
pub(crate) type Table = Vec<(Name, Raw)>;

/// A key with its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) span: Range<usize>,
}

impl Raw {
    /// A value that stands in no file.
    pub(crate) fn bare(data: Data) -> Self {
        Self { span: 0..0, data }
    }

    /// The value as TOML, for messages.
    pub(crate) fn to_toml(&self) -> String {
        match &self.data {
            Data::Text(text) => quote(text),
            Data::Integer(number) => number.to_string(),
            Data::Other(text) => text.clone(),
            Data::Bool(yes) => yes.to_string(),
            Data::List(items) => {
                format!("[{}]", items.iter().map(Self::to_toml).collect::<Vec<_>>().join(", "))
            }
            Data::Table(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|(name, value)| format!("{} = {}", bare_key(&name.text), value.to_toml()))
                    .collect();
                format!("{{ {} }}", entries.join(", "))
            }
        }
    }

    fn from_toml(span: Range<usize>, value: &DeValue<'_>) -> Self {
        let data = match value {
            DeValue::String(text) => Data::Text(text.clone().into_owned()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| Data::Other(number.to_string()), Data::Integer),
            DeValue::Float(number) => Data::Other(number.as_str().to_owned()),
            DeValue::Boolean(yes) => Data::Bool(*yes),
            DeValue::Datetime(date) => Data::Other(date.to_string()),
            DeValue::Array(items) => {
                Data::List(items.iter().map(|item| Self::from_toml(item.span(), item.get_ref())).collect())
            }
            DeValue::Table(table) => Data::Table(table_from_toml(table)),
        };
        Self { span, data }
    }
}

fn table_from_toml(table: &DeTable<'_>) -> Table {
    let mut entries: Table = table
        .iter()
        .map(|(key, value)| {
            let name = Name { text: key.get_ref().clone().into_owned(), span: key.span() };
            (name, Raw::from_toml(value.span(), value.get_ref()))
        })
        .collect();
    entries.sort_by_key(|(name, _)| name.span.start);
    entries
}

/// Reads a TOML file.
pub(crate) fn parse(file: &Path, text: &str) -> Result<Table, ConfigError> {
    match DeTable::parse(text) {
        Ok(table) => Ok(table_from_toml(table.get_ref())),
        Err(error) => Err(ConfigError::Syntax {
            location: Box::new(Location::new(file, text, error.span().unwrap_or(0..0))),
            message: error.message().lines().collect::<Vec<_>>().join("; "),
        }),
    }
}

/// Reads one TOML value.
pub(crate) fn parse_value(text: &str) -> Option<Raw> {
    DeValue::parse(text).ok().map(|value| Raw::from_toml(0..0, value.get_ref()))
}

/// What the text of a variable or a flag means for a key of this kind. Lists are separated by commas, tables are
/// `NAME=VALUE` pairs separated by commas; either may be written as TOML instead, which values that contain a comma need.
pub(crate) fn from_text(kind: &Kind, text: &str) -> Raw {
    let trimmed = text.trim();
    let is_toml =
        trimmed.starts_with('[') || (trimmed.starts_with('{') && matches!(kind, Kind::Arguments | Kind::Images));
    if let Some(raw) = is_toml.then(|| parse_value(trimmed)).flatten() {
        return raw;
    }
    let parts = || trimmed.split(',').map(str::trim).filter(|part| !part.is_empty());
    Raw::bare(match kind {
        Kind::List(_) | Kind::Platforms => {
            Data::List(parts().map(|part| Raw::bare(Data::Text(part.to_owned()))).collect())
        }
        Kind::Arguments => Data::Table(
            parts()
                .map(|part| part.split_once('=').unwrap_or((part, "")))
                .map(|(name, value)| {
                    (Name { text: name.trim().to_owned(), span: 0..0 }, Raw::bare(Data::Text(value.to_owned())))
                })
                .collect(),
        ),
        Kind::Bool | Kind::Smoke => match trimmed.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Data::Bool(true),
            "false" | "no" | "off" | "0" => Data::Bool(false),
            _ => Data::Text(text.to_owned()),
        },
        Kind::Jobs | Kind::Count | Kind::Seconds | Kind::Size => match trimmed.parse() {
            Ok(number) => Data::Integer(number),
            Err(_) => Data::Text(trimmed.to_owned()),
        },
        _ => Data::Text(trimmed.to_owned()),
    })
}

/// A TOML basic string.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            // Control characters have at most two hexadecimal digits, and TOML wants four.
            c if c.is_control() => {
                quoted.push_str("\\u00");
                quoted.extend([u32::from(c) / 16, u32::from(c) % 16].iter().filter_map(|d| char::from_digit(*d, 16)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A TOML key, quoted only where it must be.
pub(crate) fn bare_key(text: &str) -> String {
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if plain { text.to_owned() } else { quote(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_reads_back() {
        for text in ["plain", "two\nlines", "a \"quote\" and \\", "tab\there", "\u{1}\u{7f}", "ü", ""] {
            assert_eq!(parse_value(&quote(text)).map(|raw| raw.data), Some(Data::Text(text.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn spans_and_order_are_those_of_the_text() {
        let text = "b = 1\n[z]\ny = \"v\"\n[a.\"linux/arm64\"]\nq = [1, 2.50]\n";
        let table = parse(Path::new("kiln.toml"), text).unwrap();
        let names: Vec<&str> = table.iter().map(|(name, _)| &text[name.span.clone()]).collect();
        assert_eq!(names, ["b", "z", "a"]);
        assert_eq!(table[2].1.to_toml(), "{ \"linux/arm64\" = { q = [1, 2.50] } }");
    }
}
