//! What one looks at first: what was built, how it went, and what is wrong.

use kiln_history::record::{Ccache, Outcome, Record};
use maud::{Markup, html};

use super::{bytes, seconds, value};
use crate::{Report, failure, text};

/// Digits of a commit that are shown.
const COMMIT: usize = 10;

pub(super) fn header(report: &Report<'_>) -> Markup {
    let record = report.record;
    let (steps, cached) = steps(record);
    html! {
        header {
            p class="over" { "kiln " (text::line(&record.command, 20)) }
            h1 {
                (text::line(report.title(), 80)) " "
                span class={ "badge " (record.outcome.name()) } { (report.outcome()) }
            }
            p class="lead" {
                (text::counted(report.platforms().len(), "platform")) " in " (seconds(record.seconds)) ", "
                time datetime=(text::machine_moment(record.started)) { (text::moment(record.started)) }
            }
            (facts(record))
            dl class="tiles" {
                div { dt { "time" } dd { (seconds(record.seconds)) } }
                div { dt { "steps cached" } dd { (value(cached, cached)) " " small { "of " (steps) } } }
                @if let Some(percent) = ccache(record).percent() {
                    div { dt { "ccache hits" } dd { (text::percent(Some(percent))) } }
                }
                @let size = record.targets.iter().map(kiln_history::record::Target::size).sum::<u64>();
                @if size > 0 { div { dt { "results" } dd { (bytes(size)) } } }
            }
        }
    }
}

/// Steps of all targets, and those of them that were cached.
fn steps(record: &Record) -> (usize, usize) {
    let cached = record.targets.iter().map(|target| target.cached).sum();
    (record.targets.iter().map(|target| target.ran).sum::<usize>() + cached, cached)
}

fn ccache(record: &Record) -> Ccache {
    record.targets.iter().filter_map(|target| target.ccache).fold(Ccache::default(), |all, one| Ccache {
        hits: all.hits + one.hits,
        misses: all.misses + one.misses,
        remote_hits: all.remote_hits + one.remote_hits,
    })
}

fn facts(record: &Record) -> Markup {
    let machine = &record.machine;
    let platform = machine.platform.map(|platform| format!("{platform}, {}", text::counted(machine.cpus, "processor")));
    let engine = Some(format!("Docker {}", machine.engine)).filter(|_| !machine.engine.is_empty());
    let ci = machine.ci.as_ref().map(|ci| format!("on {ci}"));
    let machine_text = [platform, engine, ci].into_iter().flatten().collect::<Vec<_>>().join(", ");
    html! {
        dl class="facts" {
            @if let Some(commit) = &record.source.commit {
                div { dt { "commit" } dd { code title=(text::line(commit, 64)) { (commit.chars().take(COMMIT).collect::<String>()) } } }
            }
            @if let Some(branch) = &record.source.branch { div { dt { "branch" } dd { (text::line(branch, 80)) } } }
            @if !machine_text.is_empty() { div { dt { "machine" } dd { (text::line(&machine_text, 120)) } } }
            @if !machine.kiln.is_empty() { div { dt { "kiln" } dd { (text::line(&machine.kiln, 40)) } } }
            div { dt { "build" } dd { code { (text::line(&record.id, 60)) } } }
        }
    }
}

/// Alarms and failures.
pub(super) fn troubles(report: &Report<'_>) -> Markup {
    let failures = failure::all(report.record, &report.extras.logs);
    html! {
        @for alarm in &report.alarms {
            div class="alarm" role="note" {
                p { strong { "Slower: " } (text::line(&alarm.to_string(), 300)) }
                @if !alarm.causes.is_empty() {
                    ul { @for cause in &alarm.causes { li { (text::line(&cause.to_string(), 400)) } } }
                }
            }
        }
        @for failure in &failures {
            div class="failure" role="note" {
                p { strong { (failure.platform) " failed: " } (text::line(failure.error, 600)) }
                @if let Some(step) = failure.step {
                    p {
                        code { (text::line(&step.text, 300)) }
                        @if step.line > 0 { " (" (text::line(&step.file, 120)) ":" (step.line) ")" }
                    }
                }
                @if !failure.lines.is_empty() {
                    pre tabindex="0" aria-label="last lines of the log" { (failure.lines.join("\n")) }
                }
            }
        }
        @for target in report.record.targets.iter().filter(|target| target.outcome == Outcome::Stopped) {
            @if let Some(error) = &target.error {
                div class="failure" role="note" { p { strong { (target.platform) " stopped: " } (text::line(error, 600)) } }
            }
        }
    }
}
