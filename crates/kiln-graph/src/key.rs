//! Cache keys and the reasons why they differ.
//!
//! A key is the digest of named parts. The parts are kept beside the key in the build's record, so the next build can
//! say which part differs first: that is the reason of the miss.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{BuildGraph, Digest, FileAction, Hasher, MountKind, Op, Source, VertexId};

/// Version of the rules below: a change of rules must not hit results made under the old ones.
const KEY_VERSION: &str = "kiln-key-1";

/// Identity of a vertex's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CacheKey(pub Digest);

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a part of a key stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "kebab-case")]
pub enum PartKind {
    /// The base image.
    Image(String),
    /// The command line.
    Command,
    /// One environment variable or build argument.
    Env(String),
    /// Working folder, user, network or privileges.
    Setting(String),
    /// A mount.
    Mount(String),
    /// Files of a context.
    Context(String),
    /// Another file operation (its definition, not its content).
    File,
    /// The result that this one stands on.
    Parent,
    /// The result of another vertex, by the text of its instruction.
    Input(String),
}

impl fmt::Display for PartKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(name) => write!(f, "base image {name}"),
            Self::Command => f.write_str("command"),
            Self::Env(name) => write!(f, "variable {name}"),
            Self::Setting(name) => write!(f, "{name}"),
            Self::Mount(target) => write!(f, "mount {target}"),
            Self::Context(paths) => write!(f, "files of {paths}"),
            Self::File => f.write_str("instruction"),
            Self::Parent => f.write_str("previous step"),
            Self::Input(text) => write!(f, "result of `{text}`"),
        }
    }
}

/// The named parts that make up a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyParts(pub Vec<(PartKind, Digest)>);

impl KeyParts {
    fn add(&mut self, kind: PartKind, value: impl AsRef<[u8]>) {
        self.0.push((kind, Digest::of(value)));
    }

    fn key(&self) -> CacheKey {
        let mut hasher = Hasher::new();
        hasher.field(KEY_VERSION);
        for (kind, digest) in &self.0 {
            hasher.field(format!("{kind:?}")).field(digest.to_string());
        }
        CacheKey(hasher.finish())
    }
}

/// Why a vertex has to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum MissReason {
    /// No record of it: it is new, or the record is gone.
    NeverBuilt,
    /// A part of its key is not what it was in the last build.
    Changed {
        /// The first part that differs.
        part: PartKind,
        /// What precisely, where that is known: the path of a file, for instance.
        detail: Option<String>,
    },
    /// The key is known, but its checkpoint was removed from the daemon, or never committed.
    CheckpointGone,
    /// The user asked for it.
    NoCache,
}

impl fmt::Display for MissReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverBuilt => f.write_str("not built before"),
            Self::Changed { part, detail: None } => write!(f, "{part} changed"),
            Self::Changed { part, detail: Some(detail) } => write!(f, "{part} changed: {detail}"),
            Self::CheckpointGone => f.write_str("no checkpoint of it on this daemon"),
            Self::NoCache => f.write_str("--no-cache"),
        }
    }
}

impl MissReason {
    /// The reason of a miss, given the parts of the last build that ran the same instruction.
    pub fn between(last: Option<&KeyParts>, now: &KeyParts) -> Self {
        let Some(last) = last else { return Self::NeverBuilt };
        let differing = now.0.iter().find(|part| !last.0.contains(part));
        let removed = || last.0.iter().find(|part| !now.0.contains(part));
        match differing.or_else(removed) {
            Some((part, _)) => Self::Changed { part: part.clone(), detail: None },
            None => Self::CheckpointGone,
        }
    }
}

/// Answers what a key needs to know of the client's files.
pub trait LocalContent {
    /// Why it cannot be told.
    type Error;

    /// The digest of what a copy selects from the context `name`: paths, modes, types and contents, not times.
    ///
    /// # Errors
    /// If the context cannot be read, or a source matches nothing.
    fn selection(&mut self, name: &str, copy: &crate::Copy) -> Result<Digest, Self::Error>;

    /// The digest of one path in the context `name`, for a bind mount.
    ///
    /// # Errors
    /// If the context cannot be read.
    fn subtree(&mut self, name: &str, path: &str) -> Result<Digest, Self::Error>;
}

