use kiln_graph::{Arch, Platform};
use proptest::prelude::*;

use crate::compare::Comparison;
use crate::record::{Ccache, Machine, Outcome, Phase, Record, Step, Target, VERSION};
use crate::stats::{Cause, Options, Stats};
use crate::{History, HistoryError, Keep, Log, export};

const ARM64: Platform = Platform::linux(Arch::Arm64);
const AMD64: Platform = Platform::linux(Arch::Amd64);

fn step(stage: &str, place: u32, seconds: f64, reason: &str) -> Step {
    Step {
        platforms: vec![ARM64],
        stage: stage.into(),
        place,
        text: format!("RUN {stage}"),
        way: "twin".into(),
        reason: reason.into(),
        seconds,
        ..Step::default()
    }
}

fn cached(stage: &str, place: u32) -> Step {
    Step { cached: true, ..step(stage, place, 0.0, "") }
}

/// A warm build: only the compile step runs.
fn warm(number: usize, compile: f64) -> Record {
    let phases = vec![
        Phase { name: "Python".into(), seconds: compile * 0.5 },
        Phase { name: "C compile".into(), seconds: compile * 0.4 },
    ];
    let target = Target {
        name: String::new(),
        platform: ARM64,
        way: "twin".into(),
        outcome: Outcome::Done,
        up_to_date: false,
        seconds: compile + 2.0,
        container_seconds: compile,
        ran: 1,
        cached: 2,
        ccache: Some(Ccache { hits: 96, misses: 4, remote_hits: 0 }),
        artifacts: vec![],
        image: None,
        policy: None,
        error: None,
    };
    let compile = Step { phases, ..step("compile", 2, compile, "files of . changed: main.py") };
    Record {
        version: VERSION,
        id: format!("{number:08x}-abc"),
        command: "build".into(),
        started: 1_700_000_000_000 + i64::try_from(number).unwrap() * 60_000,
        seconds: target.seconds,
        project: "hello".into(),
        machine: Machine { cpus: 2, ..Machine::default() },
        targets: vec![target],
        steps: vec![cached("toolchain", 2), cached("dependencies", 3), compile],
        ..Record::default()
    }
}

/// The toolchain is another one: its step runs again, and the compiler cache knows nothing.
fn new_toolchain(number: usize) -> Record {
    let mut record = warm(number, 60.0);
    record.steps[0] = step("toolchain", 2, 12.0, "base image debian:bookworm changed");
    record.steps[2].phases[1].seconds = 44.0;
    record.targets[0].seconds = 74.0;
    record.targets[0].ran = 2;
    record.targets[0].ccache = Some(Ccache { hits: 12, misses: 88, remote_hits: 0 });
    record
}

/// Newest first.
fn stats(records: &[Record]) -> Stats {
    let newest_first: Vec<Record> = records.iter().rev().cloned().collect();
    Stats::of(&newest_first, &Options::default())
}

#[test]
fn a_regression_is_found_and_its_cause_named() {
    let mut records: Vec<Record> = (0..20).map(|n| warm(n, 30.0 + f64::from(u8::try_from(n % 3).unwrap()))).collect();
    assert_eq!(stats(&records).alarms, []);
    records.push(warm(20, 45.0));
    let alarms = stats(&records).alarms;
    let [alarm] = alarms.as_slice() else { panic!("{alarms:?}") };
    assert!(alarm.alike && alarm.compared == 10 && alarm.recent == 1, "{alarm:?}");
    let text = alarm.to_string();
    assert_eq!(
        text,
        "linux/arm64 is 42% slower than the median of the last 10 builds like it (47.0 s, usually 33.0 s)"
    );
    let causes: Vec<String> = alarm.causes.iter().map(ToString::to_string).collect();
    let expected =
        ["Python of compile 2 grew from 15.5 s to 22.5 s", "C compile of compile 2 grew from 12.4 s to 18.0 s"];
    assert_eq!(causes, expected);
}

#[test]
fn a_new_toolchain_explains_a_slow_build_and_an_empty_compiler_cache() {
    let mut records: Vec<Record> = (0..12).map(|n| warm(n, 30.0)).collect();
    records.push(new_toolchain(12));
    let alarms = stats(&records).alarms;
    let [alarm] = alarms.as_slice() else { panic!("{alarms:?}") };
    assert!(!alarm.alike);
    let causes: Vec<String> = alarm.causes.iter().map(ToString::to_string).collect();
    let expected = [
        "C compile of compile 2 grew from 12.0 s to 44.0 s",
        "Python of compile 2 grew from 15.0 s to 30.0 s",
        "toolchain 2 ran (12.0 s): base image debian:bookworm changed",
        "ccache hits fell from 96% to 12% because toolchain 2 ran again: base image debian:bookworm changed",
    ];
    assert_eq!(causes, expected);
    // The next warm build is as fast as those before: no alarm.
    records.push(warm(13, 30.0));
    assert_eq!(stats(&records).alarms, []);
}

