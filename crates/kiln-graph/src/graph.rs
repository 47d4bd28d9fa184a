//! The build graph: immutable vertices, each equal one stored once.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{Chmod, Digest, Hasher, ImageConfig, Platform, Remote};

/// The place of a vertex in its [`BuildGraph`]. An input's id is always smaller than its consumer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VertexId(pub usize);

/// Where files come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// The empty file system.
    Scratch,
    /// An image of one platform.
    Image {
        /// The reference as it was asked for, for people: `debian:bookworm`.
        reference: String,
        /// The id (config digest) or manifest digest that the reference was resolved to: what the key sees.
        id: String,
        /// The platform that was asked for.
        platform: Platform,
    },
    /// A folder on the client, by name: `.` is the build context, others are named contexts.
    Local {
        /// Name of the context.
        name: String,
    },
    /// Files that are fetched before the build is planned. They are a context named [`Remote::context`].
    Remote(Remote),
}

impl Source {
    /// The name of the context that holds these files, if they are the client's.
    pub fn context(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Local { name } => Some(name.into()),
            Self::Remote(remote) => Some(remote.context().into()),
            Self::Scratch | Self::Image { .. } => None,
        }
    }
}

/// Who owns a file: names are looked up in the file system that it is written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// `user`, `uid`, `user:group`, ... as written.
    pub spec: String,
}

/// Access to a cache volume by several steps at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// Any number of steps write at the same time.
    #[default]
    Shared,
    /// A second writer gets an empty volume of its own.
    Private,
    /// A second writer waits.
    Locked,
}

/// A `--mount=type=cache`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheMount {
    /// Name of the cache within its scope.
    pub id: String,
    /// What happens if two steps want it.
    pub sharing: Sharing,
    /// Mode of the root folder of a new cache, 0o755 unless said.
    pub mode: Option<u32>,
    /// Owner of the root folder of a new cache.
    pub uid: u32,
    /// Group of the root folder of a new cache.
    pub gid: u32,
    /// What a new cache is filled with: index into the vertex's inputs, and a path there.
    pub from: Option<(usize, String)>,
    /// Whether kiln added it for a tool that it knows: the Dockerfile does not ask for it.
    pub added: bool,
}

/// A `--mount=type=secret`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretMount {
    /// Name of the secret.
    pub id: String,
    /// Fail if it was not given.
    pub required: bool,
    /// Variable that carries it; `None` unless `env=` was said.
    pub env: Option<String>,
    /// Whether it also appears as a file at the mount's target.
    pub file: bool,
    /// File mode, 0o400 unless said.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What a step sees at a mount point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// Files of another vertex; what the step writes there is thrown away.
    Bind {
        /// Index into the vertex's inputs.
        input: usize,
        /// Path in that input.
        source: String,
    },
    /// A persistent volume. Its contents never enter a key.
    Cache(CacheMount),
    /// Memory.
    Tmpfs {
        /// Limit in bytes.
        size: Option<u64>,
    },
    /// A secret value. Never enters a key.
    Secret(SecretMount),
    /// A forwarded SSH agent. Never enters a key.
    Ssh {
        /// Name of the agent.
        id: String,
        /// Fail if it was not given.
        required: bool,
        /// Socket mode.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// One mount of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container.
    pub target: String,
    /// Whether the step may write.
    pub readonly: bool,
    /// What is mounted.
    pub kind: MountKind,
}

/// The network that a step sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// What the build is configured with.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The daemon machine's own.
    Host,
}

/// A small file that a step sees while it runs (a here-document with a shebang).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InlineFile {
    /// Absolute path.
    pub path: String,
    /// Mode bits.
    pub mode: u32,
    /// Content.
    pub data: Vec<u8>,
}

/// A command that runs on top of its first input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The command with its shell, if it has one.
    pub argv: Vec<String>,
    /// The environment: image and stage variables, then build arguments.
    pub env: Vec<(String, String)>,
    /// Working folder.
    pub cwd: String,
    /// User; empty means root.
    pub user: String,
    /// The platform of the container.
    pub platform: Platform,
    /// Mounts in the order written.
    pub mounts: Vec<Mount>,
    /// Network.
    pub network: Network,
    /// `--security=insecure`.
    pub privileged: bool,
    /// Files that exist only for the time of the step.
    pub files: Vec<InlineFile>,
}

/// A `COPY` or `ADD` from another vertex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// Index into the vertex's inputs.
    pub input: usize,
    /// Paths in the input, possibly with wildcards, relative to its root.
    pub sources: Vec<String>,
    /// Absolute destination. It is a folder if it ends in `/`.
    pub dest: String,
    /// `--chown`.
    pub owner: Option<Owner>,
    /// `--chmod`.
    pub chmod: Option<Chmod>,
    /// Unpack archives that are named (`ADD`).
    pub unpack: bool,
    /// `--link`: the result does not depend on what is below.
    pub link: bool,
    /// `--parents`: keep the sources' parent folders.
    pub parents: bool,
    /// `--exclude` patterns.
    pub excludes: Vec<String>,
}

/// One change to a file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileAction {
    /// Make a folder and its parents; nothing happens if it exists (`WORKDIR`).
    Mkdir {
        /// Absolute path.
        path: String,
        /// Owner of the folders that are made; root if none (`WORKDIR` after `USER` names that user).
        owner: Option<Owner>,
    },
    /// Copy from an input.
    Copy(Copy),
    /// Write a small file (a here-document).
    Write {
        /// Absolute path of the file.
        path: String,
        /// Mode bits.
        mode: u32,
        /// Mode bits of the folders that are made on the way, 0o755 unless said (`--chmod`).
        parents: Option<u32>,
        /// Owner.
        owner: Option<Owner>,
        /// Content.
        data: Vec<u8>,
    },
}

