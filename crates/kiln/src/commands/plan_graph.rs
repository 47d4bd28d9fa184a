//! A plan as a graph, for Graphviz and for Mermaid.

use std::fmt::Write as _;

/// Characters of a line in a node at most.
const WIDEST: usize = 72;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An image or a folder.
    Source,
    /// A step whose result is on the daemon.
    Cached,
    /// A step that will run.
    Run,
    /// A step whose result nobody needs, because a later one is there.
    Unneeded,
    /// What was asked for.
    Target,
}

impl Kind {
    /// The kind of a step in this state.
    pub(super) fn of(state: &str) -> Self {
        match state {
            "cached" | "remote" => Self::Cached,
            "run" => Self::Run,
            _ => Self::Unneeded,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Cached => "cached",
            Self::Run => "run",
            Self::Unneeded => "unneeded",
            Self::Target => "target",
        }
    }

    fn color(self) -> &'static str {
        match self {
            Self::Source => "#e8e8e8",
            Self::Cached => "#d5f0d5",
            Self::Run => "#ffe0b0",
            Self::Unneeded => "#ffffff",
            Self::Target => "#d0e4ff",
        }
    }
}

/// A node and what it needs.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) title: String,
    pub(super) notes: Vec<String>,
    /// Other nodes, and whether they only help.
    pub(super) inputs: Vec<(String, bool)>,
}

impl Node {
    fn lines(&self) -> impl Iterator<Item = String> {
        [&self.title].into_iter().chain(&self.notes).map(|line| cut(line))
    }
}

/// The graph in Graphviz' language. Source: graphviz.org, "DOT Language".
pub(super) fn dot(nodes: &[Node]) -> String {
    let mut text = "digraph plan {\n  rankdir=LR;\n  node [shape=box, style=filled, fontname=monospace];\n".to_owned();
    for node in nodes {
        let escape = |line: String| line.replace('\\', "\\\\").replace('"', "\\\"") + "\\l";
        let label: String = node.lines().map(escape).collect();
        let color = node.kind.color();
        let _ = writeln!(text, "  {} [class={}, fillcolor=\"{color}\", label=\"{label}\"];", node.id, node.kind.name());
    }
    for node in nodes {
        for (input, helps) in &node.inputs {
            let style = if *helps { " [style=dashed]" } else { "" };
            let _ = writeln!(text, "  {input} -> {}{style};", node.id);
        }
    }
    text + "}\n"
}

/// The graph as a Mermaid flowchart. Source: mermaid.js.org, "Flowcharts".
pub(super) fn mermaid(nodes: &[Node]) -> String {
    let mut text = "flowchart LR\n".to_owned();
    for node in nodes {
        let label: Vec<String> = node.lines().map(|line| entities(&line)).collect();
        let _ = writeln!(text, "  {}[\"{}\"]:::{}", node.id, label.join("<br>"), node.kind.name());
    }
    for node in nodes {
        for (input, helps) in &node.inputs {
            let arrow = if *helps { "-.->" } else { "-->" };
            let _ = writeln!(text, "  {input} {arrow} {}", node.id);
        }
    }
    for kind in [Kind::Source, Kind::Cached, Kind::Run, Kind::Unneeded, Kind::Target] {
        let _ = writeln!(text, "  classDef {} fill:{},stroke:#666,color:#000", kind.name(), kind.color());
    }
    text
}

/// Characters that mean something in a Mermaid label, by number.
fn entities(line: &str) -> String {
    line.chars().fold(String::new(), |mut text, c| {
        if c.is_alphanumeric() || " ./:,-_()=+@".contains(c) {
            text.push(c);
        } else {
            let _ = write!(text, "#{};", c as u32);
        }
        text
    })
}

fn cut(line: &str) -> String {
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= WIDEST {
        return line;
    }
    line.chars().take(WIDEST - 3).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Vec<Node> {
        let node = |id: &str, kind, title: &str, notes: &[&str], inputs: &[(&str, bool)]| Node {
            id: id.into(),
            kind,
            title: title.into(),
            notes: notes.iter().map(|note| (*note).to_owned()).collect(),
            inputs: inputs.iter().map(|(id, helps)| ((*id).to_owned(), *helps)).collect(),
        };
        vec![
            node("v0", Kind::Source, "alpine", &[], &[]),
            node("v1", Kind::Run, "a 1/1: RUN echo \"x\\n\"", &["run, native"], &[("v0", false), ("v2", true)]),
        ]
    }

    #[test]
    fn dot_is_escaped() {
        let expected = r##"digraph plan {
  rankdir=LR;
  node [shape=box, style=filled, fontname=monospace];
  v0 [class=source, fillcolor="#e8e8e8", label="alpine\l"];
  v1 [class=run, fillcolor="#ffe0b0", label="a 1/1: RUN echo \"x\\n\"\lrun, native\l"];
  v0 -> v1;
  v2 -> v1 [style=dashed];
}
"##;
        assert_eq!(dot(&nodes()), expected);
    }

    #[test]
    fn mermaid_is_escaped() {
        let text = mermaid(&nodes());
        assert!(text.contains("  v1[\"a 1/1: RUN echo #34;x#92;n#34;<br>run, native\"]:::run\n"), "{text}");
        assert!(text.contains("  v0 --> v1\n  v2 -.-> v1\n"), "{text}");
    }
}
