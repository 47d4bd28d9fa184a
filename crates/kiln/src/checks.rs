//! How the findings of the build checks are shown: as text with the source, as JSON, as annotations of a CI service.

use std::fmt::Write as _;

use kiln_dockerfile::Warning;
use serde_json::{Value, json};

use crate::environment::Environment;
use crate::report::{Progress, RawNoted, raw_warnings};
use crate::ui::Ui;

/// Lines of the file that are shown before and after a finding.
const AROUND: usize = 2;
/// Lines of a finding that are shown at most.
const MOST_LINES: usize = 12;
/// Characters of a line that are shown at most.
const MOST_CHARACTERS: usize = 160;

/// A warning, and the file that it is about.
pub(crate) type Noted = (String, Warning);

/// The names of the rules, each once.
pub(crate) fn rules(noted: &[Noted]) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = noted.iter().map(|(_, warning)| warning.rule.name()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether a CI service reads annotations from what is printed.
pub(crate) fn is_annotated(environment: &Environment) -> bool {
    environment.get("GITHUB_ACTIONS") == Some("true")
}

/// Shows warnings at the end of a build, a line for each.
pub(crate) fn show(ui: Ui, environment: &Environment, progress: Progress, noted: Option<&Vec<Noted>>) {
    let noted = noted.map(Vec::as_slice).unwrap_or_default();
    if progress == Progress::RawJson && !noted.is_empty() {
        let raw = noted.iter().map(|(file, warning)| RawNoted {
            file: file.clone(),
            text: format!("{}: {}", warning.rule, warning.message),
            description: warning.rule.description().to_owned(),
            url: warning.rule.url(),
            lines: warning.span.map(|span| (span.line, span.end_line)),
        });
        return ui.say(&raw_warnings(&raw.collect::<Vec<_>>()));
    }
    for (file, warning) in noted.iter().filter(|_| progress != Progress::Quiet) {
        let place = warning.span.map_or(file.clone(), |span| format!("{file}:{}", span.line));
        ui.warn(&format!("{place}: {} ({})", warning.message, warning.rule));
    }
    if is_annotated(environment) {
        for (file, warning) in noted {
            ui.say(&annotation(file, warning));
        }
    }
}

/// A finding as GitHub's workflow command.
/// Source: docs.github.com, "Workflow commands for GitHub Actions".
pub(crate) fn annotation(file: &str, warning: &Warning) -> String {
    let lines = warning.span.map(|span| format!(",line={},endLine={}", span.line, span.end_line)).unwrap_or_default();
    let title = property(warning.rule.name());
    format!("::warning file={}{lines},title={title}::{}", property(file), data(&warning.message))
}

/// A workflow command of any kind, with file and line if they are known.
pub(crate) fn workflow_command(kind: &str, place: Option<(&str, u32)>, title: &str, message: &str) -> String {
    let place = place.map(|(file, line)| format!("file={},line={line},", property(file))).unwrap_or_default();
    format!("::{kind} {place}title={}::{}", property(title), data(message))
}

/// What may stand in the message of a workflow command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// What may stand in one of its properties.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// A finding with the lines around it.
pub(crate) fn text(file: &str, source: &str, warning: &Warning) -> String {
    let Some(span) = warning.span else { return format!("{file}: {} ({})\n", warning.message, warning.rule) };
    let mut text = format!("{file}:{}: {} ({})\n", span.line, warning.message, warning.rule);
    if let Some(url) = warning.rule.url() {
        let _ = writeln!(text, "  {url}");
    }
    let lines: Vec<&str> = source.lines().collect();
    let (first, last) = (span.line as usize, (span.end_line as usize).min(span.line as usize + MOST_LINES - 1));
    let (from, to) = (first.saturating_sub(AROUND).max(1), (last + AROUND).min(lines.len()));
    let width = to.to_string().len();
    for number in from..=to {
        let line: String = lines[number - 1].chars().filter(|c| !c.is_control() || *c == '\t').collect();
        let cut: String = line.chars().take(MOST_CHARACTERS).collect();
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        let _ = writeln!(text, "  {}", format!("{number:>width$} | {mark} {cut}").trim_end());
    }
    text
}

/// A finding with the keys of `docker buildx build --call=check,format=json`.
pub(crate) fn value(file: &str, warning: &Warning) -> Value {
    let range = warning.span.map(|span| json!({ "start": { "line": span.line }, "end": { "line": span.end_line } }));
    let mut value = json!({
        "ruleName": warning.rule.name(),
        "description": warning.rule.description(),
        "detail": warning.message,
        "file": file,
        "location": { "ranges": range.into_iter().collect::<Vec<_>>() },
    });
    if let Some(url) = warning.rule.url() {
        value["url"] = url.into();
    }
    value
}

#[cfg(test)]
mod tests {
    use kiln_dockerfile::{Options, ResolvedImages, parse};
    use kiln_graph::{Arch, Platform};

    use super::*;

    fn warnings(source: &str) -> Vec<Warning> {
        let platform = Platform::linux(Arch::Amd64);
        let file = parse("f", source).expect("valid");
        file.check_all(&Options::new(platform), platform, &ResolvedImages::new()).warnings
    }

    #[test]
    fn the_lines_around_are_shown_and_those_meant_are_marked() {
        let source = "FROM scratch\nCOPY a b\nENV A=b \\\n  C=$d\nCOPY c d\nCOPY e f\n";
        let [warning] = warnings(source).try_into().expect("one");
        let expected = "\
f:4: variable `d` is not set (UndefinedVar)
  https://docs.docker.com/go/dockerfile/rule/undefined-var/
  2 |     COPY a b
  3 |     ENV A=b \\
  4 | >>>   C=$d
  5 |     COPY c d
  6 |     COPY e f
";
        assert_eq!(text("f", source, &warning), expected);
    }

    #[test]
    fn annotations_are_escaped() {
        let [warning] = warnings("FROM scratch AS B").try_into().expect("one");
        let shown = annotation("a,b:c%", &warning);
        assert_eq!(
            shown,
            "::warning file=a%2Cb%3Ac%25,line=1,endLine=1,title=StageNameCasing::stage name `B` should be lowercase"
        );
    }
}
