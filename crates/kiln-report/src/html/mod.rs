//! The page: one file with nothing from elsewhere, for a screen of any width, in light and dark.
//!
//! There is no script on it. What moves is what browsers do by themselves: tables scroll in their boxes, details open, and
//! shapes have titles. Widths in pictures are per cent and heights pixels, so that they stretch and their words do not.
//! Every picture has its numbers in a table beside it.

mod caches;
mod changes;
mod charts;
mod contents;
mod head;
mod modules;
mod steps;
mod targets;
mod timeline;

use std::fmt::{Display, Write as _};

use base64::Engine as _;
use kiln_graph::Platform;
use kiln_history::Record;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::Digest as _;

use crate::Report;
use crate::text;

const STYLE: &str = include_str!("style.css");
/// Largest record that is put into the page, in bytes: with it the page stays below a megabyte.
const LARGEST_RECORD: usize = 400 << 10;
/// Characters of an instruction that are shown.
const INSTRUCTION: usize = 160;
/// Colours for platforms; with more of these they begin again.
const COLOURS: usize = 6;

/// A part of the page.
struct Section {
    id: &'static str,
    title: &'static str,
    body: Markup,
}

/// The page of a build.
pub fn page(report: &Report<'_>) -> String {
    let history = charts::section(report);
    let sections: Vec<Section> = [
        Some(Section { id: "results", title: "Results", body: targets::section(report) }),
        timeline::section(report).map(|body| Section { id: "timeline", title: "Timeline", body }),
        caches::section(report, history.is_some()).map(|body| Section { id: "caches", title: "Caches", body }),
        changes::section(report).map(|body| Section { id: "changes", title: "What changed", body }),
        steps::section(report).map(|body| Section { id: "steps", title: "Why each step ran", body }),
        modules::section(report).map(|body| Section { id: "modules", title: "Slowest modules", body }),
        contents::section(report).map(|body| Section { id: "contents", title: "What is inside", body }),
        history.map(|body| Section { id: "history", title: "History", body }),
    ]
    .into_iter()
    .flatten()
    .collect();
    let title = format!("{}: {}", text::line(report.title(), 80), report.outcome());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                meta name="generator" content={ "kiln " (env!("CARGO_PKG_VERSION")) };
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head::header(report))
                nav aria-label="Sections" {
                    @for section in &sections { a href={ "#" (section.id) } { (section.title) } }
                }
                main {
                    (head::troubles(report))
                    @for section in &sections {
                        section id=(section.id) {
                            h2 { (section.title) }
                            (section.body)
                        }
                    }
                    (notices(report.record))
                }
                footer {
                    p {
                        "Made by kiln " (env!("CARGO_PKG_VERSION")) " of the record of build "
                        code { (text::line(&report.record.id, 60)) } ". The same numbers for programs: "
                        code { "kiln history show " (text::line(&report.record.id, 60)) " --json" } "."
                    }
                }
                (record(report.record))
            }
        }
    };
    page.into_string()
}

/// What the page may load or run: its one style, by digest, and nothing else.
fn policy() -> String {
    let digest = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(STYLE));
    format!("default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'")
}

/// The record itself, for programs. It is data that no browser runs, and nothing in it can end the element.
fn record(record: &Record) -> Markup {
    let json = serde_json::to_string(record).unwrap_or_default();
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, '<' | '>' | '&') || text::is_harmful(c) {
            // Writing to a String cannot fail.
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    if safe.len() > LARGEST_RECORD {
        return html! {};
    }
    html! { script type="application/json" id="record" { (PreEscaped(safe)) } }
}

fn notices(record: &Record) -> Markup {
    if record.notices.is_empty() {
        return html! {};
    }
    html! {
        section id="notices" {
            h2 { "Notices" }
            ul class="notices" { @for notice in record.notices.iter().take(50) { li { (text::line(notice, 500)) } } }
        }
    }
}

/// A number for programs, with the text that people read.
fn value(number: impl Display, shown: impl Display) -> Markup {
    html! { data value=(number) { (shown) } }
}

/// A time in seconds.
fn seconds(seconds: f64) -> Markup {
    value(seconds, text::duration(seconds))
}

/// Bytes; a dash for none.
fn bytes(bytes: u64) -> Markup {
    if bytes == 0 {
        html! { "-" }
    } else {
        value(bytes, text::size(bytes))
    }
}

/// A share of a picture, 0 to 1, as its attributes want it.
fn share(part: f64) -> String {
    let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
    format!("{:.3}%", 100.0 * part)
}

/// A part of a whole, 0 to 1; nothing of nothing is nothing.
#[expect(clippy::cast_precision_loss, reason = "for pictures")]
fn part(of: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { of as f64 / whole as f64 }
}

/// The class of a platform's colour: its place among those of the build.
fn colour(platforms: &[Platform], platform: Platform) -> String {
    let index = platforms.iter().position(|other| *other == platform).unwrap_or_default();
    format!("c{}", index % COLOURS + 1)
}

/// A table in a box of its own, in which it scrolls where it is too wide.
fn scroll(label: &str, table: &Markup) -> Markup {
    html! { div class="scroll" tabindex="0" role="region" aria-label=(text::line(label, 200)) { (table) } }
}
