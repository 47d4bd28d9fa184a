//! Targets of a bake file as command lines of `kiln build`: whatever that can do, a target can.

use std::path::PathBuf;

use kiln_bake::{Bake, Entry, Ssh, Target};
use kiln_solver::{BuildEvent, Cancel};
use tokio::sync::mpsc;

use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::job::{Baked, Item};
use crate::project::Project;
use crate::sources::prepare::{Prepared, Written, prepare};
use crate::{cli, fields};

/// In front of a path that is relative to the current folder wherever the file or the context lies.
const HERE: &str = "cwd://";

/// Brings in what the targets need: each behind those that it uses. What was brought in is removed with the second list.
pub(crate) async fn items(
    environment: &Environment,
    project: &Project,
    bake: Bake,
    events: &mpsc::Sender<BuildEvent>,
    cancel: &Cancel,
) -> Result<(Vec<Item>, Vec<Prepared>)> {
    let (mut items, mut all) = (Vec::new(), Vec::new());
    for (name, target) in in_order(bake)? {
        let title = format!("Dockerfile of {name}");
        let written = match (&target.dockerfile_inline, &target.dockerfile) {
            (Some(text), _) => Written::Inline(&title, text),
            (None, Some(file)) if file.starts_with(HERE) => Written::AsNamed,
            (None, _) => Written::InContext,
        };
        let args = command_line(&target);
        let prepared = prepare(environment, &args, written, events, cancel).await;
        let prepared = prepared.map_err(|error| error.of_target(Some(&name)))?;
        let links = target.contexts.iter();
        let links =
            links.filter_map(|(context, value)| Some((context.clone(), value.strip_prefix("target:")?.to_owned())));
        let baked = Baked { name: name.clone(), links: links.collect() };
        let item = Item::of_target(environment, &prepared, project, baked);
        items.push(item.map_err(|error| error.of_target(Some(&name)))?);
        all.push(prepared);
    }
    Ok((items, all))
}

/// What one would write to build this target.
fn command_line(target: &Target) -> cli::Build {
    let here = |path: &str| match path.strip_prefix(HERE) {
        Some("") => ".".to_owned(),
        Some(path) => path.to_owned(),
        None => path.to_owned(),
    };
    let pairs = |map: &Entry| map.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
    let entries = |list: &[Entry]| list.iter().map(fields::join).collect::<Vec<_>>();
    let contexts = target.contexts.iter().filter(|(_, value)| !value.starts_with("target:"));
    cli::Build {
        project: cli::Project {
            path: PathBuf::from(here(target.context.as_deref().unwrap_or("."))),
            platforms: target.platforms.clone(),
            ..cli::Project::default()
        },
        file: target.dockerfile.as_ref().filter(|_| target.dockerfile_inline.is_none()).map(|file| here(file).into()),
        target: target.target.clone(),
        args: pairs(&target.args),
        secret: entries(&target.secret),
        ssh: target.ssh.iter().map(Ssh::to_string).collect(),
        network: target.network.clone(),
        add_host: pairs(&target.extra_hosts),
        shm_size: target.shm_size.clone(),
        ulimit: target.ulimits.clone(),
        contexts: contexts.map(|(name, value)| (name.clone(), here(value))).collect(),
        output: entries(&target.output),
        tags: target.tags.clone(),
        labels: pairs(&target.labels),
        annotations: target.annotations.clone(),
        cache_from: entries(&target.cache_from),
        cache_to: entries(&target.cache_to),
        attest: entries(&target.attest),
        allow: target.entitlements.clone(),
        no_cache: target.no_cache == Some(true),
        no_cache_filter: target.no_cache_filter.clone(),
        pull: target.pull == Some(true),
        call: target.call.clone(),
        ..cli::Build::default()
    }
}

/// The targets, each behind those that it uses as contexts.
fn in_order(bake: Bake) -> Result<Vec<(String, Target)>> {
    let mut waiting: Vec<(String, Target)> = bake.target.into_iter().collect();
    let mut done: Vec<(String, Target)> = Vec::new();
    while !waiting.is_empty() {
        let is_waiting = |context: &String, waiting: &[(String, Target)]| {
            let used = context.strip_prefix("target:");
            used.is_some_and(|used| waiting.iter().any(|(name, _)| name == used))
        };
        let ready = waiting.iter().position(|(_, target)| !target.contexts.values().any(|c| is_waiting(c, &waiting)));
        let Some(ready) = ready else {
            return Err(CliError::Missing {
                problem: format!("target {} needs itself as a context", waiting[0].0),
                hint: "leave one of these `target:` contexts out".to_owned(),
            });
        };
        done.push(waiting.remove(ready));
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(hcl: &str) -> Target {
        let mut definition = kiln_bake::Definition::default();
        definition
            .add("docker-bake.hcl", &format!("target default {{\n{hcl}\n}}\ntarget x {{}}\n"), &|_| None)
            .expect("valid");
        let request = kiln_bake::Request {
            names: vec![],
            overrides: vec![],
            environment: &|_| None,
            local_platform: "linux/amd64".to_owned(),
            now: String::new(),
        };
        definition.resolve(&request).expect("valid").target.remove("default").expect("it is there")
    }

    #[test]
    fn both_spellings_of_an_attribute_are_the_same_command_line() {
        for (short, long) in [
            ("secret = [\"id=x,src=y\"]", "secret = [{ id = \"x\", src = \"y\" }]"),
            ("output = [\"out\"]", "output = [{ type = \"local\", dest = \"out\" }]"),
            (
                "ssh = [\"key=a,b\", \"default\"]",
                "ssh = [{ id = \"key\", paths = [\"a\", \"b\"] }, { id = \"default\" }]",
            ),
            ("cache-from = [\"user/app\"]", "cache-from = [{ type = \"registry\", ref = \"user/app\" }]"),
        ] {
            let (short, long) = (command_line(&target(short)), command_line(&target(long)));
            assert_eq!(format!("{short:?}"), format!("{long:?}"));
        }
    }

    #[test]
    fn a_target_is_a_command_line() {
        let args = command_line(&target(
            "context = \"cwd://sub\"\ndockerfile = \"cwd://D\"\nnetwork = \"none\"\nshm-size = \"1m\"\n\
             ulimits = [\"nofile=1:2\"]\nextra-hosts = { a = \"1.2.3.4\" }\nssh = [\"default\"]\npull = true\n\
             contexts = { one = \"target:x\", two = \"https://h/a.git\" }\noutput = [\"type=oci,dest=a.tar\"]",
        ));
        assert_eq!((args.project.path, args.file), ("sub".into(), Some("D".into())));
        assert_eq!((args.network.as_deref(), args.shm_size.as_deref()), (Some("none"), Some("1m")));
        assert_eq!((args.ulimit, args.add_host), (vec!["nofile=1:2".to_owned()], vec!["a=1.2.3.4".to_owned()]));
        assert_eq!((args.ssh, args.pull), (vec!["default".to_owned()], true));
        assert_eq!(args.contexts, [("two".to_owned(), "https://h/a.git".to_owned())]);
        assert_eq!(args.output, ["dest=a.tar,type=oci"]);
    }
}
