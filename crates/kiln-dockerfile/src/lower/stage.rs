//! The instructions of one stage, in order.

use std::collections::{BTreeMap, BTreeSet};

use kiln_graph::{
    BuildGraph, FileAction, FileOp, HistoryEntry, ImageConfig, Op, Origin as Place, Owner, Platform, Remote, Source,
    Target, VertexId,
};

use super::caches::Watch;
use super::plan::{Origin, Plan, Planned, PlannedStage};
use super::{Lowered, LoweredCommand, set};
use crate::ast::{ArgDeclaration, Command, Instruction};
use crate::check::{Rule, Warning, did_you_mean};
use crate::expand::{Expanded, Mode, Variables, expand};
use crate::{Error, ErrorKind, Span, Word};

/// The `PATH` of images that set none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a stage has come to.
#[derive(Clone)]
struct State {
    root: VertexId,
    config: ImageConfig,
    /// What steps see: the image's variables, then `ENV` and `ARG` as they come.
    env: Vec<(String, String)>,
    /// Arguments that were declared; they may be unset without a warning.
    declared: BTreeSet<String>,
    /// The same, in order, for the history.
    arguments: Vec<String>,
    /// Whether a `WORKDIR` came, here or in a stage below.
    has_workdir: bool,
    platform: Platform,
}

/// Lowers the stages of a plan.
pub(super) fn lower(plan: &Plan<'_>, graph: &mut BuildGraph, warnings: &mut Vec<Warning>) -> Result<Lowered, Error> {
    let mut watch = Watch::default();
    if plan.options.auto_caches {
        // Once to look. What fails will fail again, and say so then.
        let _ = walk(plan, &mut graph.clone(), &mut Vec::new(), &mut watch);
        watch.rewind();
    }
    walk(plan, graph, warnings, &mut watch)
}

fn walk(
    plan: &Plan<'_>,
    graph: &mut BuildGraph,
    warnings: &mut Vec<Warning>,
    watch: &mut Watch,
) -> Result<Lowered, Error> {
    let mut states: BTreeMap<usize, State> = BTreeMap::new();
    let mut commands = Vec::new();
    for planned in &plan.stages {
        let mut lowering = Lowering::start(plan, planned, graph, &states, watch);
        let result = planned.instructions.iter().try_for_each(|planned| {
            lowering.current = Some(planned);
            lowering.instruction(&planned.instruction).map_err(|error| planned.relocate(error))
        });
        let Lowering { state, warnings: found, commands: run, .. } = lowering;
        warnings.extend(found);
        result?;
        commands.extend(run);
        states.insert(planned.index, state);
    }
    let State { root, mut config, .. } = states.remove(&plan.target).expect("the plan holds the target");
    config.labels.extend(plan.options.labels.clone());
    let name = plan.file.stages[plan.target].label(plan.target);
    Ok(Lowered { target: Target { name, platform: plan.platform, root, config }, warnings: vec![], commands })
}

/// One stage while it is lowered.
pub(super) struct Lowering<'a, 'f> {
    pub(super) plan: &'a Plan<'f>,
    planned: &'a PlannedStage<'f>,
    pub(super) graph: &'a mut BuildGraph,
    done: &'a BTreeMap<usize, State>,
    pub(super) watch: &'a mut Watch,
    state: State,
    pub(super) warnings: Vec<Warning>,
    commands: Vec<LoweredCommand>,
    /// The instruction that is lowered.
    current: Option<&'a Planned<'f>>,
    /// Whether this stage has a `CMD` of its own.
    pub(super) has_cmd: bool,
    step: u32,
    steps: u32,
}

