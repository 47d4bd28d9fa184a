//! `${{ }}`: GitHub's expressions, read and computed as far as what is known allows.
//!
//! A value that cannot be known here (a secret, the output of a step that runs a program) makes what depends on it
//! unknown, which is `None`, and never a wrong answer.

mod parse;

use serde_json::Value;

pub(crate) use parse::{Expression, Operator, parse};

/// What expressions can refer to: an object with `github`, `matrix`, `steps`, `env`, `needs`. Only `matrix` is complete, so
/// that only there a name that is missing is null.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    pub(crate) root: serde_json::Map<String, Value>,
}

impl Context {
    /// Sets `NAME.KEY`.
    pub(crate) fn set(&mut self, name: &str, key: &str, value: Value) {
        let entry = self.root.entry(name).or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Value::Object(map) = entry {
            map.insert(key.to_owned(), value);
        }
    }

    /// Sets `matrix`.
    pub(crate) fn set_matrix(&mut self, values: &serde_json::Map<String, Value>) {
        self.root.insert("matrix".to_owned(), Value::Object(values.clone()));
    }

    /// Sets `steps.ID.outputs`.
    pub(crate) fn set_outputs(&mut self, id: &str, outputs: serde_json::Map<String, Value>) {
        let outputs = Value::Object([("outputs".to_owned(), Value::Object(outputs))].into_iter().collect());
        self.set("steps", id, outputs);
    }
}

/// A text with `${{ }}` in it, computed: a text that is one expression has that expression's value.
pub(crate) fn value(text: &str, context: &Context) -> Option<Value> {
    let trimmed = text.trim();
    if let [Part::Expression(inner)] = parts(trimmed).as_slice() {
        return evaluate(&parse(inner)?, context);
    }
    let mut rendered = String::new();
    for part in parts(text) {
        match part {
            Part::Text(text) => rendered.push_str(text),
            Part::Expression(inner) => rendered.push_str(&shown(&evaluate(&parse(inner)?, context)?)),
        }
    }
    Some(Value::String(rendered))
}

/// The same as a text; whatever is unknown in it stays as it was written.
pub(crate) fn render(text: &str, context: &Context) -> String {
    parts(text)
        .into_iter()
        .map(|part| match part {
            Part::Text(text) => text.to_owned(),
            Part::Expression(inner) => match parse(inner).and_then(|e| evaluate(&e, context)) {
                Some(value) => shown(&value),
                None => format!("${{{{{inner}}}}}"),
            },
        })
        .collect()
}

/// Whether a text has expressions.
pub(crate) fn is_dynamic(text: &str) -> bool {
    parts(text).iter().any(|part| matches!(part, Part::Expression(_)))
}

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Text(&'a str),
    /// What stands between the braces.
    Expression(&'a str),
}

/// The pieces of a text.
pub(crate) fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find("${{") {
        let Some(length) = closing(&rest[open + 3..]) else { break };
        if open > 0 {
            parts.push(Part::Text(&rest[..open]));
        }
        parts.push(Part::Expression(&rest[open + 3..open + 3 + length]));
        rest = &rest[open + 3 + length + 2..];
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    parts
}

/// Where the closing braces are; those inside a text do not count.
fn closing(text: &str) -> Option<usize> {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            '}' if !quoted && text[at..].starts_with("}}") => return Some(at),
            _ => {}
        }
    }
    None
}

/// A value as GitHub writes it into a text.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(_) => "Array".to_owned(),
        Value::Object(_) => "Object".to_owned(),
    }
}

/// Whether a value counts as true.
pub(crate) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// The value of an expression, if everything that it depends on is known.
pub(crate) fn evaluate(expression: &Expression, context: &Context) -> Option<Value> {
    Some(match expression {
        Expression::Literal(value) => value.clone(),
        Expression::Name(name) => context.root.get(name)?.clone(),
        Expression::Index(inside, key) => {
            let key = shown(&evaluate(key, context)?);
            match evaluate(inside, context)? {
                Value::Object(map) => match (map.get(&key), &**inside) {
                    (Some(value), _) => value.clone(),
                    (None, Expression::Name(name)) if name == "matrix" => Value::Null,
                    (None, _) => return None,
                },
                Value::Array(items) => items.get(key.parse::<usize>().ok()?).cloned().unwrap_or(Value::Null),
                _ => Value::Null,
            }
        }
        Expression::Not(inner) => Value::Bool(!is_true(&evaluate(inner, context)?)),
        Expression::Binary(operator, left, right) => {
            let left = evaluate(left, context)?;
            match operator {
                Operator::And if !is_true(&left) => left,
                Operator::Or if is_true(&left) => left,
                Operator::And | Operator::Or => evaluate(right, context)?,
                Operator::Equal => Value::Bool(equal(&left, &evaluate(right, context)?)),
                Operator::Unequal => Value::Bool(!equal(&left, &evaluate(right, context)?)),
                Operator::Less => Value::Bool(number(&left) < number(&evaluate(right, context)?)),
                Operator::Greater => Value::Bool(number(&left) > number(&evaluate(right, context)?)),
            }
        }
        Expression::Call(name, arguments) => {
            let arguments: Option<Vec<Value>> = arguments.iter().map(|a| evaluate(a, context)).collect();
            call(&name.to_ascii_lowercase(), &arguments?)?
        }
    })
}

