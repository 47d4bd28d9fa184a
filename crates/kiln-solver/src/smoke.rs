//! Tries an artifact in a clean image of its platform: not in the builder, where everything it could miss is at hand.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kiln_docker::PullPolicy;
use kiln_graph::Platform;

use crate::error::{Result, SolveError};
use crate::request::{Smoke, SmokeCommand};
use crate::shared::Shared;
use crate::trial::{self, FOLDER, Tried};

/// How an artifact passed.
pub(crate) struct Passed {
    /// What was run and what it said first, for the summary.
    pub(crate) said: String,
    /// Time inside containers.
    pub(crate) in_containers: Duration,
}

/// Runs the artifact.
///
/// `program` is the path of the executable below `artifact` if that is a folder, and empty if it is a file.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    smoke: &Smoke,
    platform: Platform,
    artifact: &Path,
    program: &str,
) -> Result<Passed> {
    let image = shared.engine.resolve_image(&smoke.image, platform, PullPolicy::Missing, &|_| {}).await?;
    let name = artifact.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let path = if program.is_empty() { format!("{FOLDER}/{name}") } else { format!("{FOLDER}/{name}/{program}") };
    let attempts: Vec<Vec<String>> = match &smoke.command {
        SmokeCommand::Arguments(arguments) => vec![arguments.clone()],
        SmokeCommand::Auto => vec![vec!["--version".to_owned()], vec!["--help".to_owned()]],
        SmokeCommand::Shell(line) => vec![vec![line.replace("{artifact}", &path)]],
    };
    let last = attempts.len() - 1;
    let mut in_containers = Duration::ZERO;
    for (index, arguments) in attempts.into_iter().enumerate() {
        let mut argv = match &smoke.command {
            SmokeCommand::Shell(_) => vec!["/bin/sh".to_owned(), "-c".to_owned()],
            _ => vec![path.clone()],
        };
        argv.extend(arguments.iter().cloned());
        let tried = attempt(shared, smoke, &image, platform, artifact, argv).await?;
        in_containers += tried.ran;
        let command = format!("{name} {}", arguments.join(" ")).trim().to_owned();
        let problem = match tried.code {
            Some(0) => {
                let first = tried.lines.iter().find(|l| !l.trim().is_empty()).cloned().unwrap_or_default();
                let first: String = first.chars().take(100).collect();
                let said = format!("{}: {first}", arguments.join(" ")).trim().to_owned();
                return Ok(Passed { said, in_containers });
            }
            // A server does not look at arguments; that it comes up and stays up is what can be asked of it.
            None if smoke.command == SmokeCommand::Auto => {
                let said = format!("started and still ran after {} s", limit(shared, smoke, platform).as_secs());
                return Ok(Passed { said, in_containers });
            }
            None => format!("it did not end within {} s", limit(shared, smoke, platform).as_secs()),
            Some(_) if index < last => continue,
            Some(code) => format!("exit code {code}"),
        };
        return Err(SolveError::Smoke { command, platform, image: smoke.image.clone(), problem, tail: tried.lines });
    }
    Ok(Passed { said: String::new(), in_containers })
}

async fn attempt(
    shared: &Arc<Shared>,
    smoke: &Smoke,
    image: &kiln_docker::Image,
    platform: Platform,
    artifact: &Path,
    argv: Vec<String>,
) -> Result<Tried> {
    let toolbox = shared.toolbox(platform).await?;
    let spec = trial::spec(shared.engine.as_ref(), image.id.clone(), platform, argv, toolbox, shared.labels("verify"));
    let container = shared.create(spec).await?;
    let limit = limit(shared, smoke, platform);
    trial::run_tracked(&shared.engine, &shared.tasks, &container, artifact, limit, &shared.cancel).await
}

fn limit(shared: &Shared, smoke: &Smoke, platform: Platform) -> Duration {
    trial::limit(shared.way(platform), &smoke.command, smoke.timeout)
}
