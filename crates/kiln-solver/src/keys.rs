//! Keys of all vertices, and the files behind those that copy from a context.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kiln_graph::{BuildGraph, CacheKey, Copy, Digest, FileAction, KeyParts, MountKind, Op, Source, VertexId, key};

use crate::archive;
use crate::context::Context;
use crate::error::{Result, SolveError};
use crate::record::FileList;

type Contexts = BTreeMap<String, Arc<Context>>;

/// Computes the key of every vertex.
pub(crate) fn compute(graph: &BuildGraph, contexts: &Contexts) -> Result<Vec<(CacheKey, KeyParts)>> {
    let mut answers = Answers { contexts, digests: HashMap::new() };
    key::compute(graph, &mut answers).map_err(|error| match error {
        // Keys know no places; which instruction it was is looked up now that it matters.
        SolveError::CopyMissing { .. } => first_missing(graph, contexts).unwrap_or(error),
        error => error,
    })
}

/// Lists the files of every vertex that copies from a context, to say later which of them changed.
pub(crate) fn files(graph: &BuildGraph, contexts: &Contexts) -> Result<HashMap<VertexId, Arc<FileList>>> {
    let mut known: HashMap<Vec<Selecting<'_>>, Arc<FileList>> = HashMap::new();
    let mut files = HashMap::new();
    for (id, _) in graph.iter() {
        // A context with an identity is not hashed, and its files are not the user's to change.
        let copies = local_copies(graph, contexts, id).filter(|(_, context, _)| context.identity().is_none());
        let copies: Vec<_> = copies.collect();
        if copies.is_empty() {
            continue;
        }
        // The same COPY on three platforms is one list.
        let selecting: Vec<_> = copies.iter().map(|(name, _, copy)| Selecting::of(name, copy)).collect();
        let list = if let Some(list) = known.get(&selecting) {
            list.clone()
        } else {
            let mut list = FileList::default();
            for (_, context, copy) in copies {
                if !list.add(context, &context.select(copy))? {
                    list = FileList::default();
                    break;
                }
            }
            let list = Arc::new(list);
            known.insert(selecting, list.clone());
            list
        };
        files.insert(id, list);
    }
    Ok(files)
}

fn local_copies<'a>(
    graph: &'a BuildGraph,
    contexts: &'a Contexts,
    id: VertexId,
) -> impl Iterator<Item = (&'a str, &'a Context, &'a Copy)> {
    let vertex = graph.vertex(id);
    let actions = match &vertex.op {
        Op::File(file) => file.actions.as_slice(),
        _ => &[],
    };
    actions.iter().filter_map(move |action| match action {
        FileAction::Copy(copy) => match &graph.vertex(*vertex.inputs.get(copy.input)?).op {
            Op::Source(source) => {
                let (name, context) = contexts.get_key_value(source.context()?.as_ref())?;
                Some((name.as_str(), context.as_ref(), copy))
            }
            _ => None,
        },
        _ => None,
    })
}

/// What a command binds of a context.
fn local_binds<'a>(
    graph: &'a BuildGraph,
    contexts: &'a Contexts,
    id: VertexId,
) -> impl Iterator<Item = (&'a Context, &'a str)> {
    let vertex = graph.vertex(id);
    let mounts = match &vertex.op {
        Op::Exec(exec) => exec.mounts.as_slice(),
        _ => &[],
    };
    mounts.iter().filter_map(move |mount| match &mount.kind {
        MountKind::Bind { input, source } => match &graph.vertex(*vertex.inputs.get(*input)?).op {
            Op::Source(Source::Local { name }) => Some((contexts.get(name)?.as_ref(), source.as_str())),
            _ => None,
        },
        _ => None,
    })
}

fn first_missing(graph: &BuildGraph, contexts: &Contexts) -> Option<SolveError> {
    graph.iter().find_map(|(id, vertex)| {
        let bound = local_binds(graph, contexts, id).find_map(|(context, path)| match context.subtree_digest(path) {
            Ok(None) => Some(archive::missing(context, path, vertex.origin())),
            _ => None,
        });
        bound.or_else(|| {
            local_copies(graph, contexts, id).find_map(|(_, context, copy)| {
                let selection = context.select(copy);
                Some(archive::missing(context, selection.missing.first()?, vertex.origin()))
            })
        })
    })
}

/// What decides what a copy selects.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Selecting<'a> {
    context: &'a str,
    sources: &'a [String],
    excludes: &'a [String],
    parents: bool,
}

impl<'a> Selecting<'a> {
    fn of(context: &'a str, copy: &'a Copy) -> Self {
        Self { context, sources: &copy.sources, excludes: &copy.excludes, parents: copy.parents }
    }
}

struct Answers<'a> {
    contexts: &'a Contexts,
    /// By context, sources, excludes and `--parents`.
    digests: HashMap<(String, Vec<String>, Vec<String>, bool), Digest>,
}

impl<'a> Answers<'a> {
    fn context(&self, name: &str) -> Result<&'a Context> {
        self.contexts.get(name).map(AsRef::as_ref).ok_or_else(|| no_context(name))
    }
}

impl key::LocalContent for Answers<'_> {
    type Error = SolveError;

    fn selection(&mut self, name: &str, copy: &Copy) -> Result<Digest> {
        let selecting = (name.to_owned(), copy.sources.clone(), copy.excludes.clone(), copy.parents);
        if let Some(digest) = self.digests.get(&selecting) {
            return Ok(*digest);
        }
        let context = self.context(name)?;
        let selection = context.select(copy);
        if let Some(pattern) = selection.missing.first() {
            return Err(archive::missing(context, pattern, &kiln_graph::Origin::default()));
        }
        let digest = context.selection_digest(&selection)?;
        self.digests.insert(selecting, digest);
        Ok(digest)
    }

    fn subtree(&mut self, name: &str, path: &str) -> Result<Digest> {
        let context = self.context(name)?;
        context.subtree_digest(path)?.ok_or_else(|| archive::missing(context, path, &kiln_graph::Origin::default()))
    }
}

/// The error for a context that the caller did not give.
pub(crate) fn no_context(name: &str) -> SolveError {
    SolveError::Io {
        action: "read",
        path: name.into(),
        source: std::io::Error::other("there is no context of this name"),
    }
}
