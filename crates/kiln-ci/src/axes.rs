//! What a `strategy.matrix` unfolds to, by GitHub's rules for `include` and `exclude`.

use serde_json::{Map, Value};

use crate::expression::{self, Context};
use crate::yaml::{Data, Node};

/// The values of `matrix` in one of the jobs that run.
pub(crate) type Combination = Map<String, Value>;

/// All jobs of a matrix; nothing if it depends on what cannot be known. Without a matrix there is one job.
pub(crate) fn combinations(matrix: Option<&Node>, context: &Context) -> Option<Vec<Combination>> {
    let Some(matrix) = matrix else { return Some(vec![Combination::new()]) };
    let Value::Object(matrix) = resolved(matrix, context)? else { return None };
    let list = |name: &str| match matrix.get(name) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_object().cloned()).collect::<Option<Vec<Combination>>>()
        }
        Some(_) => None,
    };
    let (include, exclude) = (list("include")?, list("exclude")?);

    let axes: Vec<(&String, &Value)> =
        matrix.iter().filter(|(name, _)| !matches!(name.as_str(), "include" | "exclude")).collect();
    let mut all = if axes.is_empty() { Vec::new() } else { vec![Combination::new()] };
    for (name, values) in &axes {
        let values = values.as_array()?;
        all = all
            .iter()
            .flat_map(|combination| {
                values.iter().map(|value| {
                    let mut next = combination.clone();
                    next.insert((*name).clone(), value.clone());
                    next
                })
            })
            .collect();
    }
    all.retain(|combination| {
        !exclude.iter().any(|out| out.iter().all(|(name, value)| combination.get(name).is_some_and(|v| same(v, value))))
    });
    let originals = all.len();
    for extra in include {
        let mut is_added = false;
        for combination in &mut all[..originals] {
            let fits = axes.iter().all(|(name, _)| {
                extra.get(*name).is_none_or(|value| combination.get(*name).is_some_and(|v| same(v, value)))
            });
            if fits {
                is_added = true;
                combination.extend(extra.clone());
            }
        }
        if !is_added {
            all.push(extra);
        }
    }
    Some(all)
}

fn same(left: &Value, right: &Value) -> bool {
    expression::shown(left) == expression::shown(right)
}

/// A value with the expressions in it computed.
pub(crate) fn resolved(node: &Node, context: &Context) -> Option<Value> {
    Some(match &node.data {
        Data::Scalar(text, _) if expression::is_dynamic(text) => expression::value(text, context)?,
        Data::Scalar(..) => node.value(),
        Data::List(items) => Value::Array(items.iter().map(|item| resolved(item, context)).collect::<Option<_>>()?),
        Data::Map(pairs) => Value::Object(
            pairs
                .iter()
                .map(|(key, value)| Some((key.text()?.to_owned(), resolved(value, context)?)))
                .collect::<Option<_>>()?,
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::parse;

    fn shown(yaml: &str) -> Vec<String> {
        let all = combinations(Some(&parse("m.yml", yaml).unwrap()), &Context::default()).unwrap();
        all.into_iter().map(|combination| Value::Object(combination).to_string()).collect()
    }

    #[test]
    fn include_extends_or_adds_and_exclude_removes() {
        // The example of GitHub's documentation.
        let yaml = "fruit: [apple, pear]\nanimal: [cat, dog]\ninclude:\n- color: green\n- color: pink\n  animal: cat\n\
                    - fruit: apple\n  shape: circle\n- fruit: banana\n- fruit: banana\n  animal: cat\n";
        assert_eq!(
            shown(yaml),
            [
                r#"{"animal":"cat","color":"pink","fruit":"apple","shape":"circle"}"#,
                r#"{"animal":"cat","color":"pink","fruit":"pear"}"#,
                r#"{"animal":"dog","color":"green","fruit":"apple","shape":"circle"}"#,
                r#"{"animal":"dog","color":"green","fruit":"pear"}"#,
                r#"{"fruit":"banana"}"#,
                r#"{"animal":"cat","fruit":"banana"}"#,
            ]
        );
        assert_eq!(shown("a: [1, 2]\nexclude: [{a: 1}]"), [r#"{"a":2}"#]);
        assert_eq!(shown("include: [{a: 1}, {a: 2}]"), [r#"{"a":1}"#, r#"{"a":2}"#]);
        assert_eq!(combinations(None, &Context::default()).map(|all| all.len()), Some(1));
        let unknown = parse("m.yml", "a: ${{ fromJSON(needs.x.outputs.y) }}").unwrap();
        assert!(combinations(Some(&unknown), &Context::default()).is_none());
    }
}
