//! How builds went over time: times, hits of the compiler cache, sizes.

use kiln_graph::Platform;
use kiln_history::Record;
use kiln_history::record::{Ccache, Outcome, Target};
use maud::{Markup, html};

use super::{colour, scroll, share};
use crate::{Report, text};

/// Builds that are drawn.
const BUILDS: usize = 30;
/// Height of a chart and of the room above its highest line, in pixels.
const HEIGHT: f64 = 170.0;
const ABOVE: f64 = 22.0;
const BELOW: f64 = 8.0;
/// Room at the left for words, and at the right, so that points are not cut.
const LEFT: f64 = 0.16;
const RIGHT: f64 = 0.015;

/// What is drawn.
struct Chart {
    title: &'static str,
    /// Of a target: its value, if it has one.
    of: fn(&Target) -> Option<f64>,
    shown: fn(f64) -> String,
    /// Where its scale ends at least.
    least: f64,
}

/// Where a build stands, 0 to 1, its value, and the build.
type Point<'a> = (f64, f64, &'a Record);

const CHARTS: [Chart; 3] = [
    Chart { title: "Time", of: time, shown: text::duration, least: 0.0 },
    Chart { title: "Compiler cache hits", of: hits, shown: |percent| text::percent(Some(percent)), least: 100.0 },
    Chart { title: "Size of the result", of: size, shown: shown_size, least: 0.0 },
];

fn time(target: &Target) -> Option<f64> {
    (target.outcome == Outcome::Done && target.ran > 0).then_some(target.seconds)
}

fn hits(target: &Target) -> Option<f64> {
    target.ccache.and_then(Ccache::percent)
}

#[expect(clippy::cast_precision_loss, reason = "for a picture")]
fn size(target: &Target) -> Option<f64> {
    Some(target.size()).filter(|size| *size > 0).map(|size| size as f64)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was a count of bytes")]
fn shown_size(bytes: f64) -> String {
    text::size(bytes as u64)
}

pub(super) fn section(report: &Report<'_>) -> Option<Markup> {
    // Oldest first, and builds of one kind: tests take other times.
    let mut builds: Vec<&Record> = report
        .past
        .iter()
        .filter(|record| record.command == report.record.command && record.did_work())
        .take(BUILDS)
        .collect();
    builds.reverse();
    if builds.len() < 2 {
        return None;
    }
    let platforms = report.platforms();
    let charts = CHARTS.iter().filter_map(|chart| draw(chart, &builds, &platforms));
    Some(html! {
        p class="faint" { "The last " (builds.len()) " builds that did something, the newest at the right." }
        ul class="legend" {
            @for platform in &platforms { li { span class={ "key " (colour(&platforms, *platform)) } {} (platform) } }
        }
        div class="charts" { @for chart in charts { (chart) } }
        details {
            summary { "As a table" }
            (scroll("Builds over time", &table(&builds, &platforms)))
        }
    })
}

/// The value of a build for a platform; of several targets the largest.
fn value(chart: &Chart, record: &Record, platform: Platform) -> Option<f64> {
    let targets = record.targets.iter().filter(|target| target.platform == platform);
    targets.filter_map(chart.of).max_by(f64::total_cmp)
}

#[expect(clippy::cast_precision_loss, reason = "a few builds")]
fn draw(chart: &Chart, builds: &[&Record], platforms: &[Platform]) -> Option<Markup> {
    let x = |index: usize| LEFT + (1.0 - LEFT - RIGHT) * index as f64 / (builds.len() - 1) as f64;
    let lines: Vec<(Platform, Vec<Point<'_>>)> = platforms
        .iter()
        .map(|platform| {
            let points = builds.iter().enumerate();
            let points =
                points.filter_map(|(index, record)| Some((x(index), value(chart, record, *platform)?, *record)));
            (*platform, points.collect())
        })
        .filter(|(_, points): &(_, Vec<_>)| points.len() > 1)
        .collect();
    let highest = lines.iter().flat_map(|(_, points)| points).map(|point| point.1).fold(chart.least, f64::max);
    if lines.is_empty() || highest <= 0.0 {
        return None;
    }
    let y = |value: f64| format!("{:.1}", HEIGHT - BELOW - (HEIGHT - BELOW - ABOVE) * value / highest);
    Some(html! {
        figure {
            figcaption { (chart.title) }
            svg class="chart" width="100%" height=(HEIGHT) role="img" aria-label={ (chart.title) " over the last builds" } {
                @for at in [0.0, highest / 2.0, highest] {
                    line class="tick" x1="0" x2="100%" y1=(y(at)) y2=(y(at)) {}
                    @if at > 0.0 { text x="0" y=(y(at)) dy="-4" { ((chart.shown)(at)) } }
                }
                @for (platform, points) in &lines {
                    g class={ "line " (colour(platforms, *platform)) } {
                        @for pair in points.windows(2) {
                            line x1=(share(pair[0].0)) y1=(y(pair[0].1)) x2=(share(pair[1].0)) y2=(y(pair[1].1)) {}
                        }
                        @for (x, value, record) in points {
                            circle cx=(share(*x)) cy=(y(*value)) r="3" {
                                title { (platform) ": " ((chart.shown)(*value)) ", " (text::moment(record.started)) ", build " (text::line(&record.id, 60)) }
                            }
                        }
                    }
                }
            }
        }
    })
}

fn table(builds: &[&Record], platforms: &[Platform]) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th scope="col" { "build" } th scope="col" { "when" }
                    @for platform in platforms {
                        @for chart in &CHARTS { th scope="col" class="num" { (platform) ", " (chart.title.to_lowercase()) } }
                    }
                }
            }
            tbody {
                @for record in builds.iter().rev() {
                    tr {
                        th scope="row" { code { (text::line(&record.id, 60)) } }
                        td { (text::moment(record.started)) }
                        @for platform in platforms {
                            @for chart in &CHARTS {
                                td class="num" { (value(chart, record, *platform).map_or_else(|| "-".to_owned(), chart.shown)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
