//! The history as people read it: lists, one build, two builds side by side, figures and alarms. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use kiln_history::compare::{Comparison, Side, StepPair, TargetPair};
use kiln_history::record::{Ccache, Outcome, Record, Step, Target};
use kiln_history::stats::{Stats, TargetStats, Times};

use kiln_report::text::{change, percent};

use super::table::lines;
use super::text::{Paint, cut, duration, from_storage, harmless, size, wrap};

/// Digits of a commit that are shown.
const SHORT_COMMIT: usize = 8;

/// How it is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Columns of the terminal.
    pub(crate) width: usize,
    /// Whether colours are used.
    pub(crate) color: bool,
    /// Seconds since 1970, for how long ago something was.
    pub(crate) now: i64,
}

/// A table whose last column is cut where there is no room.
fn table(rows: &[Vec<String>], look: Look) -> String {
    let mut text = String::new();
    for (index, line) in lines(rows).iter().enumerate() {
        let line = cut(line, look.width).into_owned();
        let line = if index == 0 { Paint { color: look.color }.faint(&line) } else { line };
        let _ = writeln!(text, "{line}");
    }
    text
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(|&cell| cell.to_owned()).collect()
}

fn time(seconds: f64) -> String {
    duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

fn outcome(outcome: Outcome, up_to_date: bool, look: Look) -> String {
    let paint = Paint { color: look.color };
    match outcome {
        Outcome::Done if up_to_date => "up to date".to_owned(),
        Outcome::Done => "done".to_owned(),
        Outcome::Partial => paint.bad("partial"),
        Outcome::Failed => paint.bad("failed"),
        Outcome::Stopped => paint.strong("stopped"),
    }
}

/// When a build began, in the largest unit.
fn ago(record: &Record, look: Look) -> String {
    super::text::ago(record.started / 1000, look.now)
}

/// What was built: `main@1234abcd`.
fn source(record: &Record) -> String {
    let commit = record.source.commit.as_deref().map(|commit| commit.get(..SHORT_COMMIT).unwrap_or(commit));
    let parts = [record.source.branch.as_deref(), commit];
    harmless(&parts.into_iter().flatten().collect::<Vec<_>>().join("@")).into_owned()
}

/// One line per build.
pub(crate) fn list(records: &[Record], look: Look) -> String {
    let mut rows = vec![row(["build", "when", "what", "result", "time", "platforms", "source"])];
    rows.extend(records.iter().map(|record| {
        let platforms: Vec<&str> = record.targets.iter().map(|target| target.platform.arch.artifact_name()).collect();
        vec![
            record.id.clone(),
            ago(record, look),
            record.command.clone(),
            outcome(record.outcome, !record.did_work(), look),
            time(record.seconds),
            platforms.join(","),
            source(record),
        ]
    }));
    table(&rows, look)
}

/// All about one build.
pub(crate) fn build(record: &Record, look: Look) -> String {
    let mut text = format!("build {} of {}, {}", record.id, harmless(&record.project), ago(record, look));
    let _ = writeln!(text, ": {} in {}", outcome(record.outcome, !record.did_work(), look), time(record.seconds));
    let machine = &record.machine;
    let mut facts = vec![format!("kiln {}", machine.kiln), format!("Docker {}", harmless(&machine.engine))];
    facts.extend(machine.platform.map(|platform| format!("{platform}, {} processors", machine.cpus)));
    facts.extend(machine.ci.as_ref().map(|ci| format!("on {}", harmless(ci))));
    let _ = writeln!(text, "{}", cut(&facts.join(", "), look.width));
    if !source(record).is_empty() {
        let _ = writeln!(text, "source {}", source(record));
    }
    text.push('\n');
    let mut rows = vec![row(["platform", "way", "result", "time", "cached", "ccache", "size", "sha256"])];
    rows.extend(record.targets.iter().map(|target| target_row(target, look)));
    text += &table(&rows, look);
    for target in &record.targets {
        if let Some(error) = &target.error {
            let _ = writeln!(text, "{}", cut(&format!("{}: {}", target.platform, harmless(error)), look.width));
        }
        let shared = |stats: Ccache| from_storage(target.platform, stats.remote_hits, stats.hits + stats.misses);
        if let Some(line) = target.ccache.and_then(shared) {
            let _ = writeln!(text, "{line}");
        }
    }
    let ran: Vec<&Step> = record.steps.iter().filter(|step| !step.cached).collect();
    if !ran.is_empty() {
        text.push('\n');
        let mut rows = vec![row(["at", "time", "platform", "way", "step", "why"])];
        rows.extend(ran.iter().map(|step| step_row(step, look)));
        text += &table(&rows, look);
    }
    text
}

fn target_row(target: &Target, look: Look) -> Vec<String> {
    let sum = match target.artifacts.as_slice() {
        [artifact] => artifact.sha256.clone().unwrap_or_default(),
        [] => String::new(),
        several => format!("{} files", several.len()),
    };
    vec![
        target.platform.to_string(),
        target.way.clone(),
        outcome(target.outcome, target.up_to_date, look),
        time(target.seconds),
        format!("{}/{}", target.cached, target.cached + target.ran),
        percent(target.ccache.and_then(Ccache::percent)),
        if target.size() == 0 { "-".to_owned() } else { size(target.size()) },
        sum,
    ]
}

fn step_row(step: &Step, look: Look) -> Vec<String> {
    let platforms: Vec<String> = step.platforms.iter().map(|p| p.arch.artifact_name().to_owned()).collect();
    let failed =
        if step.outcome == Outcome::Done { String::new() } else { format!(" {}", outcome(step.outcome, false, look)) };
    vec![
        time(step.start),
        time(step.seconds) + &failed,
        platforms.join(","),
        step.way.clone(),
        harmless(&step.name()).into_owned(),
        harmless(&step.reason).into_owned(),
    ]
}

/// Two builds side by side.
pub(crate) fn comparison(comparison: &Comparison, look: Look) -> String {
    let Comparison { a, b, seconds, targets } = comparison;
    let mut text = format!("{a}: {}; {b}: {}, {}\n", time(seconds.0), time(seconds.1), change(seconds.0, seconds.1));
    for target in targets {
        text += &pair(target, look);
    }
    text
}

fn pair(target: &TargetPair, look: Look) -> String {
    let paint = Paint { color: look.color };
    let name = if target.name.is_empty() { String::new() } else { format!("{} for ", harmless(&target.name)) };
    let mut text = format!("\n{}\n", paint.strong(&format!("{name}{}", target.platform)));
    let side = |side: &Option<Side>, of: fn(&Side) -> String| side.as_ref().map_or_else(|| "-".to_owned(), of);
    let mut rows = vec![row(["", "first", "second", "change"])];
    let mut line = |what: &str, of: fn(&Side) -> String, change: String| {
        rows.push(vec![what.to_owned(), side(&target.sides.0, of), side(&target.sides.1, of), change]);
    };
    let both = target.sides.0.as_ref().zip(target.sides.1.as_ref());
    let times = both.map(|(a, b)| change(a.seconds, b.seconds)).unwrap_or_default();
    line("result", |side| side.outcome.name().to_owned(), String::new());
    line("way", |side| side.way.clone(), String::new());
    line("time", |side| time(side.seconds), times);
    line("cached", |side| format!("{}/{}", side.cached, side.cached + side.ran), String::new());
    line("ccache", |side| percent(side.ccache_percent), String::new());
    let files = match target.same_files {
        Some(true) => "the same".to_owned(),
        Some(false) => "differs".to_owned(),
        None => String::new(),
    };
    line("size", |side| size(side.bytes), files);
    for step in &target.steps {
        rows.extend(step_rows(step));
    }
    text += &table(&rows, look);
    text
}

fn step_rows(step: &StepPair) -> Vec<Vec<String>> {
    let seconds = |value: Option<f64>| value.map_or_else(|| "cached".to_owned(), time);
    let change = match step.seconds {
        (Some(a), Some(b)) => change(a, b),
        (None, Some(_)) => step.reasons.1.as_deref().map(|reason| harmless(reason).into_owned()).unwrap_or_default(),
        _ => String::new(),
    };
    let mut rows =
        vec![vec![harmless(&step.name).into_owned(), seconds(step.seconds.0), seconds(step.seconds.1), change]];
    rows.extend(
        step.phases
            .iter()
            .map(|(name, a, b)| vec![format!("  {}", harmless(name)), time(*a), time(*b), self::change(*a, *b)]),
    );
    rows
}

/// Figures of many builds, and what is slower than it was.
pub(crate) fn stats(stats: &Stats, currency: &str, look: Look) -> String {
    let plural = if stats.builds == 1 { "" } else { "s" };
    let mut text =
        format!("{} build{plural}: {} failed, {} up to date\n\n", stats.builds, stats.failed, stats.up_to_date);
    let mut rows = vec![row(["platform", "builds", "mean", "median", "last", "trend", "ccache", "last", "size"])];
    rows.extend(stats.targets.iter().map(stats_row));
    if let Some(tests) = &stats.tests {
        rows.push(times_row("tests", Some(tests)));
    }
    text += &table(&rows, look);
    let runner = &stats.runner;
    let _ = write!(text, "\nrunner: {:.1} minutes", runner.minutes);
    if runner.billed_minutes > 0.0 {
        let _ = write!(text, ", {:.0} billed on CI", runner.billed_minutes);
    }
    if runner.cost > 0.0 {
        let _ = write!(text, ", {:.2} {}", runner.cost, harmless(currency));
    }
    text.push('\n');
    text + &alarms(stats, look)
}

fn stats_row(target: &TargetStats) -> Vec<String> {
    let name = if target.name.is_empty() { String::new() } else { format!("{} ", harmless(&target.name)) };
    let mut row = times_row(&format!("{name}{}", target.platform), target.times.as_ref());
    row.extend([
        percent(target.ccache_percent),
        percent(target.last_ccache_percent),
        target.bytes.map_or_else(|| "-".to_owned(), size),
    ]);
    row
}

fn times_row(name: &str, times: Option<&Times>) -> Vec<String> {
    let Some(times) = times else { return row([name, "0", "-", "-", "-", "-"]) };
    vec![
        name.to_owned(),
        times.count.to_string(),
        time(times.mean),
        time(times.median),
        time(times.last),
        times.trend_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:+.0}%")),
    ]
}

