//! Steps: docker's actions become kiln's.

use super::inputs::{self, Input};
use super::{MARK, Rewriter, USES};
use crate::container::containers;
use crate::expression::{self, Part};
use crate::plan::{How, words_of};
use crate::program::program;
use crate::workflow::{Job, Step};
use crate::yaml::Node;
use std::fmt::Write as _;

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
                Kind::Bake => {
                    self.install(step, &mut has_kiln);
                    self.bake(step);
                }
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
        let (Some(_), Some(uses)) = (self.lines_of(step), step.node.get("uses")) else {
            self.note(step.node.span.start, step.label(), "it is not written as a block: change `uses` by hand");
            return;
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
        for build in self.builds(job.id, step.number) {
            if let How::Dockerfile { context, .. } = &build.how
                && context.starts_with("{{")
            {
                let why = "docker's action computes this context: kiln takes a folder or a URL";
                self.note(step.node.span.start, context.clone(), why);
            }
        }
        let inputs = step.node.entry("with");
        if step.with("file").is_none() {
            // Without it kiln builds by the settings.
            let file = match step.with("context").map(|context| context.trim_end_matches('/')) {
                None | Some("." | "") => Some("./Dockerfile".to_owned()),
                Some(context) if context.contains("://") || context.starts_with("{{") => None,
                Some(context) => Some(format!("{context}/Dockerfile")),
            };
            let first = inputs.and_then(|(_, inputs)| inputs.pairs().first()).map(|(key, _)| key.span.start);
            match (file, first) {
                (Some(file), Some(first)) if inputs.is_some_and(|(_, inputs)| self.is_flow(inputs)) => {
                    self.replace(first..first, format!("file: {file}, "));
                }
                (Some(file), Some(first)) => {
                    let start = self.line_start(first);
                    let line = format!("{}file: {file}\n", self.key_indent(first));
                    self.replace(start..start, line);
                }
                (Some(file), None) => {
                    let indent = self.key_indent(step.node.span.start);
                    let end = self.line_end(step.node.span.end);
                    self.replace(end..end, format!("{indent}with:\n{indent}  file: {file}\n"));
                }
                (None, _) => {}
            }
        }
        let Some((with, inputs)) = inputs else { return };
        self.inputs(with, inputs, inputs::build);
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

    /// docker/bake-action becomes a command, because the action is for one build.
    fn bake(&mut self, step: &Step<'_>) {
        let (Some(_), Some((uses_key, uses))) = (self.lines_of(step), step.node.entry("uses")) else {
            self.note(step.node.span.start, step.label(), "it is not written as a block: write `kiln bake` by hand");
            return;
        };
        self.changed = true;
        let indent = self.key_indent(step.node.span.start);
        let (mut files, mut sets, mut words): (Vec<String>, Vec<String>, Vec<String>) = Default::default();
        let mut variables: Vec<(String, String)> = Vec::new();
        let mut comments = String::new();
        let list = |text: &str| -> Vec<String> {
            text.split([',', '\n']).map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        };
        let pairs = step.node.get("with").map_or(&[][..], Node::pairs);
        for (key, value) in pairs {
            let (name, text) = (key.text().unwrap_or_default(), value.text().unwrap_or_default());
            match (inputs::bake(name, text), name) {
                (Input::Same, "files") => {
                    let plain = |file: &str| file.trim_start_matches("cwd://").trim_start_matches("./").to_owned();
                    let all = list(text);
                    let all = all.iter().map(|file| quoted(&plain(file), &mut variables));
                    files.extend(all.flat_map(|file| ["-f".to_owned(), file]));
                }
                (Input::Same, "set") => {
                    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                    sets.extend(lines.flat_map(|line| ["--set".to_owned(), quoted(line, &mut variables)]));
                }
                (Input::Same, "targets") => {}
                (Input::Same, switch) => match text.trim() {
                    "false" | "" => {}
                    "true" => words.push(format!("--{switch}")),
                    dynamic => {
                        // The option has no value: the expression becomes the option or nothing.
                        if let [Part::Expression(inner)] = expression::parts(dynamic).as_slice() {
                            let name = format!("BAKE_{}", switch.to_ascii_uppercase().replace('-', "_"));
                            variables
                                .push((name.clone(), format!("${{{{ ({}) && '--{switch}' || '' }}}}", inner.trim())));
                            words.push(format!("${name}"));
                        }
                    }
                },
                (Input::NotNeeded(why), _) => {
                    let _ = writeln!(comments, "{indent}{MARK}not needed: {name}: {why}");
                }
                (Input::Lost(why), _) => {
                    let lines = self.line_start(key.span.start)..self.line_end(value.span.end.max(key.span.end));
                    let old: String =
                        self.text[lines].lines().flat_map(|line| [&indent, "# ", line.trim_start(), "\n"]).collect();
                    let _ = write!(comments, "{indent}{MARK}not carried over: {why}\n{old}");
                    self.note(key.span.start, name, why);
                }
            }
        }
        let targets = list(step.with("targets").unwrap_or_default());
        words.extend(targets.iter().map(|target| quoted(target, &mut variables)));
        let command = format!("kiln bake {}", [files, sets, words].concat().join(" "));
        if self.text[step.node.span.clone()].contains("type=gha") {
            let why =
                "`run:` steps cannot see the cache of GitHub Actions: build with the action, or use another store";
            let _ = writeln!(comments, "{indent}{MARK}{why}");
            self.note(step.node.span.start, "type=gha", why);
        }
        let mut text = String::new();
        let has_env = step.node.get("env").is_some();
        if !variables.is_empty() && !has_env {
            text.push_str("env:\n");
            for (name, value) in &variables {
                let _ = writeln!(text, "{indent}  {name}: {value}");
            }
            text.push_str(&indent);
        }
        if self.workflow.is_action() {
            let _ = write!(text, "shell: bash\n{indent}");
        }
        // These would end a plain text.
        let is_plain = !command.contains(": ") && !command.contains(" #");
        text.push_str("run: ");
        if !is_plain {
            text.extend(["|\n", &indent, "  "]);
        }
        text.push_str(command.trim_end());
        if let Some((key, env)) = step.node.entry("env")
            && !variables.is_empty()
        {
            let at = self.line_end(env.span.end.max(key.span.end));
            let inner = env.pairs().first().map_or(format!("{indent}  "), |(key, _)| self.key_indent(key.span.start));
            let lines: String =
                variables.iter().flat_map(|(name, value)| [&inner, name, ": ", value.as_str(), "\n"]).collect();
            self.replace(at..at, lines);
        }
        let end = self.line_end(uses.span.start);
        self.replace(uses_key.span.start..end, format!("{text}\n{comments}"));
        if let Some((key, value)) = step.node.entry("with") {
            let lines = self.line_start(key.span.start)..self.line_end(value.span.end.max(key.span.end));
            self.replace(lines, String::new());
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

/// A word for a shell. Expressions come in by a variable, because a shell would read what they become.
fn quoted(text: &str, variables: &mut Vec<(String, String)>) -> String {
    if expression::is_dynamic(text) {
        let name = format!("BAKE_{}", variables.len() + 1);
        variables.push((name.clone(), text.to_owned()));
        return format!("\"${name}\"");
    }
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/=,:@+".contains(c));
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
