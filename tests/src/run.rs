//! Runs of the kiln program.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A run that goes on.
pub struct Running {
    child: Child,
    started: Instant,
    stdout: JoinHandle<()>,
    stderr: JoinHandle<()>,
    /// What it has written so far.
    texts: [Arc<Mutex<Vec<u8>>>; 2],
}

/// A run that has ended.
#[derive(Debug)]
pub struct Ran {
    /// Process id that it had.
    pub pid: u32,
    /// Exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it printed for programs.
    pub stdout: String,
    /// What it printed for people.
    pub stderr: String,
    /// Wall time.
    pub took: Duration,
}

impl Running {
    /// Starts a command.
    pub fn start(mut command: Command) -> Self {
        let started = Instant::now();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kiln starts");
        let texts: [Arc<Mutex<Vec<u8>>>; 2] = Default::default();
        let stdout = collect(child.stdout.take().expect("it is piped"), texts[0].clone());
        let stderr = collect(child.stderr.take().expect("it is piped"), texts[1].clone());
        Self { child, started, stdout, stderr, texts }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// What it has written to standard error so far.
    pub fn said(&self) -> String {
        text(&self.texts[1])
    }

    /// Waits until it has written a line that ends in `words` to standard error.
    ///
    /// # Panics
    /// If that takes a minute.
    pub fn wait_for_line(&self, words: &str) {
        while !self.said().lines().any(|line| line.ends_with(words)) {
            assert!(self.started.elapsed() < Duration::from_mins(1), "`{words}` was not said: {}", self.said());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ran {
        let pid = self.pid();
        let status = self.child.wait().expect("it was started");
        let took = self.started.elapsed();
        for reader in [self.stdout, self.stderr] {
            reader.join().expect("reading does not panic");
        }
        let [stdout, stderr] = self.texts.each_ref().map(|bytes| text(bytes));
        Ran { pid, code: status.code(), stdout, stderr, took }
    }
}

fn text(bytes: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&bytes.lock().expect("reading does not panic")).into_owned()
}

fn collect(mut from: impl Read + Send + 'static, bytes: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut block = [0; 8192];
        while let Ok(count @ 1..) = from.read(&mut block) {
            bytes.lock().expect("nobody panics with it").extend_from_slice(&block[..count]);
        }
    })
}

impl Ran {
    /// The events of `--progress=json`.
    pub fn events(&self) -> Vec<Value> {
        self.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The events of one kind.
    pub fn events_of(&self, kind: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["event"] == kind).collect()
    }

    /// The instructions of the steps that ran.
    pub fn steps_run(&self) -> Vec<String> {
        let started = self.events_of("step-started");
        started.iter().map(|event| event["origin"]["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Whether the plan found nothing to do for any platform.
    pub fn was_up_to_date(&self) -> bool {
        let planned = self.events_of("planned");
        let targets: Vec<_> =
            planned.iter().flat_map(|event| event["targets"].as_array().into_iter().flatten()).collect();
        !targets.is_empty() && targets.iter().all(|target| target["up_to_date"] == true)
    }
}