#[test]
fn a_build_that_is_emulated_again_says_so() {
    let mut records: Vec<Record> = (0..8).map(|n| warm(n, 30.0)).collect();
    let mut emulated = warm(8, 240.0);
    emulated.targets[0].way = "qemu".into();
    records.push(emulated);
    let alarms = stats(&records).alarms;
    assert_eq!(alarms[0].causes[0], Cause::Way { was: "twin".into(), now: "qemu".into() });
}

#[test]
fn failures_and_builds_without_work_are_no_news_about_times() {
    let mut records: Vec<Record> = (0..8).map(|n| warm(n, 30.0)).collect();
    let mut failed = warm(8, 300.0);
    failed.targets[0].outcome = Outcome::Failed;
    failed.outcome = Outcome::Failed;
    records.push(failed);
    let mut nothing = warm(9, 0.0);
    nothing.targets[0].ran = 0;
    records.push(nothing);
    let stats = stats(&records);
    assert_eq!((stats.builds, stats.failed, stats.up_to_date), (10, 1, 1));
    assert_eq!(stats.alarms, []);
    let target = &stats.targets[0];
    assert_eq!((target.failed, target.up_to_date), (1, 1));
    let times = target.times.unwrap();
    assert_eq!((times.count, times.slowest), (8, 32.0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn noise_of_ten_percent_is_no_alarm(noise in prop::collection::vec(-0.1f64..0.1, 13..60)) {
        let records: Vec<Record> = noise.iter().enumerate().map(|(n, x)| warm(n, 40.0 * (1.0 + x))).collect();
        // Every moment of the history is a last build.
        for end in 11..=records.len() {
            prop_assert_eq!(&stats(&records[..end]).alarms, &vec![]);
        }
    }

    #[test]
    fn half_as_long_again_is_an_alarm_through_that_noise(
        noise in prop::collection::vec(-0.1f64..0.1, 13..60),
        last in -0.05f64..0.1,
    ) {
        let mut records: Vec<Record> = noise.iter().enumerate().map(|(n, x)| warm(n, 40.0 * (1.0 + x))).collect();
        records.push(warm(noise.len(), 60.0 * (1.0 + last)));
        prop_assert_eq!(stats(&records).alarms.len(), 1);
    }
}

#[test]
fn what_stays_a_quarter_slower_is_an_alarm_though_each_build_could_be_noise() {
    let noise = |n: usize| [0.9, 1.1, 1.0, 0.92, 1.08][n % 5];
    let mut records: Vec<Record> = (0..20).map(|n| warm(n, 40.0 * noise(n))).collect();
    records.extend((20..23).map(|n| warm(n, 51.0)));
    let alarms = stats(&records).alarms;
    assert_eq!(alarms.len(), 1);
    assert!(alarms[0].recent == 3 && alarms[0].to_string().contains("has become"), "{}", alarms[0]);
}

#[test]
fn a_history_remembers_finds_and_forgets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/history.db");
    assert!(History::open_if_there(&path).unwrap().is_none());
    let keep = Keep { records: 5, logs: 2 };
    let mut history = History::open(&path).unwrap();
    let logs = |n: usize| vec![Log { name: "linux_arm64".into(), text: format!("line of {n}\n").repeat(1000) }];
    for n in 0..8 {
        history.add(&warm(n, 30.0), &logs(n), keep).unwrap();
    }
    drop(history);
    let history = History::open_if_there(&path).unwrap().unwrap();
    let ids: Vec<String> = history.latest(100).unwrap().into_iter().map(|record| record.id).collect();
    assert_eq!(ids, ["00000007-abc", "00000006-abc", "00000005-abc", "00000004-abc", "00000003-abc"]);
    assert_eq!(history.find("last").unwrap(), warm(7, 30.0));
    assert_eq!(history.find("last~2").unwrap().id, "00000005-abc");
    assert_eq!(history.find("00000004").unwrap().id, "00000004-abc");
    assert_eq!(history.logs("00000007-abc").unwrap(), logs(7));
    assert_eq!(history.logs("00000006-abc").unwrap(), logs(6));
    assert_eq!(history.logs("00000005-abc").unwrap(), []);
    let error = history.find("0000000").unwrap_err();
    assert!(matches!(&error, HistoryError::Ambiguous { ids, .. } if ids.len() == 5), "{error}");
    for missing in ["00000001", "", "last~5", "last~x", "%", "nonsense"] {
        let error = history.find(missing).unwrap_err();
        assert!(!matches!(error, HistoryError::Database { .. }), "{missing}: {error}");
        assert!(error.hint().is_some(), "{missing}");
    }
}

#[test]
fn records_from_elsewhere_are_merged_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = History::open(&folder.path().join("history.db")).unwrap();
    history.add(&warm(1, 30.0), &[], Keep::default()).unwrap();
    let mut later = warm(3, 1.0);
    later.version = VERSION + 1;
    let elsewhere = [warm(0, 20.0), warm(1, 99.0), warm(2, 40.0), later];
    assert_eq!(history.merge(&elsewhere, Keep::default()).unwrap(), 2);
    assert_eq!(history.merge(&elsewhere, Keep::default()).unwrap(), 0);
    let seconds: Vec<f64> = history.latest(9).unwrap().iter().map(|record| record.seconds).collect();
    assert_eq!(seconds, [42.0, 32.0, 22.0]);
}

