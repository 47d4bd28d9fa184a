//! Progress reporters: consumers of a build's events, one per mode, and what is said at the end.
//!
//! [`report`] takes the receiving end of the events and runs until the build drops the other one. It shows them
//! ([`tty`], [`plain`], [`json`], or nothing), keeps the full logs ([`logs`]) and returns what the end needs
//! ([`Collected`]): the table ([`summary`]) and the errors ([`failure`]) are pure functions that the caller prints.
//!
//! Everything for people goes to standard error; standard output carries data only.

mod board;
mod choose;
pub(crate) mod ci;
mod collect;
mod failure;
mod json;
mod logs;
pub(crate) mod past;
mod plain;
mod raw;
mod recorder;
#[cfg(test)]
pub(crate) mod script;
mod summary;
pub(crate) mod table;
pub(crate) mod text;
mod tty;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kiln_artifact::place::committed;
use kiln_graph::{Origin, Platform};
use kiln_solver::{BuildEvent, Direction, SolveError, Stage, Transfer};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

pub(crate) use choose::{Progress, Terminal};
pub(crate) use collect::{Collected, FailedTarget};
pub(crate) use failure::{FailureOptions, brief, render_chain, render_error};
#[cfg_attr(not(test), allow(unused_imports, reason = "the demonstration of reporters has no Dockerfiles"))]
pub(crate) use raw::{Noted as RawNoted, warnings as raw_warnings};
pub(crate) use recorder::seconds;
pub(crate) use summary::{Outcome as RowOutcome, TargetRow, render as render_summary};
pub(crate) use text::{Paint, ago, harmless, pad, size, wrap};

use kiln_solver::image::Exported;

use ci::Guarded;
use logs::Logs;
use plain::Plain;
use raw::Raw;
use tty::Tty;

/// Time between frames of the live display when nothing happens.
const TICK: Duration = Duration::from_millis(100);
/// Events that are taken at once, between two frames.
const BATCH: usize = 512;

/// What was made of all targets together, in one line: `pushed registry.example/x:1@sha256:...`.
pub(crate) fn exported(exported: &Exported) -> String {
    let Exported { kind, name, digest, size } = exported;
    let verb = match *kind {
        "registry" => "pushed",
        "daemon" => "loaded",
        _ => "wrote",
    };
    let digest =
        digest.as_ref().filter(|digest| *digest != name).map(|digest| format!("@{digest}")).unwrap_or_default();
    let bytes = size.map(|bytes| format!(" ({})", text::size(bytes))).unwrap_or_default();
    let name = if verb == "wrote" { committed(name.as_ref()).display().to_string() } else { name.clone() };
    format!("{verb} {}{digest}{bytes}", text::harmless(&name))
}

/// How a build is reported.
#[derive(Clone, Debug)]
pub(crate) struct ReportOptions {
    /// The mode; `Auto` is resolved by `terminal`.
    pub(crate) progress: Progress,
    /// What standard error is.
    pub(crate) terminal: Terminal,
    /// Whether the live display uses colours.
    pub(crate) color: bool,
    /// Folder of the full logs; none keeps no logs.
    pub(crate) logs: Option<PathBuf>,
    /// The start of the build, which all shown times count from.
    pub(crate) started: Instant,
    /// The policy of each platform, for the plan and the summary: `lto=yes jobs=1`.
    pub(crate) notes: Vec<(Platform, String)>,
    /// How plain lines are folded, if at all.
    pub(crate) folds: Option<ci::Folds>,
}