/// Changes on top of the first input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOp {
    /// In order.
    pub actions: Vec<FileAction>,
}

/// What a vertex does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Brings files in. No inputs.
    Source(Source),
    /// Runs a command on top of input 0.
    Exec(Box<Exec>),
    /// Changes files on top of input 0.
    File(FileOp),
}

/// Where a vertex comes from, for people. Never enters a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The file that holds the instruction, as the user named it.
    pub file: String,
    /// First line, counted from 1; 0 if there is none.
    pub line: u32,
    /// Last line.
    pub end_line: u32,
    /// Name of the stage.
    pub stage: String,
    /// The instruction as one line, variables expanded.
    pub text: String,
    /// Place among the stage's vertices, counted from 1.
    pub step: u32,
    /// Number of the stage's vertices.
    pub steps: u32,
}

/// What lets a command of a foreign platform use native programs. No part of a key: both ways give the same result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twin {
    /// The same stage for the daemon's own platform: its programs are used.
    pub root: VertexId,
    /// An image of the daemon's platform with compilers for the foreign one, if there is one.
    pub cross: Option<VertexId>,
}

impl Twin {
    /// All that has to be there, or to have failed, before the command may start.
    pub fn inputs(self) -> impl Iterator<Item = VertexId> {
        [Some(self.root), self.cross].into_iter().flatten()
    }
}

/// One node of the graph.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Vertex {
    /// What it does.
    pub op: Op,
    /// What it needs; input 0 of an Exec or File is the file system it works on.
    pub inputs: Vec<VertexId>,
    /// Every place that asked for it. The first is the one that is shown.
    pub origins: Vec<Origin>,
    /// Run it even if a checkpoint exists (`--no-cache`, `--no-cache-filter`).
    pub no_cache: bool,
    /// Identity by definition: operation and inputs.
    pub digest: Digest,
    /// Native programs for a command that would be emulated.
    pub twin: Option<Twin>,
}

impl Vertex {
    /// The place to show.
    pub fn origin(&self) -> &Origin {
        static NOWHERE: std::sync::LazyLock<Origin> = std::sync::LazyLock::new(Origin::default);
        self.origins.first().unwrap_or(&NOWHERE)
    }
}

/// A result that somebody asked for: one platform of one target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    /// Name of the target (stage).
    pub name: String,
    /// Its platform.
    pub platform: Platform,
    /// The vertex that holds its file system.
    pub root: VertexId,
    /// The configuration that an image of it gets.
    pub config: ImageConfig,
}

/// A build graph. Vertices are only ever added, inputs before consumers, so the order of ids is a topological order.
#[derive(Clone, Debug, Default)]
pub struct BuildGraph {
    vertices: Vec<Vertex>,
    by_digest: HashMap<Digest, VertexId>,
    /// What was asked for.
    pub targets: Vec<Target>,
}

impl BuildGraph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a vertex, or finds the equal one that is there already.
    ///
    /// # Panics
    /// If an input is not in the graph.
    pub fn insert(&mut self, op: Op, inputs: Vec<VertexId>, origin: Origin, no_cache: bool) -> VertexId {
        let mut hasher = Hasher::new();
        hasher.field(serde_digest(&op));
        for input in &inputs {
            hasher.field(self.vertex(*input).digest.to_string());
        }
        let digest = hasher.finish();
        if let Some(&id) = self.by_digest.get(&digest) {
            let vertex = &mut self.vertices[id.0];
            vertex.no_cache |= no_cache;
            if !vertex.origins.contains(&origin) {
                vertex.origins.push(origin);
            }
            return id;
        }
        let id = VertexId(self.vertices.len());
        self.vertices.push(Vertex { op, inputs, origins: vec![origin], no_cache, digest, twin: None });
        self.by_digest.insert(digest, id);
        id
    }

    /// The vertex with this id.
    ///
    /// # Panics
    /// If the id is of another graph.
    pub fn vertex(&self, id: VertexId) -> &Vertex {
        &self.vertices[id.0]
    }

    /// All vertices, inputs before consumers.
    pub fn iter(&self) -> impl Iterator<Item = (VertexId, &Vertex)> {
        self.vertices.iter().enumerate().map(|(i, v)| (VertexId(i), v))
    }

    /// Gives a command its native twin.
    ///
    /// # Panics
    /// If the id is of another graph.
    pub fn set_twin(&mut self, id: VertexId, twin: Twin) {
        self.vertices[id.0].twin = Some(twin);
    }

    /// Number of vertices.
    pub fn len(&self) -> usize {
        self.vertices.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.vertices.is_empty()
    }
}

/// A digest of an operation. `Debug` of these plain data types prints every field, strings escaped, so it is injective.
fn serde_digest(op: &Op) -> String {
    format!("{op:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(graph: &mut BuildGraph, id: &str) -> VertexId {
        let source =
            Source::Image { reference: "a".into(), id: id.into(), platform: "linux/amd64".parse().expect("known") };
        graph.insert(Op::Source(source), vec![], Origin::default(), false)
    }

    #[test]
    fn equal_vertices_are_stored_once() {
        let mut graph = BuildGraph::new();
        let a = image(&mut graph, "sha256:1");
        let b = image(&mut graph, "sha256:1");
        let c = image(&mut graph, "sha256:2");
        assert_eq!(a, b);
        assert_ne!(a, c);
        let mkdir = || Op::File(FileOp { actions: vec![FileAction::Mkdir { path: "/src".into(), owner: None }] });
        let on_a = graph.insert(mkdir(), vec![a], Origin::default(), false);
        let on_c = graph.insert(mkdir(), vec![c], Origin::default(), false);
        assert_ne!(on_a, on_c);
        assert_eq!(graph.len(), 4);
    }
}
