//! The job summary: what a CI service shows beside a run, as GitHub's Markdown.
//!
//! Everything in it is escaped. Parts come in the order of their worth, and one that would make the whole larger than the
//! service takes is left out with a word.

mod escape;
mod mermaid;

use std::fmt::Write as _;

use kiln_history::compare::{Comparison, StepPair, TargetPair};
use kiln_history::record::{Ccache, Outcome};

use crate::{Report, failure, name_of, outcome_of, text};
use escape::{block, cell, code, escape};

/// Bytes of a step's summary that GitHub takes, less what other commands of the step may write.
pub const LARGEST: usize = 1_000_000;
/// Room for what is said of parts that are left out.
const RESERVE: usize = 2_000;
/// Steps that are named among the changes of a target.
const STEPS: usize = 4;
/// Digits of a digest in the table.
const DIGITS: usize = 12;

/// The summary of a build.
pub fn summary(report: &Report<'_>) -> String {
    let parts: [(&str, String); 7] = [
        ("heading", heading(report)),
        ("alarms", alarms(report)),
        ("failures", failures(report)),
        ("table", table(report)),
        ("changes", changes(report)),
        ("timeline", timeline(report)),
        ("files", files(report)),
    ];
    let mut summary = String::new();
    for (name, part) in parts.into_iter().filter(|(_, part)| !part.is_empty()) {
        if !summary.is_empty() {
            summary.push('\n');
        }
        if summary.len() + part.len() + RESERVE > LARGEST {
            let _ = writeln!(summary, "_The {name} would be too large for this page; `kiln history show` has all._");
        } else {
            summary += part.trim_end();
            summary.push('\n');
        }
    }
    summary
}

fn heading(report: &Report<'_>) -> String {
    let record = report.record;
    let mut text = format!("## {}: {}\n\n", escape(report.title(), 80), report.outcome());
    let _ =
        write!(text, "{} in {}", text::counted(report.platforms().len(), "platform"), text::duration(record.seconds));
    if let Some(commit) = &record.source.commit {
        let _ = write!(text, ", commit {}", code(&commit.chars().take(10).collect::<String>(), 40));
    }
    if let Some(branch) = &record.source.branch {
        let _ = write!(text, " of {}", code(branch, 80));
    }
    if !record.machine.kiln.is_empty() {
        let _ = write!(text, ", kiln {}", escape(&record.machine.kiln, 40));
    }
    text.push('\n');
    text
}

fn alarms(report: &Report<'_>) -> String {
    let mut text = String::new();
    for alarm in &report.alarms {
        let _ = writeln!(text, "> [!WARNING]\n> Slower: {}", escape(&alarm.to_string(), 300));
        for cause in &alarm.causes {
            let _ = writeln!(text, "> - {}", escape(&cause.to_string(), 300));
        }
        text.push('\n');
    }
    text
}

fn failures(report: &Report<'_>) -> String {
    let mut text = String::new();
    for failure in failure::all(report.record, &report.extras.logs) {
        let _ = writeln!(text, "**{} failed**: {}\n", failure.platform, escape(failure.error, 500));
        if let Some(step) = failure.step {
            let _ = write!(text, "{}", code(&step.text, 300));
            if step.line > 0 {
                let _ = write!(text, " at {}", code(&format!("{}:{}", step.file, step.line), 200));
            }
            text.push_str("\n\n");
        }
        if !failure.lines.is_empty() {
            text += &block(&failure.lines);
            text.push('\n');
        }
    }
    text
}

fn table(report: &Report<'_>) -> String {
    let mut text = "| platform | way | time | cached | ccache | size | SHA-256 |\n\
                    |:---|:---|---:|---:|---:|---:|:---|\n"
        .to_owned();
    for target in &report.record.targets {
        let time = match target.outcome {
            Outcome::Done if target.ran > 0 => text::duration(target.seconds),
            _ => outcome_of(target).to_owned(),
        };
        let sum = match target.artifacts.as_slice() {
            [artifact] => artifact.sha256.as_deref().map(|sum| cell(&sum.chars().take(DIGITS).collect::<String>(), 64)),
            [] => None,
            several => Some(text::counted(several.len(), "file")),
        };
        let size = if target.size() == 0 { "-".to_owned() } else { text::size(target.size()) };
        let _ = writeln!(
            text,
            "| {} | {} | {time} | {}/{} | {} | {size} | {} |",
            escape(&name_of(report.record, target), 100),
            escape(&target.way, 30),
            target.cached,
            target.cached + target.ran,
            text::percent(target.ccache.and_then(Ccache::percent)),
            sum.unwrap_or_else(|| "-".to_owned()),
        );
    }
    text
}