#[test]
fn a_file_that_is_no_history_is_an_error_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    fs_err::write(&path, "not a database at all, but long enough to be read as the head of one. ".repeat(20)).unwrap();
    let error = History::open(&path).unwrap_err();
    assert!(error.hint().unwrap().contains("begins anew"), "{error:?}");
    fs_err::remove_file(&path).unwrap();
    drop(History::open(&path).unwrap());
    rusqlite::Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
    assert!(matches!(History::open(&path).unwrap_err(), HistoryError::Newer { version: 9, .. }));
}

#[test]
fn several_processes_write_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let path = &path;
            scope.spawn(move || {
                for n in 0..25 {
                    let mut history = History::open(path).unwrap();
                    history.add(&warm(thread * 100 + n, 30.0), &[], Keep::default()).unwrap();
                }
            });
        }
    });
    assert_eq!(History::open(&path).unwrap().latest(1000).unwrap().len(), 100);
}

#[test]
fn two_builds_are_told_apart() {
    let comparison = Comparison::of(&warm(1, 30.0), &new_toolchain(2));
    let [target] = comparison.targets.as_slice() else { panic!("{comparison:?}") };
    let names: Vec<&str> = target.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["compile 2", "toolchain 2"]);
    assert_eq!(target.steps[0].seconds, (Some(30.0), Some(60.0)));
    assert_eq!(target.steps[0].phases[0], ("C compile".into(), 12.0, 44.0));
    assert_eq!(target.steps[1].seconds, (None, Some(12.0)));
    assert_eq!(target.same_files, None);
    let mut other = warm(3, 30.0);
    other.targets[0].platform = AMD64;
    let comparison = Comparison::of(&warm(1, 30.0), &other);
    assert_eq!(comparison.targets.len(), 2);
    assert!(comparison.targets[0].sides.1.is_none() && comparison.targets[1].sides.0.is_none());
}

#[test]
fn other_programs_can_read_it() {
    let mut records: Vec<Record> = (0..12).map(|n| warm(n, 30.0)).rev().collect();
    records[0].machine.ci = Some("github".into());
    records[0].targets[0].ccache = Some(Ccache { hits: 96, misses: 4, remote_hits: 7 });
    records[0].targets[0].error = Some("a \"quoted\", long\nerror".into());
    let text = export::csv(&records);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
    assert_eq!(rows.len(), 12);
    assert_eq!((&rows[0][6], &rows[0][9], &rows[0][16]), ("github", "linux/arm64", "96"));
    assert_eq!(&rows[0][21], "7");
    assert_eq!(&rows[0][20], "a \"quoted\", long\nerror");
    let stats = Stats::of(&records, &Options { minute_price: 0.5, ..Options::default() });
    assert_eq!((stats.runner.billed_minutes, stats.runner.cost), (1.0, 0.5));
    let text = export::prometheus("he\"llo", &stats);
    assert!(text.contains("kiln_builds{project=\"he\\\"llo\"} 12\n"), "{text}");
    let line = "kiln_build_seconds_median{project=\"he\\\"llo\",target=\"\",platform=\"linux/arm64\"} 32\n";
    assert!(text.contains(line), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok()), "{line}");
    }
}
