//! All steps over time, per platform, with what they did inside and the chain that determined the end.

use kiln_graph::Platform;
use kiln_history::record::{Outcome, Record, Step};
use maud::{Markup, html};

use super::{INSTRUCTION, seconds, share};
use crate::{Report, critical, text};

/// Steps that are drawn per platform; those that took longest are kept.
const MOST: usize = 60;
/// Intervals between lines of the scale, at most.
const INTERVALS: f64 = 6.0;
/// Steps of scales, in seconds.
const SCALES: [f64; 16] =
    [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0];

/// Phases that have colours of their own, in the order in which Nuitka goes through them.
const PHASES: [&str; 6] = ["Python", "generating C", "C compile", "link", "payload", "bootstrap"];

pub(super) fn section(report: &Report<'_>) -> Option<Markup> {
    let steps = &report.record.steps;
    let end = steps.iter().map(|step| step.start + step.seconds).fold(report.record.seconds, f64::max);
    if end <= 0.0 || steps.iter().all(|step| step.cached) {
        return None;
    }
    let critical = critical::path(steps);
    let scale = Scale::to(end);
    Some(html! {
        (legend(steps))
        svg class="hidden" aria-hidden="true" { defs { g id="ticks" { (scale.lines()) } } }
        @for platform in report.platforms() {
            (lane(report.record, platform, &critical, &scale))
        }
        (chain(steps, &critical))
    })
}

/// The lines of a scale.
struct Scale {
    end: f64,
    step: f64,
}

impl Scale {
    fn to(end: f64) -> Self {
        let step = SCALES.into_iter().find(|step| end / step <= INTERVALS);
        Self { end, step: step.unwrap_or_else(|| (end / INTERVALS / 3600.0).ceil() * 3600.0) }
    }

    /// Where its lines are, in seconds.
    fn ticks(&self) -> impl Iterator<Item = f64> {
        let (step, end) = (self.step, self.end);
        (0..=100u32).map(move |index| f64::from(index) * step).take_while(move |at| *at <= end)
    }

    fn at(&self, seconds: f64) -> f64 {
        seconds / self.end
    }

    /// `30 s`, `1:30`.
    fn label(&self, at: f64) -> String {
        if self.end < 100.0 {
            return if self.step < 1.0 { format!("{at:.1} s") } else { format!("{at:.0} s") };
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "lines are at whole seconds here")]
        let whole = at as u64;
        format!("{}:{:02}", whole / 60, whole % 60)
    }

    fn lines(&self) -> Markup {
        html! {
            @for at in self.ticks() {
                line class="tick" x1=(share(self.at(at))) x2=(share(self.at(at))) y1="0" y2="100%" {}
            }
        }
    }
}

fn legend(steps: &[Step]) -> Markup {
    let has = |name: &str| steps.iter().any(|step| step.phases.iter().any(|phase| phase.name == name));
    let known = PHASES.iter().enumerate().filter(|(_, name)| has(name));
    let other = steps.iter().flat_map(|step| &step.phases).any(|phase| !PHASES.contains(&phase.name.as_str()));
    html! {
        ul class="legend" {
            li { span class="key plain" {} "a step" }
            @for (index, name) in known { li { span class={ "key p" (index + 1) } {} (name) } }
            @if other { li { span class="key p7" {} "other phases" } }
            li { span class="key crit" {} "critical path: what the end waited for" }
        }
    }
}

fn lane(record: &Record, platform: Platform, critical: &[usize], scale: &Scale) -> Markup {
    let of = || record.steps.iter().enumerate().filter(move |(_, step)| step.platforms.contains(&platform));
    let mut ran: Vec<(usize, &Step)> = of().filter(|(_, step)| !step.cached).collect();
    // What a result only copies onto nothing is read straight from where it lies, and has no time of its own.
    let counted: usize =
        record.targets.iter().filter(|target| target.platform == platform).map(|target| target.ran).sum();
    let untold = counted.saturating_sub(ran.len());
    let left_out = ran.len().saturating_sub(MOST);
    if left_out > 0 {
        ran.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
        ran.truncate(MOST);
    }
    ran.sort_by(|a, b| a.1.start.total_cmp(&b.1.start).then(a.0.cmp(&b.0)));
    let cached: Vec<&Step> = of().filter(|(_, step)| step.cached).map(|(_, step)| step).collect();
    html! {
        div class="lane" {
            h3 { (platform) }
            @if ran.is_empty() {
                p class="faint" { "nothing ran" }
            } @else {
                div class="gantt" role="list" aria-label={ "Steps for " (platform) } {
                    div class="row axis" aria-hidden="true" {
                        span class="name" {}
                        svg width="100%" height="18" {
                            @for at in scale.ticks() {
                                @let place = scale.at(at);
                                @let anchor = if at == 0.0 { "start" } else if place > 0.94 { "end" } else { "middle" };
                                text x=(share(place)) y="13" text-anchor=(anchor) { (scale.label(at)) }
                            }
                        }
                        span class="took" {}
                    }
                    @for (index, step) in &ran { (row(step, critical.contains(index), scale)) }
                }
            }
            @if untold > 0 && !ran.is_empty() {
                p class="faint" { (text::counted(untold, "more step")) " only copied files into the result" }
            }
            @if left_out > 0 { p class="faint" { (text::counted(left_out, "shorter step")) " left out" } }
            @if !cached.is_empty() {
                details {
                    summary { "starts from " (text::counted(cached.len(), "cached step")) }
                    ul class="cached" {
                        @for step in cached.iter().take(MOST) {
                            li { b { (text::line(&step.name(), 60)) } " " code { (text::line(&step.text, INSTRUCTION)) } }
                        }
                    }
                }
            }
        }
    }
}

