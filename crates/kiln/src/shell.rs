//! A shell in the container of a step that failed: `--shell-on-failure`.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use console::Term;
use futures::StreamExt;
use kiln_docker::{ContainerId, Engine, Hold, TerminalSize};
use kiln_solver::{Cancel, Failed};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{CliError, Result};
use crate::job::Job;
use crate::report::{columns, instruction, wrap};
use crate::ui::Ui;

/// Characters of an instruction that are shown.
const INSTRUCTION: usize = 50;
/// How long the end of a shell may go unnoticed by who reads the keys.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Fails if there is no terminal for a shell that is wanted.
pub(crate) fn check(ui: Ui, job: &Job) -> Result<()> {
    if !job.wants_shell() || (io::stdin().is_terminal() && ui.terminal.is_tty) {
        return Ok(());
    }
    Err(CliError::Usage {
        problem: "--shell-on-failure needs a terminal, and there is none".to_owned(),
        hint: "leave it out here; the log of the failed step is kept below .kiln/logs".to_owned(),
    })
}

/// Lets the user look at what failed, if anything did, until the shell ends; then removes what the build has left.
pub(crate) async fn visit(ui: Ui, failed: Option<Failed>, cancel: &Cancel) {
    let Some(mut failed) = failed else { return };
    if !cancel.is_stopped()
        && let Err(error) = open(ui, &mut failed, cancel).await
    {
        ui.warn(&format!("no shell could be opened: {error}"));
    }
    for warning in failed.close().await {
        ui.warn(&warning);
    }
}

async fn open(ui: Ui, failed: &mut Failed, cancel: &Cancel) -> Result<()> {
    let container = cancel.unless_stopped(failed.shell()).await??;
    let step = instruction(failed.origin(), INSTRUCTION);
    let text = format!("a shell where `{step}` has failed, on {}; `exit` ends it", failed.platform());
    ui.say(&format!("\n{}", wrap(&text, columns()).join("\n")));
    let engine = failed.engine();
    let mut output = engine.attach(&container).await?;
    let hold = engine.hold(&container).await?;
    engine.start_container(&container).await?;
    resize(engine, &container).await;
    let mut resized = signal(SignalKind::window_change()).ok();
    let _raw = Raw::new().map_err(CliError::io("set up", "the terminal"))?;
    let _keys = Keys::read(hold);
    loop {
        let changed = async {
            match &mut resized {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            chunk = output.next() => match chunk {
                Some(Ok(chunk)) => {
                    let mut screen = io::stderr().lock();
                    let _ = screen.write_all(&chunk.bytes).and_then(|()| screen.flush());
                }
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            },
            _ = changed => resize(engine, &container).await,
            () = cancel.stopped() => {
                // If it cannot be stopped it is killed when it is removed.
                let _ = engine.stop_container(&container, 0).await;
                return Ok(());
            }
        }
    }
}

/// A shell that does not know the size of its terminal is still one.
async fn resize(engine: &dyn Engine, container: &ContainerId) {
    let (rows, columns) = Term::stderr().size();
    let _ = engine.resize(container, TerminalSize { rows, columns }).await;
}

/// The terminal gives every key to the shell, Ctrl-C as well, as long as this lives.
struct Raw(Termios);

impl Raw {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin().as_fd())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &self.0);
    }
}

/// Sends what is typed, as long as this lives: keys after the end of the shell are somebody else's.
struct Keys(Arc<AtomicBool>);

impl Keys {
    fn read(hold: Hold) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        thread::spawn(move || {
            let stdin = io::stdin();
            let mut bytes = [0; 1024];
            while !seen.load(Ordering::Relaxed) {
                let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
                match poll(&mut ready, Some(&PATIENCE)) {
                    Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                    Ok(_) => {}
                    Err(_) => break,
                }
                match rustix::io::read(stdin.as_fd(), &mut bytes) {
                    Ok(count @ 1..) => hold.send(bytes[..count].to_vec()),
                    Err(rustix::io::Errno::INTR) => {}
                    // The end of the input ends the shell.
                    Ok(0) | Err(_) => break,
                }
            }
        });
        Self(ended)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
