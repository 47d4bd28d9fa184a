//! Build checks, with BuildKit's rule names.
//!
//! [`Dockerfile::check`] finds what the text alone shows (see [`text`]). What needs values, such as variables that are
//! not set, is found while lowering; [`Dockerfile::check_all`] does both, for every stage. `# check=` steers all of it.

use serde::Serialize;

use crate::ast::Dockerfile;
use crate::lower::Options;
use crate::suggest::nearest;
use crate::{Error, ErrorKind, Span};

mod all;
mod rule;
mod text;

pub use all::Checked;
pub use rule::Rule;

/// Something that works, but should not stay as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The rule it breaks.
    pub rule: Rule,
    /// Where; `None` if it is not about the file.
    pub span: Option<Span>,
    /// What, as a lowercase fragment.
    pub message: String,
}

impl Warning {
    pub(crate) fn new(rule: Rule, span: Span, message: String) -> Self {
        Self { rule, span: Some(span), message }
    }
}

/// `# check=`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckConfig {
    /// Rules that are silent; `all` silences every one.
    pub skip: Vec<String>,
    /// Whether warnings fail the build.
    pub error: bool,
    /// Experimental rules that are wanted; `all` for every one.
    pub experimental: Vec<String>,
}

impl CheckConfig {
    /// Reads `skip=A,B;error=true;experimental=C`.
    ///
    /// # Errors
    /// If an option is unknown, or its value is none of those it has. The error has no place.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut config = Self::default();
        let list =
            |value: &str| value.split(',').map(|rule| rule.trim().to_owned()).filter(|r| !r.is_empty()).collect();
        for option in text.split(';').map(str::trim).filter(|option| !option.is_empty()) {
            let invalid = |what: &str, value: &str, expected: &str| {
                let (what, value) = (what.to_owned(), value.to_owned());
                Error::nowhere(ErrorKind::InvalidValue { what, value, expected: expected.to_owned() })
            };
            let Some((name, value)) = option.split_once('=') else {
                return Err(invalid("`# check`", option, "skip=RULE,..., error=true or experimental=RULE,..."));
            };
            match (name.trim(), value.trim()) {
                ("skip", rules) => config.skip = list(rules),
                ("experimental", rules) => config.experimental = list(rules),
                // What Go's `ParseBool` takes.
                ("error", "1" | "t" | "T" | "true" | "True" | "TRUE") => config.error = true,
                ("error", "0" | "f" | "F" | "false" | "False" | "FALSE") => config.error = false,
                ("error", value) => return Err(invalid("`# check=error`", value, "true or false")),
                (name, _) => return Err(invalid("`# check`", name, "skip, error or experimental")),
            }
        }
        Ok(config)
    }

    /// Whether warnings of a rule are wanted.
    pub fn wants(&self, rule: Rule) -> bool {
        let names = |list: &[String]| list.iter().any(|name| name == "all" || name == rule.name());
        if rule.is_experimental() { names(&self.experimental) } else { !names(&self.skip) }
    }
}

impl Dockerfile {
    /// The configuration in the file's `# check=` directive. The parser has seen to it that it is valid.
    pub fn check_config(&self) -> CheckConfig {
        self.directives.check.as_deref().and_then(|text| CheckConfig::parse(text).ok()).unwrap_or_default()
    }

    /// Everything that the text alone shows, in the order of the file. Values of build arguments do not matter;
    /// defaults do. Of the options, only what replaces `# check=` counts.
    pub fn check(&self, options: &Options) -> Vec<Warning> {
        let mut found = text::find(self);
        let config = self.effective_check_config(options);
        found.retain(|warning| config.wants(warning.rule));
        found.sort_by_key(|warning| warning.span);
        found
    }
}

/// Adds a suggestion to a message about an unknown variable.
pub(crate) fn did_you_mean(message: String, name: &str, known: &[String]) -> String {
    match nearest(name, known.iter().map(String::as_str)) {
        Some(suggestion) => format!("{message} (did you mean `{suggestion}`?)"),
        None => message,
    }
}

#[cfg(test)]
mod tests;
