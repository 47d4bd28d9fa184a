//! The programs as an image of all their platforms.
//!
//! An image is a Dockerfile like any other, `dockerfiles/package.Dockerfile`, whose context is laid out here ([`layout`]). So
//! indexes, registries, credentials, layouts and the daemon's store are those of `kiln build`. No step runs, and all times are
//! those of `SOURCE_DATE_EPOCH`: the same programs make the same bytes. Before that, [`base`] looks whether the programs can
//! start on the base image at all.

mod base;
mod layout;

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_artifact::check::{self, Expectations, Inspection, Needs, Problem};
use kiln_config::ReleaseImage;
use kiln_graph::Platform;
use kiln_solver::SolveError;
use kiln_solver::image::rfc3339;

use crate::commands::run::{Surroundings, run as run_job};
use crate::error::{CliError, Result};
use crate::job::{Baked, Item, Job};
use crate::project::Project;
use crate::sources::prepare::{Written, prepare};
use crate::{cli, fields, output, recipe, session};

/// What the image is called among targets.
const TARGET: &str = "image";
/// How names of standard labels begin. Source: OCI image-spec, `annotations.md`.
pub(crate) const LABELS: &str = "org.opencontainers.image.";

/// The image that is asked for.
#[derive(Debug)]
pub(crate) struct Request {
    /// The program of each platform: a file, or the folder of a standalone program.
    pub(crate) programs: Vec<(Platform, PathBuf)>,
    /// What it is called.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: Option<String>,
    /// `[release.image]`.
    pub(crate) image: ReleaseImage,
    /// Labels that follow from the project; those of the settings win.
    pub(crate) labels: BTreeMap<String, String>,
    /// The time of all that is in it, in seconds since 1970.
    pub(crate) epoch: i64,
    /// What becomes of it.
    pub(crate) to: Vec<To>,
}

/// What becomes of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// It is on the daemon.
    Daemon,
    /// It is in the registries that its names say.
    Registry,
    /// It is an archive in OCI's layout.
    Archive(PathBuf),
    /// It is a folder in OCI's layout.
    Folder(PathBuf),
}

/// A program that was looked at.
struct Program {
    platform: Platform,
    inspection: Inspection,
    needs: Needs,
}

/// Makes the image, which is shown as a build.
pub(crate) async fn make(surroundings: Surroundings<'_>, project: Project, request: &Request) -> Result<()> {
    let (environment, global) = (surroundings.environment, surroundings.global);
    let account = layout::Account::of(&request.image.user);
    let tags = tags(request)?;
    let programs = look(request).await?;
    let base = match &request.image.base {
        Some(base) => base.clone(),
        None => base::chosen(&programs)?.to_owned(),
    };
    let engine = surroundings.cancel.unless_stopped(session::connect(environment, global)).await??;
    let looking = base::look(&engine, &base, &programs, &surroundings.events);
    let found = surroundings.cancel.unless_stopped(looking).await??;
    let file = layout::dockerfile(request, &account, (&base, found), &programs)?;
    let args = command_line(request, &base, tags);
    let recipe = recipe::package();
    let text = format!("{}{file}", recipe.text);
    let written = Written::Inline(&recipe.name, &text);
    // Held to the end: it removes what is laid out.
    let mut prepared = prepare(environment, &args, written, &surroundings.events, &surroundings.cancel).await?;
    let context = prepared.temporary.path().join("context");
    layout::lay_out(&context, &project.folder, request, &account, &base, &programs)?;
    prepared.args.project.path = context;
    let baked = Baked { name: TARGET.to_owned(), links: BTreeMap::new() };
    let item = Item::of_target(environment, &prepared, &project, baked)?;
    let mut job = Job::of_targets(environment, project, vec![item], cli::Schedule::default())?;
    let outcome = run_job(surroundings, &mut job).await?;
    match outcome.published.into_iter().flatten().next() {
        Some(published) => Ok(published.map(drop)?),
        None => Err(SolveError::Cancelled.into()),
    }
}

