//! YAML as a tree that keeps the place of every value, because a workflow is edited as text and not written anew.

use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

use crate::error::MigrateError;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) data: Data,
    /// Bytes from its first character to behind its last, without the blank lines behind it.
    pub(crate) span: Range<usize>,
}

#[derive(Clone, Debug)]
pub(crate) enum Data {
    /// The text, and whether it was quoted or a block.
    Scalar(String, bool),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, value)| value)
    }

    /// Key and value.
    pub(crate) fn entry(&self, key: &str) -> Option<&(Node, Node)> {
        self.pairs().iter().find(|(name, _)| name.text() == Some(key))
    }

    /// The value below several keys.
    pub(crate) fn path(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar(text, _) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn items(&self) -> &[Node] {
        match &self.data {
            Data::List(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn pairs(&self) -> &[(Node, Node)] {
        match &self.data {
            Data::Map(pairs) => pairs,
            _ => &[],
        }
    }

    /// The value as GitHub's expressions see it: a plain `3.10` is the number 3.1.
    pub(crate) fn value(&self) -> Value {
        match &self.data {
            Data::Scalar(text, true) => Value::String(text.clone()),
            Data::Scalar(text, false) => plain(text),
            Data::List(items) => items.iter().map(Self::value).collect(),
            Data::Map(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| (key.text().unwrap_or_default().to_owned(), value.value()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => {
            if let Ok(number) = text.parse::<i64>() {
                return Value::Number(number.into());
            }
            let looks = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
            let number = text.parse::<f64>().ok().filter(|_| looks).and_then(Number::from_f64);
            number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
        }
    }
}

/// Reads the first document of a text.
pub(crate) fn parse(file: &str, text: &str) -> Result<Node, MigrateError> {
    let mut tree = Tree { text, open: Vec::new(), anchors: HashMap::new(), root: None };
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|error| MigrateError::Syntax {
            file: file.to_owned(),
            line: error.marker().line(),
            column: error.marker().col() + 1,
            message: error.info(),
        })?;
        let bytes = span.byte_range().unwrap_or(0..0);
        match event {
            Event::Scalar(value, style, anchor, _) => {
                let quoted = style != ScalarStyle::Plain;
                tree.add(Data::Scalar(value.into_owned(), quoted), bytes, anchor);
            }
            Event::SequenceStart(_, anchor, _) => tree.open.push((Data::List(Vec::new()), bytes.start, anchor, None)),
            Event::MappingStart(_, anchor, _) => tree.open.push((Data::Map(Vec::new()), bytes.start, anchor, None)),
            Event::SequenceEnd | Event::MappingEnd => tree.close(&bytes),
            Event::Alias(anchor) => {
                if let Some(mut node) = tree.anchors.get(&anchor).cloned() {
                    node.span = bytes.clone();
                    tree.push(node);
                }
            }
            Event::DocumentEnd => break,
            _ => {}
        }
    }
    Ok(tree.root.unwrap_or(Node { data: Data::Scalar(String::new(), false), span: 0..0 }))
}

struct Tree<'a> {
    text: &'a str,
    /// What is not closed yet: content, start, anchor, and the key that waits for its value.
    open: Vec<(Data, usize, usize, Option<Node>)>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
}

impl Tree<'_> {
    fn add(&mut self, data: Data, span: Range<usize>, anchor: usize) {
        let shown = self.text.get(span.clone()).unwrap_or_default();
        let node = Node { data, span: span.start..span.start + shown.trim_end().len() };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.push(node);
    }

    fn push(&mut self, node: Node) {
        match self.open.last_mut() {
            None => {
                self.root.get_or_insert(node);
            }
            Some((Data::List(items), ..)) => items.push(node),
            Some((Data::Map(pairs), _, _, key)) => match key.take() {
                Some(name) => pairs.push((name, node)),
                None => *key = Some(node),
            },
            Some((Data::Scalar(..), ..)) => {}
        }
    }

    fn close(&mut self, bytes: &Range<usize>) {
        let Some((data, start, anchor, _)) = self.open.pop() else { return };
        // A block ends where its last value does; only brackets have an end of their own.
        let last = match &data {
            Data::List(items) => items.last().map(|node| node.span.end),
            Data::Map(pairs) => pairs.last().map(|(key, value)| value.span.end.max(key.span.end + 1)),
            Data::Scalar(..) => None,
        };
        let is_flow = self.text.get(start..).is_some_and(|rest| rest.starts_with(['[', '{']));
        let end = if is_flow { bytes.end } else { last.unwrap_or(start) };
        let node = Node { data, span: start..end.max(start) };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.push(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_bytes() {
        let text = "on: push\njobs:\n  a: # one\n    steps:\n    - run: |\n        x\n\n        y\n\n    - uses: [a, 'b']\n  # end\n  b: {}\n";
        let tree = parse("w.yml", text).unwrap();
        let steps = tree.path(&["jobs", "a", "steps"]).unwrap();
        assert_eq!(&text[steps.items()[0].span.clone()], "run: |\n        x\n\n        y");
        assert_eq!(&text[steps.items()[1].span.clone()], "uses: [a, 'b']");
        assert_eq!(steps.items()[0].get("run").unwrap().text(), Some("x\n\ny\n"));
        assert_eq!(&text[tree.path(&["jobs", "b"]).unwrap().span.clone()], "{}");
        assert_eq!(&text[tree.path(&["jobs", "a"]).unwrap().span.clone()][..5], "steps");
    }

    #[test]
    fn plain_scalars_are_typed_and_aliases_are_resolved() {
        let tree = parse("w.yml", "a: &x [3.10, '3.10', 3, true, null, v1]\nb: *x\nc: 2024-01-01\n").unwrap();
        assert_eq!(tree.get("b").unwrap().value().to_string(), "[3.1,\"3.10\",3,true,null,\"v1\"]");
        assert_eq!(tree.get("c").unwrap().value(), "2024-01-01");
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_its_place() {
        let error = parse("w.yml", "a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(matches!(error, MigrateError::Syntax { line: 2.., .. }), "{error}");
    }
}
