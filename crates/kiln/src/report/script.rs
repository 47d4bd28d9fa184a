//! Scripted builds, for tests and for `examples/report_demo.rs`.

use std::path::PathBuf;
use std::time::Duration;

use kiln_graph::{Arch, MissReason, Origin, PartKind, Platform, VertexId};
use kiln_solver::{
    ArtifactReport, BuildEvent, CcacheStats, Direction, PlannedTarget, Stage, TargetReport, Transfer, Way,
};

/// The first platform of the scripts.
pub(crate) const AMD64: Platform = Platform::linux(Arch::Amd64);
/// The second.
pub(crate) const I386: Platform = Platform::linux(Arch::I386);
/// The third, which runs under QEMU.
pub(crate) const ARM64: Platform = Platform::linux(Arch::Arm64);

/// An event and its time since the start of the build.
pub(crate) type Timed = (Duration, BuildEvent);

const TEXTS: [&str; 4] = [
    "RUN make assets",
    "RUN --mount=type=cache,id=apt,target=/var/cache/apt apt-get install -y gcc",
    "RUN --mount=type=cache,id=pip,target=/root/.cache/pip pip install -r requirements.txt",
    "RUN --mount=type=cache,id=ccache,target=/var/cache/kiln/ccache python /kiln/bake.py",
];

struct Script {
    events: Vec<Timed>,
}

impl Script {
    fn at(&mut self, seconds: f64, event: BuildEvent) {
        self.events.push((Duration::from_secs_f64(seconds), event));
    }

    fn start(&mut self, seconds: f64, step: usize, platforms: &[Platform], reason: MissReason) {
        self.at(
            seconds,
            BuildEvent::StepStarted {
                vertex: vertex(step, platforms),
                platforms: platforms.to_vec(),
                origin: origin(step),
                reason,
                way: if platforms[0] == ARM64 { Way::Qemu } else { Way::Native },
            },
        );
    }

    fn log(&mut self, seconds: f64, step: usize, platforms: &[Platform], line: &str) {
        self.at(
            seconds,
            BuildEvent::StepLog {
                vertex: vertex(step, platforms),
                platforms: platforms.to_vec(),
                stderr: false,
                line: line.to_owned(),
            },
        );
    }

    fn end(&mut self, seconds: f64, step: usize, platforms: &[Platform], took: f64) {
        let (vertex, platforms) = (vertex(step, platforms), platforms.to_vec());
        self.at(seconds, BuildEvent::StepFinished { vertex, platforms, took: Duration::from_secs_f64(took) });
    }

    fn cached(&mut self, step: usize, platform: Platform) {
        let platforms = vec![platform];
        self.at(0.1, BuildEvent::StepCached { vertex: vertex(step, &platforms), platforms, origin: origin(step) });
    }

    fn compile(&mut self, from: f64, pace: f64, platform: Platform) {
        let platforms = [platform];
        let changed = MissReason::Changed { part: PartKind::Context(".".into()), detail: Some("main.py".into()) };
        self.start(from, 3, &platforms, changed);
        let mut time = from;
        let mut say = |line: &str, after: f64| {
            time += after * pace;
            self.log(time, 3, &platforms, line);
        };
        say("Nuitka: Starting Python compilation with:", 0.3);
        say("kiln: phase: python", 0.0);
        say("\u{1b}[1mNuitka-Plugins:anti-bloat:\u{1b}[0m Not including '_json' automatically.\u{7}", 2.0);
        say("Nuitka: Generating source code for C backend compiler.", 0.5);
        say("Nuitka: Running C compilation via Scons.", 0.5);
        for done in [3, 40, 120, 250, 380, 497] {
            say(&format!("kiln: phase: compile {done}/497"), 0.5);
        }
        say("Nuitka-Scons: Backend C linking with 500 files (no progress information available for this stage).", 0.5);
        say("Nuitka-Onefile: Creating single file from dist folder, this may take a while.", 1.0);
        say("Nuitka-Onefile: Onefile payload compression ratio (29.70%) size 25700953 to 7633961.", 1.5);
        say("Nuitka: Successfully created '/kiln/build/hello'.", 0.4);
        let took = time - from;
        self.end(time, 3, &platforms, took);
        for (index, stage) in [Stage::Export, Stage::Verify, Stage::Smoke, Stage::Place].into_iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "four stages")]
            self.at(time + 0.1 * index as f64, BuildEvent::TargetStage { platform, stage });
        }
        self.at(time + 0.6, BuildEvent::TargetFinished { report: Box::new(report(platform, time + 0.6)) });
    }
}

fn vertex(step: usize, platforms: &[Platform]) -> VertexId {
    let index = [AMD64, I386, ARM64].iter().position(|p| *p == platforms[0]).unwrap_or_default();
    VertexId(step * 10 + index)
}

/// Where a step of the scripts stands.
pub(crate) fn origin(step: usize) -> Origin {
    Origin {
        file: "Dockerfile.build".into(),
        line: [3, 7, 14, 25][step],
        end_line: [3, 9, 14, 26][step],
        stage: ["assets", "toolchain", "dependencies", "compile"][step].into(),
        text: TEXTS[step].into(),
        step: [1, 2, 4, 5][step],
        steps: [1, 4, 4, 5][step],
    }
}

