//! The state of a build as people see it: one row per platform. Pure; the live display draws it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kiln_graph::{Origin, Platform, VertexId};
use kiln_solver::{BuildEvent, Direction, Stage, Transfer};

use super::text::{Paint, clock, cut, duration, harmless, pad};
use super::{is_stop, stage_name, step_name, step_place, transfer_text};
use crate::phase::PhaseTracker;

/// Lines of a failed step that are kept above the rows while other platforms go on.
const TAIL: usize = 5;

/// What is shown of a build.
#[derive(Debug, Default)]
pub(super) struct Board {
    rows: Vec<Row>,
    running: BTreeMap<VertexId, Running>,
    /// Caches on their way, and since when.
    transfers: BTreeMap<Direction, (Duration, Transfer)>,
}

/// What stands in the place of a platform.
const CACHES: &str = "caches";

#[derive(Debug)]
struct Row {
    platform: Platform,
    /// Targets of this platform that have not ended.
    open: usize,
    to_run: usize,
    ran: usize,
    cached: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Steps,
    Stage(Stage, Duration),
    UpToDate,
    Done(Duration),
    Failed { after: Duration, at: String },
    Stopped(Duration),
}

#[derive(Debug)]
struct Running {
    platforms: Vec<Platform>,
    origin: Origin,
    since: Duration,
    tracker: PhaseTracker,
    phase: Option<String>,
    tail: VecDeque<String>,
}

impl Board {
    /// Takes in an event; what it returns is to be printed above the rows, for good.
    pub(super) fn event(&mut self, at: Duration, event: &BuildEvent) -> Vec<String> {
        match event {
            BuildEvent::Planned { targets, .. } => {
                // It is made of what was brought.
                self.transfers.clear();
                for target in targets {
                    if let Some(row) = self.rows.iter_mut().find(|row| row.platform == target.platform) {
                        row.open += 1;
                        row.to_run += target.to_run;
                        continue;
                    }
                    self.rows.push(Row {
                        platform: target.platform,
                        open: 1,
                        to_run: target.to_run,
                        ran: 0,
                        cached: target.cached,
                        state: if target.up_to_date { State::UpToDate } else { State::Steps },
                    });
                }
            }
            BuildEvent::Notice { platform, text } => {
                let of = platform.map(|p| format!("{p}: ")).unwrap_or_default();
                return vec![format!("note: {of}{}", harmless(text))];
            }
            BuildEvent::Travelling { transfer, ended: true } => drop(self.transfers.remove(&transfer.direction)),
            BuildEvent::Travelling { transfer, ended: false } => {
                let since = self.transfers.get(&transfer.direction).map_or(at, |(since, _)| *since);
                self.transfers.insert(transfer.direction, (since, transfer.clone()));
            }
            BuildEvent::StepStarted { vertex, platforms, origin, .. } => {
                let running = Running {
                    platforms: platforms.clone(),
                    origin: origin.clone(),
                    since: at,
                    tracker: PhaseTracker::default(),
                    phase: None,
                    tail: VecDeque::new(),
                };
                self.running.insert(*vertex, running);
            }
            BuildEvent::StepLog { vertex, line, .. } => self.log(*vertex, line),
            BuildEvent::StepFinished { vertex, platforms, .. } => {
                self.running.remove(vertex);
                for row in self.rows.iter_mut().filter(|row| platforms.contains(&row.platform)) {
                    row.ran += 1;
                }
            }
            BuildEvent::StepFailed { vertex, platforms, origin, took } => {
                let failed = self.running.remove(vertex);
                for row in self.rows.iter_mut().filter(|row| platforms.contains(&row.platform)) {
                    row.state = State::Failed { after: at, at: step_name(origin) };
                }
                // If nothing else goes on, the error itself follows at once.
                if let (Some(platform), Some(failed)) = (platforms.first(), failed)
                    && self.rows.iter().any(Row::is_active)
                {
                    let head = format!("✗ {platform} failed after {} in {}", duration(*took), step_place(origin));
                    return std::iter::once(head).chain(failed.tail).collect();
                }
            }
            BuildEvent::TargetStage { platform, stage } => {
                if let Some(row) = self.row(*platform) {
                    row.state = State::Stage(*stage, at);
                }
            }
            BuildEvent::TargetFinished { report } => {
                if let Some(row) = self.row(report.platform) {
                    row.open = row.open.saturating_sub(1);
                    (row.ran, row.cached) = (report.ran, report.cached);
                    if row.open == 0 && !matches!(row.state, State::Failed { .. }) {
                        row.state = if report.up_to_date { State::UpToDate } else { State::Done(report.took) };
                    }
                }
            }
            BuildEvent::TargetFailed { platform, error } => {
                if let Some(row) = self.row(*platform) {
                    row.open = row.open.saturating_sub(1);
                    if is_stop(error) {
                        row.state = State::Stopped(at);
                    } else if !matches!(row.state, State::Failed { .. }) {
                        row.state = State::Failed { after: at, at: harmless(error).into_owned() };
                    }
                }
            }
            // The plan has counted the ones, the end names the others.
            BuildEvent::StepCached { .. } | BuildEvent::Exported { .. } => {}
        }
        Vec::new()
    }

