//! Reports of tests in the form that JUnit made common: read for their cases, written and merged for other programs.
//!
//! There is no standard; this takes what pytest, unittest-xml-reporting and Surefire write, and adds to it nothing but
//! what tells one cell from another.

use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};
use quick_xml::{Reader, Writer, XmlVersion};

use super::outcome::Counts;

/// One test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Case {
    /// What it belongs to: `tests.test_a.TestB`.
    pub(crate) class: String,
    /// Its name.
    pub(crate) name: String,
    /// The file, if the report says it.
    pub(crate) file: Option<String>,
    /// How it ended.
    pub(crate) end: End,
}

/// How a test ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// Well.
    #[default]
    Passed,
    /// It was left out.
    Skipped,
    /// It failed, or could not run.
    Failed {
        /// In a line.
        message: String,
        /// At length.
        text: String,
    },
}

impl Case {
    /// `tests.test_a::test_b`.
    pub(crate) fn full_name(&self) -> String {
        if self.class.is_empty() { self.name.clone() } else { format!("{}::{}", self.class, self.name) }
    }
}

/// Why a report cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("it is no JUnit report: {0}")]
pub(crate) struct NotJunit(String);

impl From<quick_xml::Error> for NotJunit {
    fn from(error: quick_xml::Error) -> Self {
        Self(error.to_string())
    }
}

/// Counts the cases.
pub(crate) fn count(cases: &[Case]) -> Counts {
    let of = |wanted: fn(&End) -> bool| cases.iter().filter(|case| wanted(&case.end)).count();
    Counts {
        passed: of(|end| *end == End::Passed),
        failed: of(|end| matches!(end, End::Failed { .. })),
        skipped: of(|end| *end == End::Skipped),
    }
}

/// Reads the cases of a report.
pub(crate) fn read(text: &str) -> Result<Vec<Case>, NotJunit> {
    let mut reader = Reader::from_str(text);
    let mut cases = Vec::new();
    let mut case: Option<Case> = None;
    // Inside of an element whose text belongs to the case's failure.
    let mut in_failure = false;
    let mut is_report = false;
    loop {
        match reader.read_event()? {
            Event::Eof => break,
            Event::Start(start) => {
                is_report |= is_suite(&start);
                open(&start, &mut case, &mut in_failure)?;
            }
            Event::Empty(start) => {
                is_report |= is_suite(&start);
                open(&start, &mut case, &mut in_failure)?;
                close(start.name().as_ref(), &mut case, &mut in_failure, &mut cases);
            }
            Event::End(end) => close(end.name().as_ref(), &mut case, &mut in_failure, &mut cases),
            Event::Text(text) if in_failure => add(&mut case, &text.xml10_content()),
            Event::CData(text) if in_failure => add(&mut case, &text.xml10_content()),
            Event::GeneralRef(reference) if in_failure => {
                let name = reference.xml10_content();
                let known = quick_xml::escape::resolve_predefined_entity(&name).map(str::to_owned);
                let known = known.or(reference.resolve_char_ref()?.map(String::from));
                // Entities of a document type are nobody's here.
                add(&mut case, &known.unwrap_or_else(|| format!("&{name};")));
            }
            _ => {}
        }
    }
    if !is_report {
        return Err(NotJunit("there is no <testsuite> in it".to_owned()));
    }
    Ok(cases)
}

fn is_suite(start: &BytesStart<'_>) -> bool {
    matches!(start.name().as_ref(), "testsuite" | "testsuites")
}

fn open(start: &BytesStart<'_>, case: &mut Option<Case>, in_failure: &mut bool) -> Result<(), NotJunit> {
    match (start.name().as_ref(), case) {
        ("testcase", case) => {
            let mut new = Case::default();
            for (name, value) in attributes(start)? {
                match name.as_str() {
                    "classname" => new.class = value,
                    "name" => new.name = value,
                    "file" => new.file = Some(value),
                    _ => {}
                }
            }
            *case = Some(new);
        }
        ("failure" | "error", Some(case)) => {
            *in_failure = true;
            // A test that fails can fail once more where it tidies up; the first time is what people must see.
            if !matches!(case.end, End::Failed { .. }) {
                let message = attributes(start)?.into_iter().find(|(name, _)| name == "message");
                let message = message.map(|(_, value)| value).unwrap_or_default();
                case.end = End::Failed { message, text: String::new() };
            }
        }
        ("skipped", Some(case)) if case.end == End::Passed => case.end = End::Skipped,
        _ => {}
    }
    Ok(())
}

