//! Which steps determined when a build ended. Pure.
//!
//! A record has no edges, only times, so the chain is read from those: the step that ended last, the one that it waited
//! for, and so on. A step waits for the last one to end before it began. Between two steps of one platform there may be a
//! moment for a commit; so one that serves the same platform is preferred to one that merely ended by chance a little later.

use kiln_history::record::Step;

/// Seconds by which clocks of two events may differ, so that an end and the start after it count as in order.
const SLACK: f64 = 0.05;
/// Seconds that another platform's step must have ended later than the own one to be what was waited for.
const MARGIN: f64 = 1.0;

/// Indexes of the steps of the chain, the first to run first.
pub(crate) fn path(steps: &[Step]) -> Vec<usize> {
    let ran = || steps.iter().enumerate().filter(|(_, step)| !step.cached);
    let mut path = Vec::new();
    let mut now = ran().max_by(|(_, a), (_, b)| end(a).total_cmp(&end(b)));
    while let Some((index, step)) = now {
        path.push(index);
        // Every step goes back in time by its start or, where several began at once, by its place.
        let before = || {
            ran().filter(move |(other, candidate)| {
                let earlier = (candidate.start, *other) < (step.start, index);
                earlier && end(candidate) <= step.start + SLACK
            })
        };
        let last = |own: bool| {
            before()
                .filter(|(_, candidate)| !own || shares_platform(candidate, step))
                .max_by(|(_, a), (_, b)| end(a).total_cmp(&end(b)))
        };
        now = match (last(true), last(false)) {
            (Some(own), Some(any)) if end(any.1) - end(own.1) <= MARGIN => Some(own),
            (_, any) => any,
        };
    }
    path.reverse();
    path
}

fn end(step: &Step) -> f64 {
    step.start + step.seconds
}

fn shares_platform(a: &Step, b: &Step) -> bool {
    a.platforms.iter().any(|platform| b.platforms.contains(platform))
}

#[cfg(test)]
mod tests {
    use kiln_graph::{Arch, Platform};
    use proptest::prelude::*;

    use super::*;

    const AMD64: Platform = Platform::linux(Arch::Amd64);
    const ARM64: Platform = Platform::linux(Arch::Arm64);

    fn step(platform: Platform, start: f64, seconds: f64) -> Step {
        Step { platforms: vec![platform], start, seconds, ..Step::default() }
    }

    #[test]
    fn a_platform_waits_for_its_own_steps() {
        let steps = [
            Step { cached: true, ..step(ARM64, 0.0, 0.0) },
            step(AMD64, 0.0, 10.0),
            step(ARM64, 0.0, 12.0),
            step(AMD64, 10.2, 2.3),
            // A commit lies between; the other platform's step ended meanwhile.
            step(ARM64, 12.6, 30.0),
            step(AMD64, 13.0, 5.0),
        ];
        assert_eq!(path(&steps), [2, 4]);
    }

    #[test]
    fn a_platform_waits_for_another_one() {
        // The twin of arm64 needs what amd64 installs.
        let steps = [step(AMD64, 0.0, 40.0), step(ARM64, 0.0, 3.0), step(ARM64, 40.1, 20.0)];
        assert_eq!(path(&steps), [0, 2]);
    }

    #[test]
    fn nothing_ran() {
        assert_eq!(path(&[]), [0; 0]);
        assert_eq!(path(&[Step { cached: true, ..step(AMD64, 0.0, 0.0) }]), [0; 0]);
        assert_eq!(path(&[step(AMD64, 0.0, 0.0), step(AMD64, 0.0, 0.0)]), [0, 1]);
    }

    proptest! {
        #[test]
        fn steps_of_a_chain_follow_each_other(times in prop::collection::vec((0.0f64..50.0, 0.0f64..20.0), 1..30)) {
            let steps: Vec<Step> = times.iter().map(|(start, seconds)| step(AMD64, *start, *seconds)).collect();
            let path = path(&steps);
            let last = steps.iter().map(end).fold(0.0, f64::max);
            prop_assert!(end(&steps[*path.last().unwrap()]) >= last);
            for pair in path.windows(2) {
                prop_assert!(end(&steps[pair[0]]) <= steps[pair[1]].start + SLACK);
            }
            // Nothing that ran could have been waited for by the first.
            let first = &steps[path[0]];
            prop_assert!(!steps.iter().any(|other| other.start < first.start && end(other) <= first.start));
        }
    }
}
