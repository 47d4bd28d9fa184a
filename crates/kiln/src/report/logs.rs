//! Full logs: one file per platform, with what each step was, why it ran, and when each line came.
//!
//! A log is an aid. If it cannot be written, the build goes on, and a warning says so once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_graph::{Platform, VertexId};
use kiln_solver::{BuildEvent, Stage};

use super::text::{clock, duration, harmless, one_line};
use super::{stage_name, step_place};

/// Lines are on disk at most this long after they came, so that `tail -f` follows.
const FLUSH: Duration = Duration::from_secs(1);

type Open = fn(&Path) -> io::Result<Box<dyn Write + Send>>;

/// The logs of one build.
pub(super) struct Logs {
    folder: PathBuf,
    open: Open,
    files: BTreeMap<Platform, Log>,
    running: BTreeMap<VertexId, Running>,
    /// Whether logging has been given up.
    broken: bool,
}

/// A step that writes to the logs of its platforms.
struct Running {
    platforms: Vec<Platform>,
    place: String,
}

/// One platform's log. The file is made when something runs: a build without work leaves the last log in peace.
struct Log {
    path: PathBuf,
    file: Option<BufWriter<Box<dyn Write + Send>>>,
    /// What comes before the first line of work.
    head: String,
    flushed: Duration,
}

impl Logs {
    /// Logs below `folder`.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, open: create, files: BTreeMap::new(), running: BTreeMap::new(), broken: false }
    }

    /// Writes an event down. What it returns is a warning, at most one per build.
    pub(super) fn event(&mut self, at: Duration, event: &BuildEvent) -> Option<String> {
        if self.broken {
            return None;
        }
        self.write(at, event).err().map(|error| self.give_up(&error))
    }

    /// Brings lines to disk that have waited for long, or all of them.
    pub(super) fn flush(&mut self, at: Option<Duration>) -> Option<String> {
        if self.broken {
            return None;
        }
        let mut result = Ok(());
        for log in self.files.values_mut() {
            if at.is_none_or(|at| at.saturating_sub(log.flushed) >= FLUSH) {
                log.flushed = at.unwrap_or(log.flushed);
                result = result.and(log.file.as_mut().map_or(Ok(()), Write::flush));
            }
        }
        result.err().map(|error| self.give_up(&error))
    }

    /// The files that were written.
    pub(super) fn paths(&self) -> BTreeMap<Platform, PathBuf> {
        let written = self.files.iter().filter(|(_, log)| log.file.is_some());
        written.map(|(platform, log)| (*platform, log.path.clone())).collect()
    }

    fn give_up(&mut self, error: &io::Error) -> String {
        self.broken = true;
        for log in self.files.values_mut() {
            if let Some(file) = log.file.take() {
                // Whole lines or not: the buffer must not be tried again when it is dropped.
                let _ = file.into_parts();
            }
        }
        format!("the full logs of this build are not kept: {error}")
    }

    fn write(&mut self, at: Duration, event: &BuildEvent) -> io::Result<()> {
        match event {
            BuildEvent::Planned { build, targets } => {
                for target in targets {
                    let name = target.platform.folder();
                    let log = self.files.entry(target.platform).or_insert_with(|| Log {
                        path: self.folder.join(format!("{name}.log")),
                        file: None,
                        head: format!("# kiln build {build}, {} ({})\n", target.platform, target.way),
                        flushed: Duration::ZERO,
                    });
                    // Writing to a String cannot fail.
                    let _ = writeln!(log.head, "# {} steps to run, {} cached", target.to_run, target.cached);
                }
                Ok(())
            }
            BuildEvent::Notice { platform, text } => {
                let line = format!("# {}\n", one_line(text));
                for (of, log) in &mut self.files {
                    if platform.is_none_or(|platform| platform == *of) {
                        log.aside(&line)?;
                    }
                }
                Ok(())
            }
            BuildEvent::StepCached { platforms, origin, .. } => {
                let line = format!("== {} {} (cached)\n", step_place(origin), one_line(&origin.text));
                for log in of(&mut self.files, platforms) {
                    log.aside(&line)?;
                }
                Ok(())
            }
            BuildEvent::StepStarted { vertex, platforms, origin, reason, way } => {
                let place = step_place(origin);
                let text = one_line(&origin.text);
                let mut lines = format!("\n== {place} {text}\n");
                if origin.line > 0 {
                    let _ = writeln!(lines, "== {}:{}", origin.file, origin.line);
                }
                let _ = writeln!(lines, "== at {}, {way}, because: {}", clock(at), one_line(&reason.to_string()));
                self.running.insert(*vertex, Running { platforms: platforms.clone(), place });
                self.all(platforms, &lines, false)
            }
            BuildEvent::StepLog { vertex, platforms, line, .. } => {
                let line = harmless(line);
                let place = self.running.get(vertex).map_or("", |running| running.place.as_str());
                for (platform, log) in self.files.iter_mut().filter(|(platform, _)| platforms.contains(platform)) {
                    // Steps of one platform may run at once: then each line says its step.
                    let at_once = self.running.values().filter(|r| r.platforms.contains(platform)).count();
                    let file = log.file(self.open)?;
                    match at_once {
                        0 | 1 => writeln!(file, "{:>7} {line}", clock(at))?,
                        _ => writeln!(file, "{:>7} {place}: {line}", clock(at))?,
                    }
                }
                Ok(())
            }
            BuildEvent::StepFinished { vertex, platforms, took } => {
                let place = self.running.remove(vertex).map(|running| running.place).unwrap_or_default();
                self.all(platforms, &format!("== {place} done in {}\n", duration(*took)), true)
            }
            BuildEvent::StepFailed { vertex, platforms, origin, took } => {
                self.running.remove(vertex);
                let line = format!("== {} failed after {}\n", step_place(origin), duration(*took));
                self.all(platforms, &line, true)
            }
            BuildEvent::TargetStage { stage: Stage::Place, .. }
            | BuildEvent::Exported { .. }
            | BuildEvent::Travelling { .. } => Ok(()),
            BuildEvent::TargetStage { platform, stage } => {
                let line = format!("== {} at {}\n", stage_name(*stage), clock(at));
                of(&mut self.files, &[*platform]).try_for_each(|log| log.aside(&line))
            }
            BuildEvent::TargetFinished { report } => {
                let line = format!("\n# finished after {}\n", duration(report.took));
                of(&mut self.files, &[report.platform]).try_for_each(|log| log.aside(&line))
            }
            BuildEvent::TargetFailed { platform, error } => {
                let line = format!("\n# failed after {}: {}\n", duration(at), one_line(error));
                of(&mut self.files, &[*platform]).try_for_each(|log| log.aside(&line))
            }
        }
    }

    fn all(&mut self, platforms: &[Platform], text: &str, flush: bool) -> io::Result<()> {
        let open = self.open;
        for log in of(&mut self.files, platforms) {
            let file = log.file(open)?;
            file.write_all(text.as_bytes())?;
            if flush {
                file.flush()?;
            }
        }
        Ok(())
    }
}

