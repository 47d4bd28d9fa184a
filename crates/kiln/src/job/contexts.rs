//! The files that a build reads: folders, archives and repositories, by the graph's names for them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use kiln_graph::{BuildGraph, Op, Source};
use kiln_solver::context::{Context, Everything, Filter, StatCache};
use kiln_solver::{BuildEvent, Cancel};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{CONTEXT, Job};
use crate::error::{CliError, Result};
use crate::sources::Contexts;
use crate::sources::named;
use crate::watch::Inputs;

/// Main contexts that are being listed.
pub(super) type Scans = BTreeMap<String, JoinHandle<kiln_solver::Result<Context>>>;

impl Job {
    /// Starts listing the main contexts.
    pub(super) fn scan(&self) -> Result<Scans> {
        let mut scans = Scans::new();
        for item in &self.items {
            let name = item.context_name();
            if scans.contains_key(&name) {
                continue;
            }
            let filter: Arc<dyn Filter> = match item.filter(&self.project)? {
                Some(filter) => filter,
                None => Arc::new(Everything),
            };
            let cache = self.digests_of(&name).unwrap_or_default();
            let (folder, place) = (item.folder.clone(), item.place.clone());
            let scan = tokio::task::spawn_blocking(move || {
                let context = Context::scan(&folder, filter, StatCache::load(&cache))?;
                Ok(match place {
                    Some(place) => {
                        context.with_attributes(&place.attributes).titled(format!("the context {}", place.id))
                    }
                    None => context,
                })
            });
            scans.insert(name, scan);
        }
        Ok(scans)
    }

    /// The files of this machine that the build reads, and where its results go.
    pub(crate) fn inputs(&self) -> Result<Inputs> {
        let mut inputs = Inputs::default();
        inputs.files.extend(self.project.file.iter().filter_map(|file| std::path::absolute(file).ok()));
        for item in &self.items {
            if item.place.is_none() {
                inputs.folders.push((item.folder.clone(), item.filter(&self.project)?));
            }
            inputs.files.extend(item.own_files());
            inputs.outputs.extend(Some(item.output.clone()).filter(|output| !output.as_os_str().is_empty()));
            for value in item.named.values() {
                if let named::Value::Folder(folder) = value {
                    let folder = std::path::absolute(folder).map_err(CliError::io("find", folder))?;
                    inputs.folders.push((folder, None));
                }
            }
        }
        Ok(inputs)
    }

    /// Brings in all that a graph reads beside the main contexts.
    pub(super) async fn other_contexts(
        &self,
        graph: &BuildGraph,
        events: &mpsc::Sender<BuildEvent>,
        cancel: &Cancel,
    ) -> Result<Contexts> {
        let mut contexts = self.fetcher.remotes(graph, events, cancel).await?;
        let state = self.state.join("state");
        for item in &self.items {
            for (name, value) in &item.named {
                let graph_name = item.graph_name(name, value);
                if contexts.contains_key(&graph_name) || !reads(graph, &graph_name) {
                    continue;
                }
                let cache = named::cache_file(&state, &graph_name);
                let named = (name.as_str(), value);
                let context = named::context(&self.fetcher, named, &cache, &item.temporary, events, cancel).await?;
                contexts.extend(context.map(|context| (graph_name, Arc::new(context))));
            }
        }
        Ok(contexts)
    }

    /// Where digests of a context's files are kept, if they are worth it: files that are fetched do not change.
    pub(super) fn digests_of(&self, name: &str) -> Option<PathBuf> {
        let state = self.state.join("state");
        if name == CONTEXT {
            return Some(state.join("context.bin"));
        }
        // Those that were unpacked for this build alone lie elsewhere in the next one.
        let is_passing = |item: &super::Item| item.folder.starts_with(&item.temporary) && item.context_name() == name;
        if self.items.iter().any(is_passing) {
            return None;
        }
        let is_known = self.items.iter().any(|item| {
            let mut named = item.named.iter().map(|(name, value)| item.graph_name(name, value));
            item.context_name() == name || named.any(|known| known == name)
        });
        is_known.then(|| named::cache_file(&state, name))
    }
}

/// The main contexts, once they are listed.
pub(super) async fn listed(scans: Scans) -> Result<Contexts> {
    let mut contexts = Contexts::new();
    for (name, scan) in scans {
        let context = scan.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        contexts.insert(name, Arc::new(context));
    }
    Ok(contexts)
}

fn reads(graph: &BuildGraph, name: &str) -> bool {
    graph.iter().any(|(_, vertex)| matches!(&vertex.op, Op::Source(Source::Local { name: read }) if read == name))
}
