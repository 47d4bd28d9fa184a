//! Steps: docker's actions become kiln's.

use super::inputs::{self, Input};
use super::{MARK, Rewriter, USES};
use crate::container::containers;
use crate::plan::{How, words_of};
use crate::program::program;
use crate::workflow::{Job, Step};
use crate::yaml::Node;

/// What a step is to kiln.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Build,
    Bake,
    /// `docker run` of a script that calls Nuitka.
    Container,
    /// `docker run` of tests.
    Tests,
    /// `docker buildx build` or `bake`.
    Command,
    SetupQemu,
    SetupBuildx,
    Cache,
    /// Commands that only set a builder or emulators up.
    SetupCommands,
    /// docker's action with something that kiln does not do at all.
    Blocked(&'static str),
    Other,
}

fn kind(step: &Step<'_>) -> Kind {
    match step.action() {
        Some("docker/build-push-action") if inputs::blocked(step.with("outputs").unwrap_or_default()).is_some() => {
            Kind::Blocked(inputs::blocked(step.with("outputs").unwrap_or_default()).unwrap_or_default())
        }
        Some("docker/build-push-action") => Kind::Build,
        Some("docker/bake-action") => Kind::Bake,
        Some("docker/setup-qemu-action") => Kind::SetupQemu,
        Some("docker/setup-buildx-action") => Kind::SetupBuildx,
        Some("actions/cache" | "actions/cache/restore" | "actions/cache/save") => Kind::Cache,
        Some(_) => Kind::Other,
        None => {
            let script = step.text("run").unwrap_or_default();
            if containers(script).iter().any(|(_, container)| program(container).is_some()) {
                Kind::Container
            } else if words_of(script).iter().any(|(command, _)| command.words[0].text() != "kiln") {
                Kind::Command
            } else if is_setup(script) {
                Kind::SetupCommands
            } else {
                Kind::Other
            }
        }
    }
}

/// Whether all commands of a script set a builder or emulators up.
fn is_setup(script: &str) -> bool {
    let commands = crate::shell::commands(script);
    let is_setup = |command: &crate::shell::Command| {
        let words = command.texts();
        let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| *word != "sudo").collect();
        match words.as_slice() {
            ["docker", "run", rest @ ..] => rest
                .iter()
                .any(|word| word.contains("tonistiigi/binfmt") || word.contains("multiarch/qemu-user-static")),
            ["docker", "buildx", "create" | "use" | "inspect" | "install" | "ls", ..]
            | ["set", ..]
            | ["docker", "version" | "info", ..] => true,
            _ => false,
        }
    };
    !commands.is_empty() && commands.iter().all(is_setup)
}

