//! From Dockerfiles to one build graph: parse, resolve base images, lower each platform, merge.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::StreamExt;
use kiln_docker::{Engine, EngineError, Image, PullPolicy};
use kiln_dockerfile::{
    BaseImage, Built, Dockerfile, LoweredCommand, NamedContext, NoCache, Options, ResolvedImage, ResolvedImages, Rule,
    Warning,
};
use kiln_graph::{BuildGraph, ImageConfig, Platform, VertexId};
use kiln_solver::BuildEvent;
use tokio::sync::mpsc::Sender;

use crate::error::{CliError, Result};

/// Base images that are looked up at the same time.
const LOOKUPS: usize = 8;

/// One platform of one Dockerfile.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) platform: Platform,
    pub(crate) dockerfile: Arc<Dockerfile>,
    pub(crate) target: Option<String>,
    pub(crate) args: BTreeMap<String, String>,
    pub(crate) no_cache: NoCache,
    /// Whether the registry is asked for newer base images.
    pub(crate) pull: PullPolicy,
    pub(crate) more: More,
}

impl Wanted {
    /// A Dockerfile of kiln's own.
    pub(crate) fn own(platform: Platform, dockerfile: Dockerfile, args: BTreeMap<String, String>) -> Self {
        let (dockerfile, more) = (Arc::new(dockerfile), More::default());
        let (no_cache, pull) = (NoCache::None, PullPolicy::Missing);
        Self { platform, dockerfile, target: None, args, no_cache, pull, more }
    }
}

/// What recipes have no need of.
#[derive(Clone, Default)]
pub(crate) struct More {
    /// Its name in a bake file, instead of its stage's.
    pub(crate) name: Option<String>,
    pub(crate) contexts: BTreeMap<String, NamedContext>,
    /// What the graph calls its folders.
    pub(crate) locals: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Contexts that are targets, by name; these come earlier in the list.
    pub(crate) links: BTreeMap<String, String>,
    /// `[build] auto-caches`, for Dockerfiles of the user's own.
    pub(crate) auto_caches: bool,
}

/// The merged graph and what was noticed on the way.
pub(crate) struct Lowered {
    pub(crate) graph: BuildGraph,
    pub(crate) warnings: Vec<(String, Warning)>,
    /// Whether a file that was warned about wants warnings to fail the build.
    pub(crate) strict: bool,
    /// The base images.
    pub(crate) images: ResolvedImages,
    /// Per platform that was wanted: its commands.
    pub(crate) commands: Vec<Vec<LoweredCommand>>,
    /// Commands of emulated platforms without a native twin, and why they have none.
    pub(crate) emulated: BTreeMap<VertexId, String>,
}