    fn log(&mut self, vertex: VertexId, line: &str) {
        let Some(running) = self.running.get_mut(&vertex) else { return };
        if let Some(phase) = running.tracker.line(line) {
            running.phase = Some(harmless(&phase.to_string()).into_owned());
        }
        let line = match (line.strip_prefix("kiln: "), line.strip_prefix("kiln: error: ")) {
            (_, Some(error)) => format!("  ! {}", harmless(error)),
            (None, _) if !line.trim().is_empty() => format!("  | {}", harmless(line)),
            // Phases are in the row, and hints come with the error.
            _ => return,
        };
        if running.tail.len() == TAIL {
            running.tail.pop_front();
        }
        running.tail.push_back(line);
    }

    fn row(&mut self, platform: Platform) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.platform == platform)
    }

    /// Whether every target has come to its end.
    pub(super) fn is_over(&self) -> bool {
        self.rows.iter().all(|row| !row.is_active())
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.rows.len() + self.transfers.len()
    }

    /// The rows, none wider than `width`.
    pub(super) fn lines(&self, at: Duration, width: usize, paint: Paint) -> Vec<String> {
        let platforms = self.rows.iter().map(|row| row.platform.to_string().len()).max().unwrap_or_default();
        let transfers = self.transfers.values().map(|(since, transfer)| {
            let shown = (spinner(at), clock(at.saturating_sub(*since)), transfer_text(transfer));
            line(CACHES, shown, (platforms, width), paint)
        });
        self.rows.iter().map(|row| self.line(row, at, (platforms, width), paint)).chain(transfers).collect()
    }

    fn line(&self, row: &Row, at: Duration, widths: (usize, usize), paint: Paint) -> String {
        let shown = match &row.state {
            State::UpToDate => (paint.good("✓"), String::new(), "up to date".to_owned()),
            State::Done(took) => {
                let text = format!("done, {} run, {} cached", steps(row.ran), row.cached);
                (paint.good("✓"), clock(*took), text)
            }
            State::Failed { after, at } => (paint.bad("✗"), clock(*after), format!("failed: {at}")),
            State::Stopped(after) => (paint.bad("✗"), clock(*after), "stopped".to_owned()),
            State::Stage(stage, since) => {
                (spinner(at), clock(at.saturating_sub(*since)), stage_name(*stage).to_owned())
            }
            State::Steps => self.steps_of(row, at),
        };
        line(&row.platform.to_string(), shown, widths, paint)
    }

    fn steps_of(&self, row: &Row, at: Duration) -> (String, String, String) {
        let mut own: Vec<&Running> =
            self.running.values().filter(|r| r.platforms.first() == Some(&row.platform)).collect();
        own.sort_by_key(|running| running.since);
        if let Some(latest) = own.last() {
            let more = if own.len() > 1 { format!(" (+{} more)", own.len() - 1) } else { String::new() };
            let what = match &latest.phase {
                Some(phase) => format!("{}{more}  {phase}", step_place(&latest.origin)),
                None => format!("{}{more}", step_name(&latest.origin)),
            };
            return (spinner(at), clock(at.saturating_sub(latest.since)), what.trim_start().to_owned());
        }
        let shared = self.running.values().find(|running| running.platforms.contains(&row.platform));
        let text = match shared.and_then(|running| Some((running, running.platforms.first()?))) {
            Some((running, first)) => format!("waiting for {first}: {}", step_name(&running.origin)),
            None if row.ran == 0 && row.cached == 0 => "waiting".to_owned(),
            None => {
                format!("{} run, {} cached, {} to go", steps(row.ran), row.cached, row.to_run.saturating_sub(row.ran))
            }
        };
        ("·".to_owned(), String::new(), text)
    }
}

impl Row {
    fn is_active(&self) -> bool {
        matches!(self.state, State::Steps | State::Stage(..))
    }
}

