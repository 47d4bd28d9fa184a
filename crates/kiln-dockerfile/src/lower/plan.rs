//! What to lower: the stages that the target needs, where each starts, and what each copies or mounts.

use std::borrow::Cow;

use kiln_graph::Platform;

use super::{BaseImage, Built, NamedContext, NoCache, Options, ResolvedImage, ResolvedImages, default_args, set};
use crate::ast::{Command, Dockerfile, Instruction, Stage};
use crate::expand::expand;
use crate::parse::parse_trigger;
use crate::suggest::nearest;
use crate::{Error, ErrorKind, Span, Word};

/// The stages to lower, in the order of the file.
pub(super) struct Plan<'f> {
    pub(super) file: &'f Dockerfile,
    pub(super) options: &'f Options,
    pub(super) images: &'f ResolvedImages,
    /// The platform that is built for.
    pub(super) platform: Platform,
    /// Arguments of the global scope.
    pub(super) globals: Vec<(String, String)>,
    pub(super) stages: Vec<PlannedStage<'f>>,
    /// Index of the target among all stages of the file.
    pub(super) target: usize,
    pub(super) missing: Vec<BaseImage>,
    /// Where each of [`Self::missing`] is named first.
    pub(super) missing_spans: Vec<Span>,
}

/// One stage.
pub(super) struct PlannedStage<'f> {
    /// Index among all stages of the file.
    pub(super) index: usize,
    pub(super) stage: &'f Stage,
    pub(super) base: Origin,
    pub(super) platform: Platform,
    /// The triggers of its base, which run first, and its own instructions. Empty if a named context stands in for it.
    pub(super) instructions: Vec<Planned<'f>>,
    pub(super) no_cache: bool,
}

/// An instruction of a stage.
pub(super) struct Planned<'f> {
    pub(super) instruction: Cow<'f, Instruction>,
    /// Whether it is a trigger of the stage's base.
    pub(super) trigger: bool,
    /// Its place, if it was not written in this file: the `FROM` that brought it in.
    pub(super) place: Option<Span>,
}

impl Planned<'_> {
    /// The place of something in the instruction.
    pub(super) fn span(&self, own: Span) -> Span {
        self.place.unwrap_or(own)
    }

    /// Moves an error of an instruction that was not written in this file to where it was brought in.
    pub(super) fn relocate(&self, mut error: Error) -> Error {
        error.span = self.place.or(error.span);
        error
    }
}

/// Where files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nothing.
    Scratch,
    /// The result of a stage.
    Stage(usize),
    /// An image.
    Image(BaseImage),
    /// A named context on the client.
    Local(String),
    /// Another target of this graph.
    Target(Box<Built>),
}

impl<'f> Plan<'f> {
    pub(super) fn new(
        file: &'f Dockerfile,
        options: &'f Options,
        target: Option<&str>,
        platform: Platform,
        images: &'f ResolvedImages,
    ) -> Result<Self, Error> {
        let target = find_target(file, target)?;
        let name = file.stages[target].name.as_ref().map(|name| name.value.to_lowercase()).unwrap_or_default();
        let mut plan = Self {
            file,
            options,
            images,
            platform,
            globals: default_args(options.build_platform, platform, &name),
            stages: vec![],
            target,
            missing: vec![],
            missing_spans: vec![],
        };
        plan.read_globals()?;
        plan.visit()?;
        Ok(plan)
    }

    /// The `ARG`s before the first `FROM`. Build arguments win over defaults and are not expanded.
    fn read_globals(&mut self) -> Result<(), Error> {
        for (name, value) in &mut self.globals {
            if let Some(given) = self.options.build_args.get(name) {
                value.clone_from(given);
            }
        }
        for instruction in &self.file.global_args {
            let Command::Arg(arguments) = &instruction.command else { continue };
            for argument in arguments {
                let name = &argument.name.value;
                let value = match (self.options.build_args.get(name), &argument.default) {
                    (Some(given), _) => given.clone(),
                    (None, Some(default)) => self.expand_global(default)?,
                    (None, None) => continue,
                };
                set(&mut self.globals, name, value);
            }
        }
        Ok(())
    }