fn row(step: &Step, critical: bool, scale: &Scale) -> Markup {
    let name = text::line(&step.name(), 60);
    let failed = step.outcome != Outcome::Done;
    let class = format!("row{}{}", if critical { " critical" } else { "" }, if failed { " failed" } else { "" });
    // The shortest is a line that can be seen.
    let width = scale.at(step.seconds).max(0.004);
    html! {
        div class=(class) role="listitem" {
            span class="name" title=(text::line(&step.text, 200)) {
                b { (name) }
                @if failed { " " em { (step.outcome.name()) } }
                " " code { (text::line(&step.text, INSTRUCTION)) }
            }
            svg width="100%" height="22" aria-hidden="true" {
                use href="#ticks" {}
                rect class="bar" x=(share(scale.at(step.start))) y="4" width=(share(width)) height="11" rx="1.5" {
                    title { (told(step, critical)) }
                }
                @for (class, title, start, seconds) in phases(step) {
                    rect class=(class) x=(share(scale.at(start))) y="4" width=(share(scale.at(seconds))) height="11" {
                        title { (title) }
                    }
                }
                @if critical { rect class="crit" x=(share(scale.at(step.start))) y="17" width=(share(width)) height="2.5" {} }
            }
            span class="took" { (seconds(step.seconds)) }
        }
    }
}

/// What a bar is, in words.
fn told(step: &Step, critical: bool) -> String {
    let path = if critical { ", on the critical path" } else { "" };
    let way = if step.way.is_empty() { String::new() } else { format!(", {}", step.way) };
    let (at, took) = (text::duration(step.start), text::duration(step.seconds));
    text::line(&format!("{}: {took}, from {at} on{way}{path}", step.name()), 200)
}

/// The phases of a step: class, title, start and length in seconds. The last ends with the step; what comes before the
/// first is the start of the container.
fn phases(step: &Step) -> Vec<(String, String, f64, f64)> {
    let all: f64 = step.phases.iter().map(|phase| phase.seconds).sum();
    let mut at = step.start + (step.seconds - all).max(0.0);
    let scale = if all > step.seconds && all > 0.0 { step.seconds / all } else { 1.0 };
    let segment = |phase: &kiln_history::record::Phase| {
        let index = PHASES.iter().position(|name| *name == phase.name).unwrap_or(PHASES.len());
        let (start, length) = (at, phase.seconds * scale);
        at += length;
        let title = text::line(&format!("{}: {}", phase.name, text::duration(phase.seconds)), 120);
        (format!("p{}", index + 1), title, start, length)
    };
    step.phases.iter().map(segment).collect()
}

/// The chain in words, which says as well what the picture shows by a line.
fn chain(steps: &[Step], critical: &[usize]) -> Markup {
    let chain: Vec<&Step> = critical.iter().filter_map(|index| steps.get(*index)).collect();
    let sum: f64 = chain.iter().map(|step| step.seconds).sum();
    html! {
        p class="chain" {
            b { "Critical path" } ", " (text::duration(sum)) " in " (text::counted(chain.len(), "step")) ": "
            @for (index, step) in chain.iter().enumerate() {
                @if index > 0 { " → " }
                span { (text::line(&step.name(), 60)) " " small { (platforms(step)) " " (text::duration(step.seconds)) } }
            }
        }
    }
}

fn platforms(step: &Step) -> String {
    step.platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use kiln_history::record::Phase;

    use super::*;

    #[test]
    fn scales_have_few_round_lines() {
        for (end, step, lines) in [(0.4, 0.1, 5), (7.0, 2.0, 4), (59.0, 10.0, 6), (174.0, 30.0, 6), (4000.0, 1200.0, 4)]
        {
            let scale = Scale::to(end);
            assert_eq!((scale.step, scale.ticks().count()), (step, lines), "{end}");
        }
        assert_eq!(Scale::to(90_000.0).label(18_000.0), "300:00");
        assert_eq!(Scale::to(90_000.0).ticks().count(), 6);
        assert_eq!((Scale::to(174.0).label(90.0), Scale::to(7.0).label(2.0)), ("1:30".to_owned(), "2 s".to_owned()));
    }

    #[test]
    fn phases_end_with_their_step() {
        let phase = |name: &str, seconds: f64| Phase { name: name.into(), seconds };
        let mut step =
            Step { start: 10.0, seconds: 8.0, phases: vec![phase("Python", 3.0), phase("x", 4.0)], ..Step::default() };
        let found = phases(&step);
        assert_eq!((found[0].0.as_str(), found[0].2, found[0].3), ("p1", 11.0, 3.0));
        assert_eq!((found[1].0.as_str(), found[1].2, found[1].3), ("p7", 14.0, 4.0));
        // A damaged record stays inside of its bar.
        step.phases[1].seconds = 13.0;
        let found = phases(&step);
        assert_eq!((found[0].3, found[1].2, found[1].3), (1.5, 11.5, 6.5));
    }
}