/// Looks at the programs, which must be good ones for their platforms.
async fn look(request: &Request) -> Result<Vec<Program>> {
    let list = request.programs.clone();
    let looking = tokio::task::spawn_blocking(move || {
        let one = |(platform, path): &(Platform, PathBuf)| {
            if !path.exists() {
                return Err(CliError::Missing {
                    problem: format!("there is no program for {platform}: {}", path.display()),
                    hint: "`kiln build` makes it; --platform names other platforms".to_owned(),
                });
            }
            let inspection =
                check::inspect(path).map_err(|error| CliError::io("read", error.path.clone())(error.source))?;
            let verdict = check::verify(&inspection, *platform, &Expectations::default());
            // What was downloaded from a CI service has lost its mode, and gets it back in the image.
            let mut problems = verdict.problems;
            problems.retain(|problem| !matches!(problem, Problem::NotExecutable { .. }));
            if !problems.is_empty() {
                let problems = problems.iter().map(ToString::to_string).collect();
                return Err(
                    SolveError::BadArtifact { path: path.clone(), platform: *platform, problems, hint: None }.into()
                );
            }
            Ok(Program { platform: *platform, inspection, needs: verdict.needs })
        };
        list.iter().map(one).collect()
    });
    looking.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// What one would write to build it from the Dockerfile.
fn command_line(request: &Request, base: &str, tags: Vec<String>) -> cli::Build {
    let labels = labels(request);
    let pairs = |prefix: &str| labels.iter().map(|(name, value)| format!("{prefix}{name}={value}")).collect::<Vec<_>>();
    let output = |to: &To| {
        let (kind, more) = match to {
            To::Daemon => ("docker", None),
            To::Registry => ("registry", None),
            To::Archive(path) => ("oci", Some((path, "true"))),
            To::Folder(path) => ("oci", Some((path, "false"))),
        };
        let mut entry = vec![("type", kind.to_owned()), ("rewrite-timestamp", "true".to_owned())];
        if let Some((path, is_archive)) = more {
            entry.extend([("dest", path.display().to_string()), ("tar", is_archive.to_owned())]);
        }
        fields::join(&entry.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    };
    let annotations = if request.programs.len() > 1 { [pairs(""), pairs("index:")].concat() } else { pairs("") };
    cli::Build {
        project: cli::Project {
            platforms: request.programs.iter().map(|(platform, _)| platform.to_string()).collect(),
            ..cli::Project::default()
        },
        args: vec![format!("BASE={base}"), format!("{}={}", output::EPOCH, request.epoch)],
        output: request.to.iter().map(output).collect(),
        tags,
        labels: pairs(""),
        annotations,
        ..cli::Build::default()
    }
}

/// The names of the image.
fn tags(request: &Request) -> Result<Vec<String>> {
    let version = request.version.as_deref();
    let mut tags = Vec::new();
    for pattern in &request.image.tags {
        let Some(version) = version.or((!pattern.contains("{version}")).then_some("")) else {
            return Err(CliError::Missing {
                problem: format!("the image's name `{pattern}` has {{version}} in it, and the project has none"),
                hint: "set [project] version".to_owned(),
            });
        };
        // A tag may have no `+`, which local versions of Python's have.
        tags.push(pattern.replace("{name}", &request.name).replace("{version}", &version.replace('+', "-")));
    }
    if tags.is_empty() && request.to.contains(&To::Registry) {
        return Err(CliError::Missing {
            problem: "nothing says where the image is to be pushed".to_owned(),
            hint: "set tags = [\"registry.example/{name}:{version}\"] in [release.image], or name one with --tag"
                .to_owned(),
        });
    }
    if tags.is_empty() {
        let version = version.map_or("latest".to_owned(), |version| version.replace('+', "-"));
        tags.push(format!("{}:{version}", request.name.to_ascii_lowercase()));
    }
    Ok(tags)
}

/// The labels of the image.
fn labels(request: &Request) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        (format!("{LABELS}title"), request.name.clone()),
        (format!("{LABELS}created"), rfc3339(request.epoch)),
    ]);
    labels.extend(request.version.iter().map(|version| (format!("{LABELS}version"), version.clone())));
    labels.extend(request.labels.clone());
    labels.extend(request.image.labels.clone());
    labels
}

#[cfg(test)]
mod tests {
    use kiln_graph::Arch;

    use super::*;

    fn request(tags: &[&str], version: Option<&str>, to: To) -> Request {
        Request {
            programs: [Arch::Amd64, Arch::Arm64].map(|arch| (Platform::linux(arch), PathBuf::from("a"))).into(),
            name: "Greeter".to_owned(),
            version: version.map(str::to_owned),
            image: ReleaseImage { tags: tags.iter().map(|tag| (*tag).to_owned()).collect(), ..Default::default() },
            labels: BTreeMap::new(),
            epoch: 1_000_000_000,
            to: vec![to],
        }
    }

    #[test]
    fn names_follow_from_the_version_and_are_needed_for_a_registry() {
        let names = |tags: &[&str], version, to| super::tags(&request(tags, version, to));
        assert_eq!(names(&[], Some("1.0+a"), To::Daemon).expect("named"), ["greeter:1.0-a"]);
        assert_eq!(names(&[], None, To::Daemon).expect("named"), ["greeter:latest"]);
        let patterns = ["r.example/x:{version}", "r.example/x:latest"];
        assert_eq!(names(&patterns, Some("2"), To::Registry).expect("named"), ["r.example/x:2", "r.example/x:latest"]);
        assert!(names(&patterns, None, To::Registry).expect_err("no version").to_string().contains("{version}"));
        assert!(names(&[], Some("1"), To::Registry).expect_err("no name").to_string().contains("pushed"));
    }

    #[test]
    fn an_image_is_a_command_line_of_kiln_build() {
        let mut asked = request(&["r.example/x"], Some("1"), To::Folder("out,1".into()));
        asked.image.labels.insert(format!("{LABELS}title"), "Hello".to_owned());
        let args = command_line(&asked, "alpine:3.20", vec!["r.example/x".to_owned()]);
        assert_eq!(args.tags, ["r.example/x"]);
        assert_eq!(args.project.platforms, ["linux/amd64", "linux/arm64"]);
        assert_eq!(args.args, ["BASE=alpine:3.20", "SOURCE_DATE_EPOCH=1000000000"]);
        assert_eq!(args.output, ["\"dest=out,1\",rewrite-timestamp=true,tar=false,type=oci"]);
        let labels = [
            "org.opencontainers.image.created=2001-09-09T01:46:40Z",
            "org.opencontainers.image.title=Hello",
            "org.opencontainers.image.version=1",
        ];
        assert_eq!(args.labels, labels);
        assert_eq!(args.annotations[3..], labels.map(|label| format!("index:{label}")));
    }
}
