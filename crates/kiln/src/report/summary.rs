//! The table at the end of a build. Pure.

use std::time::Duration;

use kiln_graph::Platform;
use kiln_solver::{ArtifactReport, CcacheStats, PlannedTarget, TargetReport, Way};

use super::table;
use super::text::{Paint, cut, duration, from_storage, harmless, pad, size, width as columns, wrap};

/// Digits of a SHA-256 where there is no room for all.
const SHORT_SUM: usize = 12;
/// Spaces between columns.
const GAP: &str = "  ";

/// One target in the table.
#[derive(Clone, Debug)]
pub(crate) struct TargetRow {
    /// Its platform.
    pub(crate) platform: Platform,
    /// How its steps ran.
    pub(crate) way: Way,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// From the start of the build to its end.
    pub(crate) took: Duration,
    /// Steps that were cached.
    pub(crate) cached: usize,
    /// All steps.
    pub(crate) steps: usize,
    /// What the compiler cache answered.
    pub(crate) ccache: Option<CcacheStats>,
    /// Its files.
    pub(crate) artifacts: Vec<ArtifactReport>,
    /// The image that was made of it.
    pub(crate) image: Option<String>,
    /// The policy that it was built by: `lto=yes jobs=1`.
    pub(crate) note: Option<String>,
}

/// How a target ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was built.
    Built,
    /// Nothing had to be done.
    UpToDate,
    /// It failed.
    Failed {
        /// What goes on with "failed": " at STEP", or ": ERROR" if it was no step.
        at: String,
    },
    /// The build ended before it did.
    Stopped,
}

impl TargetRow {
    /// The row of a target that ended well.
    pub(crate) fn finished(report: &TargetReport) -> Self {
        Self {
            platform: report.platform,
            way: report.way,
            outcome: if report.up_to_date { Outcome::UpToDate } else { Outcome::Built },
            took: report.took,
            cached: report.cached,
            steps: report.ran + report.cached,
            ccache: report.ccache,
            artifacts: report.artifacts.clone(),
            image: report.image.clone(),
            note: None,
        }
    }

    /// The row of a target that did not end well.
    pub(crate) fn ended(planned: &PlannedTarget, outcome: Outcome, took: Duration) -> Self {
        Self {
            platform: planned.platform,
            way: planned.way,
            outcome,
            took,
            cached: planned.cached,
            steps: planned.cached + planned.to_run,
            ccache: None,
            artifacts: Vec::new(),
            image: None,
            note: None,
        }
    }

    fn cells(&self, whole_sum: bool) -> [String; COLUMNS] {
        let ended = matches!(self.outcome, Outcome::Built | Outcome::UpToDate);
        let time = match &self.outcome {
            Outcome::Built => duration(self.took),
            Outcome::UpToDate => "up to date".to_owned(),
            Outcome::Failed { .. } => "failed".to_owned(),
            Outcome::Stopped => "stopped".to_owned(),
        };
        let bytes: u64 = self.artifacts.iter().map(|artifact| artifact.size).sum();
        let sum = match self.artifacts.as_slice() {
            [artifact] => artifact.sha256.as_deref().unwrap_or("-"),
            [] => "-",
            several => return self.with_sum(time, bytes, format!("{} files", several.len())),
        };
        let sum = if whole_sum { sum } else { sum.get(..SHORT_SUM).unwrap_or(sum) };
        if ended { self.with_sum(time, bytes, sum.to_owned()) } else { self.with_sum(time, 0, String::new()) }
    }

    fn with_sum(&self, time: String, bytes: u64, sum: String) -> [String; COLUMNS] {
        [
            self.platform.to_string(),
            self.way.to_string(),
            time,
            format!("{}/{}", self.cached, self.steps),
            self.ccache.and_then(|stats| stats.hit_percent()).map_or_else(|| "-".to_owned(), |p| format!("{p:.0}%")),
            if bytes == 0 { "-".to_owned() } else { size(bytes) },
            sum,
        ]
    }
}

const COLUMNS: usize = 7;
const HEAD: [&str; COLUMNS] = ["platform", "way", "time", "cached", "ccache", "size", "sha256"];

/// The table, then a line per file, failure and policy; empty without rows.
pub(crate) fn render(rows: &[TargetRow], width: usize, color: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let paint = Paint { color };
    let laid_out = |whole_sum: bool| {
        let cells = rows.iter().map(|row| row.cells(whole_sum));
        table::lines(&[HEAD.map(str::to_owned)].into_iter().chain(cells).collect::<Vec<_>>())
    };
    let whole = laid_out(true);
    let fits = whole.iter().all(|line| columns(line) <= width);
    let table = if fits { whole } else { laid_out(false) };
    let mut lines = vec![paint.faint(&cut(&table[0], width))];
    for (row, text) in rows.iter().zip(&table[1..]) {
        let text = cut(text, width);
        lines.push(match row.outcome {
            Outcome::Built | Outcome::UpToDate => text.into_owned(),
            // Only the word is coloured: it occurs nowhere else in such a line.
            Outcome::Failed { .. } => text.replacen("failed", &paint.bad("failed"), 1),
            Outcome::Stopped => text.replacen("stopped", &paint.strong("stopped"), 1),
        });
    }
    let paths = rows.iter().flat_map(|row| &row.artifacts).map(|a| columns(&a.path.display().to_string()));
    // Facts are aligned unless one long path would push them all out.
    let aligned = paths.max().unwrap_or_default().min(width / 2);
    let details: Vec<String> = rows.iter().flat_map(|row| details(row, (aligned, width), paint)).collect();
    if !details.is_empty() {
        lines.push(String::new());
        lines.extend(details);
    }
    lines.extend(policies(rows, width));
    lines.into_iter().map(|line| line + "\n").collect()
}

