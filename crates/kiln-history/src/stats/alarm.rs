//! Is the last build slower than builds like it, and why?
//!
//! A build is first compared with earlier ones that ran the same steps the same way. Only if there are too few of those
//! is it compared with whatever ran before it: then it may be slower because more had to be done, and the causes say so.
//! A difference counts if it stands out of the usual scatter, measured by the median of distances from the median, which
//! a few outliers do not move. So one-off slow builds among the earlier ones neither hide nor cause an alarm.

use std::collections::BTreeMap;
use std::fmt;

use kiln_graph::Platform;
use serde::Serialize;

use crate::median;
use crate::record::{Outcome, Record, Step, Target};

/// Fewer earlier builds than this say nothing.
const ENOUGH: usize = 5;
/// Builds that are looked through for ones that ran the same steps.
const FARTHEST: usize = 60;
/// The last build, or the last three together: one is seen at once, three see what is smaller.
const RECENT: [usize; 2] = [1, 3];
/// How much slower something must be at least, as a part of the usual.
const LEAST: f64 = 0.20;
/// ... and in seconds.
const LEAST_SECONDS: f64 = 1.0;
/// Standard deviations that a difference must be above the scatter.
const DEVIATIONS: f64 = 3.0;
/// What makes a standard deviation of the median of absolute distances, if these are normally distributed.
const NORMAL: f64 = 1.4826;
/// Part of the whole difference from which on something is named as a cause.
const WORTH_NAMING: f64 = 0.15;
/// Points by which hits of the compiler cache fall before that is a cause.
const CCACHE_FALL: f64 = 20.0;
/// Causes that are named.
const MOST_CAUSES: usize = 4;

/// Something is slower than it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alarm {
    /// Name of the target.
    pub target: String,
    /// Its platform.
    pub platform: Platform,
    /// The last build.
    pub build: String,
    /// How many of the last builds are slower, taken together.
    pub recent: usize,
    /// What they took, in seconds.
    pub seconds: f64,
    /// What builds before them took.
    pub usual: f64,
    /// How much slower that is, in per cent.
    pub percent: f64,
    /// How many builds it was compared with.
    pub compared: usize,
    /// Whether those ran the same steps in the same way.
    pub alike: bool,
    /// Why, the largest first.
    pub causes: Vec<Cause>,
}

/// What made a build slower.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Cause {
    /// Steps run another way than they did.
    Way {
        /// How they ran.
        was: String,
        /// How they run now.
        now: String,
    },
    /// A step ran that is usually cached.
    Ran {
        /// Its stage and place.
        step: String,
        /// Why it ran.
        reason: String,
        /// How long it took, in seconds.
        seconds: f64,
    },
    /// A step takes longer.
    Step {
        /// Its stage and place.
        step: String,
        /// How long it took, in seconds.
        seconds: f64,
        /// How long it usually takes.
        usual: f64,
    },
    /// A part of a step takes longer.
    Phase {
        /// The step's stage and place.
        step: String,
        /// The part.
        phase: String,
        /// How long it took, in seconds.
        seconds: f64,
        /// How long it usually takes.
        usual: f64,
    },
    /// The compiler cache answers less.
    Ccache {
        /// Hits now, 0 to 100.
        percent: f64,
        /// Hits usually.
        usual: f64,
        /// Why, if that is known.
        because: Option<String>,
    },
}

impl fmt::Display for Alarm {
    /// `linux/arm64 is 38% slower than the median of the last 10 builds (112 s, usually 81 s)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.target.is_empty() {
            write!(f, "{} for ", self.target)?;
        }
        let who = match self.recent {
            1 => "is",
            _ => "has become",
        };
        let of = if self.alike { "like it" } else { "before it" };
        write!(
            f,
            "{} {who} {:.0}% slower than the median of the last {} builds {of} ({}, usually {})",
            self.platform,
            self.percent,
            self.compared,
            Seconds(self.seconds),
            Seconds(self.usual),
        )
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grew = |f: &mut fmt::Formatter<'_>, usual: f64, seconds: f64| {
            write!(f, " grew from {} to {}", Seconds(usual), Seconds(seconds))
        };
        match self {
            Self::Way { was, now } => write!(f, "it runs as {now}, no longer as {was}"),
            Self::Ran { step, reason, seconds } => write!(f, "{step} ran ({}): {reason}", Seconds(*seconds)),
            Self::Step { step, seconds, usual } => {
                f.write_str(step)?;
                grew(f, *usual, *seconds)
            }
            Self::Phase { step, phase, seconds, usual } => {
                write!(f, "{phase} of {step}")?;
                grew(f, *usual, *seconds)
            }
            Self::Ccache { percent, usual, because } => {
                write!(f, "ccache hits fell from {usual:.0}% to {percent:.0}%")?;
                because.as_ref().map_or(Ok(()), |because| write!(f, " because {because}"))
            }
        }
    }
}

