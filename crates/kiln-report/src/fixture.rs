//! Records for tests: a project that is built for three platforms, again and again.

use kiln_graph::{Arch, Platform};
use kiln_history::Log;
use kiln_history::record::{Artifact, Ccache, Machine, Outcome, Phase, Record, Source, Step, Target, VERSION};

use crate::nuitka::NuitkaReport;
use crate::{Contents, Extras, File, Kind, Modules};

pub(crate) const PLATFORMS: [Platform; 3] =
    [Platform::linux(Arch::Amd64), Platform::linux(Arch::I386), Platform::linux(Arch::Arm64)];

/// Text that tries everything.
pub(crate) const HOSTILE: &str = "</script></title><img src=x onerror=alert(1)>\"'`|*_#;:&\u{202e}\u{1b}[31m";

/// A report of Nuitka 4.3.3, cut down.
pub(crate) const REPORT: &str = r#"<?xml version='1.0' encoding='utf8'?>
<nuitka-compilation-report nuitka_version="4.3.3" nuitka_commercial_version="not installed" mode="onefile" completion="yes">
  <scons_environment c_compiler="gcc" the_cc_name="gcc" the_compiler="gcc" />
  <module name="__future__" kind="UncompiledPythonModule" usage="stdlib" reason="Including as part of the non-excluded parts of standard library." source_path="${sys.real_prefix}/lib/python3.11/__future__.py">
    <optimization-time pass="1" time="0.0000" micro_passes="7" max_branch_merge="6" merged_total="79" />
    <module_usages />
  </module>
  <module name="__main__" kind="PythonMainModule" usage="root_module" reason="Root module" source_path="main.py">
    <plugin-influence name="implicit-imports" influence="condition-used" condition="plugin(&quot;pyside6&quot;)" result="false" />
    <optimization-time pass="1" time="0.2006" micro_passes="4" max_branch_merge="9" merged_total="431" />
    <optimization-time pass="2" time="0.0046" micro_passes="1" max_branch_merge="9" merged_total="87" />
    <code-generation-time time="0.0330" />
    <c-compilation-resources>
      <c-cache tech="ccache" result="cache miss" />
      <object-file size="278848" />
      <cpu system-cpu-time="0.0302" user-cpu-time="0.2377" />
      <memory memory-max-rss-kb="45480" />
    </c-compilation-resources>
    <module_usages><module_usage name="argparse" finding="absolute" line="3" reason="import" /></module_usages>
  </module>
  <module name="greeting&lt;b&gt;" kind="CompiledPythonModule" usage="import" source_path="greeting.py">
    <optimization-time pass="1" time="0.1500" />
    <code-generation-time time="0.0100" />
    <c-compilation-resources><c-cache tech="ccache" result="cache hit" /><object-file size="40000" /></c-compilation-resources>
  </module>
  <module name="json" kind="UncompiledPythonPackage" usage="stdlib">
    <optimization-time pass="1" time="0.0450" />
  </module>
  <linker-resources><cpu system-cpu-time="0.2886" user-cpu-time="4.7702" /></linker-resources>
  <data_composer blob_size="7848958" total="827">
    <module_data filename="__bytecode.const" blob_name=".bytecode" blob_size="7842995" input_size="7870910" />
  </data_composer>
  <performance-totals>
    <optimization-time pass="all" time="36.3582" module_count="424" />
    <code-generation-time time="0.0569" module_count="6" />
    <c-compilation-time user-cpu-time="0.5010" system-cpu-time="0.0669" module_count="6" />
    <c-linking-time user-cpu-time="4.7702" system-cpu-time="0.2886" />
  </performance-totals>
  <python_binary filename="hello.bin" size="15949144" />
</nuitka-compilation-report>
"#;

fn step(platform: Platform, stage: &str, place: u32, start: f64, seconds: f64, reason: &str) -> Step {
    Step {
        platforms: vec![platform],
        stage: stage.into(),
        place,
        text: format!("RUN sh /kiln/{stage}.sh"),
        file: "debian.Dockerfile".into(),
        line: 10 * place,
        way: way(platform).into(),
        reason: reason.into(),
        start,
        seconds,
        ..Step::default()
    }
}

fn way(platform: Platform) -> &'static str {
    if platform.arch == Arch::Arm64 { "twin" } else { "native" }
}

/// To the millisecond, as records are: JSON then gives back the same.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// A build in which the program changed.
pub(crate) fn warm(number: u32, compile: f64) -> Record {
    let (mut targets, mut steps) = (Vec::new(), Vec::new());
    for platform in PLATFORMS {
        for (stage, place) in [("toolchain", 1), ("toolchain", 2), ("dependencies", 3)] {
            steps.push(Step { cached: true, way: String::new(), ..step(platform, stage, place, 0.0, 0.0, "") });
        }
    }
    for (offset, platform) in [0.0, 0.3, 0.6].into_iter().zip(PLATFORMS) {
        let took = rounded(compile * (1.0 + offset));
        let phase = |name: &str, part: f64| Phase { name: name.into(), seconds: rounded(took * part) };
        let phases = [("Python", 0.3), ("generating C", 0.05), ("C compile", 0.3), ("link", 0.2), ("payload", 0.08)];
        steps.push(Step {
            phases: phases.map(|(name, part)| phase(name, part)).to_vec(),
            ..step(platform, "compile", 4, rounded(0.5 + offset), took, "files of . changed: main.py")
        });
        steps.push(step(platform, "export", 5, rounded(0.8 + offset + took), 0.7, "compile 4 ran"));
        targets.push(target(platform, number, rounded(took + 2.0 + offset)));
    }
    Record {
        version: VERSION,
        id: format!("65{number:06}-abc123"),
        command: "build".into(),
        started: 1_700_000_000_000 + i64::from(number) * 3_600_000,
        seconds: targets.iter().map(|target| target.seconds).fold(0.0, f64::max),
        outcome: Outcome::Done,
        project: "hello".into(),
        scope: "hello".into(),
        source: Source { commit: Some("1234abcd5678ef".into()), branch: Some("main".into()) },
        machine: Machine {
            kiln: "0.1.0".into(),
            engine: "20.10.24".into(),
            platform: Some(PLATFORMS[0]),
            cpus: 2,
            ci: Some("github".into()),
        },
        targets,
        steps,
        images: Vec::new(),
        notices: vec!["the base image is 40 days old".into()],
    }
}