/// Reports a build until its events end.
///
/// It works on a thread of its own, because a terminal may take its time; the build waits for it only when the channel
/// is full. An output that goes away (a closed pipe) ends the reports, not the build.
pub(crate) async fn report(events: Receiver<BuildEvent>, options: ReportOptions) -> Collected {
    let progress = options.progress.resolve(options.terminal);
    let display = match progress {
        Progress::Tty => Display::Tty(Tty::stderr(options.color)),
        Progress::Plain | Progress::Auto => {
            let out = BufWriter::new(io::stderr());
            let is_guarded = options.folds.is_some_and(|folds| folds.service == ci::Service::Github);
            let out: Box<dyn Write + Send> = if is_guarded { Box::new(Guarded::new(out)) } else { Box::new(out) };
            Display::Plain(Plain::new(out, options.notes.clone()).folding(options.folds))
        }
        Progress::Json => Display::Json(Box::new(io::stdout())),
        Progress::RawJson => Display::Raw(Raw::new(Box::new(io::stderr()))),
        Progress::Quiet => Display::Nothing,
    };
    let runtime = tokio::runtime::Handle::current();
    let thread = tokio::task::spawn_blocking(move || runtime.block_on(follow(events, options, progress, display)));
    // The task cannot be cancelled from outside, so all that can come back but the result is a panic: pass it on.
    thread.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

async fn follow(
    mut events: Receiver<BuildEvent>,
    options: ReportOptions,
    progress: Progress,
    mut display: Display,
) -> Collected {
    let now = || options.started.elapsed();
    let mut collected = Collected::new(progress, options.notes.clone());
    let mut logs = options.logs.clone().map(Logs::new);
    let mut batch = Vec::with_capacity(BATCH);
    // An elapsed time-out is a tick without events; zero events without one are the end.
    while timeout(TICK, events.recv_many(&mut batch, BATCH)).await != Ok(0) {
        let at = now();
        for event in batch.drain(..) {
            display.event(at, &event);
            let warning = logs.as_mut().and_then(|logs| logs.event(at, &event));
            collected.event(at, event);
            warn(warning, at, &mut display, &mut collected);
        }
        warn(logs.as_mut().and_then(|logs| logs.flush(Some(at))), at, &mut display, &mut collected);
        display.flush(at);
    }
    warn(logs.as_mut().and_then(|logs| logs.flush(None)), now(), &mut display, &mut collected);
    display.finish(now());
    collected.logs = logs.map(|logs| logs.paths()).unwrap_or_default();
    collected.finish(now());
    collected
}

fn warn(text: Option<String>, at: Duration, display: &mut Display, collected: &mut Collected) {
    if let Some(text) = text {
        let notice = BuildEvent::Notice { platform: None, text };
        display.event(at, &notice);
        collected.event(at, notice);
    }
}

/// Where events are shown.
enum Display {
    Tty(Tty<io::Stderr>),
    Plain(Plain<Box<dyn Write + Send>>),
    Json(Box<dyn Write + Send>),
    Raw(Raw),
    Nothing,
}

impl Display {
    fn event(&mut self, at: Duration, event: &BuildEvent) {
        let result = match self {
            Self::Tty(tty) => {
                tty.event(at, event);
                Ok(())
            }
            Self::Plain(plain) => plain.event(at, event),
            Self::Json(out) => json::write(out, at, event),
            Self::Raw(raw) => raw.event(at, event),
            Self::Nothing => Ok(()),
        };
        self.give_up_after(result);
    }

    fn flush(&mut self, at: Duration) {
        let result = match self {
            Self::Tty(tty) => tty.draw(at),
            Self::Plain(plain) => plain.flush(at),
            Self::Json(_) | Self::Raw(_) | Self::Nothing => Ok(()),
        };
        self.give_up_after(result);
    }

    fn finish(mut self, at: Duration) {
        self.flush(at);
        let result = match self {
            Self::Tty(tty) => tty.finish(at),
            Self::Plain(mut plain) => plain.finish(at),
            Self::Raw(mut raw) => raw.finish(at),
            _ => Ok(()),
        };
        if let Err(error) = result {
            tracing::debug!(%error, "the output is gone");
        }
    }

    fn give_up_after(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            tracing::debug!(%error, "the output is gone");
            *self = Self::Nothing;
        }
    }
}

/// Columns of the terminal that standard error is; 80 if it is none.
pub(crate) fn columns() -> usize {
    console::Term::stderr().size_checked().map_or(80, |(_, columns)| usize::from(columns))
}