    fn expand_global(&self, word: &Word) -> Result<String, Error> {
        let expanded = expand(&word.value, self.file.mode(), &self.globals);
        expanded
            .map(|expanded| expanded.text)
            .map_err(|source| Error::new(ErrorKind::Expand { word: word.value.clone(), source }, word.span))
    }

    /// Plans the target and everything that it needs. An explicit stack: a file may chain thousands of stages.
    fn visit(&mut self) -> Result<(), Error> {
        let mut waiting = vec![self.target];
        let mut seen = vec![false; self.file.stages.len()];
        let mut missing = Vec::new();
        while let Some(index) = waiting.pop() {
            if std::mem::replace(&mut seen[index], true) {
                continue;
            }
            let planned = self.plan_stage(index)?;
            let sources = self.sources(&planned)?;
            let base = (planned.base.clone(), planned.stage.base.span);
            for (origin, span) in std::iter::once(base).chain(sources) {
                match origin {
                    Origin::Stage(stage) => waiting.push(stage),
                    Origin::Image(image) if !self.images.contains_key(&image) => missing.push((index, image, span)),
                    _ => {}
                }
            }
            self.stages.push(planned);
        }
        missing.sort_by_key(|(index, _, _)| *index);
        for (_, image, span) in missing {
            if !self.missing.contains(&image) {
                self.missing.push(image);
                self.missing_spans.push(span);
            }
        }
        self.stages.sort_by_key(|stage| stage.index);
        Ok(())
    }