impl<'a, 'f> Lowering<'a, 'f> {
    fn start(
        plan: &'a Plan<'f>,
        planned: &'a PlannedStage<'f>,
        graph: &'a mut BuildGraph,
        done: &'a BTreeMap<usize, State>,
        watch: &'a mut Watch,
    ) -> Self {
        let vertices = planned.instructions.iter().filter(|planned| {
            let command = &planned.instruction.command;
            matches!(command, Command::Run(_) | Command::Copy(_) | Command::Add(_) | Command::Workdir(_))
        });
        let own_base = matches!(planned.base, Origin::Image(_) | Origin::Local(_));
        let steps = u32::try_from(vertices.count()).unwrap_or(u32::MAX).saturating_add(u32::from(own_base));
        let mut state = State {
            root: VertexId(0),
            config: ImageConfig::default(),
            env: vec![],
            declared: BTreeSet::new(),
            arguments: vec![],
            has_workdir: false,
            platform: planned.platform,
        };
        let mut step = 0;
        match &planned.base {
            Origin::Stage(base) => {
                // The platform is the base's too, whatever `--platform` says.
                state = done.get(base).expect("a base comes before what stands on it").clone();
                state.config.on_build.clear();
            }
            base => {
                if let Origin::Target(built) = base {
                    state.config = built.config.clone();
                    state.config.on_build.clear();
                }
                if let Origin::Image(image) = base {
                    state.config = plan.images.get(image).map(|image| image.config.clone()).unwrap_or_default();
                    state.config.on_build.clear();
                }
                step = u32::from(own_base);
                let text = match base {
                    Origin::Image(image) => format!("FROM {}", image.reference),
                    Origin::Local(name) => format!("FROM {name}"),
                    Origin::Scratch | Origin::Stage(_) | Origin::Target(_) => "FROM scratch".into(),
                };
                let place = Place {
                    file: plan.file.name.clone(),
                    line: planned.stage.span.line,
                    end_line: planned.stage.span.end_line,
                    stage: planned.stage.label(planned.index),
                    text,
                    step,
                    steps,
                };
                state.root = base_vertex(graph, plan, base, place);
                if state.config.env_value("PATH").is_none() {
                    state.config.set_env("PATH", DEFAULT_PATH);
                }
                state.env.clone_from(&state.config.env);
                if !state.config.working_dir.is_empty() {
                    state.config.working_dir = super::copy::join("/", &state.config.working_dir);
                } else if matches!(base, Origin::Scratch) {
                    "/".clone_into(&mut state.config.working_dir);
                }
            }
        }
        Self {
            plan,
            planned,
            graph,
            done,
            watch,
            state,
            warnings: vec![],
            commands: vec![],
            current: None,
            has_cmd: false,
            step,
            steps,
        }
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), Error> {
        self.check_form(instruction);
        match &instruction.command {
            Command::Run(run) => self.run(instruction, run),
            Command::Copy(copy) => self.transfer(instruction, copy, false),
            Command::Add(add) => self.transfer(instruction, add, true),
            Command::Workdir(path) => self.workdir(instruction, path),
            Command::Arg(arguments) => {
                let said = arguments.iter().map(|argument| self.arg(argument)).collect::<Result<Vec<_>, _>>()?;
                self.note(format!("ARG {}", said.join(" ")));
                Ok(())
            }
            Command::Env(pairs) => {
                // All values see the variables as they were before the line.
                let expand = |word: &Word| self.expand_quietly(word);
                let pairs = pairs.iter().map(|pair| Ok((expand(&pair.name)?, expand(&pair.value)?)));
                let pairs = pairs.collect::<Result<Vec<_>, Error>>()?;
                let said = pairs.iter().map(|(name, value)| (name.0.text.as_str(), value.0.text.as_str()));
                self.note(super::history::pairs("ENV", said));
                for (name, value) in pairs {
                    self.warn_unmatched(name.1, &name.0);
                    self.warn_unmatched(value.1, &value.0);
                    self.check_secret("ENV", &name.0.text, name.1);
                    set(&mut self.state.env, &name.0.text, value.0.text.clone());
                    self.state.config.set_env(&name.0.text, value.0.text);
                }
                Ok(())
            }
            command => self.configure(command),
        }
    }

    /// `WORKDIR`: a folder, and where later steps run.
    fn workdir(&mut self, instruction: &Instruction, path: &Word) -> Result<(), Error> {
        let span = path.span;
        let path = self.expand(path)?;
        if !std::mem::replace(&mut self.state.has_workdir, true) {
            self.check_workdir(&path, span);
        }
        let path = super::copy::join(self.cwd(), &path);
        self.state.config.working_dir.clone_from(&path);
        let said = format!("WORKDIR {path}");
        if path == "/" {
            self.note(said);
            return Ok(());
        }
        let owner = Some(Owner { spec: self.user().to_owned() }).filter(|owner| !owner.spec.is_empty());
        let op = Op::File(FileOp { actions: vec![FileAction::Mkdir { path, owner }] });
        let place = self.place(instruction, &self.display(instruction, &[]));
        self.state.root = self.graph.insert(op, vec![self.state.root], place, false);
        self.watch_makes(&self.state.config.working_dir.clone());
        self.note_files(said);
        Ok(())
    }

