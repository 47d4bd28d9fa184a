//! The provenance of a release, from what the history remembers of its builds.

use std::collections::BTreeMap;
use std::time::Duration;

use kiln_attest::provenance::{Built, LOCAL_BUILDER, Provenance, Resource};
use kiln_config::{Recipe, Section};
use kiln_graph::Platform;
use kiln_history::History;
use kiln_history::record::{Image, Record};
use serde_json::{Value, json};

use super::{Ingredients, Making, Released, TOOL, name_of, source};
use crate::environment::Environment;
use crate::error::Result;
use crate::history;

/// Builds that are looked through for those that made the programs.
const LATEST: usize = 1000;
/// Sections whose settings decide what comes out.
const SECTIONS: [Section; 3] = [Section::Project, Section::Nuitka, Section::Build];

/// What is known of how a release was built.
pub(super) fn provenance(
    making: &Making<'_>,
    released: &[Released],
    programs: &[(Platform, &Released, Ingredients)],
    notices: &mut Vec<String>,
) -> Result<Provenance> {
    let (environment, folder) = (making.environment, &making.project.folder);
    let records = match History::open_if_there(&history::of_project(folder))? {
        Some(history) => history.latest(LATEST)?,
        None => Vec::new(),
    };
    let mut builds: Vec<&Record> = Vec::new();
    for (platform, file, _) in programs {
        match made_by(&records, *platform, &file.sha256) {
            Some(record) if !builds.iter().any(|known| known.id == record.id) => builds.push(record),
            Some(_) => {}
            None => notices
                .push(format!("the history knows of no build of {}: its provenance has no times", name_of(&file.path))),
        }
    }
    builds.sort_by_key(|record| record.started);
    let commit = builds.last().and_then(|record| record.source.commit.as_deref());
    let mut resources: Vec<Resource> = source::source(environment, folder, commit).into_iter().collect();
    if resources.is_empty() {
        notices.push("the sources are in no git repository: the provenance does not name them".to_owned());
    }
    for record in &builds {
        resources.extend(record.images.iter().map(image));
    }
    for (_, file, ingredients) in programs {
        let made_of = ingredients.materials.as_ref().filter(|m| m.result.sha256.as_ref() == Some(&file.sha256));
        if let Some(materials) = made_of {
            resources.extend(materials.resources());
        }
    }
    let end = |record: &&Record| {
        let took = Duration::try_from_secs_f64(record.seconds).unwrap_or_default();
        record.started.saturating_add(i64::try_from(took.as_millis()).unwrap_or(i64::MAX))
    };
    Ok(Provenance {
        files: released.iter().map(|f| Built { name: name_of(&f.path), sha256: f.sha256.clone() }).collect(),
        builder: builder(environment),
        versions: BTreeMap::from([(TOOL.0.to_owned(), TOOL.1.to_owned())]),
        external: external(making, programs),
        internal: internal(&builds),
        resources,
        invocation: run(environment)
            .unwrap_or_else(|| builds.iter().map(|record| record.id.as_str()).collect::<Vec<_>>().join(" ")),
        started: builds.iter().map(|record| record.started).min(),
        finished: builds.iter().map(end).max(),
    })
}

/// The build that a program comes from: the latest with this very file that ran anything, else the latest with it.
fn made_by<'a>(records: &'a [Record], platform: Platform, sha256: &str) -> Option<&'a Record> {
    let has = |record: &&Record, ran: bool| {
        record.targets.iter().any(|target| {
            let is_it = target.artifacts.iter().any(|artifact| artifact.sha256.as_deref() == Some(sha256));
            target.platform == platform && is_it && (target.ran > 0 || !ran)
        })
    };
    records.iter().find(|record| has(record, true)).or_else(|| records.iter().find(|record| has(record, false)))
}