    fn plan_stage(&self, index: usize) -> Result<PlannedStage<'f>, Error> {
        let stage = &self.file.stages[index];
        let platform = self.stage_platform(stage)?;
        let no_cache = match &self.options.no_cache {
            NoCache::None => false,
            NoCache::All => true,
            NoCache::Stages(names) => {
                let label = stage.label(index);
                names.iter().any(|name| name.eq_ignore_ascii_case(&label))
            }
        };
        let planned = |base, instructions| PlannedStage { index, stage, base, platform, instructions, no_cache };
        if let Some(base) = stage.name.as_ref().and_then(|name| self.context(&name.value, platform)) {
            return Ok(planned(base, vec![]));
        }
        let name = self.expand_global(&stage.base)?;
        if name.is_empty() {
            return Err(Error::new(ErrorKind::Blank { word: stage.base.value.clone() }, stage.base.span));
        }
        let (base, triggers) = if let Some(base) = self.stage_before(index, &name) {
            (Origin::Stage(base), self.stage_triggers(base))
        } else {
            let base = self.image(&name, platform);
            let triggers = match &base {
                Origin::Image(image) => self.image_triggers(image, stage.span)?,
                _ => vec![],
            };
            (base, triggers)
        };
        let own = stage.instructions.iter();
        let own = own.map(|i| Planned { instruction: Cow::Borrowed(i), trigger: false, place: None });
        let platform = if base == Origin::Scratch { self.platform } else { platform };
        let planned = |base, instructions| PlannedStage { index, stage, base, platform, instructions, no_cache };
        Ok(planned(base, triggers.into_iter().chain(own).collect()))
    }

    fn stage_platform(&self, stage: &Stage) -> Result<Platform, Error> {
        let Some(word) = &stage.platform else { return Ok(self.platform) };
        let value = self.expand_global(word)?;
        if value.is_empty() {
            return Err(Error::new(ErrorKind::Blank { word: word.value.clone() }, word.span));
        }
        value.parse().map_err(|source| Error::new(ErrorKind::Platform { value, source }, word.span))
    }

    fn stage_triggers(&self, base: usize) -> Vec<Planned<'f>> {
        let instructions = self.file.stages[base].instructions.iter();
        let triggers = instructions.filter_map(|instruction| match &instruction.command {
            Command::OnBuild(trigger) => Some(&trigger.instruction),
            _ => None,
        });
        triggers.map(|trigger| Planned { instruction: Cow::Borrowed(trigger), trigger: true, place: None }).collect()
    }

    /// The triggers that the configuration of an image holds. They have no lines of their own: `FROM` is their place.
    fn image_triggers(&self, image: &BaseImage, from: Span) -> Result<Vec<Planned<'f>>, Error> {
        let Some(ResolvedImage { config, .. }) = self.images.get(image) else { return Ok(vec![]) };
        let triggers = config.on_build.iter().map(|text| {
            let mut instruction = parse_trigger(text).map_err(|source| {
                Error::new(ErrorKind::Trigger { trigger: text.clone(), source: Box::new(source) }, from)
            })?;
            instruction.span = from;
            Ok(Planned { instruction: Cow::Owned(instruction), trigger: true, place: Some(from) })
        });
        triggers.collect()
    }

    /// What a stage copies and mounts, beside its base.
    fn sources(&self, planned: &PlannedStage<'f>) -> Result<Vec<(Origin, Span)>, Error> {
        let mut origins = Vec::new();
        for instruction in &planned.instructions {
            let words: Vec<&Word> = match &instruction.instruction.command {
                Command::Copy(copy) => copy.from.iter().collect(),
                Command::Run(run) => run.mounts.iter().filter_map(|mount| mount.from()).collect(),
                _ => continue,
            };
            for word in words.into_iter().filter(|word| !word.value.is_empty()) {
                let origin = self.origin(planned.index, word).map_err(|error| instruction.relocate(error))?;
                origins.push((origin, instruction.place.unwrap_or(word.span)));
            }
        }
        Ok(origins)
    }

    /// What `--from` or `from=` in stage `index` names: an earlier stage by index or name, a context, or an image.
    pub(super) fn origin(&self, index: usize, word: &Word) -> Result<Origin, Error> {
        let name = &word.value;
        if name.bytes().all(|b| b.is_ascii_digit())
            && let Ok(wanted) = name.parse::<usize>()
        {
            return if wanted < index {
                Ok(Origin::Stage(wanted))
            } else {
                Err(Error::new(ErrorKind::UnknownStageIndex { index: wanted }, word.span))
            };
        }
        if let Some(stage) = self.stage_before(index, name) {
            return Ok(Origin::Stage(stage));
        }
        if self.file.stages[index..].iter().any(|stage| is_named(stage, name)) {
            return Err(Error::new(ErrorKind::StageOrder { stage: name.clone() }, word.span));
        }
        Ok(self.image(name, self.platform))
    }

    /// The last stage of this name before another.
    fn stage_before(&self, index: usize, name: &str) -> Option<usize> {
        self.file.stages[..index].iter().rposition(|stage| is_named(stage, name))
    }

    fn image(&self, reference: &str, platform: Platform) -> Origin {
        if reference == "scratch" {
            return Origin::Scratch;
        }
        let image = BaseImage { reference: reference.to_owned(), platform };
        self.context(reference, platform).unwrap_or(Origin::Image(image))
    }

    /// The named context that stands in for a stage or an image.
    fn context(&self, name: &str, platform: Platform) -> Option<Origin> {
        let familiar = familiar(name);
        let mut contexts = self.options.contexts.iter();
        let (key, context) =
            contexts.find(|(key, _)| key.eq_ignore_ascii_case(name) || self::familiar(key) == familiar)?;
        Some(match context {
            NamedContext::Local => Origin::Local(self.options.local(key)),
            NamedContext::Target(built) => Origin::Target(built.clone()),
            NamedContext::Image(reference) => Origin::Image(BaseImage { reference: reference.clone(), platform }),
        })
    }
}

/// The short form of an image reference: `docker.io/library/alpine:latest` is `alpine`.
fn familiar(reference: &str) -> &str {
    let short = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let short = short.strip_prefix("library/").unwrap_or(short);
    short.strip_suffix(":latest").unwrap_or(short)
}

fn is_named(stage: &Stage, name: &str) -> bool {
    stage.name.as_ref().is_some_and(|own| own.value.eq_ignore_ascii_case(name))
}

fn find_target(file: &Dockerfile, target: Option<&str>) -> Result<usize, Error> {
    let Some(target) = target.filter(|target| !target.is_empty()) else { return Ok(file.stages.len() - 1) };
    let by_name = file.stages.iter().rposition(|stage| is_named(stage, target));
    let by_index = || {
        let number = target.strip_prefix("stage-").unwrap_or(target).parse::<usize>().ok()?;
        (number < file.stages.len()).then_some(number)
    };
    by_name.or_else(by_index).ok_or_else(|| {
        let stages = file.stage_names();
        let suggestion = nearest(target, stages.iter().map(String::as_str));
        let kind = ErrorKind::UnknownTarget { target: target.to_owned(), stages, suggestion };
        Error::nowhere(kind)
    })
}