/// What a good target of the scripts reports.
pub(crate) fn report(platform: Platform, seconds: f64) -> TargetReport {
    let name = platform.arch.artifact_name();
    TargetReport {
        target: "export".into(),
        platform,
        way: if platform == ARM64 { Way::Qemu } else { Way::Native },
        took: Duration::from_secs_f64(seconds),
        ran: 3,
        cached: 4,
        in_containers: Duration::from_secs_f64(seconds * 0.9),
        up_to_date: false,
        artifacts: vec![ArtifactReport {
            path: PathBuf::from(format!("dist/hello-linux-{name}")),
            size: 8_234_567,
            sha256: Some("8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4".into()),
            needs: Some("glibc >= 2.36".into()),
            smoke: Some("--version: hello 1.0".into()),
        }],
        ccache: Some(CcacheStats { hits: 460, misses: 38, ..CcacheStats::default() }),
        image: None,
        steps: vec![],
    }
}

fn planned(platform: Platform, to_run: usize, cached: usize) -> PlannedTarget {
    let way = if platform == ARM64 { Way::Qemu } else { Way::Native };
    PlannedTarget { platform, way, to_run, cached, up_to_date: false }
}

/// Three platforms; `make assets` serves all of them, the requirements cannot be installed on the second.
pub(crate) fn failing() -> Vec<Timed> {
    let mut script = Script { events: vec![] };
    let all = [AMD64, I386, ARM64];
    let notice = "QEMU for linux/arm64 was installed on the daemon".to_owned();
    script.at(0.0, BuildEvent::Notice { platform: Some(ARM64), text: notice });
    let targets = vec![planned(AMD64, 3, 1), planned(I386, 3, 1), planned(ARM64, 4, 0)];
    script.at(0.1, BuildEvent::Planned { build: "b1".into(), targets });
    script.cached(1, AMD64);
    script.cached(1, I386);
    script.start(0.2, 0, &all, MissReason::NeverBuilt);
    script.log(0.5, 0, &all, "cp a b");
    script.start(0.6, 1, &[ARM64], MissReason::CheckpointGone);
    script.log(1.0, 1, &[ARM64], "Unpacking gcc (4:12.2.0-3) ...");
    script.end(1.5, 0, &all, 1.3);
    script.end(4.0, 1, &[ARM64], 3.4);
    let changed = || MissReason::Changed {
        part: PartKind::Context("requirements.txt".into()),
        detail: Some("requirements.txt".into()),
    };
    for (platform, time) in [(AMD64, 1.6), (I386, 1.7), (ARM64, 4.1)] {
        script.start(time, 2, &[platform], changed());
        script.log(time + 0.5, 2, &[platform], "Collecting cryptography>=40 (from -r requirements.txt (line 1))");
        if platform == I386 {
            script.log(time + 1.0, 2, &[platform], "ERROR: No matching distribution found for cryptography>=40");
            script.log(
                time + 1.0,
                2,
                &[platform],
                "kiln: error: no distribution fits the requirement cryptography>=40",
            );
            let took = Duration::from_secs_f64(1.2);
            let (vertex, platforms) = (vertex(2, &[I386]), vec![I386]);
            script.at(time + 1.2, BuildEvent::StepFailed { vertex, platforms, origin: origin(2), took });
            let error = "`RUN pip install -r requirements.txt` failed for linux/386 with exit code 1".to_owned();
            script.at(time + 1.2, BuildEvent::TargetFailed { platform, error });
        } else {
            script.log(time + 1.0, 2, &[platform], "Installing collected packages: cffi, cryptography");
            script.end(time + 2.0, 2, &[platform], 2.0);
        }
    }
    script.compile(3.7, 1.0, AMD64);
    script.compile(6.2, 2.0, ARM64);
    script.events.sort_by_key(|(at, _)| *at);
    script.events
}

/// Three platforms that need nothing.
pub(crate) fn up_to_date() -> Vec<Timed> {
    let mut script = Script { events: vec![] };
    let targets = [AMD64, I386, ARM64].map(|p| PlannedTarget { up_to_date: true, ..planned(p, 0, 7) });
    script.at(0.05, BuildEvent::Planned { build: "b2".into(), targets: targets.to_vec() });
    for platform in [AMD64, I386, ARM64] {
        let report = TargetReport { ran: 0, cached: 7, up_to_date: true, ccache: None, ..report(platform, 0.05) };
        script.at(0.05, BuildEvent::TargetFinished { report: Box::new(report) });
    }
    script.events
}

/// Caches on their way, before a build and after it.
pub(crate) fn travelling(direction: Direction, moved: u64, total: Option<u64>, ended: bool) -> BuildEvent {
    let place = "s3://caches/kiln".to_owned();
    BuildEvent::Travelling { transfer: Transfer { direction, place, moved, total }, ended }
}
