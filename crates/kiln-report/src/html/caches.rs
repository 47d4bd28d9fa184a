//! What caches saved: steps that did not run, and what the compiler cache answered.

use kiln_history::record::{Ccache, Target};
use maud::{Markup, html};

use super::{part, scroll, share, value};
use crate::{Report, name_of, text};

pub(super) fn section(report: &Report<'_>, has_history: bool) -> Option<Markup> {
    let record = report.record;
    if record.targets.iter().all(|target| target.ran + target.cached == 0 && target.ccache.is_none()) {
        return None;
    }
    let table = html! {
        table class="bars" {
            thead { tr { th scope="col" { "platform" } th scope="col" { "steps" } th scope="col" { "compiler cache" } } }
            tbody {
                @for target in &record.targets {
                    tr {
                        th scope="row" { (text::line(&name_of(record, target), 100)) }
                        td { (steps(target)) }
                        td { (compilations(target)) }
                    }
                }
            }
        }
    };
    Some(html! {
        ul class="legend" {
            li { span class="key hit" {} "cached, hit" }
            li { span class="key miss" {} "ran, missed" }
        }
        (scroll("What caches saved", &table))
        @if has_history { p class="faint" { "How hits went over time: " a href="#history" { "History" } "." } }
    })
}

fn steps(target: &Target) -> Markup {
    let all = target.cached + target.ran;
    if all == 0 {
        return html! { "-" };
    }
    html! {
        (bar(target.cached as u64, all as u64))
        div class="told" { (value(target.cached, target.cached)) " cached, " (value(target.ran, target.ran)) " ran" }
    }
}

fn compilations(target: &Target) -> Markup {
    let Some(ccache) = target.ccache.filter(|ccache| ccache.percent().is_some()) else {
        return html! { div class="told" { "nothing was compiled" } };
    };
    let Ccache { hits, misses, remote_hits } = ccache;
    html! {
        (bar(hits, hits + misses))
        div class="told" {
            (text::percent(ccache.percent())) ": " (value(hits, hits)) " hits, " (value(misses, misses)) " misses"
            @if remote_hits > 0 { ", " (value(remote_hits, remote_hits)) " of the hits from shared storage" }
        }
    }
}

fn bar(hits: u64, all: u64) -> Markup {
    html! {
        svg width="100%" height="10" aria-hidden="true" {
            rect class="miss" width="100%" height="10" rx="2" {}
            rect class="hit" width=(share(part(hits, all))) height="10" rx="2" {}
        }
    }
}
