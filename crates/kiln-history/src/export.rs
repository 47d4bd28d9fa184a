//! Records and figures for other programs: CSV for spreadsheets, and the text that Prometheus scrapes.
//!
//! Source of the latter: the text exposition format, version 0.0.4, of the Prometheus documentation.

use std::fmt::Write as _;

use crate::record::{Ccache, Record};
use crate::stats::Stats;

/// Columns of the CSV. New ones are added at the end only.
const COLUMNS: [&str; 22] = [
    "build",
    "command",
    "started_ms",
    "project",
    "commit",
    "branch",
    "ci",
    "cpus",
    "target",
    "platform",
    "way",
    "outcome",
    "seconds",
    "container_seconds",
    "steps_ran",
    "steps_cached",
    "ccache_hits",
    "ccache_misses",
    "bytes",
    "sha256",
    "error",
    "ccache_remote_hits",
];

/// One line per target and build, newest first, under a line of names.
pub fn csv(records: &[Record]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write =
        |row: &[String]| writer.write_record(row).expect("memory can be written to, and rows are equally long");
    write(&COLUMNS.map(str::to_owned));
    for record in records {
        for target in &record.targets {
            let Ccache { hits, misses, remote_hits } = target.ccache.unwrap_or_default();
            let sums: Vec<&str> = target.artifacts.iter().filter_map(|artifact| artifact.sha256.as_deref()).collect();
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            write(&[
                record.id.clone(),
                record.command.clone(),
                record.started.to_string(),
                record.project.clone(),
                text(&record.source.commit),
                text(&record.source.branch),
                text(&record.machine.ci),
                record.machine.cpus.to_string(),
                target.name.clone(),
                target.platform.to_string(),
                target.way.clone(),
                target.outcome.name().to_owned(),
                format!("{:.3}", target.seconds),
                format!("{:.3}", target.container_seconds),
                target.ran.to_string(),
                target.cached.to_string(),
                hits.to_string(),
                misses.to_string(),
                target.size().to_string(),
                sums.join(" "),
                text(&target.error),
                remote_hits.to_string(),
            ]);
        }
    }
    let bytes = writer.into_inner().expect("memory can be flushed");
    String::from_utf8(bytes).expect("only text was written")
}

/// The figures as gauges, for a file that node-exporter's textfile collector or a push gateway takes.
pub fn prometheus(project: &str, stats: &Stats) -> String {
    let mut text = Metrics { text: String::new(), project: escape(project) };
    text.gauge("kiln_builds", "Builds in the history.", &[("", stats.builds)]);
    text.gauge("kiln_builds_failed", "Builds that failed.", &[("", stats.failed)]);
    text.gauge("kiln_builds_up_to_date", "Builds that found everything in place.", &[("", stats.up_to_date)]);
    text.gauge("kiln_runner_minutes", "Minutes of all builds.", &[("", stats.runner.minutes)]);
    text.gauge(
        "kiln_runner_billed_minutes",
        "Minutes on CI services, rounded up.",
        &[("", stats.runner.billed_minutes)],
    );
    text.gauge("kiln_runner_cost", "What billed minutes cost.", &[("", stats.runner.cost)]);
    text.gauge("kiln_alarms", "Targets that are slower than they were.", &[("", stats.alarms.len())]);
    let labels: Vec<String> = stats
        .targets
        .iter()
        .map(|target| format!(",target=\"{}\",platform=\"{}\"", escape(&target.name), target.platform))
        .collect();
    let of = |value: fn(&crate::stats::TargetStats) -> Option<f64>| {
        let values = labels.iter().zip(&stats.targets).map(move |(labels, target)| (labels.as_str(), value(target)));
        values.filter_map(|(labels, value)| Some((labels, value?))).collect::<Vec<_>>()
    };
    let name = "kiln_build_seconds_median";
    text.gauge(name, "Median time of builds that did something.", &of(|target| Some(target.times?.median)));
    text.gauge("kiln_build_seconds_mean", "Mean of the same.", &of(|target| Some(target.times?.mean)));
    text.gauge("kiln_build_seconds_last", "The last of them.", &of(|target| Some(target.times?.last)));
    let name = "kiln_ccache_hit_ratio";
    text.gauge(name, "Hits among compilations, 0 to 1.", &of(|target| Some(target.ccache_percent? / 100.0)));
    let name = "kiln_ccache_hit_ratio_last";
    text.gauge(name, "The same in the last build.", &of(|target| Some(target.last_ccache_percent? / 100.0)));
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a floating point number")]
    text.gauge("kiln_artifact_bytes", "Size of the last result.", &of(|target| Some(target.bytes? as f64)));
    if let Some(tests) = &stats.tests {
        text.gauge("kiln_test_seconds_median", "Median time of test runs.", &[("", tests.median)]);
        text.gauge("kiln_test_seconds_last", "The last of them.", &[("", tests.last)]);
    }
    text.text
}

struct Metrics {
    text: String,
    project: String,
}

impl Metrics {
    /// One metric; without a value nothing of it is written.
    fn gauge<V: std::fmt::Display>(&mut self, name: &str, help: &str, values: &[(&str, V)]) {
        if values.is_empty() {
            return;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in values {
            let _ = writeln!(self.text, "{name}{{project=\"{}\"{labels}}} {value}", self.project);
        }
    }
}

/// The value of a label.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