/// Lowers all that is wanted into one graph, resolving base images on the way.
pub(crate) async fn lower(engine: &Arc<dyn Engine>, wanted: &[Wanted], events: &Sender<BuildEvent>) -> Result<Lowered> {
    let mut images = ResolvedImages::new();
    resolve_images(engine, wanted, events, &mut images).await?;
    let mut graph = BuildGraph::new();
    let mut warnings: Vec<(String, Warning)> = Vec::new();
    let mut commands = Vec::new();
    let mut strict = false;
    let mut built: HashMap<(String, Platform), Built> = HashMap::new();
    for wanted in wanted {
        let mut options = options(engine, wanted);
        for (context, name) in &wanted.more.links {
            // A target that is not built for this platform is of one platform: that one is used.
            let exact = built.get(&(name.clone(), wanted.platform));
            let found = exact.or_else(|| built.iter().find(|((known, _), _)| known == name).map(|(_, built)| built));
            if let Some(found) = found {
                options.contexts.insert(context.clone(), NamedContext::Target(Box::new(found.clone())));
            }
        }
        let target = wanted.target.as_deref();
        let is_strict = wanted.dockerfile.effective_check_config(&options).error;
        let mut lowered = wanted.dockerfile.lower(&options, target, wanted.platform, &images, &mut graph)?;
        if let Some(name) = &wanted.more.name {
            name.clone_into(&mut lowered.target.name);
            let target = Built { root: lowered.target.root, config: lowered.target.config.clone() };
            built.insert((name.clone(), wanted.platform), target);
        }
        graph.targets.push(lowered.target);
        commands.push(lowered.commands);
        for warning in wanted.dockerfile.check(&options).into_iter().chain(lowered.warnings) {
            strict |= is_strict && warning.rule != Rule::UndeclaredBuildArg;
            let warning = (wanted.dockerfile.name.clone(), warning);
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
    }
    Ok(Lowered { graph, warnings, strict, images, commands, emulated: BTreeMap::new() })
}

/// What the front end is told about a platform.
pub(crate) fn options(engine: &Arc<dyn Engine>, wanted: &Wanted) -> Options {
    let mut options = Options::new(Platform::linux(engine.info().arch));
    options.build_args.clone_from(&wanted.args);
    options.no_cache.clone_from(&wanted.no_cache);
    options.contexts.clone_from(&wanted.more.contexts);
    options.locals.clone_from(&wanted.more.locals);
    options.labels.clone_from(&wanted.more.labels);
    options.auto_caches = wanted.more.auto_caches;
    // Which vertex it is will be known when it is lowered; that it is no image is known now.
    let nothing = Built { root: VertexId(0), config: ImageConfig::default() };
    let links = wanted.more.links.keys();
    options.contexts.extend(links.map(|name| (name.clone(), NamedContext::Target(Box::new(nothing.clone())))));
    options
}

/// Finds all images that the wanted need and that are not among `images` yet.
pub(crate) async fn resolve_images(
    engine: &Arc<dyn Engine>,
    wanted: &[Wanted],
    events: &Sender<BuildEvent>,
    images: &mut ResolvedImages,
) -> Result<()> {
    let options: Vec<Options> = wanted.iter().map(|wanted| options(engine, wanted)).collect();
    loop {
        let mut missing: Vec<(BaseImage, PullPolicy)> = Vec::new();
        for (wanted, options) in wanted.iter().zip(&options) {
            let target = wanted.target.as_deref();
            for image in wanted.dockerfile.missing_images(options, target, wanted.platform, images)? {
                match missing.iter_mut().find(|(known, _)| *known == image) {
                    // One that asks is enough.
                    Some((_, pull)) if wanted.pull == PullPolicy::Always => *pull = PullPolicy::Always,
                    Some(_) => {}
                    None => missing.push((image, wanted.pull)),
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let place = |image: &BaseImage| {
            wanted.iter().zip(&options).find_map(|(wanted, options)| {
                let (file, target) = (&wanted.dockerfile, wanted.target.as_deref());
                let span = file.image_span(options, target, wanted.platform, images, image)?;
                Some(format!("{}:{}:{}", file.name, span.line, span.column))
            })
        };
        let found = resolve(engine, missing, events).await;
        images.extend(found.map_err(|(image, error)| blame(error, || place(&image)))?);
    }
}

/// An error that is about the image itself names the place where it is asked for.
fn blame(error: EngineError, place: impl FnOnce() -> Option<String>) -> CliError {
    match error {
        EngineError::ImageNotFound { .. }
        | EngineError::RegistryUnreachable { .. }
        | EngineError::Unauthorized { .. } => CliError::Image { place: place(), error, around: None },
        other => CliError::Engine(other),
    }
}

async fn resolve(
    engine: &Arc<dyn Engine>,
    missing: Vec<(BaseImage, PullPolicy)>,
    events: &Sender<BuildEvent>,
) -> Result<HashMap<BaseImage, ResolvedImage>, (BaseImage, EngineError)> {
    let lookups = missing.into_iter().map(|(image, pull)| async move {
        match find(engine, &image, pull, events).await {
            Ok(found) => {
                let digest = digest_of(&found.repo_digests, &image.reference);
                Ok((image, ResolvedImage { id: found.id.0, config: found.config, digest }))
            }
            Err(error) => Err((image, error)),
        }
    });
    let found: Vec<Result<_, _>> = futures::stream::iter(lookups).buffer_unordered(LOOKUPS).collect().await;
    found.into_iter().collect()
}

/// Of the digests that registries know an image by, that of the repository that was asked for; any, if there is none.
fn digest_of(known: &[String], reference: &str) -> Option<String> {
    let digests = || known.iter().filter_map(|known| known.split_once('@'));
    let is_asked_for =
        |(name, _): &(&str, &str)| reference.starts_with(name) || reference.contains(&format!("/{name}"));
    digests().find(is_asked_for).or_else(|| digests().next()).map(|(_, digest)| digest.to_owned())
}

async fn find(
    engine: &Arc<dyn Engine>,
    image: &BaseImage,
    pull: PullPolicy,
    events: &Sender<BuildEvent>,
) -> Result<Image, EngineError> {
    if image.reference.starts_with(kiln_solver::image::LAYOUT) {
        return kiln_solver::image::from_layout(engine.as_ref(), &image.reference, image.platform).await;
    }
    let said = std::sync::atomic::AtomicBool::new(false);
    let progress = |_| {
        // Said once; a slow consumer is not waited for in the middle of a transfer.
        if !said.swap(true, std::sync::atomic::Ordering::Relaxed) {
            let text = format!("pulling {}", image.reference);
            let _ = events.try_send(BuildEvent::Notice { platform: Some(image.platform), text });
        }
    };
    engine.resolve_image(&image.reference, image.platform, pull, &progress).await
}