fn close(name: &str, case: &mut Option<Case>, in_failure: &mut bool, cases: &mut Vec<Case>) {
    match name {
        "testcase" => cases.extend(case.take()),
        "failure" | "error" => *in_failure = false,
        _ => {}
    }
}

fn add(case: &mut Option<Case>, more: &str) {
    if let Some(Case { end: End::Failed { text, .. }, .. }) = case {
        text.push_str(more);
    }
}

fn attributes(start: &BytesStart<'_>) -> Result<Vec<(String, String)>, NotJunit> {
    let mut found = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(quick_xml::Error::from)?;
        let value = attribute.normalized_value(XmlVersion::Implicit1_0)?;
        found.push((attribute.key.as_ref().to_owned(), value.into_owned()));
    }
    Ok(found)
}

/// What one cell adds to a report.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// What tells it from the others: `python 3.12, linux/amd64`.
    pub(crate) label: String,
    /// Properties of its suites.
    pub(crate) properties: Vec<(&'static str, String)>,
    /// Its tests.
    pub(crate) content: Content,
}

/// The tests of a cell.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// As its command reported them.
    Report(String),
    /// The cell as one test, where nobody reported more.
    Whole {
        /// The name of the test.
        name: String,
        /// How long it took.
        seconds: f64,
        /// Why it failed, in a line and at length; nothing if it did not.
        failure: Option<(String, String)>,
        /// Whether the tests themselves failed, rather than what they need.
        is_tests: bool,
    },
}

/// One report of all parts.
pub(crate) fn merge(parts: &[Part]) -> Result<String, NotJunit> {
    let mut out = Writer::new(Vec::new());
    put(&mut out, Event::Decl(BytesDecl::new("1.0", Some("utf-8"), None)));
    put(&mut out, Event::Start(BytesStart::new("testsuites")));
    for part in parts {
        match &part.content {
            Content::Report(text) => copy(&mut out, text, part)?,
            Content::Whole { name, seconds, failure, is_tests } => {
                whole(&mut out, part, (name, *seconds), failure.as_ref(), *is_tests);
            }
        }
    }
    put(&mut out, Event::End(BytesEnd::new("testsuites")));
    let mut bytes = out.into_inner();
    bytes.push(b'\n');
    String::from_utf8(bytes).map_err(|error| NotJunit(error.to_string()))
}

fn put(out: &mut Writer<Vec<u8>>, event: Event<'_>) {
    out.write_event(event).expect("memory takes what is written to it");
}

/// Copies the suites of a report, with the part's name and properties.
fn copy(out: &mut Writer<Vec<u8>>, text: &str, part: &Part) -> Result<(), NotJunit> {
    let mut reader = Reader::from_str(text);
    let mut depth = 0;
    // Between the start of a suite and what is first in it.
    let mut fresh = false;
    loop {
        let event = reader.read_event()?;
        match event {
            Event::Eof => return Ok(()),
            // The report has one root, and that is ours.
            Event::Decl(_) | Event::DocType(_) | Event::PI(_) | Event::Comment(_) | Event::Text(_) if depth == 0 => {}
            Event::Start(start) if start.name().as_ref() == "testsuites" => {}
            Event::Empty(start) if start.name().as_ref() == "testsuites" => {}
            Event::End(end) if end.name().as_ref() == "testsuites" => {}
            Event::Start(start) if depth == 0 => {
                put(out, Event::Start(labelled(&start, part)?));
                (depth, fresh) = (1, true);
            }
            Event::Empty(start) if depth == 0 => {
                let start = labelled(&start, part)?;
                put(out, Event::Start(start.borrow()));
                properties(out, part);
                put(out, Event::End(start.to_end()));
            }
            // Properties that are there get ours among them.
            Event::Start(start) if fresh && start.name().as_ref() == "properties" => {
                put(out, Event::Start(start));
                list(out, part);
                (depth, fresh) = (depth + 1, false);
            }
            Event::Text(text) if fresh && text.trim().is_empty() => {}
            event => {
                if std::mem::take(&mut fresh) {
                    properties(out, part);
                }
                match &event {
                    Event::Start(_) => depth += 1,
                    Event::End(_) => depth -= 1,
                    _ => {}
                }
                put(out, event);
            }
        }
    }
}

