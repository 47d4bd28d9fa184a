//! One artifact in one image.

use futures::StreamExt;
use kiln_docker::{ContainerId, Engine, FileKind, Image, PullPolicy};
use kiln_solver::{SmokeCommand, SolveError, Way, trial};

use super::reason::{Seen, libc_path, reason};
use super::{Piece, Room, Run, Status, install};
use crate::report::render_chain;

/// Lines that are shown of a program that failed.
const TAIL: usize = 5;
/// Bytes of a C library at most; glibc has two million.
const LIBC: usize = 16 << 20;

/// Tries it. What goes wrong is the result; only that the user stopped it is an error.
pub(super) async fn run(room: &Room<'_>, piece: &Piece, reference: &str) -> Result<Run, SolveError> {
    let run = Run {
        image: reference.to_owned(),
        platform: piece.platform,
        installed: false,
        status: Status::Untried,
        detail: String::new(),
        seconds: None,
        tail: Vec::new(),
    };
    let way = match room.ways.get(&piece.platform) {
        Some(Ok(way)) => *way,
        Some(Err(why)) => return Ok(Run { detail: why.clone(), ..run }),
        None => return Ok(Run { detail: format!("{} is not known here", piece.platform), ..run }),
    };
    let resolving = room.engine.resolve_image(reference, piece.platform, PullPolicy::Missing, &|_| {});
    let tried = match room.cancel.unless_stopped(resolving).await? {
        Ok(image) => in_image(room, piece, &image, way, &run).await,
        Err(error) => Err(error.into()),
    };
    match tried {
        Ok(run) => Ok(run),
        Err(SolveError::Cancelled) => Err(SolveError::Cancelled),
        Err(error) => {
            let told = render_chain(&error, None, false);
            let detail = told.trim().trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ");
            Ok(Run { detail, ..run })
        }
    }
}

async fn in_image(room: &Room<'_>, piece: &Piece, image: &Image, way: Way, run: &Run) -> Result<Run, SolveError> {
    let limit = trial::limit(way, &piece.command, piece.timeout);
    let mut before = String::new();
    if let Some(install) = &piece.install {
        let argv = vec!["/bin/sh".to_owned(), "-c".to_owned(), install.script(trial::FOLDER, &piece.command)];
        let container = create(room, piece, image, argv).await?;
        let tried = async {
            if !has_any(room, &container, install.managers()).await? {
                return Ok(None);
            }
            // Installing takes time of its own.
            let tried = trial::run(room.engine, &container, &install.file, limit * 2, room.cancel).await?;
            Ok(Some(installed(room, piece, &container, &tried, limit.as_secs() * 2, run).await?))
        };
        let tried: Result<Option<Run>, SolveError> = tried.await;
        remove(room, &container, &tried).await?;
        match tried? {
            Some(run) => return Ok(run),
            None => before = format!("without {}, as it lies in the package: ", install.manager()),
        }
    }
    let attempts: Vec<Vec<String>> = match &piece.command {
        SmokeCommand::Auto => vec![vec![piece.path(), "--version".to_owned()], vec![piece.path(), "--help".to_owned()]],
        SmokeCommand::Arguments(words) => vec![[&[piece.path()], words.as_slice()].concat()],
        SmokeCommand::Shell(line) => {
            vec![vec!["/bin/sh".to_owned(), "-c".to_owned(), line.replace("{artifact}", &piece.path())]]
        }
    };
    let last = attempts.len() - 1;
    let mut result = run.clone();
    for (index, argv) in attempts.into_iter().enumerate() {
        let words = argv[1..].join(" ");
        let container = create(room, piece, image, argv).await?;
        let tried = async {
            let tried = trial::run(room.engine, &container, &piece.files, limit, room.cancel).await?;
            plain(room, piece, &container, &tried, (limit.as_secs(), &words), run).await
        };
        let tried: Result<Run, SolveError> = tried.await;
        remove(room, &container, &tried).await?;
        result = tried?;
        // Whoever does not know the first option may know the second; a loader does not change its mind.
        if result.status == Status::Runs || index == last || !result.detail.starts_with("exit code ") {
            break;
        }
    }
    result.detail.insert_str(0, &before);
    Ok(result)
}

async fn create(room: &Room<'_>, piece: &Piece, image: &Image, argv: Vec<String>) -> Result<ContainerId, SolveError> {
    let toolbox = room.toolbox.clone();
    let engine = room.engine.as_ref();
    let spec = trial::spec(engine, image.id.clone(), piece.platform, argv, toolbox, room.labels.clone());
    if room.cancel.is_stopped() {
        return Err(SolveError::Cancelled);
    }
    // Not broken off: a container that nobody knows of stays.
    Ok(engine.create_container(&spec).await?)
}

/// Removes a container; that this fails matters less than what was tried in it.
async fn remove<T>(room: &Room<'_>, container: &ContainerId, tried: &Result<T, SolveError>) -> Result<(), SolveError> {
    let removed = room.engine.remove_container(container).await;
    if tried.is_ok() { Ok(removed?) } else { Ok(()) }
}

