//! From a [`Dockerfile`] to the build graph, once per platform.
//!
//! [`plan`] finds the stages that the target needs, and the images that these need; [`stage`] walks the instructions of
//! one stage, with [`run`], [`copy`] and [`config`] for the single kinds; [`caches`] adds what the user's tools would
//! like to keep; [`check`] looks at what they came to.

use std::collections::{BTreeMap, HashMap};

use kiln_graph::{BuildGraph, ImageConfig, Platform, Target, VertexId};

use crate::ast::{Command, Dockerfile, Instruction};
use crate::check::{CheckConfig, Rule, Warning, did_you_mean};
use crate::expand::Mode;
use crate::{Error, ErrorKind, Ignore, Span};

mod caches;
mod check;
mod config;
mod copy;
mod history;
mod plan;
mod run;
mod stage;

use plan::Plan;

/// What a build sets from outside.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--build-context`, by name: they stand in for stages and images of that name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// What the graph calls a folder of the client, by the name that the Dockerfile has for it (`.` is the context).
    /// Those that are not here keep their names. Needed where one graph is built from several contexts.
    pub locals: BTreeMap<String, String>,
    /// `--label`: added to the target's labels.
    pub labels: BTreeMap<String, String>,
    /// `--no-cache` and `--no-cache-filter`.
    pub no_cache: NoCache,
    /// The platform of the machine that builds: `BUILDPLATFORM`.
    pub build_platform: Platform,
    /// What the context leaves out, for the check of `COPY`; it changes nothing else.
    pub ignore: Option<Ignore>,
    /// Whether the tools that a `RUN` calls get volumes for their caches where the file has no mount for them.
    pub auto_caches: bool,
}

impl Options {
    /// Nothing set.
    pub fn new(build_platform: Platform) -> Self {
        Self {
            build_args: BTreeMap::new(),
            contexts: BTreeMap::new(),
            locals: BTreeMap::new(),
            labels: BTreeMap::new(),
            no_cache: NoCache::None,
            build_platform,
            ignore: None,
            auto_caches: false,
        }
    }

    /// What the graph calls a folder of the client.
    pub(crate) fn local(&self, name: &str) -> String {
        self.locals.get(name).map_or(name, String::as_str).to_owned()
    }

    /// The proxy variables among the build arguments, in upper and lower case. Steps see them without declaring them;
    /// they belong into no cache key and no image, so the graph does not carry them.
    pub fn proxy_env(&self) -> Vec<(String, String)> {
        let proxies = self.build_args.iter().filter(|(name, _)| is_proxy(name));
        proxies
            .flat_map(|(name, value)| [(name.to_uppercase(), value.clone()), (name.to_lowercase(), value.clone())])
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .collect()
    }
}

/// What a named context is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A folder on the client. The graph names it like the context.
    Local,
    /// An image.
    Image(String),
    /// A target that was lowered into the same graph.
    Target(Box<Built>),
}

/// A target that others stand on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Its last vertex.
    pub root: VertexId,
    /// The configuration of its image.
    pub config: ImageConfig,
}

/// Which steps run even if their result is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NoCache {
    /// None of them.
    #[default]
    None,
    /// All of them.
    All,
    /// Those of these stages.
    Stages(Vec<String>),
}

/// An image that a build needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BaseImage {
    /// The reference as written, variables expanded.
    pub reference: String,
    /// The platform to resolve it for.
    pub platform: Platform,
}

/// What an engine knows of a [`BaseImage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedImage {
    /// Config digest or manifest digest.
    pub id: String,
    /// Its configuration.
    pub config: ImageConfig,
    /// The digest that its registry knows it by, `sha256:...`; none of what was made here.
    pub digest: Option<String>,
}

/// Images by what was asked for.
pub type ResolvedImages = HashMap<BaseImage, ResolvedImage>;

/// The result of lowering one target for one platform.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// Its root in the graph and the configuration of its image. Not yet in [`BuildGraph::targets`].
    pub target: Target,
    /// What was noticed on the way; [`Dockerfile::check`] has more.
    pub warnings: Vec<Warning>,
    /// Every `RUN` that was lowered, in order.
    pub commands: Vec<LoweredCommand>,
}

/// A `RUN` in the graph. The same one, lowered for another platform, has the same stage and step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoweredCommand {
    /// Index of the stage in the file.
    pub stage: usize,
    /// Place among the stage's vertices, counted from 1.
    pub step: u32,
    /// The vertex.
    pub vertex: VertexId,
}

impl Dockerfile {
    /// The images to resolve before [`Dockerfile::lower`], in the order of the stages that need them.
    ///
    /// # Errors
    /// If the target is unknown, or a reference cannot be expanded.
    pub fn base_images(
        &self,
        options: &Options,
        target: Option<&str>,
        platform: Platform,
    ) -> Result<Vec<BaseImage>, Error> {
        self.missing_images(options, target, platform, &ResolvedImages::new())
    }

    /// The images that are needed beyond those in `images`. `ONBUILD` triggers of a base image can need further images,
    /// so a caller that wants to support that asks again until nothing is missing.
    ///
    /// # Errors
    /// As [`Dockerfile::base_images`]; also if a trigger is malformed.
    pub fn missing_images(
        &self,
        options: &Options,
        target: Option<&str>,
        platform: Platform,
        images: &ResolvedImages,
    ) -> Result<Vec<BaseImage>, Error> {
        let plan = Plan::new(self, options, target, platform, images).map_err(|error| error.in_file(&self.name))?;
        Ok(plan.missing)
    }

