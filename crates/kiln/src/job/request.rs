//! What the solver is asked for.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use kiln_config::{PlatformSettings, Twin};
use kiln_docker::toolbox::ToolFile;
use kiln_docker::{Engine, PullPolicy};
use kiln_dockerfile::ResolvedImages;
use kiln_graph::{Platform, VertexId};
use kiln_history::record::Image;
use kiln_solver::image::Exports;
use kiln_solver::{BuildRequest, Cancel, Group, RunSettings, Salvage};

use super::contexts::listed;
use super::{Job, Run};
use crate::error::{CliError, Result};
use crate::lower::{self, Lookup, Wanted};
use crate::{checks, emulate, network, recipe, run_flags, session, suite, twin};

/// Images as the history remembers them, in order.
fn images(resolved: &ResolvedImages) -> Vec<Image> {
    let mut images: Vec<Image> = resolved
        .iter()
        .map(|(base, image)| Image {
            reference: base.reference.clone(),
            platform: base.platform,
            id: image.id.clone(),
            digest: image.digest.clone(),
        })
        .collect();
    images.sort();
    images
}

impl Job {
    /// The request, and why commands without a native twin are emulated.
    pub(super) async fn request(
        &self,
        lookup: Lookup<'_>,
        run: &Run<'_>,
        tools: &[ToolFile],
        cancel: &Cancel,
    ) -> Result<(BuildRequest, BTreeMap<VertexId, String>)> {
        let Lookup { engine, events, .. } = lookup;
        let settings = self.project.config.resolved();
        let cells = self.items.iter().filter_map(|item| {
            let pull = if item.args.pull { PullPolicy::Always } else { PullPolicy::Missing };
            Some((item.cell.as_ref()?, item.platforms.first()?, pull))
        });
        suite::base::choose(engine, cells, events).await?;
        let (groups, wanted) = self.groups(engine, run)?;
        let (listed, lowered) = tokio::join!(listed(self.scan()?), lower::lower(&lookup, &wanted));
        let main = listed?;
        let mut lowered = lowered.map_err(|error| self.blame_base(error))?;
        // Where there are recipes, it is kiln's own text, or was.
        if self.items.iter().any(|item| !item.recipe) {
            let noted = std::mem::take(&mut lowered.warnings);
            let noted = self.warnings.get_or_init(|| noted);
            if lowered.strict {
                return Err(CliError::Checks { rules: checks::rules(noted) });
            }
        }
        let surroundings = twin::Surroundings { lookup, args: emulate::arguments(&settings.network) };
        // What stands on another target has no counterpart for the daemon's own platform in this graph.
        let with_twin = |(wanted, settings): (Wanted, &PlatformSettings)| {
            let twin = if wanted.more.links.is_empty() { settings.twin } else { Twin::Off };
            (wanted, twin)
        };
        let platforms = || self.items.iter().flat_map(|item| &item.platforms);
        let wanted: Vec<_> = wanted.into_iter().zip(platforms()).map(with_twin).collect();
        twin::attach(&surroundings, &wanted, &mut lowered).await?;
        self.images.get_or_init(|| images(&lowered.images));
        let mut contexts = self.other_contexts(&lowered.graph, events, cancel).await?;
        contexts.extend(main);
        let own = self.project.config.for_platform(Platform::linux(engine.info().arch));
        let required = platforms().filter(|p| p.twin == Twin::On).map(|p| p.platform);
        let ccache = recipe::ccache_limit(&settings.cache);
        let log = run.environment.get(kiln_twin::LOG).map(|_| (kiln_twin::LOG.to_owned(), "/proc/1/fd/2".to_owned()));
        // Versions before 4.8 know it by its older name.
        let shared = settings.cache.ccache_remote.iter().flat_map(|storage| {
            ["CCACHE_REMOTE_STORAGE", "CCACHE_SECONDARY_STORAGE"].map(|name| (name.to_owned(), storage.clone()))
        });
        let more: Vec<(String, String)> = [ccache].into_iter().chain(log).chain(shared).collect();
        let env = |p: &PlatformSettings| network::variables(&p.network).into_iter().chain(more.clone()).collect();
        let outputs = self.items.iter().flat_map(|item| item.outputs(&self.project, &self.state, &lowered.images));
        let request = BuildRequest {
            id: session::new_id(),
            owner: session::Host::this().owner(),
            scope: settings.cache.scope.clone(),
            contexts,
            outputs: outputs.collect(),
            groups,
            run: RunSettings {
                env: platforms().chain([&own]).map(|p| (p.platform, env(p))).collect(),
                twin_required: required.collect(),
                tools: tools.to_owned(),
                ..RunSettings::default()
            },
            graph: lowered.graph,
            parallel: self.schedule.parallel.map_or(usize::MAX >> 4, NonZeroUsize::get),
            keep_going: !self.schedule.stops_early(),
            keep_failed: self.schedule.shell_on_failure,
            no_cache_mounts: self.schedule.no_cache_mounts,
            state: self.state.join("state"),
            locks: run.locks.to_owned(),
        };
        Ok((request, lowered.emulated))
    }

    /// What is built for each item, and what is particular to it.
    fn groups(&self, engine: &Arc<dyn Engine>, run: &Run<'_>) -> Result<(Vec<Group>, Vec<Wanted>)> {
        let registry = crate::travel::registry(run.environment, &self.project)?;
        let (mut groups, mut wanted) = (Vec::new(), Vec::new());
        for item in &self.items {
            let start = wanted.len();
            wanted.extend(item.wanted(run.auto_jobs)?);
            let steps = run_flags::read(&item.args, run.environment, &engine.info().host);
            let mut steps = steps.map_err(|error| error.of_target(item.name()))?;
            if item.args.network.is_none() {
                steps.network = network::spec(&self.project.config.resolved().network);
            }
            if let (Some(cell), Some(settings)) = (&item.cell, item.platforms.first()) {
                let (_, to) = suite::outcome::folders(&self.state, cell, settings.platform);
                steps.salvage = Some(Salvage { from: "/kiln/out".to_owned(), to });
            }
            let (list, registry) = (item.asked.exports.clone(), registry.clone());
            let exports = Exports { list, epoch: item.epoch, registry };
            groups.push(Group { targets: start..wanted.len(), exports, steps });
        }
        Ok((groups, wanted))
    }
}