/// Columns of the terminal that standard output is; no limit if it is none.
pub(crate) fn stdout_columns() -> usize {
    console::Term::stdout().size_checked().map_or(usize::MAX, |(_, columns)| usize::from(columns))
}

/// `compile 3/5`: where a step stands; empty if it stands nowhere, as the build context does.
fn step_place(origin: &Origin) -> String {
    match (origin.stage.as_str(), origin.steps) {
        ("", 0) => String::new(),
        (stage, 0) => stage.to_owned(),
        ("", steps) => format!("{}/{steps}", origin.step),
        (stage, steps) => format!("{stage} {}/{steps}", origin.step),
    }
}

/// `compile 3/5 RUN make`: where a step stands, and what it is.
fn step_name(origin: &Origin) -> String {
    format!("{} {}", step_place(origin), text::short_instruction(&origin.text)).trim_start().to_owned()
}

/// Whether the error of a target is that the user stopped the build.
pub(crate) fn is_stop(error: &str) -> bool {
    error == SolveError::Cancelled.to_string()
}

/// An instruction without the options that say how it runs, in at most so many characters.
pub(crate) fn instruction(origin: &Origin, most: usize) -> String {
    text::cut(&text::short_instruction(&origin.text), most).into_owned()
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Export => "export",
        Stage::Verify => "verify",
        Stage::Smoke => "smoke run",
        Stage::Place => "placing files",
    }
}

/// How far caches are on their way.
fn transfer_text(transfer: &Transfer) -> String {
    let place = text::harmless(&transfer.place);
    let moved = text::size(transfer.moved);
    match (transfer.direction, transfer.total) {
        (Direction::Restoring, None | Some(0)) => format!("asking {place}"),
        (Direction::Restoring, Some(total)) if transfer.moved >= total => {
            format!("unpacking {moved} from {place}")
        }
        (Direction::Restoring, Some(total)) => format!("restoring {moved} of {} from {place}", text::size(total)),
        (Direction::Saving, _) if transfer.moved == 0 => format!("comparing with {place}"),
        (Direction::Saving, _) => format!("saving {moved} to {place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(logs: Option<PathBuf>) -> ReportOptions {
        ReportOptions {
            progress: Progress::Quiet,
            terminal: Terminal::default(),
            color: false,
            logs,
            started: Instant::now(),
            notes: vec![],
            folds: None,
        }
    }

    #[tokio::test]
    async fn a_report_runs_until_the_events_end() {
        let folder = tempfile::tempdir().unwrap();
        // Smaller than the number of events, so that the sender waits for the reporter.
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let reporter = tokio::spawn(report(receiver, options(Some(folder.path().to_owned()))));
        for (_, event) in script::failing() {
            sender.send(event).await.unwrap();
        }
        drop(sender);
        let collected = reporter.await.unwrap();
        assert_eq!((collected.finished.len(), collected.failed.len()), (2, 1));
        assert_eq!(collected.logs.len(), 3);
        assert_eq!(collected.progress, Progress::Quiet);
    }

    #[tokio::test]
    async fn a_closed_output_does_not_end_the_build() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let displays = [Display::Json(Box::new(Closed)), Display::Plain(Plain::new(Box::new(Closed), vec![]))];
        for display in displays {
            let (sender, receiver) = tokio::sync::mpsc::channel(1000);
            for (_, event) in script::failing() {
                sender.send(event).await.unwrap();
            }
            drop(sender);
            let collected = follow(receiver, options(None), Progress::Plain, display).await;
            assert_eq!(collected.finished.len(), 2);
        }
    }

    #[tokio::test]
    async fn logs_that_fail_are_a_notice() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("logs");
        fs_err::write(&file, "").unwrap();
        let (sender, receiver) = tokio::sync::mpsc::channel(1000);
        for (_, event) in script::failing() {
            sender.send(event).await.unwrap();
        }
        drop(sender);
        let collected = report(receiver, options(Some(file))).await;
        let warnings = collected.notices.iter().filter(|(_, text)| text.contains("full logs"));
        assert_eq!(warnings.count(), 1);
        assert!(collected.logs.is_empty());
    }
}