    /// Where an image of [`Dockerfile::missing_images`], asked with the same arguments, is named.
    pub fn image_span(
        &self,
        options: &Options,
        target: Option<&str>,
        platform: Platform,
        images: &ResolvedImages,
        image: &BaseImage,
    ) -> Option<Span> {
        let plan = Plan::new(self, options, target, platform, images).ok()?;
        let found = plan.missing.iter().position(|missing| missing == image)?;
        plan.missing_spans.get(found).copied()
    }

    /// Adds the vertices of the target, and of the stages that it needs, to the graph.
    ///
    /// Build arguments and variables are known from here on; so are the mistakes that depend on them.
    ///
    /// # Errors
    /// If an image is not in `images`, the target is unknown, an expansion fails, or an instruction asks for what does
    /// not exist.
    pub fn lower(
        &self,
        options: &Options,
        target: Option<&str>,
        platform: Platform,
        images: &ResolvedImages,
        graph: &mut BuildGraph,
    ) -> Result<Lowered, Error> {
        let mut warnings = Vec::new();
        let mut lowered = self.lower_noting(options, target, platform, images, graph, &mut warnings)?;
        warnings.extend(self.undeclared_args(options));
        let config = self.effective_check_config(options);
        warnings.retain(|warning| config.wants(warning.rule));
        lowered.warnings = warnings;
        Ok(lowered)
    }

    /// As [`Dockerfile::lower`], with all warnings in `warnings`, also those before an error.
    pub(crate) fn lower_noting(
        &self,
        options: &Options,
        target: Option<&str>,
        platform: Platform,
        images: &ResolvedImages,
        graph: &mut BuildGraph,
        warnings: &mut Vec<Warning>,
    ) -> Result<Lowered, Error> {
        let mut lower = || {
            let plan = Plan::new(self, options, target, platform, images)?;
            if let Some(image) = plan.missing.first() {
                let kind = ErrorKind::ImageNotResolved { image: image.clone() };
                return Err(Error::nowhere(kind));
            }
            stage::lower(&plan, graph, warnings)
        };
        lower().map_err(|error: Error| error.in_file(&self.name))
    }

    /// The file's `# check=`, or what stands in for it: the build argument `BUILDKIT_DOCKERFILE_CHECK`.
    pub fn effective_check_config(&self, options: &Options) -> CheckConfig {
        let given = options.build_args.get("BUILDKIT_DOCKERFILE_CHECK");
        given.and_then(|text| CheckConfig::parse(text).ok()).unwrap_or_else(|| self.check_config())
    }

    /// Build arguments that no `ARG` in the file declares.
    fn undeclared_args(&self, options: &Options) -> Vec<Warning> {
        fn declared<'i>(instruction: &'i Instruction, names: &mut Vec<&'i str>) {
            match &instruction.command {
                Command::Arg(arguments) => names.extend(arguments.iter().map(|a| a.name.value.as_str())),
                Command::OnBuild(trigger) => declared(&trigger.instruction, names),
                _ => {}
            }
        }
        let mut names = Vec::new();
        let instructions = self.stages.iter().flat_map(|stage| &stage.instructions);
        self.global_args.iter().chain(instructions).for_each(|instruction| declared(instruction, &mut names));
        let known: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let predefined = default_args(options.build_platform, options.build_platform, "");
        let used = |name: &str| {
            names.contains(&name)
                || predefined.iter().any(|(predefined, _)| predefined == name)
                || is_proxy(name)
                || name.starts_with("BUILDKIT_")
                || name == "SOURCE_DATE_EPOCH"
        };
        let unused = options.build_args.keys().filter(|name| !used(name));
        unused
            .map(|name| {
                let message = format!("build argument `{name}` is not declared by any `ARG`");
                Warning { rule: Rule::UndeclaredBuildArg, span: None, message: did_you_mean(message, name, &known) }
            })
            .collect()
    }

    fn mode(&self) -> Mode {
        Mode::word(self.directives.escape())
    }
}

/// The arguments that exist in the global scope without being declared.
pub(crate) fn default_args(build: Platform, target: Platform, stage: &str) -> Vec<(String, String)> {
    let stage = if stage.is_empty() { "default" } else { stage };
    let mut args = Vec::new();
    for (prefix, platform) in [("BUILD", build), ("TARGET", target)] {
        let (arch, variant) = platform.arch.oci();
        args.push((format!("{prefix}PLATFORM"), platform.to_string()));
        args.push((format!("{prefix}OS"), platform.os().to_owned()));
        args.push((format!("{prefix}ARCH"), arch.to_owned()));
        args.push((format!("{prefix}VARIANT"), variant.unwrap_or_default().to_owned()));
    }
    args.push(("TARGETSTAGE".into(), stage.to_owned()));
    args
}

/// Sets a variable: in its place if it exists, else at the end.
fn set(variables: &mut Vec<(String, String)>, name: &str, value: String) {
    match variables.iter_mut().find(|(known, _)| known == name) {
        Some(slot) => slot.1 = value,
        None => variables.push((name.to_owned(), value)),
    }
}

fn is_proxy(name: &str) -> bool {
    const NAMES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];
    NAMES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests;