/// Who builds: the workflow that a service runs, or somebody's machine.
fn builder(environment: &Environment) -> String {
    let get = |name: &str| environment.get(name);
    if let Some((server, workflow)) = get("GITHUB_SERVER_URL").zip(get("GITHUB_WORKFLOW_REF")) {
        return format!("{server}/{workflow}");
    }
    match get("CI_PROJECT_URL").zip(get("CI_COMMIT_SHA")) {
        Some((project, commit)) => {
            format!("{project}/-/blob/{commit}/{}", get("CI_CONFIG_PATH").unwrap_or(".gitlab-ci.yml"))
        }
        None => LOCAL_BUILDER.to_owned(),
    }
}

/// The address of a service's run.
fn run(environment: &Environment) -> Option<String> {
    let get = |name: &str| environment.get(name);
    let (server, repository, id) = (get("GITHUB_SERVER_URL"), get("GITHUB_REPOSITORY"), get("GITHUB_RUN_ID"));
    if let (Some(server), Some(repository), Some(id)) = (server, repository, id) {
        let attempt = get("GITHUB_RUN_ATTEMPT").unwrap_or("1");
        return Some(format!("{server}/{repository}/actions/runs/{id}/attempts/{attempt}"));
    }
    get("CI_JOB_URL").map(str::to_owned)
}

/// What the user chose: recipe, platforms, and every setting of the build that is set somewhere.
fn external(making: &Making<'_>, programs: &[(Platform, &Released, Ingredients)]) -> BTreeMap<String, Value> {
    let config = &making.project.config;
    let recipe = match config.resolved().build.recipe {
        Recipe::Alpine => "alpine".to_owned(),
        Recipe::Debian => "debian".to_owned(),
        Recipe::Dockerfile(path) => path.display().to_string(),
    };
    let decides = |key: &str| {
        let name = key.rsplit_once("\".").map_or(key, |(_, rest)| rest);
        SECTIONS.iter().any(|section| name.starts_with(&format!("{}.", section.name())))
    };
    // Where the results go is no matter of what they are.
    let set = config
        .entries()
        .filter(|entry| entry.provenance.is_explicit() && decides(&entry.key) && entry.key != "build.output");
    let settings: serde_json::Map<String, Value> =
        set.filter_map(|entry| Some((entry.key, Value::String(entry.value?)))).collect();
    let platforms: Vec<String> = programs.iter().map(|(platform, _, _)| platform.to_string()).collect();
    BTreeMap::from([
        ("recipe".to_owned(), json!(recipe)),
        ("platforms".to_owned(), json!(platforms)),
        ("settings".to_owned(), Value::Object(settings)),
    ])
}

/// What kiln and the daemon chose, by build.
fn internal(builds: &[&Record]) -> BTreeMap<String, Value> {
    let build = |record: &&Record| {
        let targets = record.targets.iter().map(|target| {
            let (platform, way) = (target.platform.to_string(), &target.way);
            json!({ "platform": platform, "way": way, "policy": target.policy })
        });
        let value = json!({
            "command": record.command,
            "kiln": record.machine.kiln,
            "engine": record.machine.engine,
            "daemon": record.machine.platform.map(|platform| platform.to_string()),
            "targets": targets.collect::<Vec<_>>(),
        });
        (record.id.clone(), value)
    };
    BTreeMap::from([("builds".to_owned(), Value::Object(builds.iter().map(build).collect()))])
}

/// An image as a resource. Source: package-url's type `docker`, as BuildKit uses it.
fn image(image: &Image) -> Resource {
    let reference = image.reference.split_once('@').map_or(image.reference.as_str(), |(name, _)| name);
    // A colon behind the last slash begins a tag; another one is of a port.
    let tagged = reference.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
    let (name, tag) = tagged.unwrap_or((reference, "latest"));
    let platform = image.platform.to_string().replace('/', "%2F");
    let digest = image.digest.as_ref().and_then(|digest| digest.split_once(':'));
    let mut annotations = BTreeMap::from([("id".to_owned(), image.id.clone())]);
    if digest.is_none() {
        annotations.insert("origin".to_owned(), "made on the daemon, or loaded from an archive".to_owned());
    }
    Resource {
        uri: format!("pkg:docker/{name}@{tag}?platform={platform}"),
        digest: digest.into_iter().map(|(kind, hex)| (kind.to_owned(), hex.to_owned())).collect(),
        name: "base image".to_owned(),
        annotations,
    }
}