/// The start of a suite, with the label in its name.
fn labelled(start: &BytesStart<'_>, part: &Part) -> Result<BytesStart<'static>, NotJunit> {
    let mut new = BytesStart::new(start.name().as_ref().to_owned());
    let mut is_named = false;
    for (name, value) in attributes(start)? {
        if name == "name" {
            is_named = true;
            new.push_attribute(("name", format!("{value} [{}]", part.label).as_str()));
        } else {
            new.push_attribute((name.as_str(), value.as_str()));
        }
    }
    if !is_named {
        new.push_attribute(("name", format!("tests [{}]", part.label).as_str()));
    }
    Ok(new)
}

fn properties(out: &mut Writer<Vec<u8>>, part: &Part) {
    put(out, Event::Start(BytesStart::new("properties")));
    list(out, part);
    put(out, Event::End(BytesEnd::new("properties")));
}

fn list(out: &mut Writer<Vec<u8>>, part: &Part) {
    for (name, value) in &part.properties {
        let property = BytesStart::new("property").with_attributes([("name", *name), ("value", value.as_str())]);
        put(out, Event::Empty(property));
    }
}

/// A suite of one test.
fn whole(
    out: &mut Writer<Vec<u8>>,
    part: &Part,
    (name, seconds): (&str, f64),
    failure: Option<&(String, String)>,
    is_tests: bool,
) {
    let time = format!("{seconds:.3}");
    let count = |yes: bool| if yes { "1" } else { "0" };
    let failed = failure.is_some();
    let suite = BytesStart::new("testsuite").with_attributes([
        ("name", format!("tests [{}]", part.label).as_str()),
        ("tests", "1"),
        ("failures", count(failed && is_tests)),
        ("errors", count(failed && !is_tests)),
        ("skipped", "0"),
        ("time", &time),
    ]);
    let case = BytesStart::new("testcase").with_attributes([
        ("classname", "tests"),
        ("name", clean(name).as_str()),
        ("time", &time),
    ]);
    put(out, Event::Start(suite.borrow()));
    properties(out, part);
    put(out, Event::Start(case.borrow()));
    if let Some((message, text)) = failure {
        let kind = if is_tests { "failure" } else { "error" };
        put(out, Event::Start(BytesStart::new(kind).with_attributes([("message", clean(message).as_str())])));
        put(out, Event::Text(BytesText::new(&clean(text))));
        put(out, Event::End(BytesEnd::new(kind)));
    }
    put(out, Event::End(case.to_end()));
    put(out, Event::End(suite.to_end()));
}

/// The text without what XML cannot hold, such as the escapes of colours.
fn clean(text: &str) -> String {
    let text = console::strip_ansi_codes(text);
    text.chars().filter(|c| matches!(c, '\t' | '\n') || (*c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}'))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As pytest 8 writes it.
    const PYTEST: &str = r#"<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="0" failures="1" skipped="1" tests="3" time="0.031" timestamp="2026-01-01T00:00:00" hostname="h"><testcase classname="tests.test_a" name="test_good" time="0.001" /><testcase classname="tests.test_a.TestB" name="test_bad[&lt;1&gt;]" time="0.002"><failure message="AssertionError: assert 1 == 2&#10; +  where">def test_bad():
&gt;       assert 1 == 2 &amp; 3
E       AssertionError

tests/test_a.py:7: AssertionError</failure></testcase><testcase classname="tests.test_a" name="test_left" time="0.0"><skipped type="pytest.skip" message="why">tests/test_a.py:9: why</skipped></testcase></testsuite></testsuites>"#;

    fn part(content: Content) -> Part {
        let properties = vec![("python", "3.12.1".to_owned()), ("platform", "linux/amd64".to_owned())];
        Part { label: "python 3.12, linux/amd64".to_owned(), properties, content }
    }

    #[test]
    fn cases_are_read_with_their_failures() {
        let cases = read(PYTEST).expect("a report");
        assert_eq!(count(&cases), Counts { passed: 1, failed: 1, skipped: 1 });
        assert_eq!(cases[1].full_name(), "tests.test_a.TestB::test_bad[<1>]");
        let End::Failed { message, text } = &cases[1].end else { panic!("{:?}", cases[1]) };
        assert!(message.starts_with("AssertionError: assert 1 == 2"), "{message}");
        assert!(text.contains("> assert") || text.contains(">       assert 1 == 2 & 3"), "{text}");
        assert!(text.ends_with("tests/test_a.py:7: AssertionError"), "{text}");
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for text in ["", "no xml", "<html/>", "<testsuite><testcase></testsuite>", "<testsuite"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(read("<testsuite/>").expect("an empty one"), []);
        // An error of a test that failed already does not count twice.
        let twice =
            "<testsuite><testcase name='a'><failure message='one'/><error message='two'/></testcase></testsuite>";
        assert_eq!(count(&read(twice).expect("a report")), Counts { passed: 0, failed: 1, skipped: 0 });
    }

    #[test]
    fn merged_reports_say_which_cell_is_which() {
        let other = Part { label: "python 3.13, linux/arm64".to_owned(), ..part(Content::Report(PYTEST.to_owned())) };
        let merged = merge(&[part(Content::Report(PYTEST.to_owned())), other]).expect("a report");
        assert_eq!(count(&read(&merged).expect("a report")), Counts { passed: 2, failed: 2, skipped: 2 });
        for text in [
            "<testsuite name=\"pytest [python 3.12, linux/amd64]\" errors=\"0\"",
            "<testsuite name=\"pytest [python 3.13, linux/arm64]\"",
            "<properties><property name=\"python\" value=\"3.12.1\"/><property name=\"platform\" value=\"linux/amd64\"/></properties>",
        ] {
            assert!(merged.contains(text), "{text} in {merged}");
        }
        assert_eq!(merged.matches("<testsuites").count(), 1);
        // What is inside of the cases is as it was.
        let failure =
            |text: &str| text.split("<failure").nth(1).expect("one").split("</failure").next().map(str::to_owned);
        assert_eq!(failure(&merged), failure(PYTEST));
    }

    #[test]
    fn properties_of_a_suite_stay_and_empty_suites_get_ours() {
        let own = "<testsuite name='a'>\n <properties><property name='x' value='1'/></properties><testcase name='t'/></testsuite>";
        let merged = merge(&[part(Content::Report(own.to_owned())), part(Content::Report("<testsuite/>".to_owned()))]);
        let merged = merged.expect("a report");
        assert_eq!((merged.matches("<properties>").count(), merged.matches("<property ").count()), (2, 5), "{merged}");
        assert!(merged.contains("name='x'") || merged.contains("name=\"x\""), "{merged}");
        assert!(merged.contains("<testsuite name=\"tests [python 3.12, linux/amd64]\">"), "{merged}");
    }

    #[test]
    fn a_cell_without_a_report_is_one_test() {
        let failure = Some(("exit code 2".to_owned(), "\u{1b}[31mred\u{1b}[0m & <b>\u{0}\nend".to_owned()));
        let content = Content::Whole { name: "make test".to_owned(), seconds: 1.5, failure, is_tests: true };
        let merged = merge(&[part(content)]).expect("a report");
        assert!(merged.contains("failures=\"1\" errors=\"0\" skipped=\"0\" time=\"1.500\""), "{merged}");
        let cases = read(&merged).expect("a report");
        let end = End::Failed { message: "exit code 2".to_owned(), text: "red & <b>\nend".to_owned() };
        assert_eq!((cases.len(), &cases[0].end), (1, &end));
        let good = Content::Whole { name: "make test".to_owned(), seconds: 0.0, failure: None, is_tests: true };
        assert_eq!(count(&read(&merge(&[part(good)]).expect("a report")).expect("a report")).passed, 1);
    }
}
