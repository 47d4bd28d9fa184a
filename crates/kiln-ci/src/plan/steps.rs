//! The steps of one job that runs: what each builds, with what earlier steps have written.

use std::collections::BTreeMap;

use kiln_config::Recipe;
use kiln_graph::Platform;

use super::{ACTION, Around, Build, How, Plan, add_environment, holds, is_setup_python, is_test, python_axis};
use crate::axes::Combination;
use crate::container::containers;
use crate::expression::{self, Context};
use crate::outputs;
use crate::program::{of_dockerfile, program};
use crate::recipe;
use crate::rewrite::blocked;
use crate::shell::{Command, commands};
use crate::suite::{facts_of, of_container, suite};
use crate::workflow::{Job, Step};

/// One job that runs.
pub(super) struct Run<'a> {
    pub(super) job: Job<'a>,
    pub(super) combination: Combination,
    pub(super) runner: String,
    pub(super) around: &'a Around<'a>,
}

impl Run<'_> {
    pub(super) fn steps(&self, mut context: Context, mut environment: BTreeMap<String, String>, plan: &mut Plan) {
        let is_test = is_test(&self.job) && python_axis(&self.job).is_some();
        if let Some(Ok(suite)) = suite(&self.job) {
            plan.suites.insert(self.job.id.to_owned(), suite.facts());
            let version = expression::render(&suite.python, &context);
            plan.tests.entry(self.job.id.to_owned()).or_default().insert(version);
        }
        for step in self.job.steps() {
            if holds(step.node.get("if"), &context) == Some(false) {
                continue;
            }
            let mut own = (context.clone(), environment.clone());
            add_environment(step.node.get("env"), &mut own.0, &mut own.1);
            if is_test
                && is_setup_python(&step)
                && let Some(version) = step.with("python-version")
            {
                let version = expression::render(version, &own.0);
                plan.tests.entry(self.job.id.to_owned()).or_default().insert(version);
            }
            match step.action() {
                // What stays docker's is no business of kiln's.
                Some("docker/build-push-action") if blocked(step.with("outputs").unwrap_or_default()).is_some() => {}
                Some("docker/build-push-action") => self.dockerfile(&step, &own.0, plan),
                Some("docker/bake-action") => self.bake(&step, &own.0, plan),
                Some(ACTION) if ["bake", "files", "targets"].iter().any(|name| step.with(name).is_some()) => {
                    self.bake(&step, &own.0, plan);
                }
                Some(ACTION) if step.with("install-only").is_none() => self.kiln(&step, &own.0, plan),
                _ => {}
            }
            let Some(run) = step.text("run") else { continue };
            self.tests(run, &own.0, plan);
            self.script(&step, run, &own.0, &own.1, plan);
            let Some(written) = outputs::written(&expression::render(run, &own.0), &own.1) else { continue };
            for (name, value) in written.environment {
                context.set("env", &name, value.clone().into());
                environment.insert(name, value);
            }
            if let Some(id) = step.text("id") {
                let outputs = written.outputs.into_iter().map(|(name, value)| (name, value.into()));
                context.set_outputs(id, outputs.collect());
            }
        }
    }

    /// Notes what containers of tests and `kiln test` test.
    fn tests(&self, run: &str, context: &Context, plan: &mut Plan) {
        for (_, container) in containers(&expression::render(run, context)) {
            if let Some(Ok(suite)) = of_container(&container) {
                plan.suites.insert(self.job.id.to_owned(), suite.facts());
                plan.tests.entry(self.job.id.to_owned()).or_default().insert(suite.python);
            }
        }
        let Some(config) = self.around.config else { return };
        for command in commands(&expression::render(run, context)) {
            let words = command.texts();
            if words.first().is_none_or(|word| word != "kiln") || words.get(1).is_none_or(|word| word != "test") {
                continue;
            }
            plan.suites.insert(self.job.id.to_owned(), facts_of(config));
            let at = words.iter().position(|word| word == "--python");
            let versions = at.and_then(|at| words.get(at + 1)).map(|list| list.split(',').map(str::to_owned).collect());
            let versions: Vec<String> = versions.unwrap_or(config.resolved().test.python);
            plan.tests.entry(self.job.id.to_owned()).or_default().extend(versions);
        }
    }

    /// The platform of the machine that the job runs on.
    fn own_platform(&self) -> String {
        let is_arm = self.runner.contains("-arm") || self.runner.to_ascii_lowercase().contains("arm64");
        if is_arm { "linux/arm64" } else { "linux/amd64" }.to_owned()
    }

    fn add(&self, step: &Step<'_>, platform: String, how: How, plan: &mut Plan) -> usize {
        plan.builds.push(Build {
            job: self.job.id.to_owned(),
            step: step.number,
            combination: self.combination.clone(),
            platform,
            runner: self.runner.clone(),
            how,
            artifact: None,
            flags: [].into(),
            asked: BTreeMap::new(),
        });
        plan.builds.len() - 1
    }

    fn platforms(step: &Step<'_>, context: &Context) -> Vec<String> {
        let text = expression::render(step.with("platforms").unwrap_or_default(), context);
        if text.contains("${{") {
            return vec![text.trim().to_owned()];
        }
        let list = text.split([',', '\n']).map(str::trim).filter(|name| !name.is_empty());
        list.map(|name| name.parse::<Platform>().map_or_else(|_| name.to_owned(), |platform| platform.to_string()))
            .collect()
    }

    fn dockerfile(&self, step: &Step<'_>, context: &Context, plan: &mut Plan) {
        let input = |name: &str| step.with(name).map(|text| expression::render(text, context).trim().to_owned());
        let folder = input("context").unwrap_or_else(|| ".".to_owned());
        let file = input("file").unwrap_or_else(|| format!("{folder}/Dockerfile"));
        let mut platforms = Self::platforms(step, context);
        if platforms.is_empty() {
            platforms.push(self.own_platform());
        }
        for platform in platforms {
            let how = How::Dockerfile {
                context: plain(&folder),
                file: plain(&file),
                target: input("target").filter(|target| !target.is_empty()),
                args: arguments(&input("build-args").unwrap_or_default()),
            };
            self.image(step, platform, how, context, plan);
        }
    }

    /// Notes what a Dockerfile's Nuitka is asked for, and what of the image the step says.
    fn image(&self, step: &Step<'_>, platform: String, how: How, context: &Context, plan: &mut Plan) {
        let found = match &how {
            How::Dockerfile { file, args, .. } => (self.around.read)(file)
                .and_then(|text| of_dockerfile(file, &text, &|name| known(name, args, &platform))),
            _ => None,
        };
        let at = self.add(step, platform, how, plan);
        let build = &mut plan.builds[at];
        if let Some(options) = found {
            build.artifact.clone_from(&options.output);
            build.flags = options.flags();
        }
        for name in ["tags", "push", "load", "labels", "outputs", "secrets", "build-contexts"] {
            if let Some(text) = step.with(name) {
                build.asked.insert(name, expression::render(text, context).trim().to_owned());
            }
        }
    }

    fn kiln(&self, step: &Step<'_>, context: &Context, plan: &mut Plan) {
        let Some(config) = self.around.config else { return self.dockerfile(step, context, plan) };
        let settings = config.resolved();
        let mut platforms = Self::platforms(step, context);
        let is_recipe = !matches!(settings.build.recipe, Recipe::Dockerfile(_));
        if platforms.is_empty() {
            platforms = match (is_recipe, step.with("file")) {
                // With `-f` it is the machine's own, as with buildx.
                (_, Some(_)) => vec![self.own_platform()],
                _ => settings.build.platforms.iter().map(Platform::to_string).collect(),
            };
        }
        for platform in platforms {
            let known: Option<Platform> = platform.parse().ok();
            let own = known.map(|platform| config.for_platform(platform));
            if is_recipe && step.with("file").is_none() {
                let at = self.add(step, platform, How::Settings, plan);
                if let (Some(own), Some(known)) = (own, known) {
                    plan.builds[at].artifact = Some(own.artifact);
                    plan.builds[at].flags = recipe::flags(config, known);
                }
                continue;
            }
            let input = |name: &str| step.with(name).map(|text| expression::render(text, context).trim().to_owned());
            let folder = input("context").unwrap_or_else(|| ".".to_owned());
            let set = match own.as_ref().map(|own| &own.build.recipe) {
                Some(Recipe::Dockerfile(path)) if folder == "." => Some(path.to_string_lossy().into_owned()),
                _ => None,
            };
            let mut args = own.as_ref().map(|own| own.build.args.clone()).unwrap_or_default();
            args.extend(arguments(&input("build-args").unwrap_or_default()));
            let file = input("file").or(set).unwrap_or_else(|| format!("{folder}/Dockerfile"));
            let target = input("target").or_else(|| own.as_ref().and_then(|own| own.build.target.clone()));
            let target = target.filter(|target| !target.is_empty());
            let how = How::Dockerfile { context: plain(&folder), file: plain(&file), target, args };
            self.image(step, platform, how, context, plan);
        }
    }

    /// Notes a `kiln build` that takes everything from the settings.
    fn program_by_settings(&self, step: &Step<'_>, words: &[String], plan: &mut Plan) -> bool {
        let is_file = |word: &String| word == "-f" || word.starts_with("--file");
        let Some(config) = self.around.config else { return false };
        if words[0] != "build"
            || words.iter().any(is_file)
            || matches!(config.resolved().build.recipe, Recipe::Dockerfile(_))
        {
            return false;
        }
        let mut platforms: Vec<Platform> = Vec::new();
        for (at, word) in words.iter().enumerate() {
            let list = match word.strip_prefix("--platform") {
                Some("") => words.get(at + 1).map(String::as_str),
                Some(rest) => rest.strip_prefix('='),
                None => None,
            };
            platforms.extend(
                list.into_iter().flat_map(|list| list.split(',')).filter_map(|name| name.parse::<Platform>().ok()),
            );
        }
        if platforms.is_empty() {
            platforms = config.resolved().build.platforms;
        }
        for platform in platforms {
            let at = self.add(step, platform.to_string(), How::Settings, plan);
            plan.builds[at].artifact = Some(config.for_platform(platform).artifact);
            plan.builds[at].flags = recipe::flags(config, platform);
        }
        true
    }

    fn bake(&self, step: &Step<'_>, context: &Context, plan: &mut Plan) {
        let mut words = vec!["bake".to_owned()];
        let lines = |name: &str| -> Vec<String> {
            let text = expression::render(step.with(name).unwrap_or_default(), context);
            text.split([',', '\n']).map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
        };
        let whole = |name: &str| expression::render(step.with(name).unwrap_or_default(), context);
        let (set, vars) = (whole("set"), whole("vars"));
        words.extend(lines("files").iter().flat_map(|file| ["-f".to_owned(), plain(file)]));
        words.extend(
            set.lines()
                .filter(|line| !line.trim().is_empty())
                .flat_map(|line| ["--set".to_owned(), line.trim().to_owned()]),
        );
        let vars = vars.lines().map(str::trim).filter(|line| !line.is_empty());
        words.extend(vars.flat_map(|line| ["--var".to_owned(), line.to_owned()]));
        for switch in ["push", "load", "no-cache", "pull"] {
            let text = expression::render(step.with(switch).unwrap_or_default(), context);
            if !text.trim().is_empty() && text.trim() != "false" {
                let is_sure = text.trim() == "true";
                words.push(if is_sure { format!("--{switch}") } else { format!("--{switch}={}", text.trim()) });
            }
        }
        words.extend(lines("targets"));
        self.add(step, String::new(), How::Command(words), plan);
    }

    fn script(
        &self,
        step: &Step<'_>,
        run: &str,
        context: &Context,
        environment: &BTreeMap<String, String>,
        plan: &mut Plan,
    ) {
        let script = expression::render(run, context);
        let mut environment = environment.clone();
        // What nobody knows is the same on both sides as long as it is written the same.
        for (name, value) in step.node.get("env").map_or(&[][..], crate::yaml::Node::pairs) {
            let (Some(name), Some(text)) = (name.text(), value.text()) else { continue };
            environment.entry(name.to_owned()).or_insert_with(|| expression::render(text, context));
        }
        let environment = &environment;
        for (variables, command) in unfolded(&script, environment) {
            let value = |name: &str| variables.get(name).cloned();
            let words: Vec<String> = command
                .words
                .iter()
                .map(|word| word.expand(&value).unwrap_or_else(|| replaced(&word.text(), &variables)))
                .collect();
            let Some((_, found)) = buildx(&words) else { continue };
            let found: Vec<String> = found.into_iter().filter(|word| !word.is_empty()).collect();
            if words[0] == "kiln" && self.program_by_settings(step, &found, plan) {
                continue;
            }
            self.add(step, String::new(), How::Command(found), plan);
        }
        for (variables, command) in unfolded(&script, environment) {
            let text = &script[command.span.clone()];
            for (_, mut container) in containers(text) {
                container.script = replaced(&container.script, &variables);
                let Some(program) = program(&container) else { continue };
                let platform = container.platform.map(|platform| replaced(&platform, &variables));
                let platform = platform.unwrap_or_else(|| self.own_platform());
                let platform = platform.parse::<Platform>().map_or(platform, |platform| platform.to_string());
                let (artifact, flags) = (program.options.output.clone(), recipe::flags_of(&program));
                let at = self.add(step, platform, How::Program(Box::new(program)), plan);
                plan.builds[at].artifact = artifact;
                plan.builds[at].flags = flags;
            }
        }
    }
}

