//! Figures of many builds: how long each platform takes, what the compiler cache answers, what runners cost.
//!
//! Only builds that did something count for times: a build that found everything in place says nothing about building.

mod alarm;

use std::collections::BTreeMap;

use kiln_graph::Platform;
use serde::Serialize;

pub use alarm::{Alarm, Cause};

use crate::record::{Outcome, Record, Target};
use crate::{mean, median};

/// Builds that a trend looks at, and as many before them.
const TREND: usize = 5;

/// What the figures need to know beside the records.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// What a minute of a runner costs, in any currency.
    pub minute_price: f64,
    /// How many earlier builds the last one is compared with.
    pub window: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { minute_price: 0.0, window: 10 }
    }
}

/// Figures of many builds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// All builds.
    pub builds: usize,
    /// Those that failed, in part or as a whole.
    pub failed: usize,
    /// Those that found everything in place.
    pub up_to_date: usize,
    /// When the first began, in milliseconds since 1970.
    pub from: Option<i64>,
    /// When the last began.
    pub to: Option<i64>,
    /// Per target and platform, in the order of their names.
    pub targets: Vec<TargetStats>,
    /// Tests.
    pub tests: Option<Times>,
    /// What the machines were busy for.
    pub runner: Runner,
    /// What is slower than it was.
    pub alarms: Vec<Alarm>,
}

/// Figures of one target for one platform.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TargetStats {
    /// Name of the target.
    pub name: String,
    /// Its platform.
    pub platform: Platform,
    /// Builds that did something and ended well.
    pub times: Option<Times>,
    /// Builds that failed.
    pub failed: usize,
    /// Builds that found everything in place.
    pub up_to_date: usize,
    /// How its builds ran, and how often.
    pub ways: BTreeMap<String, usize>,
    /// Hits of the compiler cache among all compilations, 0 to 100.
    pub ccache_percent: Option<f64>,
    /// The same in the last build that compiled.
    pub last_ccache_percent: Option<f64>,
    /// Bytes of the last result.
    pub bytes: Option<u64>,
}

/// Times of several builds, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// How many.
    pub count: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub median: f64,
    /// The fastest.
    pub fastest: f64,
    /// The slowest.
    pub slowest: f64,
    /// The last.
    pub last: f64,
    /// How much the median of the last five is above that of the five before, in per cent; nothing with fewer.
    pub trend_percent: Option<f64>,
}

/// What the machines were busy for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Runner {
    /// Minutes of all builds.
    pub minutes: f64,
    /// Minutes on CI services, each build rounded up as they bill it.
    pub billed_minutes: f64,
    /// What those cost.
    pub cost: f64,
}

impl Stats {
    /// Figures of builds, which come newest first.
    pub fn of(records: &[Record], options: &Options) -> Self {
        let builds: Vec<&Record> = records.iter().filter(|record| record.command != "test").collect();
        let tests: Vec<f64> = records
            .iter()
            .filter(|record| record.command == "test" && record.did_work())
            .map(|record| record.seconds)
            .collect();
        let mut lines: BTreeMap<(&str, Platform), Vec<(&Record, &Target)>> = BTreeMap::new();
        for &record in &builds {
            for target in &record.targets {
                lines.entry((&target.name, target.platform)).or_default().push((record, target));
            }
        }
        let targets = lines.iter().map(|((name, platform), line)| TargetStats::of(name, *platform, line)).collect();
        let alarms = lines.values().filter_map(|line| alarm::find(line, options.window)).collect();
        Self {
            builds: builds.len(),
            failed: builds.iter().filter(|r| matches!(r.outcome, Outcome::Failed | Outcome::Partial)).count(),
            up_to_date: builds.iter().filter(|r| r.outcome == Outcome::Done && !r.did_work()).count(),
            from: records.last().map(|record| record.started),
            to: records.first().map(|record| record.started),
            targets,
            tests: Times::of(&tests),
            runner: Runner::of(records, options.minute_price),
            alarms,
        }
    }
}

impl TargetStats {
    fn of(name: &str, platform: Platform, line: &[(&Record, &Target)]) -> Self {
        let done = || line.iter().map(|(_, target)| *target).filter(|target| target.outcome == Outcome::Done);
        let worked = || done().filter(|target| target.ran > 0);
        let times: Vec<f64> = worked().map(|target| target.seconds).collect();
        let mut ways = BTreeMap::new();
        for target in worked() {
            *ways.entry(target.way.clone()).or_insert(0) += 1;
        }
        let all = worked().filter_map(|target| target.ccache).reduce(|mut all, one| {
            all.hits += one.hits;
            all.misses += one.misses;
            all
        });
        Self {
            name: name.to_owned(),
            platform,
            times: Times::of(&times),
            failed: line.iter().filter(|(_, target)| target.outcome == Outcome::Failed).count(),
            up_to_date: done().filter(|target| target.ran == 0).count(),
            ways,
            ccache_percent: all.and_then(crate::record::Ccache::percent),
            last_ccache_percent: worked().find_map(|target| target.ccache?.percent()),
            bytes: done().map(Target::size).find(|bytes| *bytes > 0),
        }
    }
}

impl Times {
    /// Times that come newest first; nothing if there are none.
    pub fn of(seconds: &[f64]) -> Option<Self> {
        let recent = median(seconds.iter().take(TREND).copied());
        let before = median(seconds.iter().skip(TREND).take(TREND).copied()).filter(|_| seconds.len() >= 2 * TREND);
        let trend = recent.zip(before).filter(|(_, before)| *before > 0.0);
        Some(Self {
            count: seconds.len(),
            mean: mean(seconds)?,
            median: median(seconds.iter().copied())?,
            fastest: seconds.iter().copied().min_by(f64::total_cmp)?,
            slowest: seconds.iter().copied().max_by(f64::total_cmp)?,
            last: *seconds.first()?,
            trend_percent: trend.map(|(recent, before)| 100.0 * (recent / before - 1.0)),
        })
    }
}

impl Runner {
    fn of(records: &[Record], price: f64) -> Self {
        let minutes = |record: &Record| record.seconds / 60.0;
        let on_ci = records.iter().filter(|record| record.machine.ci.is_some());
        // The sum of nothing is minus zero.
        let billed = 0.0 + on_ci.map(|record| minutes(record).ceil()).sum::<f64>();
        let minutes = 0.0 + records.iter().map(minutes).sum::<f64>();
        Self { minutes, billed_minutes: billed, cost: billed * price }
    }
}