/// One row: what it is about, in so many columns, then a sign, a time and a text; all of it in so many columns.
fn line(
    name: &str,
    (sign, time, text): (String, String, String),
    (names, width): (usize, usize),
    paint: Paint,
) -> String {
    let name = paint.strong(&pad(name, names));
    cut(&format!("{sign} {name} {time:>6}  {text}"), width).into_owned()
}

fn steps(number: usize) -> String {
    if number == 1 { "1 step".to_owned() } else { format!("{number} steps") }
}

fn spinner(at: Duration) -> String {
    const FRAMES: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
    let frame = usize::try_from(at.as_millis() / 100).unwrap_or_default() % FRAMES.len();
    FRAMES[frame].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::script;
    use crate::report::text;

    fn board_at(seconds: f64, events: Vec<script::Timed>) -> (Board, Duration, Vec<String>) {
        let now = Duration::from_secs_f64(seconds);
        let mut board = Board::default();
        let mut above = Vec::new();
        for (at, event) in events.into_iter().filter(|(at, _)| *at <= now) {
            above.extend(board.event(at, &event));
        }
        (board, now, above)
    }

    fn shown(seconds: f64, width: usize) -> String {
        let (board, now, above) = board_at(seconds, script::failing());
        let lines = board.lines(now, width, Paint { color: false });
        format!("{}\n---\n{}", above.join("\n"), lines.join("\n"))
    }

    #[test]
    fn a_build_in_pictures() {
        for (name, seconds) in
            [("shared", 0.7), ("requirements", 2.3), ("failed", 3.0), ("compile", 9.0), ("done", 60.0)]
        {
            insta::assert_snapshot!(format!("board_{name}"), shown(seconds, 80));
        }
    }

    #[test]
    fn no_row_is_wider_than_the_terminal() {
        for width in [10, 40, 79, 80, 200] {
            for tenth in 0..200 {
                let (board, now, _) = board_at(f64::from(tenth) / 10.0, script::failing());
                for line in board.lines(now, width, Paint { color: true }) {
                    assert!(text::width(&line) <= width, "{line:?} at {width}");
                }
            }
        }
    }

    #[test]
    fn caches_on_their_way_are_a_row_until_they_are_there() {
        let mut board = Board::default();
        let mut seen = |seconds, moved, total, ended| {
            let at = Duration::from_secs(seconds);
            board.event(at, &script::travelling(Direction::Restoring, moved, total, ended));
            board.lines(at, 80, Paint { color: false }).join("\n")
        };
        assert_eq!(seen(1, 0, Some(0), false), "⠋ caches   0:00  asking s3://caches/kiln");
        let text = "⠋ caches   0:02  restoring 12.5 MB of 121 MB from s3://caches/kiln";
        assert_eq!(seen(3, 12_500_000, Some(121_000_000), false), text);
        let text = "⠋ caches   0:08  unpacking 121 MB from s3://caches/kiln";
        assert_eq!(seen(9, 121_000_000, Some(121_000_000), false), text);
        assert_eq!(seen(12, 121_000_000, Some(121_000_000), true), "");
    }

    #[test]
    fn what_is_saved_is_below_what_was_built() {
        let (mut board, now, _) = board_at(60.0, script::failing());
        board.event(now, &script::travelling(Direction::Saving, 34_000_000, None, false));
        let lines = board.lines(now, 80, Paint { color: false });
        assert_eq!((lines.len(), board.len()), (4, 4));
        assert_eq!(lines[3], "⠋ caches        0:00  saving 34.0 MB to s3://caches/kiln");
        assert!(board.is_over(), "what stays on the screen are the rows of builds");
    }

    #[test]
    fn a_build_without_work_says_so() {
        let (board, now, _) = board_at(1.0, script::up_to_date());
        assert!(board.is_over());
        let lines = board.lines(now, 80, Paint { color: false });
        assert_eq!(lines[0], "✓ linux/amd64         up to date");
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn the_last_failure_needs_no_lines_above() {
        let alone = |event: &BuildEvent| match event {
            BuildEvent::Planned { .. } => true,
            BuildEvent::StepStarted { platforms, .. }
            | BuildEvent::StepLog { platforms, .. }
            | BuildEvent::StepFailed { platforms, .. } => platforms == &[script::I386],
            _ => false,
        };
        let mut events: Vec<_> = script::failing().into_iter().filter(|(_, event)| alone(event)).collect();
        for (_, event) in &mut events {
            if let BuildEvent::Planned { targets, .. } = event {
                targets.retain(|target| target.platform == script::I386);
            }
        }
        let (board, _, above) = board_at(60.0, events);
        assert!(above.is_empty(), "{above:?}");
        assert!(board.is_over());
    }
}