/// Seconds as people read them.
struct Seconds(f64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 99.95 { write!(f, "{:.1} s", self.0) } else { write!(f, "{:.0} s", self.0) }
    }
}

type Line<'a> = (&'a Record, &'a Target);

/// Looks at the builds of one target, newest first.
pub(super) fn find(line: &[Line<'_>], window: usize) -> Option<Alarm> {
    // The newest of all: a failure, or a build without work, is no news about times.
    line.first().filter(|(_, target)| is_work(target))?;
    let worked: Vec<Line<'_>> = line.iter().copied().filter(|(_, target)| is_work(target)).take(FARTHEST).collect();
    RECENT.into_iter().find_map(|recent| compare(&worked, recent, window.max(ENOUGH)))
}

fn is_work(target: &Target) -> bool {
    target.outcome == Outcome::Done && target.ran > 0
}

fn compare(worked: &[Line<'_>], recent: usize, window: usize) -> Option<Alarm> {
    let (now, before) = worked.split_at_checked(recent)?;
    let like = Likeness::of(*now.first()?);
    // Several together must be of one kind.
    if now.iter().any(|one| Likeness::of(*one) != like) {
        return None;
    }
    let mut earlier: Vec<Line<'_>> =
        before.iter().copied().filter(|one| Likeness::of(*one) == like).take(window).collect();
    let alike = earlier.len() >= ENOUGH;
    if !alike {
        if recent > 1 {
            return None;
        }
        // What ended in the same step as this one did is a build of the same thing.
        let last = like.steps.last();
        let same_end = |one: &&Line<'_>| Likeness::of(**one).steps.last() == last;
        earlier = before.iter().filter(same_end).copied().take(window).collect();
    }
    if earlier.len() < ENOUGH {
        return None;
    }
    let seconds = median(now.iter().map(|(_, target)| target.seconds))?;
    let usual = median(earlier.iter().map(|(_, target)| target.seconds))?;
    let scatter = median(earlier.iter().map(|(_, target)| (target.seconds - usual).abs()))? * NORMAL;
    #[expect(clippy::cast_precision_loss, reason = "one or three")]
    let noise = DEVIATIONS * scatter / (recent as f64).sqrt();
    let growth = seconds - usual;
    if growth < (LEAST * usual).max(LEAST_SECONDS).max(noise) {
        return None;
    }
    let (record, target) = now[0];
    Some(Alarm {
        target: target.name.clone(),
        platform: target.platform,
        build: record.id.clone(),
        recent,
        seconds,
        usual,
        percent: 100.0 * growth / usual,
        compared: earlier.len(),
        alike,
        causes: causes(now[0], &earlier, growth),
    })
}

/// What makes builds comparable: how they ran, on what, and which steps.
#[derive(PartialEq)]
struct Likeness<'a> {
    way: &'a str,
    command: &'a str,
    cpus: usize,
    targets: usize,
    steps: Vec<String>,
}

impl<'a> Likeness<'a> {
    fn of((record, target): Line<'a>) -> Self {
        let ran = record.steps_of(target.platform).filter(|step| !step.cached);
        let mut steps: Vec<String> = ran.map(Step::name).collect();
        // Steps that run at once begin in any order; the last one of all is the one that ends the build.
        if let Some((_, rest)) = steps.split_last_mut() {
            rest.sort();
        }
        // What builds beside it slows it down.
        let targets = record.targets.iter().filter(|target| target.ran > 0).count();
        Self { way: &target.way, command: &record.command, cpus: record.machine.cpus, targets, steps }
    }
}

fn causes((record, target): Line<'_>, earlier: &[Line<'_>], growth: f64) -> Vec<Cause> {
    let mut weighted: Vec<(f64, Cause)> = Vec::new();
    let platform = target.platform;
    let usual_steps: Vec<Times<'_>> = earlier.iter().map(|(record, _)| Times::of(record, platform)).collect();
    let now = Times::of(record, platform);
    let least = (WORTH_NAMING * growth).max(0.5);
    for (name, &(seconds, step)) in &now.steps {
        let usual = usual(&usual_steps, |times| times.steps.get(name).map(|(seconds, _)| *seconds));
        let grew = seconds - usual;
        if grew < least {
            continue;
        }
        if usual == 0.0 {
            let (step, reason) = (name.clone(), step.reason.clone());
            weighted.push((grew, Cause::Ran { step, reason, seconds }));
            continue;
        }
        let phases = now.phases.iter().filter(|((of, _), _)| of == name).filter_map(|(key, &seconds)| {
            let usual = self::usual(&usual_steps, |times| times.phases.get(key).copied());
            let phase = Cause::Phase { step: name.clone(), phase: key.1.clone(), seconds, usual };
            (seconds - usual >= least).then_some((seconds - usual, phase))
        });
        let phases: Vec<_> = phases.collect();
        // The parts say more than the whole, if they explain it.
        if phases.iter().map(|(grew, _)| grew).sum::<f64>() >= grew / 2.0 {
            weighted.extend(phases);
        } else {
            weighted.push((grew, Cause::Step { step: name.clone(), seconds, usual }));
        }
    }
    weighted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut causes = Vec::new();
    if let Some(was) = usual_way(earlier).filter(|was| *was != target.way) {
        causes.push(Cause::Way { was, now: target.way.clone() });
    }
    causes.extend(weighted.into_iter().map(|(_, cause)| cause));
    causes.truncate(MOST_CAUSES);
    causes.extend(fallen_ccache((record, target), earlier, &usual_steps));
    causes
}