/// What is slower than it was, and why; empty if nothing is.
pub(crate) fn alarms(stats: &Stats, look: Look) -> String {
    let paint = Paint { color: look.color };
    let mut text = String::new();
    for alarm in &stats.alarms {
        let causes: Vec<String> = alarm.causes.iter().map(ToString::to_string).collect();
        let causes = if causes.is_empty() { String::new() } else { format!(": {}", causes.join("; ")) };
        let lines = wrap(&harmless(&format!("slower: {alarm}{causes}")), look.width);
        for (index, line) in lines.iter().enumerate() {
            let line = if index == 0 { line.replacen("slower:", &paint.bad("slower:"), 1) } else { line.clone() };
            let _ = writeln!(text, "{line}");
        }
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

#[cfg(test)]
mod tests {
    use kiln_graph::{Arch, Platform};
    use kiln_history::record::{Artifact, Ccache, Machine, Phase, Source};
    use kiln_history::stats::Options;

    use super::super::text::width as columns;
    use super::*;

    const LOOK: Look = Look { width: 80, color: false, now: 1_700_100_000 };

    fn record(number: u32, compile: f64) -> Record {
        let platform = Platform::linux(Arch::Arm64);
        let step = |stage: &str, place: u32, seconds: f64| Step {
            platforms: vec![platform],
            stage: stage.into(),
            place,
            text: format!("RUN {stage}"),
            way: "twin".into(),
            seconds,
            start: 0.2,
            ..Step::default()
        };
        let mut compiled = step("compile", 2, compile);
        compiled.reason = "files of . changed: main.py".into();
        compiled.phases = vec![Phase { name: "C compile".into(), seconds: compile * 0.6 }];
        Record {
            version: kiln_history::record::VERSION,
            id: format!("65{number:06}-abc123"),
            command: "build".into(),
            started: 1_700_000_000_000 + i64::from(number) * 3_600_000,
            seconds: compile + 2.0,
            project: "hello".into(),
            source: Source { commit: Some("1234abcd5678".into()), branch: Some("main".into()) },
            machine: Machine {
                kiln: "0.1.0".into(),
                engine: "20.10.24".into(),
                platform: Some(Platform::linux(Arch::Amd64)),
                cpus: 2,
                ci: Some("github".into()),
            },
            targets: vec![Target {
                name: String::new(),
                platform,
                way: "twin".into(),
                outcome: Outcome::Done,
                up_to_date: false,
                seconds: compile + 2.0,
                container_seconds: compile,
                ran: 1,
                cached: 1,
                ccache: Some(Ccache { hits: 9, misses: 1, remote_hits: 0 }),
                artifacts: vec![Artifact {
                    path: "dist/hello-linux-arm64".into(),
                    size: 8_200_000,
                    sha256: Some("8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4".into()),
                    needs: None,
                    smoke: None,
                }],
                image: None,
                policy: None,
                error: None,
            }],
            steps: vec![Step { cached: true, ..step("toolchain", 2, 0.0) }, compiled],
            ..Record::default()
        }
    }

    #[test]
    fn texts_at_80_columns() {
        let mut failed = record(9, 3.0);
        failed.outcome = Outcome::Failed;
        failed.targets[0].outcome = Outcome::Failed;
        failed.targets[0].error = Some("`RUN compile` failed".into());
        failed.steps[1].outcome = Outcome::Failed;
        let records: Vec<Record> = (0..8).rev().map(|n| record(n, 30.0)).collect();
        let mut slow = vec![record(8, 60.0)];
        slow.extend(records.clone());
        let stats = Stats::of(&slow, &Options { minute_price: 0.008, window: 10 });
        let two = Comparison::of(&records[0], &slow[0]);
        let texts = [
            list(&[failed.clone(), slow[0].clone()], LOOK),
            build(&failed, LOOK),
            comparison(&two, LOOK),
            self::stats(&stats, "USD", LOOK),
        ];
        for line in texts.iter().flat_map(|text| text.lines()) {
            assert!(columns(line) <= LOOK.width, "{line:?}");
        }
        insta::assert_snapshot!("past", texts.join("----\n"));
    }
}