    /// `ARG` in a stage: a build argument, else its default, else the argument of this name before the first `FROM`.
    /// Returns what the history says of it.
    fn arg(&mut self, argument: &ArgDeclaration) -> Result<String, Error> {
        let name = &argument.name.value;
        self.check_secret("ARG", name, argument.name.span);
        let value = match (self.plan.options.build_args.get(name), &argument.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => Some(self.expand(default)?),
            (None, None) => self.plan.globals.value(name).map(str::to_owned),
        };
        let said = value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}"));
        if let Some(value) = value {
            set(&mut self.state.env, name, value);
        }
        if self.state.declared.insert(name.clone()) {
            self.state.arguments.push(name.clone());
        }
        Ok(said)
    }

    /// Notes an instruction that changes no file in the image's history.
    pub(super) fn note(&mut self, created_by: String) {
        self.state.config.history.push(HistoryEntry { created_by, vertex: None });
    }

    /// Notes the instruction behind the vertex that was just added.
    pub(super) fn note_files(&mut self, created_by: String) {
        let vertex = Some(self.state.root);
        self.state.config.history.push(HistoryEntry { created_by, vertex });
    }

    /// The declared arguments with their values, as the history of a command names them.
    pub(super) fn arguments_said(&self) -> Vec<String> {
        let value = |name: &String| self.env().iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        self.state.arguments.iter().map(|name| format!("{name}={}", value(name).unwrap_or_default())).collect()
    }

    pub(super) fn config(&mut self) -> &mut ImageConfig {
        &mut self.state.config
    }

    pub(super) fn env(&self) -> &[(String, String)] {
        &self.state.env
    }

    pub(super) fn platform(&self) -> Platform {
        self.state.platform
    }

    pub(super) fn root(&self) -> VertexId {
        self.state.root
    }

    pub(super) fn user(&self) -> &str {
        &self.state.config.user
    }

    /// The working folder, absolute.
    pub(super) fn cwd(&self) -> &str {
        if self.state.config.working_dir.is_empty() { "/" } else { &self.state.config.working_dir }
    }

    /// A command line as arguments: the shell form gets the shell in front.
    pub(super) fn with_shell(&self, line: &str) -> Vec<String> {
        let shell = self.state.config.shell.clone().filter(|shell| !shell.is_empty());
        let mut arguments = shell.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
        arguments.push(line.to_owned());
        arguments
    }

    /// Adds a vertex on top of the stage.
    pub(super) fn add(&mut self, op: Op, inputs: Vec<VertexId>, place: Place) {
        self.state.root = self.graph.insert(op, inputs, place, self.planned.no_cache);
    }

    /// Remembers the vertex that was just added as a command.
    pub(super) fn note_command(&mut self) {
        self.commands.push(LoweredCommand { stage: self.planned.index, step: self.step, vertex: self.state.root });
    }

    /// Expands a word; variables that are not set become nothing, with a warning.
    pub(super) fn expand(&mut self, word: &Word) -> Result<String, Error> {
        let (expanded, span) = self.expand_quietly(word)?;
        self.warn_unmatched(span, &expanded);
        Ok(expanded.text)
    }

    pub(super) fn expand_quietly(&self, word: &Word) -> Result<(Expanded, Span), Error> {
        match expand(&word.value, self.plan.file.mode(), self.env()) {
            Ok(expanded) => Ok((expanded, word.span)),
            Err(source) => Err(Error::new(ErrorKind::Expand { word: word.value.clone(), source }, word.span)),
        }
    }

    pub(super) fn warn_unmatched(&mut self, span: Span, expanded: &Expanded) {
        let known: Vec<String> = self.env().iter().map(|(name, _)| name.clone()).collect();
        for name in &expanded.unmatched {
            if self.state.declared.contains(name) {
                continue;
            }
            let message = did_you_mean(format!("variable `{name}` is not set"), name, &known);
            self.warn(Rule::UndefinedVar, span, message);
        }
    }

    /// Notes a warning about something in the current instruction. A trigger is noted at the `FROM` that runs it.
    pub(super) fn warn(&mut self, rule: Rule, span: Span, message: String) {
        let span = match self.current {
            Some(planned) if planned.trigger => planned.place.unwrap_or(self.planned.stage.span),
            _ => span,
        };
        self.warnings.push(Warning::new(rule, span, message));
    }

    /// Whether the instruction at hand is a trigger.
    pub(super) fn is_trigger(&self) -> bool {
        self.current.is_some_and(|planned| planned.trigger)
    }

    /// The instruction as one line for people: variables that are set are expanded, secrets masked.
    pub(super) fn display(&self, instruction: &Instruction, secrets: &[String]) -> String {
        let rest = instruction.text.trim_start().get(instruction.keyword.len()..).unwrap_or_default();
        let line = format!("{} {}", instruction.keyword.to_uppercase(), one_line(rest));
        let mut env = self.env().to_vec();
        env.extend(secrets.iter().map(|name| (name.clone(), "****".to_owned())));
        let mode = Mode::display(self.plan.file.directives.escape());
        expand(&line, mode, &env).map_or(line, |expanded| expanded.text)
    }

    pub(super) fn place(&mut self, instruction: &Instruction, text: &str) -> Place {
        self.step += 1;
        let prefix = if self.is_trigger() { "ONBUILD " } else { "" };
        Place {
            file: self.plan.file.name.clone(),
            line: instruction.span.line,
            end_line: instruction.span.end_line,
            stage: self.planned.stage.label(self.planned.index),
            text: format!("{prefix}{text}"),
            step: self.step,
            steps: self.steps,
        }
    }

    /// The vertex that `--from` or `from=` names.
    pub(super) fn origin(&mut self, word: &Word) -> Result<VertexId, Error> {
        let origin = self.plan.origin(self.planned.index, word)?;
        Ok(match &origin {
            Origin::Stage(stage) => self.done.get(stage).expect("sources come before their users").root,
            Origin::Target(built) => built.root,
            Origin::Image(_) | Origin::Scratch | Origin::Local(_) => {
                let text = format!("load {}", word.value);
                let span = self.current.map_or(word.span, |planned| planned.span(word.span));
                let place = Place {
                    file: self.plan.file.name.clone(),
                    line: span.line,
                    end_line: span.end_line,
                    text,
                    ..Place::default()
                };
                source_vertex(self.graph, self.plan, &origin, place)
            }
        })
    }

    /// The build context.
    pub(super) fn context(&mut self) -> VertexId {
        let place = Place { text: "load build context".into(), ..Place::default() };
        let name = self.plan.options.local(".");
        self.graph.insert(Op::Source(Source::Local { name }), vec![], place, false)
    }

    /// What is fetched from elsewhere, where `span` names it.
    pub(super) fn remote(&mut self, remote: Remote, span: Span) -> VertexId {
        let span = self.current.map_or(span, |planned| planned.span(span));
        let place = Place {
            file: self.plan.file.name.clone(),
            line: span.line,
            end_line: span.end_line,
            text: format!("fetch {remote}"),
            ..Place::default()
        };
        self.graph.insert(Op::Source(Source::Remote(remote)), vec![], place, false)
    }
}

