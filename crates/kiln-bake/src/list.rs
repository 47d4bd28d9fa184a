//! What there is in bake files, for `--list`.

use serde::Serialize;
use serde_json::Value;

use crate::eval::{Result, text};
use crate::resolve::{Definition, Request};

/// A target, a group or a variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// The type of a variable, as written.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What it is for; the members of a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The value of a variable, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Whether it is a group.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub group: bool,
}

impl Definition {
    /// The targets and groups by name, without those whose names begin with `_`.
    ///
    /// # Errors
    /// As [`Definition::resolve`].
    pub fn targets(&self, request: &Request<'_>) -> Result<Vec<Listed>> {
        let known = self.evaluated(&self.evaluator(request))?;
        let mut listed = Vec::new();
        for name in known.targets.keys() {
            let description = known.target(name, &mut vec![])?.description;
            listed.push(Listed { name: name.clone(), description, ..Listed::default() });
        }
        for (name, members) in known.groups.iter().filter(|(name, _)| !known.targets.contains_key(*name)) {
            let mut members = members.clone();
            members.sort();
            let description = Some(members.join(", ")).filter(|members| !members.is_empty());
            listed.push(Listed { name: name.clone(), description, group: true, ..Listed::default() });
        }
        listed.retain(|item| !item.name.starts_with('_'));
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// The variables by name.
    ///
    /// # Errors
    /// As [`Definition::resolve`].
    pub fn variables(&self, request: &Request<'_>) -> Result<Vec<Listed>> {
        let evaluator = self.evaluator(request);
        let mut listed = Vec::new();
        for (name, variable) in &self.variables {
            let value = match evaluator.variable(name, &vec![])? {
                Value::Null => None,
                Value::String(text) => Some(text),
                other => Some(other.to_string()),
            };
            let description = variable.description.as_ref().map(|it| text(&evaluator.evaluate(it, &vec![])?, name));
            listed.push(Listed {
                name: name.clone(),
                kind: variable.kind.clone(),
                description: description.transpose()?,
                value,
                group: false,
            });
        }
        Ok(listed)
    }
}
