//! Failed tests as annotations of GitHub: at the file and line where they failed, once for all cells.

use std::path::Path;

use super::junit::{Case, End};
use crate::report::ci::{Level, Spot, annotation};

/// Where the sources are in a test container.
const SOURCES: &str = "/src/";
/// Annotations that are written at most; GitHub shows ten of a step.
const MOST: usize = 50;

/// The annotations of failed tests. `cells` are the labels of the cells with their tests; `shown` is the path of a file of
/// the project as the service knows it.
pub(crate) fn annotations(cells: &[(String, &[Case])], shown: impl Fn(&Path) -> String) -> Vec<String> {
    let mut found: Vec<(Failure<'_>, Vec<&str>)> = Vec::new();
    for (label, cases) in cells {
        for failure in cases.iter().filter_map(Failure::of) {
            match found.iter_mut().find(|(known, _)| *known == failure) {
                Some((_, labels)) => labels.push(label),
                None => found.push((failure, vec![label])),
            }
        }
    }
    let told = |(failure, labels): (Failure<'_>, Vec<&str>)| {
        let title = format!("{} failed ({})", failure.name, labels.join("; "));
        let place = failure.place.map(|(file, line)| (shown(Path::new(&file)), line));
        let spot = place.map(|(file, line)| Spot { file, lines: Some((line, line)) });
        annotation(Level::Error, spot.as_ref(), &title, failure.message)
    };
    found.into_iter().take(MOST).map(told).collect()
}

#[derive(PartialEq, Eq)]
struct Failure<'a> {
    name: String,
    place: Option<(String, u32)>,
    message: &'a str,
}

impl<'a> Failure<'a> {
    fn of(case: &'a Case) -> Option<Self> {
        let End::Failed { message, text } = &case.end else { return None };
        let message = message.trim();
        let last = || text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed").trim();
        Some(Self {
            name: case.full_name(),
            place: place(text).or_else(|| Some((inside(case.file.as_deref()?)?, 1))),
            message: if message.is_empty() { last() } else { message },
        })
    }
}

/// The last place in the project that the text of a failure names: `FILE:LINE: ...` of pytest, or `File "FILE", line LINE`
/// of a traceback.
fn place(text: &str) -> Option<(String, u32)> {
    text.lines().rev().find_map(|line| {
        let line = line.trim();
        if let Some((file, rest)) = line.strip_prefix("File \"").and_then(|rest| rest.split_once("\", line ")) {
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            return Some((inside(file)?, digits.parse().ok()?));
        }
        let (file, rest) = line.split_once(".py:")?;
        let (number, _) = rest.split_once(':')?;
        if file.contains(char::is_whitespace) {
            return None;
        }
        Some((inside(&format!("{file}.py"))?, number.parse().ok()?))
    })
}

/// The path in the project; nothing for one outside of it.
fn inside(file: &str) -> Option<String> {
    let file = file.strip_prefix(SOURCES).unwrap_or(file);
    (!file.starts_with(['/', '<']) && !file.split('/').any(|part| part == "..")).then(|| file.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_the_last_one_in_the_project() {
        for (text, expected) in [
            ("def test():\n>   assert 0\n\ntests/test_a.py:7: AssertionError", Some(("tests/test_a.py", 7))),
            (
                "tests/test_a.py:7: \n_ _ _\n/venv/lib/python3.12/site-packages/x.py:9: ValueError",
                Some(("tests/test_a.py", 7)),
            ),
            (
                "Traceback\n  File \"/src/a/b.py\", line 12, in f\n  File \"/usr/lib/python3/c.py\", line 1, in g\nE",
                Some(("a/b.py", 12)),
            ),
            ("File \"<string>\", line 1", None),
            ("no place at all: 7", None),
            ("../x.py:7: no", None),
        ] {
            let expected = expected.map(|(file, line): (&str, u32)| (file.to_owned(), line));
            assert_eq!(place(text), expected, "{text}");
        }
    }

    #[test]
    fn the_same_failure_is_said_once() {
        let case = |text: &str| Case {
            class: "tests.test_a".to_owned(),
            name: "test_b".to_owned(),
            file: None,
            end: End::Failed { message: "assert 1 == 2\n where".to_owned(), text: text.to_owned() },
        };
        let (one, two) = ([case("t.py:7: E"), Case::default()], [case("t.py:7: E"), case("t.py:8: E")]);
        let cells = [("python 3.11".to_owned(), one.as_slice()), ("python 3.12".to_owned(), two.as_slice())];
        let said = annotations(&cells, |file| format!("sub/{}", file.display()));
        assert_eq!(
            said,
            [
                "::error file=sub/t.py,line=7,endLine=7,title=tests.test_a%3A%3Atest_b failed (python 3.11; python 3.12)::assert 1 == 2%0A where",
                "::error file=sub/t.py,line=8,endLine=8,title=tests.test_a%3A%3Atest_b failed (python 3.12)::assert 1 == 2%0A where",
            ]
        );
    }
}