fn changes(report: &Report<'_>) -> String {
    let Some(comparison) = report.changes() else { return String::new() };
    let Comparison { a, seconds, targets, .. } = &comparison;
    let mut text = format!(
        "### What changed\n\nAgainst build {}: {} then, {} now, {}.\n\n",
        code(a, 60),
        text::duration(seconds.0),
        text::duration(seconds.1),
        text::change(seconds.0, seconds.1)
    );
    for target in targets {
        let changes = changes_of(target);
        if !changes.is_empty() {
            let _ = writeln!(text, "- **{}**: {}", target.platform, changes.join("; "));
        }
    }
    text
}

fn changes_of(target: &TargetPair) -> Vec<String> {
    let (before, now) = match &target.sides {
        (Some(before), Some(now)) => (before, now),
        (None, Some(_)) => return vec!["was not built then".to_owned()],
        _ => return vec!["is not built any more".to_owned()],
    };
    let mut changes = vec![format!(
        "{} then, {} now, {}",
        text::duration(before.seconds),
        text::duration(now.seconds),
        text::change(before.seconds, now.seconds)
    )];
    if before.way != now.way {
        changes.push(format!("{} then, {} now", escape(&before.way, 30), escape(&now.way, 30)));
    }
    // What looks the same is no change to show.
    let mut differs = |what: &str, before: String, now: String| {
        if before != now {
            changes.push(format!("{what} {before} then, {now} now"));
        }
    };
    if before.ccache_percent.is_some() && now.ccache_percent.is_some() {
        differs("ccache hits", text::percent(before.ccache_percent), text::percent(now.ccache_percent));
    }
    if before.bytes > 0 && now.bytes > 0 {
        differs("size", text::size(before.bytes), text::size(now.bytes));
    }
    match target.same_files {
        Some(true) => changes.push("the same file".to_owned()),
        Some(false) => changes.push("another file".to_owned()),
        None => {}
    }
    changes.extend(target.steps.iter().take(STEPS).filter_map(step));
    changes
}

fn step(step: &StepPair) -> Option<String> {
    let name = escape(&step.name, 60);
    match step.seconds {
        (Some(a), Some(b)) if (b - a).abs() >= 1.0 => Some(format!("{name} {}", text::change(a, b))),
        (None, Some(seconds)) => {
            let why = step.reasons.1.as_deref().map(|why| format!(": {}", escape(why, 200))).unwrap_or_default();
            Some(format!("{name} ran ({}){why}", text::duration(seconds)))
        }
        (Some(_), None) => Some(format!("{name} did not run")),
        _ => None,
    }
}

fn timeline(report: &Report<'_>) -> String {
    let gantt = mermaid::gantt(report.record, &report.platforms());
    gantt.map(|gantt| format!("### Steps\n\n```mermaid\n{gantt}```\n")).unwrap_or_default()
}

fn files(report: &Report<'_>) -> String {
    let artifacts: Vec<_> = report.record.targets.iter().flat_map(|target| &target.artifacts).collect();
    if artifacts.is_empty() {
        return String::new();
    }
    let mut text = "<details>\n<summary>Files with their whole digests</summary>\n\n\
                    | file | size | SHA-256 | needs | trial run |\n|:---|---:|:---|:---|:---|\n"
        .to_owned();
    for artifact in artifacts {
        let or_dash =
            |value: &Option<String>| value.as_deref().map_or_else(|| "-".to_owned(), |value| escape(value, 200));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            cell(&artifact.path, 200),
            text::size(artifact.size),
            artifact.sha256.as_deref().map_or_else(|| "-".to_owned(), |sum| cell(sum, 64)),
            or_dash(&artifact.needs),
            or_dash(&artifact.smoke)
        );
    }
    text + "\n</details>\n"
}
