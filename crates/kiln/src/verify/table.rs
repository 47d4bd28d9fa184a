//! What was found, for people: a paragraph per artifact.

use std::fmt::Write as _;

use kiln_artifact::examine::{Examined, Shape};
use kiln_artifact::findings::{Finding, Level};

use super::Subject;
use super::run_on::{Run, Status};
use crate::report::text::wrap;
use crate::report::{Paint, harmless, pad, size};

/// Columns of the level and of the check's name, with the gaps behind them.
const LEVEL: usize = 9;
const NAME: usize = 18;
/// Columns of an image's name and of a platform, with the gap behind them, at least.
const IMAGE: usize = 20;
const PLATFORM: usize = 15;
/// Lines longer than this are hard to read.
const WIDEST: usize = 110;
/// Findings of one check that are told with their files.
const MOST: usize = 4;

/// The text; `notes` are told only if they are asked for.
pub(crate) fn render(subjects: &[Subject], width: usize, color: bool, notes: bool) -> String {
    let (paint, width) = (Paint { color }, width.clamp(60, WIDEST));
    let mut text = String::new();
    for (index, subject) in subjects.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        head(subject, width, paint, &mut text);
        findings(&subject.findings, (width, notes), paint, &mut text);
        runs(&subject.runs, width, paint, &mut text);
    }
    text
}

fn head(subject: &Subject, width: usize, paint: Paint, text: &mut String) {
    text.push_str(&paint.strong(&harmless(&subject.path.display().to_string())));
    text.push('\n');
    let Some(examined) = &subject.examined else { return };
    let mut facts = vec![what(examined), size(examined.size)];
    if let Some(main) = examined.main()
        && !matches!(examined.shape, Shape::Image { .. })
    {
        facts.push(format!("needs {}", examined.needs(main)));
    }
    for line in wrap(&harmless(&facts.join(", ")), width - 2) {
        let _ = writeln!(text, "  {line}");
    }
}

/// `onefile program for linux/amd64 with 58 files inside`.
fn what(examined: &Examined) -> String {
    let main = examined.main();
    let platform = examined.arch().map(kiln_graph::Platform::linux).map(|platform| format!(" for {platform}"));
    let platform = platform.unwrap_or_default();
    let programs = examined.programs.len();
    match &examined.shape {
        Shape::Program => match main.and_then(|main| main.payload.as_ref()) {
            Some(payload) => format!("onefile program{platform} with {} files inside", payload.files.len()),
            None => format!("program{platform}"),
        },
        Shape::Folder => format!("folder{platform} of {} files", examined.files.len() + programs),
        Shape::Package(form) => format!("{form}{platform} of {} files", examined.files.len() + programs),
        Shape::Image { platform, program } => match program {
            Some(program) => format!("image for {platform} that starts {program}"),
            None => format!("image for {platform}"),
        },
    }
}

fn findings(findings: &[Finding], (width, notes): (usize, bool), paint: Paint, text: &mut String) {
    let room = width - LEVEL - NAME - 2;
    let told = || findings.iter().filter(|finding| notes || finding.level != Level::Info);
    if told().next().is_none() {
        let _ = writeln!(text, "  {}no findings", paint.good(&pad("ok", LEVEL)));
    }
    for (index, finding) in told().enumerate() {
        let is_same = |other: &&Finding| other.check == finding.check && other.level == finding.level;
        let before = told().take(index).filter(is_same).count();
        let all = told().filter(is_same).count();
        if before >= MOST && all > MOST + 1 {
            if before == MOST {
                let start = " ".repeat(LEVEL + NAME + 2);
                let _ = writeln!(text, "{start}and {} more; --json has them all", all - MOST);
            }
            continue;
        }
        let (word, painted) = match finding.level {
            Level::Error => ("error", paint.bad(&pad("error", LEVEL))),
            Level::Warning => ("warning", paint.hint(&pad("warning", LEVEL))),
            Level::Info if finding.allowed => ("allowed", paint.faint(&pad("allowed", LEVEL))),
            Level::Info => ("note", paint.faint(&pad("note", LEVEL))),
        };
        debug_assert!(word.len() < LEVEL, "a gap is left");
        let mut start = format!("  {painted}{}", pad(finding.check.name(), NAME));
        let detail = if finding.file.is_empty() {
            finding.detail.clone()
        } else {
            format!("{} {}", finding.file, finding.detail)
        };
        // What helps is the same for all of one sort.
        let is_last = before + 1 == all.min(if all > MOST + 1 { MOST } else { all });
        let fix = finding.fix.iter().filter(|_| is_last).flat_map(|fix| wrap(&format!("fix: {}", harmless(fix)), room));
        for line in wrap(&harmless(&detail), room).into_iter().chain(fix) {
            let _ = writeln!(text, "{start}{line}");
            start = " ".repeat(LEVEL + NAME + 2);
        }
    }
}

fn runs(runs: &[Run], width: usize, paint: Paint, text: &mut String) {
    if runs.is_empty() {
        return;
    }
    let longest = runs.iter().map(|run| run.image.chars().count() + 2).max().unwrap_or_default();
    let column = longest.clamp(IMAGE, 34);
    let room = width - column - PLATFORM - 2;
    let _ = writeln!(text, "{}", paint.faint(&format!("  {}{}runs", pad("on", column), pad("platform", PLATFORM))));
    for run in runs {
        let word = run.status.word();
        let word = match run.status {
            Status::Runs => paint.good(word),
            Status::Fails => paint.bad(word),
            Status::OtherLibc | Status::Untried => paint.hint(word),
        };
        let image = harmless(&run.image);
        // A longer name has a line of its own.
        let is_long = image.chars().count() >= column;
        if is_long {
            let _ = writeln!(text, "  {image}");
        }
        let mut start =
            format!("  {}{}", pad(if is_long { "" } else { &image }, column), pad(&run.platform.to_string(), PLATFORM));
        let time = run.seconds.map(|seconds| format!(", {seconds:.1} s")).unwrap_or_default();
        let detail = format!("{}{time}: {}", run.status.word(), harmless(&run.detail));
        let tail = run.tail.iter().flat_map(|line| wrap(&format!("| {}", harmless(line)), room));
        for (index, line) in wrap(&detail, room).into_iter().chain(tail).enumerate() {
            let line = if index == 0 { line.replacen(run.status.word(), &word, 1) } else { line };
            let _ = writeln!(text, "{start}{line}");
            start = " ".repeat(column + PLATFORM + 2);
        }
    }
}
