//! `--progress=rawjson`: what a client of BuildKit hears of a build, as lines of JSON, so that programs that read the
//! output of `docker buildx build --progress=rawjson` read kiln's.
//! Source: `SolveStatus` in moby/buildkit's `client/graph.go`; there, too, it goes to standard error.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kiln_graph::{Digest, Origin, Platform, VertexId};
use kiln_solver::{BuildEvent, Direction, Transfer};
use serde::Serialize;

/// The vertex of what concerns no step.
const NOTES: &str = "[internal] kiln";

/// One line.
#[derive(Default, Serialize)]
struct Status<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vertexes: Vec<Vertex<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    statuses: Vec<Moving<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logs: Vec<Log<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning<'a>>,
}

#[derive(Clone, Default, Serialize)]
struct Vertex<'a> {
    digest: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// How far a vertex is.
#[derive(Serialize)]
struct Moving<'a> {
    id: &'a str,
    vertex: &'a str,
    /// Bytes in all; 0 if they are not known.
    #[serde(skip_serializing_if = "is_zero")]
    total: u64,
    /// Bytes so far.
    current: u64,
    timestamp: String,
    started: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize)]
struct Log<'a> {
    vertex: &'a str,
    /// 1 for standard output, 2 for standard error.
    stream: u8,
    data: String,
    timestamp: String,
}

#[derive(Serialize)]
struct Warning<'a> {
    vertex: &'a str,
    level: u8,
    short: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    detail: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(rename = "sourceInfo")]
    source: serde_json::Value,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    range: Vec<serde_json::Value>,
}

/// A vertex that has been named.
#[derive(Clone)]
struct Known {
    digest: String,
    name: String,
    started: String,
}

impl Known {
    fn new(name: String, key: &str, started: String) -> Self {
        Self { digest: digest(key), name, started }
    }

    fn vertex(&self) -> Vertex<'_> {
        Vertex { digest: &self.digest, name: &self.name, started: Some(self.started.clone()), ..Vertex::default() }
    }

    fn completed(&self, at: String) -> Vertex<'_> {
        Vertex { completed: Some(at), ..self.vertex() }
    }
}

/// Writes the lines.
pub(super) struct Raw {
    out: Box<dyn Write + Send>,
    /// When the build began.
    epoch: SystemTime,
    build: String,
    /// Whether the names of steps need their platform.
    several: bool,
    steps: HashMap<VertexId, Known>,
    targets: BTreeMap<Platform, Known>,
    notes: Option<Known>,
    transfers: BTreeMap<Direction, Known>,
}

impl Raw {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Self {
        Self {
            out,
            epoch: SystemTime::now(),
            build: String::new(),
            several: false,
            steps: HashMap::new(),
            targets: BTreeMap::new(),
            notes: None,
            transfers: BTreeMap::new(),
        }
    }

    pub(super) fn event(&mut self, at: Duration, event: &BuildEvent) -> io::Result<()> {
        let now = self.time(at);
        match event {
            BuildEvent::Planned { build, targets } => {
                self.build.clone_from(build);
                let platforms: HashSet<_> = targets.iter().map(|target| target.platform).collect();
                self.several = platforms.len() > 1;
                Ok(())
            }
            BuildEvent::Notice { platform, text } => {
                let text = platform.map_or(text.clone(), |platform| format!("[{platform}] {text}"));
                self.note(&text, now)
            }
            BuildEvent::Travelling { transfer, ended } => self.transfer(transfer, *ended, now),
            BuildEvent::StepCached { vertex, platforms, origin } => {
                let known = self.step(*vertex, platforms, origin, now.clone());
                self.write(&Status {
                    vertexes: vec![Vertex { cached: true, ..known.completed(now) }],
                    ..Status::default()
                })
            }
            BuildEvent::StepStarted { vertex, platforms, origin, .. } => {
                let known = self.step(*vertex, platforms, origin, now);
                self.write(&Status { vertexes: vec![known.vertex()], ..Status::default() })
            }
            BuildEvent::StepLog { vertex, stderr, line, .. } => {
                let Some(known) = self.steps.get(vertex).cloned() else { return Ok(()) };
                let log = log(&known.digest, if *stderr { 2 } else { 1 }, line, now);
                self.write(&Status { logs: vec![log], ..Status::default() })
            }
            BuildEvent::StepFinished { vertex, .. } => {
                let Some(known) = self.steps.get(vertex).cloned() else { return Ok(()) };
                self.write(&Status { vertexes: vec![known.completed(now)], ..Status::default() })
            }
            BuildEvent::StepFailed { vertex, platforms, origin, .. } => {
                let known = self.steps.get(vertex).cloned();
                let known = known.unwrap_or_else(|| self.step(*vertex, platforms, origin, now.clone()));
                let error = Some(format!("`{}` failed", origin.text));
                self.write(&Status { vertexes: vec![Vertex { error, ..known.completed(now) }], ..Status::default() })
            }
            BuildEvent::TargetStage { platform, .. } => {
                if self.targets.contains_key(platform) {
                    return Ok(());
                }
                let known = Known::new(format!("exporting {platform}"), &format!("{} {platform}", self.build), now);
                self.targets.insert(*platform, known.clone());
                self.write(&Status { vertexes: vec![known.vertex()], ..Status::default() })
            }
            BuildEvent::TargetFinished { report } => self.target(report.platform, None, now),
            BuildEvent::TargetFailed { platform, error } => self.target(*platform, Some(error), now),
            BuildEvent::Exported { exported } => {
                let name = super::exported(exported);
                let known = Known::new(name.clone(), &format!("{} {name}", self.build), now.clone());
                self.write(&Status { vertexes: vec![known.completed(now)], ..Status::default() })
            }
        }
    }

