//! Running other programs: to completion with their output kept for the error message, or detached with a pidfile.

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

/// An error message with advice on what to do about it, which `main` prints as `hint: ...`.
#[derive(Debug)]
pub(crate) struct Hinted {
    message: String,
    hint: String,
}

impl fmt::Display for Hinted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Hinted {}

/// Makes an error with a hint.
pub(crate) fn hinted(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Hinted { message: message.into(), hint: hint.into() }.into()
}

/// The hint that an error carries, if any.
pub(crate) fn hint(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|cause| cause.downcast_ref::<Hinted>()).map(|hinted| hinted.hint.as_str())
}

/// Runs a command to its end and returns what it printed on stdout; a failure shows the last lines it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = display(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{name}`"))?;
    if !output.status.success() {
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        bail!("`{name}` failed ({})\n{}", output.status, last_lines(&text, 12));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command to its end for its effect.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Whether a command exists and succeeds; what it prints is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// Whether a program of this name is found where root's programs are.
pub(crate) fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).any(|folder| folder.join(program).is_file())
}

fn display(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let text = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    if text.chars().count() > 160 { text.chars().take(157).chain("...".chars()).collect() } else { text }
}

/// The last `count` lines of a text.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A process that outlives the command that started it.
///
/// Its pidfile is believed only if the process of that number shows `token` on its command line, so that neither a
/// pidfile left by a crash nor a number given to another program can make us end something that is not ours.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// What messages call it.
    pub(crate) name: String,
    /// Where its process id is kept.
    pub(crate) pidfile: PathBuf,
    /// A word of its command line that no other program's has, such as the path of its configuration.
    pub(crate) token: String,
    /// Where its output goes.
    pub(crate) log: PathBuf,
}

impl Service {
    /// The process id, if it runs.
    pub(crate) fn pid(&self) -> Option<Pid> {
        let number: i32 = fs::read_to_string(&self.pidfile).ok()?.trim().parse().ok()?;
        let pid = Pid::from_raw(number)?;
        (alive(pid) && command_line(pid).contains(&self.token)).then_some(pid)
    }

    /// Starts the command in a session of its own, with its output going to the log, and notes its process id.
    pub(crate) fn start(&self, command: &Command) -> Result<Pid> {
        // One log of each run is enough: the last one tells why the previous process died.
        let _ = fs::rename(&self.log, self.log.with_extension("log.1"));
        let log = File::create(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut detached = Command::new("setsid");
        detached.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => detached.env(key, value),
                None => detached.env_remove(key),
            };
        }
        let child = detached
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        let pid = Pid::from_child(&child);
        write_file(&self.pidfile, format!("{}\n", pid.as_raw_nonzero()))?;
        Ok(pid)
    }

    /// Waits until `ready` holds; an error shows the end of the log.
    pub(crate) fn wait_until(&self, limit: Duration, ready: impl Fn() -> bool) -> Result<()> {
        let start = Instant::now();
        while !ready() {
            // The command line is setsid's for the first moments: only a process that is gone has failed.
            let running = fs::read_to_string(&self.pidfile)
                .ok()
                .and_then(|text| Pid::from_raw(text.trim().parse().ok()?))
                .is_some_and(alive);
            if !running || start.elapsed() > limit {
                let what = if running { "is not ready" } else { "ended" };
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(anyhow!("{} {what} after {:.1} s", self.name, start.elapsed().as_secs_f32()))
                    .context(format!("the end of {}:\n{}\n", self.log.display(), last_lines(&log, 8)));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends it: asks, waits up to `limit`, then kills. Returns whether it was running.
    pub(crate) fn stop(&self, limit: Duration) -> Result<bool> {
        let running = self.pid();
        if let Some(pid) = running {
            end(pid, limit).with_context(|| format!("cannot end {}", self.name))?;
        }
        let _ = fs::remove_file(&self.pidfile);
        Ok(running.is_some())
    }
}

/// Asks a process to end, waits up to `limit`, then kills it.
pub(crate) fn end(pid: Pid, limit: Duration) -> Result<()> {
    for (signal, limit) in [(Signal::TERM, limit), (Signal::KILL, Duration::from_secs(5))] {
        let _ = kill_process(pid, signal);
        let start = Instant::now();
        while start.elapsed() < limit {
            if !alive(pid) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    bail!("process {} does not end", pid.as_raw_nonzero())
}

/// Whether a process exists and is no zombie.
fn alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    // The state follows the name, which is in parentheses and may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The command line of a process, its words joined by spaces.
pub(crate) fn command_line(pid: Pid) -> String {
    let bytes = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// All processes whose command line contains the word.
pub(crate) fn processes_with(word: &str) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|pid| command_line(*pid).contains(word))
        .collect()
}

/// Writes a file whole or not at all, making its folder if need be.
pub(crate) fn write_file(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let write = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let staged = path.with_added_extension("new");
        let mut file = File::create(&staged)?;
        file.write_all(content.as_ref())?;
        fs::rename(&staged, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