/// What the table has no room for. A path is never cut: people copy it.
fn details(row: &TargetRow, (aligned, width): (usize, usize), paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    if let Outcome::Failed { at } = &row.outcome {
        lines.push(cut(&format!("{}: failed{}", row.platform, harmless(at)), width).into_owned());
    }
    for artifact in &row.artifacts {
        let path = artifact.path.display().to_string();
        let needs = artifact.needs.as_ref().map(|needs| format!("needs: {needs}"));
        let facts: Vec<String> = needs.into_iter().chain(artifact.smoke.clone()).collect();
        let joined = harmless(&facts.join("; ")).into_owned();
        let padded = columns(&path).max(aligned);
        if joined.is_empty() {
            lines.push(paint.strong(&path));
        } else if padded + GAP.len() + columns(&joined) <= width {
            lines.push(format!("{}{GAP}{joined}", paint.strong(&pad(&path, padded))));
        } else {
            lines.push(paint.strong(&path));
            lines.extend(facts.iter().map(|fact| cut(&format!("{GAP}{}", harmless(fact)), width).into_owned()));
        }
    }
    let shared = row.ccache.and_then(|stats| from_storage(row.platform, stats.remote_hits, stats.hits + stats.misses));
    lines.extend(shared.map(|text| cut(&text, width).into_owned()));
    lines.extend(row.image.as_ref().map(|image| format!("image {} for {}", paint.strong(image), row.platform)));
    lines
}

/// The policies, said once for all platforms that share one.
fn policies(rows: &[TargetRow], width: usize) -> Vec<String> {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for row in rows {
        let Some(note) = row.note.as_deref() else { continue };
        match groups.iter_mut().find(|(text, _)| *text == note) {
            Some((_, platforms)) if platforms.contains(&row.platform.to_string()) => {}
            Some((_, platforms)) => platforms.push(row.platform.to_string()),
            None => groups.push((note, vec![row.platform.to_string()])),
        }
    }
    let all = groups.len() == 1 && rows.iter().all(|row| row.note.is_some());
    let text: Vec<String> = groups
        .into_iter()
        .map(|(note, platforms)| if all { note.to_owned() } else { format!("{note} ({})", platforms.join(", ")) })
        .collect();
    if text.is_empty() {
        return Vec::new();
    }
    wrap(&format!("policy: {}", text.join("; ")), width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::script;

    fn rows() -> Vec<TargetRow> {
        let mut rows: Vec<TargetRow> = [(script::AMD64, 83.2), (script::I386, 0.05), (script::ARM64, 1021.0)]
            .into_iter()
            .map(|(platform, seconds)| TargetRow::finished(&script::report(platform, seconds)))
            .collect();
        rows[1].outcome = Outcome::UpToDate;
        rows[1].ccache = None;
        for row in &mut rows {
            row.note = Some("lto=yes jobs=1".into());
        }
        rows[2].note = Some("lto=no jobs=1".into());
        rows
    }

    fn failed() -> Vec<TargetRow> {
        let mut rows = rows();
        rows[0].outcome = Outcome::Failed { at: " at dependencies 4/4 RUN pip install ".to_owned() + &"x ".repeat(60) };
        rows[0].artifacts.clear();
        rows[1].outcome = Outcome::Stopped;
        rows[1].artifacts.clear();
        rows[2].artifacts[0].path = format!("dist/{}-linux-arm64", "long".repeat(16)).into();
        rows[2].artifacts[0].smoke = Some(format!("--version: {}", "words ".repeat(40)));
        for row in &mut rows {
            row.note = Some("lto=no jobs=1".into());
        }
        rows
    }

    #[test]
    fn at_80_columns() {
        insta::assert_snapshot!("summary_80", render(&rows(), 80, false));
    }

    #[test]
    fn at_120_columns() {
        let mut rows = rows();
        rows[1].outcome = Outcome::Built;
        insta::assert_snapshot!("summary_120", render(&rows, 120, false));
    }

    #[test]
    fn with_failures() {
        insta::assert_snapshot!("summary_failed", render(&failed(), 80, false));
    }

    #[test]
    fn with_several_files_folders_and_images() {
        let mut rows = rows();
        let other =
            ArtifactReport { path: "dist/hello.dist".into(), sha256: None, needs: None, smoke: None, size: 31_000_000 };
        rows[0].artifacts.push(other.clone());
        rows[1].artifacts = vec![other];
        rows[2].artifacts.clear();
        rows[2].image = Some("registry.example/hello:1.0".into());
        insta::assert_snapshot!("summary_several", render(&rows, 80, false));
    }

    #[test]
    fn lines_fit_and_colours_change_no_text() {
        for rows in [rows(), failed()] {
            for width in [60, 80, 100, 120, 200] {
                let colored = render(&rows, width, true);
                assert_eq!(console::strip_ansi_codes(&colored), render(&rows, width, false));
                for line in colored.lines().filter(|line| !line.contains("dist/")) {
                    assert!(columns(line) <= width, "{line:?} at {width}");
                }
            }
        }
        assert_eq!(render(&[], 80, true), "");
    }
}
