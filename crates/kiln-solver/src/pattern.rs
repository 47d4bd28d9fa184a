//! The patterns of `COPY --exclude` and `COPY --parents`: those of `.dockerignore`, where `**` stands for any number of
//! folders, a pattern covers all that is below what it matches, and one that starts with `!` takes back an earlier one.

use kiln_graph::glob;

/// A list of patterns; the last one that matches decides.
#[derive(Debug)]
pub(crate) struct Patterns(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    exception: bool,
    parts: Vec<String>,
}

impl Patterns {
    pub(crate) fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let parse = |text: &str| {
            let (exception, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
            Pattern { exception, parts: clean(text).split('/').map(str::to_owned).collect() }
        };
        Self(patterns.into_iter().map(parse).collect())
    }

    /// Whether the path, or a folder that it is in, is matched. Relative paths with `/`.
    pub(crate) fn covers(&self, path: &str) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let parts: Vec<&str> = path.split('/').collect();
        let hit = |pattern: &Pattern| (1..=parts.len()).any(|n| all(&pattern.parts, &parts[..n]));
        self.0.iter().rev().find(|pattern| hit(pattern)).is_some_and(|pattern| !pattern.exception)
    }
}

fn all(pattern: &[String], path: &[&str]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        // At the end, it stands for what is in the folder, not for the folder.
        Some((first, [])) if first == "**" => !path.is_empty(),
        Some((first, rest)) if first == "**" => (0..=path.len()).any(|n| all(rest, &path[n..])),
        Some((first, rest)) => {
            path.split_first().is_some_and(|(name, below)| glob::matches(first, name) && all(rest, below))
        }
    }
}

/// A path as a relative one without `.`, `..` or doubled slashes; `..` cannot leave the root.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The folders of a path that come before the first with a wildcard, and the rest. The rest is empty without wildcards.
pub(crate) fn split_wildcard(path: &str) -> (String, String) {
    let parts: Vec<&str> = path.split('/').collect();
    let fixed = parts.iter().take_while(|part| !glob::has_wildcard(part)).count();
    (parts[..fixed].join("/"), parts[fixed..].join("/"))
}

/// A `--parents` source: the folder whose path is dropped, and the pattern below it. A `/./` stands between the two.
pub(crate) fn pivot(source: &str) -> (String, String) {
    match source.split_once("/./") {
        Some((root, pattern)) => (clean(root), clean(pattern)),
        None => (String::new(), clean(source)),
    }
}

/// `path` in `folder`; either may be empty.
pub(crate) fn join(folder: &str, path: &str) -> String {
    match (folder, path) {
        (folder, "") => folder.to_owned(),
        ("", path) => path.to_owned(),
        (folder, path) => format!("{}/{path}", folder.trim_end_matches('/')),
    }
}

/// The folder of a path and the last part of it.
pub(crate) fn split_last(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_follow_the_rules_of_ignore_files() {
        for (patterns, path, expected) in [
            (&["*.txt"][..], "a.txt", true),
            (&["*.txt"], "sub/a.txt", false),
            (&["**/*.txt"], "sub/deep/a.txt", true),
            (&["**/*.txt"], "a.txt", true),
            (&["sub"], "sub/deep/a.txt", true),
            (&["sub/**"], "sub/a", true),
            (&["sub/**"], "sub", false),
            (&["a/**/c"], "a/c", true),
            (&["a/**/c"], "a/b/b/c", true),
            (&["*", "!keep"], "keep", false),
            (&["*", "!keep"], "keep/a", false),
            (&["*", "!keep", "keep/a"], "keep/a", true),
            (&["/sub/"], "sub/x", true),
            (&[], "x", false),
        ] {
            assert_eq!(Patterns::new(patterns.iter().copied()).covers(path), expected, "{patterns:?} on {path}");
        }
    }

    #[test]
    fn sources_are_taken_apart() {
        assert_eq!(split_wildcard("a/b*/c"), ("a".to_owned(), "b*/c".to_owned()));
        assert_eq!(split_wildcard("a/b"), ("a/b".to_owned(), String::new()));
        assert_eq!(pivot("x/y/./z/*.c"), ("x/y".to_owned(), "z/*.c".to_owned()));
        assert_eq!(pivot("././z"), (String::new(), "z".to_owned()));
        assert_eq!(clean("/a/../../b/./c//"), "b/c");
    }
}