impl Rewriter<'_> {
    /// A job: its steps, and what is to be said about where it runs.
    pub(super) fn job(&mut self, job: &Job<'_>, migrated: &[String]) {
        if let Some(uses) = job.node.get("uses") {
            self.reusable(uses, migrated);
            return;
        }
        if self.tests(job) {
            return;
        }
        let steps = job.steps();
        let kind = |step| if self.is_tests(job, step) { Kind::Tests } else { kind(step) };
        let kinds: Vec<Kind> = steps.iter().map(kind).collect();
        for (step, kind) in steps.iter().zip(&kinds) {
            if let Kind::Blocked(why) = kind {
                self.comment(step, &format!("stays as it is: {why}"));
                self.note(step.node.span.start, step.label(), format!("stays as it is: {why}"));
            }
        }
        if !kinds
            .iter()
            .any(|kind| matches!(kind, Kind::Build | Kind::Bake | Kind::Container | Kind::Command | Kind::Tests))
        {
            self.untouched(&steps);
            return;
        }
        self.place(job);
        // What stays, because something else needs it: emulation for other containers, buildx for its other commands.
        let stays = |needs: &dyn Fn(&str) -> bool| {
            let mut all = steps.iter().zip(&kinds);
            let found = all.find(|(step, kind)| {
                matches!(kind, Kind::Blocked(_)) || (**kind == Kind::Other && needs(&words(step)))
            });
            found.map(|(step, _)| step.label())
        };
        let qemu = stays(&|text| {
            text.contains("cibuildwheel")
                || text.contains("run-on-arch")
                || text.contains("docker ") && text.contains("--platform")
        });
        let buildx = stays(&|text| text.contains("docker buildx") || text.contains("docker/build-cloud"));
        let mut has_kiln = false;
        for (step, kind) in steps.iter().zip(&kinds) {
            match kind {
                Kind::SetupQemu => match &qemu {
                    Some(user) => self.comment(step, &format!("stays for {user}; kiln needs no emulator to be set up")),
                    None if self.is_referred_to(step) => self.comment(step, "stays because its outputs are used"),
                    None => {
                        self.remove(step, "kiln sets up emulation itself, where a step cannot run as a native twin");
                        if let Some(image) = step.with("image") {
                            let why = "set emulation.qemu-image in kiln.toml if it has to be this one";
                            self.note(step.node.span.start, format!("image: {image}"), why);
                        }
                    }
                },
                Kind::SetupBuildx => match &buildx {
                    Some(user) => self.comment(step, &format!("stays for {user}; kiln itself needs no buildx")),
                    None if self.is_referred_to(step) => self.comment(step, "stays because its outputs are used"),
                    None => self.remove(step, "kiln needs no builder"),
                },
                Kind::SetupCommands if qemu.is_none() && buildx.is_none() => {
                    self.remove(step, "kiln needs no builder, and sets up emulation itself");
                }
                Kind::Cache => self.cache(step, &steps),
                Kind::Build => self.build(job, step, &steps),
                Kind::Bake => self.bake(step, &steps),
                Kind::Command => {
                    self.install(step, &mut has_kiln);
                    self.command(step);
                }
                Kind::Tests => {
                    self.install(step, &mut has_kiln);
                    self.test_containers(step);
                }
                Kind::Container => self.container(job, step),
                Kind::Blocked(_) | Kind::SetupCommands | Kind::Other => {}
            }
        }
    }

    /// Steps of a job that builds nothing which kiln could: what looks like it is named.
    fn untouched(&mut self, steps: &[Step<'_>]) {
        for step in steps {
            let script = step.text("run").unwrap_or_default();
            for (command, container) in containers(script) {
                let text = command.texts().join(" ");
                if text.contains("--platform") || container.image.contains("manylinux") {
                    let what: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
                    let what = if what.len() > 70 {
                        format!("{}...", what.chars().take(70).collect::<String>())
                    } else {
                        what
                    };
                    self.note(
                        step.node.span.start,
                        what,
                        "it does not call Nuitka: kiln builds programs, so this step stays as it is",
                    );
                }
            }
        }
    }

    /// A job that another workflow has the steps of.
    fn reusable(&mut self, uses: &Node, migrated: &[String]) {
        let text = uses.text().unwrap_or_default();
        let local = text.strip_prefix("./").filter(|path| migrated.iter().any(|file| file == path));
        if let Some(path) = local {
            let new = crate::migrate::new_name(path);
            self.replace(uses.span.clone(), format!("./{new}"));
            self.changed = true;
        } else if text.contains("docker") || text.contains("build") {
            let why = if text.starts_with("./") {
                "its steps are in that workflow: migrate it together with this one"
            } else {
                "its steps are in a workflow of another repository: migrate it there"
            };
            self.note(uses.span.start, format!("uses: {text}"), why);
        }
    }

    /// What kiln needs of the machine that a job runs on.
    fn place(&mut self, job: &Job<'_>) {
        if let Some((key, _)) = job.node.entry("container") {
            let start = self.line_start(key.span.start);
            let why =
                "kiln talks to a daemon: mount its socket here, volumes: [/var/run/docker.sock:/var/run/docker.sock]";
            let comment = format!("{}{MARK}{why}\n", self.indent(start));
            self.replace(start..start, comment);
            self.note(key.span.start, "container", why);
        }
    }

    /// docker/build-push-action.
    fn build(&mut self, job: &Job<'_>, step: &Step<'_>, steps: &[Step<'_>]) {
        if !self.uses_kiln(step, steps) {
            return;
        }
        for build in self.builds(job.id, step.number) {
            if let How::Dockerfile { context, .. } = &build.how
                && context.starts_with("{{")
            {
                let why = "docker's action computes this context: kiln takes a folder or a URL";
                self.note(step.node.span.start, context.clone(), why);
            }
        }
        if step.with("file").is_none() {
            // Without it kiln builds by the settings.
            match step.with("context").map(|context| context.trim_end_matches('/')) {
                None | Some("." | "") => self.add_input(step, "file", "./Dockerfile"),
                Some(context) if context.contains("://") || context.starts_with("{{") => {}
                Some(context) => self.add_input(step, "file", &format!("{context}/Dockerfile")),
            }
        }
        if let Some((with, inputs)) = step.node.entry("with") {
            self.inputs(with, inputs, inputs::build);
        }
    }

    /// Puts the action in the place of docker's; not where the step is not written as a block.
    fn uses_kiln(&mut self, step: &Step<'_>, steps: &[Step<'_>]) -> bool {
        let (Some(_), Some(uses)) = (self.lines_of(step), step.node.get("uses")) else {
            self.note(step.node.span.start, step.label(), "it is not written as a block: change `uses` by hand");
            return false;
        };
        self.changed = true;
        // A comment behind it tells docker's version.
        let end = self.line_end(uses.span.start);
        let end = if self.text[..end].ends_with('\n') { end - 1 } else { end };
        self.replace(uses.span.start..end, USES);
        let is_checked_out = steps.iter().any(|s| s.number < step.number && s.action() == Some("actions/checkout"));
        if step.with("context").is_none() && !is_checked_out && !self.workflow.is_action() {
            let lines = self.line_start(step.node.span.start);
            let indent = self.indent(lines).to_owned();
            let checkout = format!(
                "{indent}{MARK}docker's action fetched the repository itself\n{indent}- uses: actions/checkout@v4\n"
            );
            self.replace(lines..lines, checkout);
        }
        true
    }

    /// Adds an input in front of the others.
    fn add_input(&mut self, step: &Step<'_>, name: &str, value: &str) {
        let inputs = step.node.entry("with");
        let first = inputs.and_then(|(_, inputs)| inputs.pairs().first()).map(|(key, _)| key.span.start);
        match first {
            Some(first) if inputs.is_some_and(|(_, inputs)| self.is_flow(inputs)) => {
                self.replace(first..first, format!("{name}: {value}, "));
            }
            Some(first) => {
                let start = self.line_start(first);
                let line = format!("{}{name}: {value}\n", self.key_indent(first));
                self.replace(start..start, line);
            }
            None => {
                let indent = self.key_indent(step.node.span.start);
                let end = self.line_end(step.node.span.end);
                self.replace(end..end, format!("{indent}with:\n{indent}  {name}: {value}\n"));
            }
        }
    }

    /// Whether a value is written in braces.
    fn is_flow(&self, node: &Node) -> bool {
        self.text[node.span.clone()].starts_with('{')
    }

    /// Comments those inputs that are not the action's.
    fn inputs(&mut self, with: &Node, inputs: &Node, known: fn(&str, &str) -> Input) {
        let mut left = 0;
        for (key, value) in inputs.pairs() {
            let name = key.text().unwrap_or_default();
            let (is_lost, why) = match known(name, value.text().unwrap_or_default()) {
                Input::Same => {
                    left += 1;
                    continue;
                }
                Input::NotNeeded(why) => (false, why),
                Input::Lost(why) => (true, why),
            };
            if self.is_flow(inputs) {
                self.note(key.span.start, name, format!("{why}; take it out by hand"));
                left += 1;
                continue;
            }
            let lines = self.line_start(key.span.start)..self.line_end(value.span.end.max(key.span.end));
            let indent = self.indent(lines.start);
            let said = if is_lost { "not carried over" } else { "not needed" };
            let comment = format!("{indent}{MARK}{said}: {why}\n{}", self.commented(lines.clone()));
            self.replace(lines, comment);
            if is_lost {
                self.note(key.span.start, name, why);
            }
        }
        if left == 0 {
            let line = self.line_start(with.span.start)..self.line_end(with.span.start);
            // The dash of a step would go with it; then an empty `with:` is left, which GitHub allows.
            if !self.text[line.clone()].trim_start().starts_with('-') {
                self.replace(line, String::new());
            }
        }
    }

    /// A step that puts kiln in the path, once for a job.
    fn install(&mut self, step: &Step<'_>, has_kiln: &mut bool) {
        if std::mem::replace(has_kiln, true) {
            return;
        }
        let start = self.line_start(step.node.span.start);
        let dash = self.indent(start).to_owned();
        let text = format!("{dash}- uses: {USES}\n{dash}  with:\n{dash}    install-only: true\n");
        self.replace(start..start, text);
    }

    /// docker/bake-action: the action builds bake files by inputs of the same names.
    fn bake(&mut self, step: &Step<'_>, steps: &[Step<'_>]) {
        if !self.uses_kiln(step, steps) {
            return;
        }
        if step.with("files").is_none() && step.with("targets").is_none() {
            // Without either it would build by the settings.
            self.add_input(step, "bake", "true");
        }
        if let Some((with, inputs)) = step.node.entry("with") {
            self.inputs(with, inputs, inputs::bake);
        }
    }

    /// A cache of files that kiln's own volumes hold.
    fn cache(&mut self, step: &Step<'_>, steps: &[Step<'_>]) {
        const OURS: [&str; 6] = ["ccache", "cache/pip", "cache/nuitka", "Nuitka", ".cache/uv", "buildx-cache"];
        let paths: Vec<&str> =
            step.with("path").unwrap_or_default().lines().map(str::trim).filter(|path| !path.is_empty()).collect();
        let caches: Vec<&str> =
            steps.iter().flat_map(|s| [s.with("cache-from"), s.with("cache-to")]).flatten().collect();
        if paths.iter().any(|path| caches.iter().any(|cache| cache.contains(path))) {
            return;
        }
        let is_ours = |path: &&str| OURS.iter().any(|name| path.contains(name));
        if paths.is_empty() || !paths.iter().any(is_ours) {
            return;
        }
        if paths.iter().all(is_ours) && !self.is_referred_to(step) {
            self.remove(step, "kiln keeps these caches in volumes, and cache-from and cache-to take them along");
        } else {
            self.comment(
                step,
                "kiln keeps caches of compilers and pip in volumes, and cache-from and cache-to take them along",
            );
        }
    }
}

/// All that a step says, in one line.
fn words(step: &Step<'_>) -> String {
    [step.text("run"), step.text("uses"), step.with("script")].into_iter().flatten().collect::<Vec<_>>().join(" ")
}