    fn transfer(&mut self, transfer: &Transfer, ended: bool, now: String) -> io::Result<()> {
        let Transfer { direction, place, moved, total } = transfer;
        let is_new = !self.transfers.contains_key(direction);
        let name = match direction {
            Direction::Restoring => format!("importing cache from {place}"),
            Direction::Saving => format!("exporting cache to {place}"),
        };
        let known = self.transfers.entry(*direction);
        let known = known.or_insert_with(|| Known::new(name.clone(), &format!("{} {name}", self.build), now.clone()));
        let known = known.clone();
        if ended {
            self.transfers.remove(direction);
        }
        let moving = Moving {
            id: "bytes",
            vertex: &known.digest,
            total: total.unwrap_or_default(),
            current: *moved,
            timestamp: now.clone(),
            started: &known.started,
            completed: ended.then(|| now.clone()),
        };
        let vertexes = match (ended, is_new) {
            (true, _) => vec![known.completed(now)],
            (false, true) => vec![known.vertex()],
            (false, false) => Vec::new(),
        };
        self.write(&Status { vertexes, statuses: vec![moving], ..Status::default() })
    }

    /// Completes what is open.
    pub(super) fn finish(&mut self, at: Duration) -> io::Result<()> {
        let now = self.time(at);
        let open: Vec<Known> = std::mem::take(&mut self.transfers).into_values().chain(self.notes.take()).collect();
        if open.is_empty() {
            return Ok(());
        }
        let vertexes = open.iter().map(|known| known.completed(now.clone())).collect();
        self.write(&Status { vertexes, ..Status::default() })
    }

    fn step(&mut self, vertex: VertexId, platforms: &[Platform], origin: &Origin, now: String) -> Known {
        let place = super::step_place(origin);
        let platform = platforms.first().filter(|_| self.several).map(|platform| format!("{platform} "));
        let name = match place.as_str() {
            "" => origin.text.clone(),
            place => format!("[{}{place}] {}", platform.unwrap_or_default(), origin.text),
        };
        let known = Known::new(name, &format!("{} {}", self.build, vertex.0), now);
        self.steps.insert(vertex, known.clone());
        known
    }

    fn target(&mut self, platform: Platform, error: Option<&String>, now: String) -> io::Result<()> {
        let Some(known) = self.targets.remove(&platform) else { return Ok(()) };
        let vertex = Vertex { error: error.cloned(), ..known.completed(now) };
        self.write(&Status { vertexes: vec![vertex], ..Status::default() })
    }

    fn note(&mut self, text: &str, now: String) -> io::Result<()> {
        let is_new = self.notes.is_none();
        let known = self.notes.get_or_insert_with(|| Known::new(NOTES.to_owned(), NOTES, now.clone())).clone();
        let vertexes = if is_new { vec![known.vertex()] } else { Vec::new() };
        self.write(&Status { vertexes, logs: vec![log(&known.digest, 2, text, now)], ..Status::default() })
    }

    fn write(&mut self, status: &Status<'_>) -> io::Result<()> {
        let mut line = serde_json::to_vec(status)?;
        line.push(b'\n');
        self.out.write_all(&line)?;
        self.out.flush()
    }

    fn time(&self, at: Duration) -> String {
        time(self.epoch + at)
    }
}

/// A warning about a Dockerfile.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    pub(crate) file: String,
    /// The name of the rule, and what is wrong.
    pub(crate) text: String,
    /// What the rule is for.
    pub(crate) description: String,
    pub(crate) url: Option<String>,
    /// First and last line.
    pub(crate) lines: Option<(u32, u32)>,
}

/// Warnings about Dockerfiles, as one line.
#[cfg_attr(not(test), allow(dead_code, reason = "the demonstration of reporters has no Dockerfiles"))]
pub(crate) fn warnings(noted: &[Noted]) -> String {
    let now = time(SystemTime::now());
    let of = |file: &str| format!("[internal] load build definition from {file}");
    let files: BTreeSet<&String> = noted.iter().map(|noted| &noted.file).collect();
    let known = files.into_iter().map(|file| (file.clone(), Known::new(of(file), &of(file), now.clone())));
    let known: BTreeMap<String, Known> = known.collect();
    let line = |line: u32| serde_json::json!({ "line": line });
    let mut status = Status::default();
    for noted in noted {
        let place = noted.lines.map(|(first, _)| format!(" (line {first})")).unwrap_or_default();
        status.warnings.push(Warning {
            vertex: known.get(&noted.file).map(|known| known.digest.as_str()).unwrap_or_default(),
            level: 1,
            short: BASE64.encode(format!("{}{place}", noted.text)),
            detail: vec![BASE64.encode(&noted.description)],
            url: noted.url.clone(),
            source: serde_json::json!({ "filename": noted.file, "language": "Dockerfile" }),
            range: noted
                .lines
                .iter()
                .map(|(first, last)| serde_json::json!({ "start": line(*first), "end": line(*last) }))
                .collect(),
        });
    }
    status.vertexes.extend(known.values().map(|known| known.completed(now.clone())));
    serde_json::to_string(&status).unwrap_or_default()
}

