//! What kiln says outside of a build's progress: machine data on standard output, everything else on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::cli::Color;
use crate::environment::Environment;
use crate::error::CliError;
use crate::report::ci::{Folds, Service, defused};
use crate::report::{FailureOptions, Progress, ReportOptions, Terminal, columns, render_chain, render_error};

/// The terminal, or what stands in for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ui {
    /// Whether to use colour on standard error.
    pub(crate) color: bool,
    /// What standard error is.
    pub(crate) terminal: Terminal,
    /// The CI service that reads along.
    pub(crate) service: Option<Service>,
}

impl Ui {
    pub(crate) fn new(color: Color, environment: &Environment) -> Self {
        let terminal = Terminal::new(io::stderr().is_terminal(), |name| environment.get(name));
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal.is_tty && !terminal.is_dumb && environment.get("NO_COLOR").is_none(),
        };
        Self { color, terminal, service: Service::of(|name| environment.get(name)) }
    }

    /// How what began at `started` is reported, without logs and notes. Traces go to standard error, too, and would tear a
    /// live display.
    pub(crate) fn reports(self, progress: Progress, is_traced: bool, started: Instant) -> ReportOptions {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began = now.saturating_sub(started.elapsed());
        ReportOptions {
            progress,
            terminal: if is_traced { Terminal::default() } else { self.terminal },
            color: self.color,
            logs: None,
            started,
            notes: Vec::new(),
            folds: self.service.map(|service| Folds { service, began }),
        }
    }

    /// A line for people.
    pub(crate) fn say(self, line: &str) {
        // What steps and files say may not give orders to the service.
        let line = if self.service == Some(Service::Github) { defused(line) } else { line.into() };
        // A closed standard error is no reason to fail.
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// An annotation, where a service reads them.
    pub(crate) fn annotate(self, annotation: impl FnOnce() -> String) {
        if self.service == Some(Service::Github) {
            let _ = writeln!(io::stderr().lock(), "{}", annotation());
        }
    }

    /// Data for machines, as it is.
    #[expect(clippy::unused_self, reason = "who may print is decided by who has a Ui")]
    pub(crate) fn print(self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// Something that has no effect and was probably meant to have one.
    pub(crate) fn warn(self, text: &str) {
        self.say(&format!("{}: {text}", self.paint("33", "warning")));
    }

    pub(crate) fn warnings(self, warnings: &[kiln_config::Warning]) {
        for warning in warnings {
            self.warn(&warning.to_string());
        }
    }

    /// A failed command: what, why, and what to do.
    pub(crate) fn error(self, error: &CliError) {
        if matches!(error, CliError::Shown { .. }) {
            return;
        }
        if let CliError::Solve(error) = error {
            let options = FailureOptions { width: columns(), color: self.color, log: None };
            return self.say(render_error(error, options).trim_end());
        }
        self.say(render_chain(error, error.hint().as_deref(), self.color).trim_end());
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