async fn has_any(room: &Room<'_>, container: &ContainerId, paths: &[&str]) -> Result<bool, SolveError> {
    for path in paths {
        if room.engine.stat(container, path).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How a package fared.
async fn installed(
    room: &Room<'_>,
    piece: &Piece,
    container: &ContainerId,
    tried: &trial::Tried,
    seconds: u64,
    run: &Run,
) -> Result<Run, SolveError> {
    let install = piece.install.as_ref().expect("it was installed");
    let run = Run { installed: true, seconds: Some(tried.ran.as_secs_f64()), ..run.clone() };
    let lines = install::said(&tried.lines);
    let code = tried.code.unwrap_or_default();
    if tried.code == Some(0) {
        let detail = format!("installed with {}, ran, and was removed: {}", install.manager(), first(&lines));
        return Ok(Run { status: Status::Runs, detail, ..run });
    }
    if let Some(problem) = tried.code.and_then(|code| install.problem(code, &tried.lines)) {
        return Ok(Run { status: Status::Fails, detail: problem, tail: last(&lines), ..run });
    }
    let ended = install::ended(&tried.lines).unwrap_or(code);
    let tried = trial::Tried { code: tried.code.map(|_| ended), lines, ..tried.clone() };
    explain(room, piece, container, &tried, seconds, run).await
}

/// How a program fared that was run as it is.
async fn plain(
    room: &Room<'_>,
    piece: &Piece,
    container: &ContainerId,
    tried: &trial::Tried,
    (seconds, words): (u64, &str),
    run: &Run,
) -> Result<Run, SolveError> {
    let run = Run { seconds: tried.started.then_some(tried.ran.as_secs_f64()), ..run.clone() };
    match tried.code {
        Some(0) => {
            let words = if matches!(piece.command, SmokeCommand::Shell(_)) { "" } else { words };
            let detail = format!("{words}: {}", first(&tried.lines)).trim_start_matches(": ").to_owned();
            Ok(Run { status: Status::Runs, detail, ..run })
        }
        // A server does not look at arguments; that it comes up and stays up is what can be asked of it.
        None if piece.command == SmokeCommand::Auto => {
            let detail = format!("started, and still ran after {seconds} s");
            Ok(Run { status: Status::Runs, detail, ..run })
        }
        _ => explain(room, piece, container, tried, seconds, run).await,
    }
}

/// Says why a program failed, with what its image has.
async fn explain(
    room: &Room<'_>,
    piece: &Piece,
    container: &ContainerId,
    tried: &trial::Tried,
    seconds: u64,
    run: Run,
) -> Result<Run, SolveError> {
    let loader = match &piece.interpreter {
        Some(loader) => Some((loader.as_str(), room.engine.stat(container, loader).await?.is_some())),
        None => None,
    };
    let glibc = match libc_path(&tried.lines) {
        Some(path) => glibc(room.engine.as_ref(), container, path).await,
        None => None,
    };
    let lines = &tried.lines;
    let seen = Seen { code: tried.code, started: tried.started, lines, loader, glibc: glibc.as_deref(), seconds };
    let (status, detail) = reason(&seen);
    // What was understood need not be repeated.
    let is_plain = detail.starts_with("exit code ") || detail.starts_with("it ");
    let tail = if status == Status::Fails && is_plain { last(lines) } else { Vec::new() };
    Ok(Run { status, detail, tail, ..run })
}

/// The version of the glibc at a path of a container, as it is written in it; nothing if it cannot be read.
async fn glibc(engine: &dyn Engine, container: &ContainerId, path: &str) -> Option<String> {
    const BEFORE: &[u8] = b"stable release version ";
    let stat = engine.stat(container, path).await.ok()??;
    let path = if stat.kind == FileKind::Symlink { stat.link_target } else { path.to_owned() };
    let mut stream = engine.download(container, &path).await.ok()?;
    let mut bytes = Vec::new();
    while let Some(Ok(chunk)) = stream.next().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LIBC {
            return None;
        }
    }
    let at = bytes.windows(BEFORE.len()).position(|window| window == BEFORE)? + BEFORE.len();
    let version = bytes[at..].iter().take(12).take_while(|byte| byte.is_ascii_digit() || **byte == b'.');
    let version: String = version.map(|byte| char::from(*byte)).collect();
    Some(version.trim_end_matches('.').to_owned()).filter(|version| !version.is_empty())
}

fn first(lines: &[String]) -> String {
    let line = lines.iter().find(|line| !line.trim().is_empty()).map(|line| line.trim()).unwrap_or_default();
    line.chars().take(100).collect()
}

fn last(lines: &[String]) -> Vec<String> {
    let told: Vec<String> = lines.iter().filter(|line| !line.trim().is_empty()).cloned().collect();
    told[told.len().saturating_sub(TAIL)..].to_vec()
}