/// The arguments of a Dockerfile that BuildKit sets by itself.
fn known(name: &str, args: &BTreeMap<String, String>, platform: &str) -> Option<String> {
    let given = args.get(name).cloned();
    given.or_else(|| match name {
        "TARGETPLATFORM" => Some(platform.to_owned()),
        "TARGETOS" => platform.split('/').next().map(str::to_owned),
        "TARGETARCH" => platform.split('/').nth(1).map(str::to_owned),
        "TARGETVARIANT" => Some(platform.split('/').nth(2).unwrap_or_default().to_owned()),
        _ => None,
    })
}

/// A path without `./` in front.
fn plain(path: &str) -> String {
    let path = path.trim_start_matches("cwd://").trim_start_matches("./").trim_end_matches('/');
    if path.is_empty() { ".".to_owned() } else { path.to_owned() }
}

/// Lines of `NAME=VALUE`.
fn arguments(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.trim().split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn replaced(text: &str, variables: &BTreeMap<String, String>) -> String {
    variables.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value))
}

/// The commands of a script, each with the variables that are known there; those in a `for` over words once for each.
fn unfolded(script: &str, environment: &BTreeMap<String, String>) -> Vec<(BTreeMap<String, String>, Command)> {
    let mut found = Vec::new();
    let mut variables = environment.clone();
    let mut loops: Vec<(String, Vec<String>)> = Vec::new();
    for mut command in commands(script) {
        let texts = command.texts();
        if let [first, name, r#in, values @ ..] = texts.as_slice()
            && first == "for"
            && r#in == "in"
        {
            loops.push((name.clone(), values.to_vec()));
            continue;
        }
        if texts.first().is_some_and(|word| word == "done") {
            loops.pop();
            continue;
        }
        while command
            .words
            .first()
            .is_some_and(|word| matches!(word.text().as_str(), "do" | "then" | "else" | "{" | "if" | "!"))
        {
            command.words.remove(0);
        }
        let (Some(first), Some(last)) = (command.words.first(), command.words.last()) else { continue };
        command.span = first.span.start..last.span.end;
        let expand = |text: &str, variables: &BTreeMap<String, String>| {
            let value = replaced(text, variables);
            (!value.contains("$(") && !value.contains("${")).then_some(value)
        };
        if let [assignment] = command.texts().as_slice()
            && let Some((name, value)) = assignment.split_once('=')
        {
            match expand(value, &variables) {
                Some(value) if loops.is_empty() => variables.insert(name.to_owned(), value),
                _ => variables.remove(name),
            };
            continue;
        }
        let mut all = vec![variables.clone()];
        for (name, values) in &loops {
            all = all
                .into_iter()
                .flat_map(|known| {
                    values.iter().map(move |value| {
                        let mut known = known.clone();
                        known.insert(name.clone(), value.clone());
                        known
                    })
                })
                .collect();
        }
        found.extend(all.into_iter().map(|known| (known, command.clone())));
    }
    found
}

/// A command of buildx or kiln that builds: how many of its words say so, and `build` or `bake` with its arguments.
pub(crate) fn buildx(words: &[String]) -> Option<(usize, Vec<String>)> {
    let texts: Vec<&str> = words.iter().map(String::as_str).collect();
    let (length, kind) = match texts.as_slice() {
        ["docker", "buildx", kind @ ("build" | "b" | "bake" | "f"), ..] => (3, *kind),
        ["docker-buildx" | "kiln", kind @ ("build" | "bake"), ..] => (2, *kind),
        _ => return None,
    };
    let kind = if matches!(kind, "bake" | "f") { "bake" } else { "build" };
    let mut found = vec![kind.to_owned()];
    let mut rest = words[length..].iter();
    while let Some(word) = rest.next() {
        // kiln has no builders.
        match word.as_str() {
            "--builder" => {
                rest.next();
            }
            word if word.starts_with("--builder=") => {}
            word => found.push(word.to_owned()),
        }
    }
    if kind == "build" {
        // First, because without it kiln builds by the settings, and buildx takes the context's own.
        let file = take_file(&mut found).or_else(|| (words[0] != "kiln").then(|| dockerfile_of(&found)).flatten());
        if let Some(file) = file {
            found.splice(1..1, ["-f".to_owned(), plain(&file)]);
        }
    }
    Some((length, found))
}

/// Takes `-f FILE` out of the words.
fn take_file(words: &mut Vec<String>) -> Option<String> {
    let at = words.iter().position(|word| word == "-f" || word == "--file" || word.starts_with("--file="))?;
    let word = words.remove(at);
    match word.split_once('=') {
        Some((_, file)) => Some(file.to_owned()),
        None => (at < words.len()).then(|| words.remove(at)),
    }
}

/// The Dockerfile of the context that `docker buildx build` names last, if that is a folder.
pub(crate) fn dockerfile_of(words: &[String]) -> Option<String> {
    let context = words.iter().rev().find(|word| !word.is_empty())?;
    let is_folder = !context.starts_with('-') && !context.contains("://") && words.len() > 1;
    is_folder.then(|| {
        if context == "." { "Dockerfile".to_owned() } else { format!("{}/Dockerfile", context.trim_end_matches('/')) }
    })
}

/// The words of the build commands in a script, for those that look for them.
pub(crate) fn words_of(script: &str) -> Vec<(Command, Vec<String>)> {
    let found = unfolded(script, &BTreeMap::new()).into_iter();
    found.filter_map(|(_, command)| buildx(&command.texts()).map(|(_, words)| (command, words))).collect()
}