fn target(platform: Platform, number: u32, seconds: f64) -> Target {
    Target {
        name: String::new(),
        platform,
        way: way(platform).into(),
        outcome: Outcome::Done,
        up_to_date: false,
        seconds,
        container_seconds: rounded(seconds - 1.5),
        ran: 2,
        cached: 3,
        ccache: Some(Ccache { hits: 11, misses: 1, remote_hits: 0 }),
        artifacts: vec![Artifact {
            path: format!("dist/hello-linux-{}", platform.arch.artifact_name()),
            size: 7_902_944 + u64::from(number) * 1000,
            sha256: Some(format!("{number:08x}").repeat(8)),
            needs: Some("glibc >= 2.36".into()),
            smoke: Some("--version: hello 1.0".into()),
        }],
        image: None,
        policy: Some("lto=yes jobs=2".into()),
        error: None,
    }
}

/// Twelve builds, newest first.
pub(crate) fn history() -> Vec<Record> {
    (0..12).rev().map(|number| warm(number, 30.0 + f64::from(number % 3))).collect()
}

/// The same after one in which 386 failed.
pub(crate) fn failed() -> Vec<Record> {
    let mut record = warm(12, 31.0);
    record.outcome = Outcome::Partial;
    let target = &mut record.targets[1];
    (target.outcome, target.artifacts, target.ccache) = (Outcome::Failed, Vec::new(), None);
    target.error = Some("`RUN sh /kiln/compile.sh` ended with exit code 1".into());
    let compile = record.steps.iter_mut().find(|step| step.platforms == [PLATFORMS[1]] && step.stage == "compile");
    compile.expect("it is there").outcome = Outcome::Failed;
    record.steps.retain(|step| step.platforms != [PLATFORMS[1]] || step.stage != "export");
    let mut records = vec![record];
    records.extend(history());
    records
}

/// The same after one in which all that can be text is hostile.
pub(crate) fn hostile() -> Vec<Record> {
    let mut record = failed().remove(0);
    let text = || HOSTILE.to_owned();
    (record.id, record.command, record.project) = (text(), "build".into(), text());
    record.source = Source { commit: Some(text()), branch: Some(text()) };
    record.machine = Machine { kiln: text(), engine: text(), ci: Some(text()), ..record.machine };
    record.notices = vec![text()];
    for target in &mut record.targets {
        (target.way, target.image, target.policy) = (text(), Some(text()), Some(text()));
        target.error = target.error.as_ref().map(|_| text());
        for artifact in &mut target.artifacts {
            (artifact.path, artifact.sha256) = (text(), Some(text()));
            (artifact.needs, artifact.smoke) = (Some(text()), Some(text()));
        }
    }
    for (index, target) in record.targets.iter_mut().enumerate() {
        target.name = format!("{index}{HOSTILE}");
    }
    for step in &mut record.steps {
        (step.stage, step.text, step.file, step.way, step.reason) = (text(), text(), text(), text(), text());
        for phase in &mut step.phases {
            phase.name = text();
        }
    }
    let mut earlier = record.clone();
    (earlier.id, earlier.started) = (format!("0{HOSTILE}"), record.started - 1);
    for target in &mut earlier.targets {
        target.outcome = Outcome::Done;
    }
    vec![record, earlier]
}

/// What lies beside the newest record of a history.
pub(crate) fn extras(name: &str) -> Extras {
    let file = |name: &str, size: u64, kind: Kind| File { name: name.into(), size, kind };
    let mut report = NuitkaReport::parse(REPORT).expect("it is a report");
    report.modules[1].name = name.to_owned();
    let contents = |platform: Platform| Contents {
        platform,
        path: format!("dist/{name}"),
        stored: 7_902_944,
        files: vec![
            file(&format!("{name}.bin"), 15_949_144, Kind::Program),
            file("libcrypto.so.3", 4_700_000, Kind::Library),
            file("libsqlite3.so.0", 1_450_000, Kind::Library),
            file("_decimal.so", 310_000, Kind::Extension),
            file("_ssl.so", 170_000, Kind::Extension),
            file("data/greetings.json", 48, Kind::Data),
        ],
    };
    let log = "== compile 4/5 RUN sh /kiln/compile.sh\n== at 0:00, native, because: new\n   0:20 Nuitka: compiling\n   \
               0:31 main.c:1: error: ```|</script><img src=x>\n== compile 4/5 failed after 31.0 s\n";
    Extras {
        modules: PLATFORMS
            .into_iter()
            .enumerate()
            .map(|(index, platform)| Modules {
                platform,
                of_build: (index == 2).then(|| name.to_owned()),
                report: report.clone(),
            })
            .collect(),
        contents: PLATFORMS.map(contents).to_vec(),
        logs: vec![Log { name: PLATFORMS[1].folder(), text: log.into() }],
    }
}
