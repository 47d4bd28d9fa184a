//! The build beside the last one like it.

use kiln_history::compare::{Comparison, Side, StepPair, TargetPair};
use maud::{Markup, html};

use super::scroll;
use crate::{Report, text};

/// Steps that are listed per target: those with the largest differences.
const MOST_STEPS: usize = 8;
/// Seconds from which on a difference between two runs of a step is worth a line.
const WORTH_SHOWING: f64 = 0.5;

pub(super) fn section(report: &Report<'_>) -> Option<Markup> {
    let comparison = report.changes()?;
    let Comparison { a, seconds, targets, .. } = &comparison;
    let earlier = report.past.iter().find(|record| record.id == *a)?;
    let table = html! {
        table class="changes" {
            thead {
                tr {
                    th scope="col" {} th scope="col" class="num" { "before" } th scope="col" class="num" { "now" }
                    th scope="col" { "change" }
                }
            }
            @for target in targets { (pair(target)) }
        }
    };
    Some(html! {
        p {
            "Against build " code { (text::line(a, 60)) } " of " (text::moment(earlier.started)) ": "
            (text::duration(seconds.0)) " then, " (text::duration(seconds.1)) " now, "
            (text::change(seconds.0, seconds.1)) "."
        }
        (scroll("What changed", &table))
    })
}

fn pair(target: &TargetPair) -> Markup {
    let name = if target.name.is_empty() { String::new() } else { format!("{} for ", target.name) };
    let (before, now) = &target.sides;
    let side = |side: &Option<Side>, of: fn(&Side) -> String| side.as_ref().map_or_else(|| "-".to_owned(), of);
    let line = |what: &str, of: fn(&Side) -> String, change: String| {
        let (before, now) = (side(before, of), side(now, of));
        // What is as it was needs no line, but how long it took and which file it is are always asked for.
        let change = if change.is_empty() && before != now { "changed".to_owned() } else { change };
        html! {
            @if !change.is_empty() { tr {
                th scope="row" { (what) }
                td class="num" { (text::line(&before, 60)) } td class="num" { (text::line(&now, 60)) } td { (change) }
            } }
        }
    };
    let both = before.as_ref().zip(now.as_ref());
    let times = both.map(|(a, b)| text::change(a.seconds, b.seconds)).unwrap_or_default();
    let files = match target.same_files {
        Some(true) => "the same file",
        Some(false) => "another file",
        None => "",
    };
    html! {
        tbody {
            tr class="group" { th colspan="4" scope="rowgroup" { (text::line(&format!("{name}{}", target.platform), 120)) } }
            (line("result", |side| side.outcome.name().to_owned(), String::new()))
            (line("way", |side| side.way.clone(), String::new()))
            (line("time", |side| text::duration(side.seconds), times))
            (line("cached", |side| format!("{}/{}", side.cached, side.cached + side.ran), String::new()))
            (line("ccache", |side| text::percent(side.ccache_percent), String::new()))
            (line("size", |side| if side.bytes == 0 { "-".to_owned() } else { text::size(side.bytes) }, files.to_owned()))
            @for step in target.steps.iter().filter(|step| differs(step)).take(MOST_STEPS) { (step_rows(step)) }
        }
    }
}

fn differs(step: &StepPair) -> bool {
    step.seconds.0.zip(step.seconds.1).is_none_or(|(before, now)| (now - before).abs() >= WORTH_SHOWING)
}

fn step_rows(step: &StepPair) -> Markup {
    let time = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), text::duration);
    let change = match step.seconds {
        (Some(a), Some(b)) => text::change(a, b),
        (None, Some(_)) => step.reasons.1.clone().unwrap_or_default(),
        _ => String::new(),
    };
    html! {
        tr {
            th scope="row" { "step " (text::line(&step.name, 60)) }
            td class="num" { (time(step.seconds.0)) } td class="num" { (time(step.seconds.1)) } td { (text::line(&change, 300)) }
        }
        @for (name, a, b) in &step.phases {
            tr class="sub" {
                th scope="row" { (text::line(name, 60)) }
                td class="num" { (text::duration(*a)) } td class="num" { (text::duration(*b)) } td { (text::change(*a, *b)) }
            }
        }
    }
}