/// The seconds that something usually takes; zero where it usually does not happen.
fn usual(times: &[Times<'_>], of: impl Fn(&Times<'_>) -> Option<f64>) -> f64 {
    median(times.iter().map(|times| of(times).unwrap_or(0.0))).unwrap_or(0.0)
}

fn usual_way(earlier: &[Line<'_>]) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, target) in earlier {
        *counts.entry(&target.way).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(way, _)| way.to_owned())
}

fn fallen_ccache((record, target): Line<'_>, earlier: &[Line<'_>], usual_steps: &[Times<'_>]) -> Option<Cause> {
    let now = target.ccache?;
    let percent = now.percent()?;
    let usual = median(earlier.iter().filter_map(|(_, target)| target.ccache?.percent()))?;
    if usual - percent < CCACHE_FALL {
        return None;
    }
    // What ran that usually does not is what the compiler, its options or its headers come from.
    let changed = record.steps_of(target.platform).find(|step| {
        let name = step.name();
        !step.cached && self::usual(usual_steps, |times| times.steps.get(&name).map(|(seconds, _)| *seconds)) == 0.0
    });
    let because = match changed {
        Some(step) if step.reason.is_empty() => Some(format!("{} ran again", step.name())),
        Some(step) => Some(format!("{} ran again: {}", step.name(), step.reason)),
        None if now.hits == 0 => Some("the cache was empty".to_owned()),
        None => None,
    };
    Some(Cause::Ccache { percent, usual, because })
}

/// The times of one build for one platform, by names that other builds have, too.
struct Times<'a> {
    steps: BTreeMap<String, (f64, &'a Step)>,
    phases: BTreeMap<(String, String), f64>,
}

impl<'a> Times<'a> {
    fn of(record: &'a Record, platform: Platform) -> Self {
        let (mut steps, mut phases) = (BTreeMap::new(), BTreeMap::new());
        for step in record.steps_of(platform).filter(|step| !step.cached) {
            let name = step.name();
            for phase in &step.phases {
                *phases.entry((name.clone(), phase.name.clone())).or_insert(0.0) += phase.seconds;
            }
            steps.entry(name).or_insert((0.0, step)).0 += step.seconds;
        }
        Self { steps, phases }
    }
}