/// Computes the key of every vertex, in the order of the graph.
///
/// Rules (after BuildKit's): an image counts by its id; a copy from a context by the content that it selects; a command
/// by its arguments, environment, folder, user, network and the definitions of its mounts. Contents of caches, secrets
/// and agents never count, nor do file times, nor the place of an instruction in its file.
///
/// # Errors
/// What `content` reports.
pub fn compute<C: LocalContent>(graph: &BuildGraph, content: &mut C) -> Result<Vec<(CacheKey, KeyParts)>, C::Error> {
    let mut keys: Vec<(CacheKey, KeyParts)> = Vec::with_capacity(graph.len());
    for (_, vertex) in graph.iter() {
        let mut parts = KeyParts::default();
        let input_key = |id: &VertexId| keys[id.0].0.to_string();
        match &vertex.op {
            Op::Source(Source::Scratch) => parts.add(PartKind::Image("scratch".into()), "scratch"),
            Op::Source(Source::Image { reference, id, platform }) => {
                parts.add(PartKind::Image(reference.clone()), format!("{id} {platform}"));
            }
            // The content of a context counts where it is used, file by file.
            Op::Source(Source::Local { name }) => parts.add(PartKind::Context(name.clone()), "local"),
            Op::Source(Source::Remote(remote)) => parts.add(PartKind::Context(remote.to_string()), "remote"),
            Op::Exec(exec) => {
                parts.add(PartKind::Parent, input_key(&vertex.inputs[0]));
                parts.add(PartKind::Command, format!("{:?} {:?}", exec.argv, exec.files));
                for (name, value) in &exec.env {
                    parts.add(PartKind::Env(name.clone()), value);
                }
                parts.add(PartKind::Setting("working folder".into()), &exec.cwd);
                parts.add(PartKind::Setting("user".into()), &exec.user);
                parts.add(PartKind::Setting("platform".into()), exec.platform.to_string());
                parts.add(PartKind::Setting("network".into()), format!("{:?} {}", exec.network, exec.privileged));
                for mount in &exec.mounts {
                    let definition = match &mount.kind {
                        MountKind::Bind { input, source } => {
                            let id = vertex.inputs[*input];
                            let what = match context(&graph.vertex(id).op) {
                                Some(name) => content.subtree(&name, source)?.to_string(),
                                None => input_key(&id),
                            };
                            format!("bind {what} {source:?} {}", mount.readonly)
                        }
                        // The id of a cache does not change what a step may rely on; nor does its content.
                        MountKind::Cache(_) => "cache".to_owned(),
                        MountKind::Tmpfs { size } => format!("tmpfs {size:?}"),
                        MountKind::Secret(secret) => format!("secret {} {:?} {}", secret.id, secret.env, secret.mode),
                        MountKind::Ssh { id, .. } => format!("ssh {id}"),
                    };
                    parts.add(PartKind::Mount(mount.target.clone()), definition);
                }
            }
            Op::File(file) => {
                parts.add(PartKind::Parent, input_key(&vertex.inputs[0]));
                for action in &file.actions {
                    let FileAction::Copy(copy) = action else {
                        parts.add(PartKind::File, format!("{action:?}"));
                        continue;
                    };
                    let id = vertex.inputs[copy.input];
                    let from = graph.vertex(id);
                    let definition = format!(
                        "{:?} {:?} {:?} {} {} {}",
                        copy.dest, copy.owner, copy.chmod, copy.unpack, copy.link, copy.parents
                    );
                    parts.add(PartKind::File, definition);
                    if let Some(name) = context(&from.op) {
                        let selection = content.selection(&name, copy)?;
                        let files = match &from.op {
                            Op::Source(Source::Remote(remote)) => remote.to_string(),
                            _ => copy.sources.join(" "),
                        };
                        parts.add(PartKind::Context(files), selection.to_string());
                    } else {
                        parts.add(PartKind::File, format!("{:?} {:?}", copy.sources, copy.excludes));
                        parts.add(PartKind::Input(from.origin().text.clone()), input_key(&id));
                    }
                }
            }
        }
        let key = parts.key();
        keys.push((key, parts));
    }
    Ok(keys)
}

/// The name of the context that an operation brings in.
fn context(op: &Op) -> Option<Cow<'_, str>> {
    match op {
        Op::Source(source) => source.context(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::{CacheMount, Exec, Mount, Network, Origin, Platform, Sharing};

    struct Fixed(&'static str);

    impl LocalContent for Fixed {
        type Error = Infallible;
        fn selection(&mut self, _: &str, _: &crate::Copy) -> Result<Digest, Infallible> {
            Ok(Digest::of(self.0))
        }
        fn subtree(&mut self, _: &str, _: &str) -> Result<Digest, Infallible> {
            Ok(Digest::of(self.0))
        }
    }

    fn exec(argv: &str, env: &[(&str, &str)], cache: &str) -> Op {
        Op::Exec(Box::new(Exec {
            argv: vec![argv.into()],
            env: env.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
            cwd: "/".into(),
            user: String::new(),
            platform: "linux/amd64".parse::<Platform>().expect("known"),
            mounts: vec![Mount {
                target: "/cache".into(),
                readonly: false,
                kind: MountKind::Cache(CacheMount {
                    id: cache.into(),
                    sharing: Sharing::Shared,
                    mode: None,
                    uid: 0,
                    gid: 0,
                    from: None,
                    added: false,
                }),
            }],
            network: Network::Default,
            privileged: false,
            files: vec![],
        }))
    }

    fn last_key(op: Op) -> (CacheKey, KeyParts) {
        let mut graph = BuildGraph::new();
        let base = graph.insert(Op::Source(Source::Scratch), vec![], Origin::default(), false);
        graph.insert(op, vec![base], Origin::default(), false);
        let Ok(mut keys) = compute(&graph, &mut Fixed("same"));
        keys.pop().expect("two vertices")
    }

    #[test]
    fn the_reason_names_the_variable_that_changed() {
        let (_, before) = last_key(exec("make", &[("A", "1"), ("B", "1")], "x"));
        let (_, now) = last_key(exec("make", &[("A", "1"), ("B", "2")], "x"));
        assert_eq!(MissReason::between(Some(&before), &now).to_string(), "variable B changed");
        let (_, fewer) = last_key(exec("make", &[("A", "1")], "x"));
        assert_eq!(MissReason::between(Some(&before), &fewer).to_string(), "variable B changed");
        assert_eq!(MissReason::between(None, &now), MissReason::NeverBuilt);
        assert_eq!(MissReason::between(Some(&now), &now), MissReason::CheckpointGone);
    }

    #[test]
    fn the_name_of_a_cache_is_no_part_of_the_key() {
        assert_eq!(last_key(exec("make", &[], "x")).0, last_key(exec("make", &[], "y")).0);
        assert_ne!(last_key(exec("make", &[], "x")).0, last_key(exec("made", &[], "x")).0);
    }
}
