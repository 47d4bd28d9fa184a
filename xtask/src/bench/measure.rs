//! Running a command with a watch in hand.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::last_lines;

/// One measured run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    /// From start to exit.
    pub(super) wall: Duration,
    /// Highest resident memory in bytes.
    pub(super) peak: u64,
    /// Time in containers, as kiln's own report counts it; none where it does not say.
    inside: Option<Duration>,
}

impl Sample {
    /// Wall time outside of containers.
    pub(super) fn overhead(&self) -> Option<Duration> {
        self.inside.map(|inside| self.wall.saturating_sub(inside))
    }
}

/// Runs a command to its end, which must be a good one.
pub(super) fn run(command: &mut Command) -> Result<Sample> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let status = loop {
        // The mark only rises: a look shortly before the end is as good as one at the end.
        peak = high_water(&fs::read_to_string(&status_file).unwrap_or_default()).unwrap_or(0).max(peak);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        thread::sleep(if start.elapsed() < Duration::from_secs(1) {
            Duration::from_millis(1)
        } else {
            Duration::from_millis(10)
        });
    };
    let wall = start.elapsed();
    let (stdout, stderr) = (text(stdout), text(stderr));
    if !status.success() {
        bail!("it ended with {status}\n{}", last_lines(&stderr, 20));
    }
    Ok(Sample { wall, peak, inside: inside(&stdout) })
}

fn collect(from: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            let _ = from.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn text(from: thread::JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&from.join().unwrap_or_default()).into_owned()
}

/// Bytes of `VmHWM` in a process's status; see proc(5).
fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// Time in containers in the events of `kiln build --progress json`.
fn inside(events: &str) -> Option<Duration> {
    let events = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let finished = events.filter(|event| event["event"] == "target-finished");
    let seconds: Option<f64> = finished.map(|event| event["report"]["container_seconds"].as_f64()).sum();
    Duration::try_from_secs_f64(seconds?).ok().filter(|time| !time.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_measured() {
        let sample = run(Command::new("sh").args(["-c", "sleep 0.05"])).unwrap();
        assert!(sample.wall >= Duration::from_millis(50) && sample.peak > 0, "{sample:?}");
        assert!(run(&mut Command::new("false")).is_err());
    }

    #[test]
    fn what_is_read_of_processes_and_events() {
        assert_eq!(high_water("Name:\tx\nVmHWM:\t    2048 kB\n"), Some(2 << 20));
        let event = r#"{"event":"target-finished","report":{"seconds":3.0,"container_seconds":2.5}}"#;
        assert_eq!(inside(event), Some(Duration::from_millis(2500)));
        assert_eq!(inside("no event"), None);
    }
}