/// Where a stage starts. A folder of the client is copied, so that the stage does not write to it.
fn base_vertex(graph: &mut BuildGraph, plan: &Plan<'_>, base: &Origin, place: Place) -> VertexId {
    if let Origin::Target(built) = base {
        return built.root;
    }
    let Origin::Local(name) = base else { return source_vertex(graph, plan, base, place) };
    let loaded = Place { text: format!("load {name}"), ..Place::default() };
    let local = source_vertex(graph, plan, base, loaded);
    let scratch = graph.insert(Op::Source(Source::Scratch), vec![], Place::default(), false);
    let copy = kiln_graph::Copy {
        input: 1,
        sources: vec![".".into()],
        dest: "/".into(),
        owner: None,
        chmod: None,
        unpack: false,
        link: false,
        parents: false,
        excludes: vec![],
    };
    let op = Op::File(FileOp { actions: vec![FileAction::Copy(copy)] });
    graph.insert(op, vec![scratch, local], place, false)
}

fn source_vertex(graph: &mut BuildGraph, plan: &Plan<'_>, origin: &Origin, place: Place) -> VertexId {
    let source = match origin {
        Origin::Image(image) => Source::Image {
            reference: image.reference.clone(),
            id: plan.images.get(image).map(|image| image.id.clone()).unwrap_or_default(),
            platform: image.platform,
        },
        Origin::Local(name) => Source::Local { name: name.clone() },
        Origin::Scratch | Origin::Stage(_) | Origin::Target(_) => Source::Scratch,
    };
    graph.insert(Op::Source(source), vec![], place, false)
}

/// Runs of white space become one space, except in quotes.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    let mut quote = None;
    for c in text.trim().chars() {
        match quote {
            None if c.is_whitespace() => {
                if !line.ends_with(' ') {
                    line.push(' ');
                }
                continue;
            }
            None if matches!(c, '"' | '\'') => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        line.push(c);
    }
    line
}
