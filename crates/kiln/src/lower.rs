//! From Dockerfiles to one build graph: parse, resolve base images, lower each platform, merge.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use kiln_docker::{Engine, EngineError, Image, PullPolicy};
use kiln_dockerfile::{
    BaseImage, Built, Dockerfile, LoweredCommand, NamedContext, NoCache, Options, ResolvedImage, ResolvedImages, Rule,
    Warning,
};
use kiln_graph::{BuildGraph, ImageConfig, Platform, VertexId};
use kiln_solver::travel::{self, Travel};
use kiln_solver::{BuildEvent, Cancel};
use tokio::sync::mpsc::Sender;

use crate::error::{CliError, Result};

/// Base images that are looked up at the same time.
const LOOKUPS: usize = 8;

/// Who is asked what base images are.
#[derive(Clone, Copy)]
pub(crate) struct Lookup<'a> {
    pub(crate) engine: &'a Arc<dyn Engine>,
    pub(crate) events: &'a Sender<BuildEvent>,
    /// Stores that may know what the daemon does not have: then it is not pulled.
    pub(crate) stores: Option<&'a Stores<'a>>,
}

/// Stores of what other machines have made.
pub(crate) struct Stores<'a> {
    travel: &'a Travel,
    cancel: &'a Cancel,
    /// Images that nobody but they knew, and their ids.
    lent: Mutex<Vec<(BaseImage, String)>>,
}

impl<'a> Stores<'a> {
    pub(crate) fn new(travel: &'a Travel, cancel: &'a Cancel) -> Self {
        Self { travel, cancel, lent: Mutex::default() }
    }

    fn lent(&self) -> MutexGuard<'_, Vec<(BaseImage, String)>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn find(&self, lookup: &Lookup<'_>, image: &BaseImage) -> Option<ResolvedImage> {
        let wanted = (image.reference.as_str(), image.platform);
        let base = travel::base(lookup.engine, self.travel, wanted, lookup.events, self.cancel).await?;
        self.lent().push((image.clone(), base.id.clone()));
        Some(ResolvedImage { id: base.id, config: base.config, digest: Some(base.digest) })
    }

    /// Pulls the images that nobody but stores knew; whether all of them are there now, and are what stores said.
    pub(crate) async fn pull(&self, lookup: &Lookup<'_>) -> bool {
        let lent = self.lent().clone();
        let pulls = lent.iter().map(|(image, id)| async move {
            let found = self.cancel.unless_stopped(pull(lookup, image, PullPolicy::Missing)).await;
            matches!(found, Ok(Ok(found)) if found.id == *id)
        });
        let are_there = futures::future::join_all(pulls).await.into_iter().all(|is_there| is_there);
        if are_there {
            self.lent().clear();
        }
        are_there
    }

    /// Whether the daemon has all images that were found.
    pub(crate) fn is_settled(&self) -> bool {
        self.lent().is_empty()
    }
}

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
pub(crate) async fn lower(lookup: &Lookup<'_>, wanted: &[Wanted]) -> Result<Lowered> {
    let mut images = ResolvedImages::new();
    resolve_images(lookup, wanted, &mut images).await?;
    let mut graph = BuildGraph::new();
    let mut warnings: Vec<(String, Warning)> = Vec::new();
    let mut commands = Vec::new();
    let mut strict = false;
    let mut built: HashMap<(String, Platform), Built> = HashMap::new();
    for wanted in wanted {
        let mut options = options(lookup.engine, wanted);
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
pub(crate) async fn resolve_images(lookup: &Lookup<'_>, wanted: &[Wanted], images: &mut ResolvedImages) -> Result<()> {
    let options: Vec<Options> = wanted.iter().map(|wanted| options(lookup.engine, wanted)).collect();
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
        let found = resolve(lookup, missing).await;
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
    lookup: &Lookup<'_>,
    missing: Vec<(BaseImage, PullPolicy)>,
) -> Result<HashMap<BaseImage, ResolvedImage>, (BaseImage, EngineError)> {
    let lookups = missing.into_iter().map(|(image, pull)| async move {
        match find(lookup, &image, pull).await {
            Ok(found) => Ok((image, found)),
            Err(error) => Err((image, error)),
        }
    });
    let found: Vec<Result<_, _>> = futures::stream::iter(lookups).buffer_unordered(LOOKUPS).collect().await;
    found.into_iter().collect()
}

async fn find(lookup: &Lookup<'_>, image: &BaseImage, policy: PullPolicy) -> Result<ResolvedImage, EngineError> {
    if image.reference.starts_with(kiln_solver::image::LAYOUT) {
        let engine = lookup.engine.as_ref();
        let found = kiln_solver::image::from_layout(engine, &image.reference, image.platform).await?;
        return Ok(resolved(found, &image.reference));
    }
    if let (Some(stores), PullPolicy::Missing) = (lookup.stores, policy)
        && pull(lookup, image, PullPolicy::Never).await.is_err()
        && let Some(known) = stores.find(lookup, image).await
    {
        return Ok(known);
    }
    pull(lookup, image, policy).await
}

/// What the daemon knows of an image, which it pulls if the policy says so.
async fn pull(lookup: &Lookup<'_>, image: &BaseImage, policy: PullPolicy) -> Result<ResolvedImage, EngineError> {
    let said = AtomicBool::new(false);
    let progress = |_| {
        // Said once; a slow consumer is not waited for in the middle of a transfer.
        if !said.swap(true, Ordering::Relaxed) {
            let text = format!("pulling {}", image.reference);
            let _ = lookup.events.try_send(BuildEvent::Notice { platform: Some(image.platform), text });
        }
    };
    let found = lookup.engine.resolve_image(&image.reference, image.platform, policy, &progress).await?;
    Ok(resolved(found, &image.reference))
}

fn resolved(found: Image, reference: &str) -> ResolvedImage {
    let digest = found.digest_for(reference).map(str::to_owned);
    ResolvedImage { id: found.id.0, config: found.config, digest }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use kiln_cache::Trust;
    use kiln_solver::travel::{Away, Wanted};
    use kiln_testkit::{FakeEngine, Files};

    use super::*;

    fn nowhere() -> Travel {
        Travel {
            from: Vec::new(),
            to: Vec::new(),
            scope: String::new(),
            branches: Vec::new(),
            signer: None,
            trust: Trust::Anybody,
            whole: false,
            spool: PathBuf::new(),
            wanted: Wanted::default(),
            notices: Vec::new(),
            away: Away::default(),
        }
    }

    #[tokio::test]
    async fn what_a_store_said_of_an_image_is_held_against_what_is_pulled() {
        let platform: Platform = "linux/amd64".parse().expect("a platform");
        let fake = FakeEngine::new(platform.arch);
        let id = fake.add_image("debian", platform, ImageConfig::default(), Files::new());
        let engine: Arc<dyn Engine> = Arc::new(fake);
        let (events, _received) = tokio::sync::mpsc::channel(8);
        let (travel, cancel) = (nowhere(), Cancel::new());
        let lookup = Lookup { engine: &engine, events: &events, stores: None };
        let image = |reference: &str| BaseImage { reference: reference.to_owned(), platform };
        for (reference, id, is_right) in
            [("debian", id.0.as_str(), true), ("debian", "sha256:other", false), ("gone", id.0.as_str(), false)]
        {
            let stores = Stores::new(&travel, &cancel);
            assert!(stores.is_settled());
            stores.lent().push((image(reference), id.to_owned()));
            assert_eq!(stores.pull(&lookup).await, is_right, "{reference} {id}");
            assert_eq!(stores.is_settled(), is_right, "{reference} {id}");
        }
    }
}