fn log<'a>(vertex: &'a str, stream: u8, line: &str, timestamp: String) -> Log<'a> {
    Log { vertex, stream, data: BASE64.encode(format!("{line}\n")), timestamp }
}

/// In the form of BuildKit's digests, which are opaque to those who read them.
fn digest(key: &str) -> String {
    format!("sha256:{}", Digest::of(key))
}

/// The time in the form of RFC 3339, to the nanosecond.
fn time(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = kiln_solver::image::rfc3339(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    format!("{}.{:09}Z", seconds.trim_end_matches('Z'), since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;
    use crate::report::script;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("one thread").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_build_is_told_as_buildkit_tells_it() {
        let out = Shared::default();
        let mut raw = Raw::new(Box::new(out.clone()));
        for (at, event) in script::failing() {
            raw.event(at, &event).expect("written");
        }
        raw.finish(Duration::from_secs(9)).expect("written");
        let text = String::from_utf8(out.0.lock().expect("one thread").clone()).expect("text");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let vertexes: Vec<&Value> = lines.iter().flat_map(|l| l["vertexes"].as_array().into_iter().flatten()).collect();
        let logs: Vec<&Value> = lines.iter().flat_map(|l| l["logs"].as_array().into_iter().flatten()).collect();
        for vertex in &vertexes {
            let digest = vertex["digest"].as_str().expect("a digest");
            assert!(digest.starts_with("sha256:") && digest.len() == 7 + 64, "{digest}");
            assert!(vertex["started"].is_string() && !vertex["name"].as_str().expect("a name").is_empty(), "{vertex}");
        }
        // Whatever is said is said of a vertex that was named before.
        for log in &logs {
            assert!(vertexes.iter().any(|vertex| vertex["digest"] == log["vertex"]), "{log}");
            assert!(BASE64.decode(log["data"].as_str().expect("data")).expect("base64").ends_with(b"\n"));
        }
        assert!(!logs.is_empty() && vertexes.iter().any(|vertex| vertex["error"].is_string()));
        let named: HashSet<&str> = vertexes.iter().filter_map(|vertex| vertex["name"].as_str()).collect();
        assert!(named.iter().any(|name| name.starts_with("[linux/")), "{named:?}");
    }

    #[test]
    fn caches_on_their_way_are_vertexes_with_a_status() {
        let out = Shared::default();
        let mut raw = Raw::new(Box::new(out.clone()));
        let events = [
            script::travelling(Direction::Restoring, 5, Some(40), false),
            script::travelling(Direction::Restoring, 40, Some(40), true),
            script::travelling(Direction::Saving, 7, None, false),
        ];
        for event in events {
            raw.event(Duration::ZERO, &event).expect("written");
        }
        raw.finish(Duration::from_secs(9)).expect("written");
        let text = String::from_utf8(out.0.lock().expect("one thread").clone()).expect("text");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let status = |index: usize| &lines[index]["statuses"][0];
        assert_eq!(lines[0]["vertexes"][0]["name"], "importing cache from s3://caches/kiln");
        assert_eq!((&status(0)["current"], &status(0)["total"]), (&5.into(), &40.into()));
        assert!(status(0)["completed"].is_null() && status(1)["completed"].is_string(), "{text}");
        assert!(lines[1]["vertexes"][0]["completed"].is_string(), "{text}");
        assert_eq!(lines[2]["vertexes"][0]["name"], "exporting cache to s3://caches/kiln");
        assert!(status(2)["total"].is_null() && lines[3]["vertexes"][0]["completed"].is_string(), "{text}");
    }

    #[test]
    fn times_have_nanoseconds() {
        assert_eq!(time(UNIX_EPOCH + Duration::new(1, 5)), "1970-01-01T00:00:01.000000005Z");
    }

    #[test]
    fn warnings_name_their_place() {
        let noted = [Noted {
            file: "D".to_owned(),
            text: "StageNameCasing: lowercase".to_owned(),
            description: String::new(),
            url: None,
            lines: Some((1, 1)),
        }];
        let value: Value = serde_json::from_str(&warnings(&noted)).expect("JSON");
        let warning = &value["warnings"][0];
        assert_eq!(warning["vertex"], value["vertexes"][0]["digest"]);
        assert_eq!((&warning["level"], &warning["range"][0]["start"]["line"]), (&1.into(), &1.into()));
        let short = BASE64.decode(warning["short"].as_str().expect("text")).expect("base64");
        assert_eq!(short, b"StageNameCasing: lowercase (line 1)");
    }
}
