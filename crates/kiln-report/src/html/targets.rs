//! What became of each target, and its files.

use kiln_history::record::{Ccache, Outcome, Target};
use maud::{Markup, html};

use super::{bytes, colour, scroll, seconds, value};
use crate::{Report, name_of, outcome_of, text};

pub(super) fn section(report: &Report<'_>) -> Markup {
    let has_files = report.record.targets.iter().any(|target| !target.artifacts.is_empty());
    let has_images = report.record.targets.iter().any(|target| target.image.is_some());
    html! {
        (scroll("Results per platform", &targets(report)))
        @if has_files {
            h3 { "Files" }
            (scroll("Files", &files(report)))
        }
        @if has_images {
            h3 { "Images" }
            ul {
                @for target in &report.record.targets {
                    @if let Some(image) = &target.image { li { (target.platform) " " code class="sum" { (text::line(image, 300)) } } }
                }
            }
        }
    }
}

fn targets(report: &Report<'_>) -> Markup {
    let platforms = report.platforms();
    html! {
        table class="cards" {
            thead {
                tr {
                    th scope="col" { "platform" } th scope="col" { "result" } th scope="col" { "way" }
                    th scope="col" class="num" { "time" } th scope="col" class="num" { "in containers" }
                    th scope="col" class="num" { "cached" } th scope="col" class="num" { "ccache" }
                    th scope="col" class="num" { "size" } th scope="col" { "policy" }
                }
            }
            tbody {
                @for target in &report.record.targets {
                    tr data-target=(text::line(&target.name, 80)) data-platform=(target.platform) {
                        th scope="row" {
                            span class={ "dot " (colour(&platforms, target.platform)) } {}
                            (text::line(&name_of(report.record, target), 100))
                        }
                        td data-label="result" { span class={ "badge " (class(target)) } { (outcome_of(target)) } }
                        td data-label="way" { (text::line(&target.way, 40)) }
                        td data-label="time" class="num" { (seconds(target.seconds)) }
                        td data-label="in containers" class="num" { (seconds(target.container_seconds)) }
                        td data-label="cached" class="num" {
                            (value(target.cached, target.cached)) "/" (value(target.cached + target.ran, target.cached + target.ran))
                        }
                        td data-label="ccache" class="num" {
                            @match target.ccache.and_then(Ccache::percent) {
                                Some(percent) => (value(percent, text::percent(Some(percent)))),
                                None => "-",
                            }
                        }
                        td data-label="size" class="num" { (bytes(target.size())) }
                        td data-label="policy" { (text::line(target.policy.as_deref().unwrap_or("-"), 200)) }
                    }
                }
            }
        }
    }
}

fn class(target: &Target) -> &'static str {
    match target.outcome {
        Outcome::Done if target.ran == 0 => "same",
        outcome => outcome.name(),
    }
}

fn files(report: &Report<'_>) -> Markup {
    html! {
        table class="cards" {
            thead {
                tr {
                    th scope="col" { "file" } th scope="col" class="num" { "size" } th scope="col" { "SHA-256" }
                    th scope="col" { "needs" } th scope="col" { "trial run" }
                }
            }
            tbody {
                @for artifact in report.record.targets.iter().flat_map(|target| &target.artifacts) {
                    tr {
                        th scope="row" { (text::line(&artifact.path, 200)) }
                        td data-label="size" class="num" { (bytes(artifact.size)) }
                        td data-label="SHA-256" { code class="sum" { (text::line(artifact.sha256.as_deref().unwrap_or("-"), 64)) } }
                        td data-label="needs" { (text::line(artifact.needs.as_deref().unwrap_or("-"), 200)) }
                        td data-label="trial run" { (text::line(artifact.smoke.as_deref().unwrap_or("-"), 200)) }
                    }
                }
            }
        }
    }
}
