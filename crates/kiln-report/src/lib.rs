//! A build's record as a page ([`html`]) and as a job summary ([`markdown`]). Pure: records and what was found beside them
//! go in, text comes out.
//!
//! Both say what `kiln history show --json` says, in the same numbers. Everything in a record may come from elsewhere, so
//! nothing of it is trusted: the page is made by a template that escapes whatever it is given, forbids by its own policy
//! all that it does not contain, and has no script; the summary escapes every character that means something there.

mod critical;
mod failure;
pub mod html;
pub mod markdown;
pub mod nuitka;
pub mod text;
mod treemap;

#[cfg(test)]
mod fixture;

use kiln_graph::Platform;
use kiln_history::compare::Comparison;
use kiln_history::record::{Outcome, Record};
use kiln_history::stats::{Alarm, Options, Stats};
use kiln_history::{Log, record::Target};

/// What a report is made of.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// The builds up to the one that is told of, newest first: that one is the first.
    past: &'a [Record],
    record: &'a Record,
    alarms: Vec<Alarm>,
    extras: Extras,
}

/// What lies beside the history.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// Nuitka's reports.
    pub modules: Vec<Modules>,
    /// What is inside of the results.
    pub contents: Vec<Contents>,
    /// The build's logs, if they were kept.
    pub logs: Vec<Log>,
}

/// Nuitka's report for one platform.
#[derive(Clone, Debug)]
pub struct Modules {
    /// The platform.
    pub platform: Platform,
    /// The build that compiled, if it was an earlier one: its result was used again.
    pub of_build: Option<String>,
    /// What Nuitka says.
    pub report: nuitka::NuitkaReport,
}

/// What is inside of one file that a build made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Its platform.
    pub platform: Platform,
    /// Its path, as the record has it.
    pub path: String,
    /// Its own size in bytes.
    pub stored: u64,
    /// What it unpacks; the program itself comes first.
    pub files: Vec<File>,
}

/// One file inside of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path.
    pub name: String,
    /// Its unpacked size in bytes.
    pub size: u64,
    /// What it is.
    pub kind: Kind,
}

/// What a file inside of a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What is run.
    Program,
    /// An extension module of Python.
    Extension,
    /// A shared library.
    Library,
    /// Anything else.
    Data,
}

impl<'a> Report<'a> {
    /// The report of the build `id` among records that come newest first; nothing if it is not among them.
    pub fn new(records: &'a [Record], id: &str, extras: Extras) -> Option<Self> {
        let at = records.iter().position(|record| record.id == id)?;
        // What came later is no part of its past.
        let past = &records[at..];
        let alarms = Stats::of(past, &Options::default()).alarms;
        Some(Self { past, record: past.first()?, alarms, extras })
    }

    /// The same build against the last one that can be compared with it: that built one of its targets, by work.
    fn changes(&self) -> Option<Comparison> {
        let shares = |earlier: &Record| {
            let is_target = |target: &Target| {
                let same = |own: &&Target| (&own.name, own.platform) == (&target.name, target.platform);
                target.outcome == Outcome::Done && self.record.targets.iter().find(same).is_some()
            };
            earlier.command == self.record.command && earlier.did_work() && earlier.targets.iter().any(is_target)
        };
        let earlier = self.past.iter().skip(1).find(|earlier| shares(earlier))?;
        Some(Comparison::of(earlier, self.record))
    }

    /// The platforms of the build, in its order, each once.
    fn platforms(&self) -> Vec<Platform> {
        let mut platforms = Vec::new();
        for target in &self.record.targets {
            if !platforms.contains(&target.platform) {
                platforms.push(target.platform);
            }
        }
        platforms
    }

    /// The outcome in a word or two.
    fn outcome(&self) -> String {
        let record = self.record;
        let done = record.targets.iter().filter(|target| target.outcome == Outcome::Done).count();
        match record.outcome {
            Outcome::Done if record.command == "test" => "passed".to_owned(),
            Outcome::Done if !record.did_work() => "up to date".to_owned(),
            Outcome::Done => "built".to_owned(),
            Outcome::Partial => format!("{done} of {} built", record.targets.len()),
            Outcome::Failed => "failed".to_owned(),
            Outcome::Stopped => "stopped".to_owned(),
        }
    }

    /// What was built: the project, or what else there is.
    fn title(&self) -> &str {
        if self.record.project.is_empty() { "build" } else { &self.record.project }
    }
}

/// How one target ended, in a word.
fn outcome_of(target: &Target) -> &'static str {
    match target.outcome {
        Outcome::Done if target.up_to_date || target.ran == 0 => "up to date",
        outcome => outcome.name(),
    }
}

/// What a target is called: its name only where several need telling apart.
fn name_of(record: &Record, target: &Target) -> String {
    let names = record.targets.iter().map(|target| target.name.as_str()).collect::<std::collections::BTreeSet<_>>();
    if names.len() > 1 && !target.name.is_empty() {
        format!("{} {}", target.name, target.platform)
    } else {
        target.platform.to_string()
    }
}

#[cfg(test)]
mod tests;