fn call(name: &str, arguments: &[Value]) -> Option<Value> {
    let text = |at: usize| arguments.get(at).map(shown).unwrap_or_default().to_lowercase();
    Some(match (name, arguments) {
        ("fromjson", [json]) => serde_json::from_str(&shown(json)).ok()?,
        ("tojson", [value]) => Value::String(serde_json::to_string_pretty(value).ok()?),
        ("contains", [Value::Array(items), wanted]) => Value::Bool(items.iter().any(|item| equal(item, wanted))),
        ("contains", [_, _]) => Value::Bool(text(0).contains(&text(1))),
        ("startswith", [_, _]) => Value::Bool(text(0).starts_with(&text(1))),
        ("endswith", [_, _]) => Value::Bool(text(0).ends_with(&text(1))),
        ("join", [Value::Array(items), rest @ ..]) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            Value::String(items.join(&rest.first().map_or(",".to_owned(), shown)))
        }
        ("format", [pattern, values @ ..]) => {
            let replaced = values
                .iter()
                .enumerate()
                .fold(shown(pattern), |text, (at, value)| text.replace(&format!("{{{at}}}"), &shown(value)));
            Value::String(replaced)
        }
        ("success" | "always", []) => Value::Bool(true),
        ("failure" | "cancelled", []) => Value::Bool(false),
        _ => return None,
    })
}

/// GitHub compares texts without regard to case, and other types by number.
#[expect(clippy::float_cmp, reason = "it is what GitHub does")]
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::String(left), Value::String(right)) => left.eq_ignore_ascii_case(right),
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => left == right,
        _ if std::mem::discriminant(left) == std::mem::discriminant(right) => left == right,
        _ => number(left) == number(right),
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Null => 0.0,
        Value::Bool(yes) => f64::from(u8::from(*yes)),
        Value::Number(number) => number.as_f64().unwrap_or(f64::NAN),
        Value::String(text) if text.trim().is_empty() => 0.0,
        Value::String(text) => text.trim().parse().unwrap_or(f64::NAN),
        Value::Array(_) | Value::Object(_) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        let mut context = Context::default();
        context.set("github", "event_name", "pull_request".into());
        context.set("github", "ref", "refs/heads/main".into());
        context.set("matrix", "arch", "arm64".into());
        context
    }

    #[test]
    fn the_expressions_of_the_guide() {
        let python =
            "${{ github.event_name == 'pull_request' && fromJSON('[\"3.12\"]') || fromJSON('[\"3.11\", \"3.12\"]') }}";
        let context = &mut context();
        assert_eq!(value(python, context).unwrap().to_string(), "[\"3.12\"]");
        context.set("github", "event_name", "push".into());
        assert_eq!(value(python, context).unwrap().to_string(), "[\"3.11\",\"3.12\"]");
        let runner = "${{ matrix.arch == 'arm64' && 'ubuntu-24.04-arm64' || 'ubuntu-latest' }}";
        assert_eq!(value(runner, context).unwrap(), "ubuntu-24.04-arm64");
        assert_eq!(render("a-${{ matrix.arch }}-${{ secrets.X }}", context), "a-arm64-${{ secrets.X }}");
        assert_eq!(value("a-${{ matrix.arch }}-${{ secrets.X }}", context), None);
    }

    #[test]
    fn values_follow_githubs_rules() {
        let context = context();
        for (text, expected) in [
            ("matrix.none", "null"),
            ("matrix['arch'] == 'ARM64'", "true"),
            ("!(1 == '1')", "false"),
            ("startsWith(github.ref, 'refs/tags/') || 'no'", "\"no\""),
            ("contains(fromJSON('[\"a\",\"b\"]'), 'b')", "true"),
            ("format('{0}-{1}', 'it''s', 2)", "\"it's-2\""),
            ("join(fromJSON('[1,2]'), '/')", "\"1/2\""),
            ("1 < 2 && 2 >= 2 && 3 != 4", "true"),
            ("-1.5", "-1.5"),
        ] {
            let found = evaluate(&parse(text).unwrap(), &context);
            assert_eq!(found.map(|v| v.to_string()).as_deref(), Some(expected), "{text}");
        }
        assert!(evaluate(&parse("github.actor == 'x'").unwrap(), &context).is_none());
        assert!(evaluate(&parse("hashFiles('a')").unwrap(), &context).is_none());
        for wrong in ["", "a b", "(1", "'x", "a.", "f(1,"] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }
}