fn of<'a>(files: &'a mut BTreeMap<Platform, Log>, platforms: &'a [Platform]) -> impl Iterator<Item = &'a mut Log> {
    files.iter_mut().filter(|(platform, _)| platforms.contains(platform)).map(|(_, log)| log)
}

impl Log {
    /// The file, made at the first call; the last build's is kept under another name.
    fn file(&mut self, open: Open) -> io::Result<&mut BufWriter<Box<dyn Write + Send>>> {
        if self.file.is_none() {
            let mut file = BufWriter::new(open(&self.path)?);
            file.write_all(std::mem::take(&mut self.head).as_bytes())?;
            self.file = Some(file);
        }
        Ok(self.file.as_mut().expect("it was made above"))
    }

    /// Writes what is only worth a line if something runs.
    fn aside(&mut self, text: &str) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            return file.write_all(text.as_bytes());
        }
        self.head.push_str(text);
        Ok(())
    }
}

fn create(path: &Path) -> io::Result<Box<dyn Write + Send>> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    match fs_err::rename(path, path.with_extension("prev.log")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    Ok(Box::new(fs_err::File::create(path)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::script;

    fn run(logs: &mut Logs, events: Vec<script::Timed>) -> Vec<String> {
        let warnings: Vec<String> = events.into_iter().filter_map(|(at, event)| logs.event(at, &event)).collect();
        warnings.into_iter().chain(logs.flush(None)).collect()
    }

    fn read(folder: &Path, name: &str) -> String {
        fs_err::read_to_string(folder.join(name)).unwrap()
    }

    #[test]
    fn each_platform_has_its_log_and_the_last_one() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("deep/logs");
        for round in 0..2 {
            let mut logs = Logs::new(folder.clone());
            assert_eq!(run(&mut logs, script::failing()), Vec::<String>::new());
            assert_eq!(logs.paths()[&script::ARM64], folder.join("linux_arm64.log"));
            assert_eq!(folder.join("linux_arm64.prev.log").exists(), round == 1);
        }
        assert_eq!(read(&folder, "linux_arm64.log"), read(&folder, "linux_arm64.prev.log"));
        insta::assert_snapshot!("log_failed", read(&folder, "linux_386.log"));
        insta::assert_snapshot!("log_arm64", read(&folder, "linux_arm64.log"));
    }

    #[test]
    fn a_build_without_work_leaves_the_last_log_in_peace() {
        let temporary = tempfile::tempdir().unwrap();
        run(&mut Logs::new(temporary.path().into()), script::failing());
        let before = read(temporary.path(), "linux_amd64.log");
        let mut logs = Logs::new(temporary.path().into());
        run(&mut logs, script::up_to_date());
        assert!(logs.paths().is_empty());
        assert_eq!(read(temporary.path(), "linux_amd64.log"), before);
        assert!(!temporary.path().join("linux_amd64.prev.log").exists());
    }

    #[test]
    fn a_log_that_cannot_be_made_is_one_warning() {
        let temporary = tempfile::tempdir().unwrap();
        fs_err::write(temporary.path().join("logs"), "a file").unwrap();
        let mut logs = Logs::new(temporary.path().join("logs"));
        let warnings = run(&mut logs, script::failing());
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("the full logs of this build are not kept"), "{warnings:?}");
        assert!(logs.paths().is_empty());
    }

    #[test]
    fn a_full_disk_is_one_warning() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut logs = Logs::new(PathBuf::from("logs"));
        logs.open = |_| Ok(Box::new(Full));
        assert_eq!(run(&mut logs, script::failing()).len(), 1);
    }

    #[test]
    fn lines_reach_the_disk_while_a_step_runs() {
        let temporary = tempfile::tempdir().unwrap();
        let mut logs = Logs::new(temporary.path().into());
        let now = Duration::from_secs(2);
        for (at, event) in script::failing().into_iter().filter(|(at, _)| *at < now) {
            logs.event(at, &event);
        }
        logs.flush(Some(now));
        assert!(read(temporary.path(), "linux_arm64.log").contains("Unpacking gcc"));
    }
}
