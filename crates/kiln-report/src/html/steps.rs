//! Why each step ran: the table that says in words and numbers what the timeline draws.

use kiln_history::record::{Outcome, Step};
use maud::{Markup, html};

use super::{INSTRUCTION, scroll, seconds};
use crate::{Report, text};

/// Steps that are listed.
const MOST: usize = 200;

pub(super) fn section(report: &Report<'_>) -> Option<Markup> {
    let ran: Vec<&Step> = report.record.steps.iter().filter(|step| !step.cached).collect();
    if ran.is_empty() {
        return None;
    }
    let table = html! {
        table class="steps" {
            thead {
                tr {
                    th scope="col" { "step" } th scope="col" { "platforms" } th scope="col" { "way" }
                    th scope="col" class="num" { "at" } th scope="col" class="num" { "time" } th scope="col" { "why" }
                }
            }
            tbody {
                @for step in ran.iter().take(MOST) { (row(step)) }
            }
        }
    };
    Some(html! {
        (scroll("Why each step ran", &table))
        @if ran.len() > MOST { p class="faint" { (ran.len() - MOST) " more are in the record" } }
    })
}

fn row(step: &Step) -> Markup {
    let platforms: Vec<&str> = step.platforms.iter().map(|platform| platform.arch.artifact_name()).collect();
    html! {
        tr {
            th scope="row" {
                (text::line(&step.name(), 60))
                @if step.outcome != Outcome::Done { " " span class="badge failed" { (step.outcome.name()) } }
                code { (text::line(&step.text, INSTRUCTION)) }
            }
            td { (platforms.join(", ")) }
            td { (text::line(&step.way, 30)) }
            td class="num" { (seconds(step.start)) }
            td class="num" { (seconds(step.seconds)) }
            td {
                (text::line(&step.reason, 300))
                @if !step.phases.is_empty() {
                    ul class="phases" {
                        @for phase in step.phases.iter().take(12) { li { (text::line(&phase.name, 60)) " " (seconds(phase.seconds)) } }
                    }
                }
            }
        }
    }
}
