//! Caches for the tools that a `RUN` calls and that it has no mount for: [`Options::auto_caches`](super::Options).
//!
//! [`shell`] reads what the command would call, [`tools`] knows where each tool keeps its cache, and here it is decided
//! whether a mount there is safe. **It may change nothing but the time that a step takes, and what is left in the cache
//! folder itself.** So there is none where the command empties, moves or lists that folder; where another instruction
//! of the build names it; where a later step counts on what an earlier one left in it; and where the user could not write
//! to it. In doubt there is none.
//!
//! What comes later must be known, so a Dockerfile is lowered twice: the first time only to look ([`Watch`]).

mod shell;
mod tools;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use kiln_graph::{
    BuildGraph, CacheMount, Exec, FileAction, FileOp, InlineFile, Mount, MountKind, Op, Origin, Owner, Sharing, Source,
    VertexId,
};

use super::run::SCRIPTS;
use super::stage::Lowering;
use shell::Variables;
use tools::{By, Reading, Tool};

/// Folders of Nuitka's cache that stay empty: it writes them in place and trusts what it finds there, so half a file of a
/// step that was stopped would go into the next program, or their path enters the compiler's arguments.
const NOT_KEPT: [&str; 4] = ["onefile-compression", "adapted_headers", "downloads", "egg-content"];

/// Settings for apt. Debian's images have apt run `rm -f /var/cache/apt/archives/*.deb` when it is done, so what it
/// downloads goes to another folder of the same volume. Its lists stay in the image: later steps read them.
const APT_SETTINGS: &str = "Dir::Cache::archives \"/var/cache/apt/kiln/\";\n\
    APT::Keep-Downloaded-Packages \"true\";\nBinary::apt::APT::Keep-Downloaded-Packages \"true\";\n";
/// The file that they are in, among the scripts of the step.
const APT_FILE: &str = ".kiln-apt.conf";

/// What instructions do with files, in the order in which they are lowered.
#[derive(Default)]
pub(super) struct Watch {
    seen: Vec<Seen>,
    /// The next instruction, once all have been seen.
    at: Option<usize>,
}

/// What one instruction does.
enum Seen {
    /// It runs a command.
    Run(Box<Reading>),
    /// It reads these paths of a stage.
    Reads(Vec<String>),
    /// It makes or keeps these paths.
    Makes(Vec<String>),
}

impl Watch {
    /// Goes back to the first instruction: now it is known what comes after it.
    pub(super) fn rewind(&mut self) {
        self.at = Some(0);
    }

    fn see(&mut self, seen: Seen) {
        match &mut self.at {
            None => self.seen.push(seen),
            Some(at) => *at += 1,
        }
    }

    /// Whether a volume at `folder` changes nothing but the time that steps take. `reading` is the command at hand.
    fn allows(&self, reading: &Reading, tool: Tool, folder: &str) -> bool {
        let at = self.at.unwrap_or_default();
        let own = reading.touched.iter().all(|touch| match (relation(&touch.path, folder), touch.by) {
            // A folder above is mostly the project itself: `pip install .`
            (Relation::Apart, _) | (Relation::Above, By::Other) => true,
            (Relation::Above, By::Copier) => touch.path == "/",
            _ => false,
        });
        let others = self.seen.iter().enumerate().filter(|(index, _)| *index != at);
        let is_used = |seen: &Seen, is_later: bool| match seen {
            Seen::Run(other) => {
                other.relies.contains(&tool)
                    || other.touched.iter().any(|touch| match (relation(&touch.path, folder), touch.by) {
                        (Relation::Apart, _) | (_, By::Remover) | (Relation::Above, By::Walker | By::Other) => false,
                        (Relation::Above, By::Copier) => is_later && touch.path != "/",
                        (Relation::Within, _) => true,
                    })
            }
            Seen::Reads(paths) => {
                paths.iter().any(|path| path != "/" && !matches!(relation(path, folder), Relation::Apart))
            }
            Seen::Makes(paths) => paths.iter().any(|path| matches!(relation(path, folder), Relation::Within)),
        };
        let refused = reading.refused.contains(&tool) || reading.relies.contains(&tool);
        own && !refused && !others.into_iter().any(|(index, seen)| is_used(seen, index > at))
    }
}

/// How a path that somebody names lies to a cache folder.
enum Relation {
    Apart,
    /// The folder is in it.
    Above,
    /// It is the folder or in it.
    Within,
}

fn relation(path: &str, folder: &str) -> Relation {
    let is_in = |path: &str, folder: &str| {
        folder == "/" || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match (is_in(path, folder), is_in(folder, path)) {
        (true, _) => Relation::Within,
        (false, true) => Relation::Above,
        (false, false) => Relation::Apart,
    }
}

/// The user of a step.
enum User<'a> {
    Root,
    /// By number or name.
    Other(&'a str),
}

impl Lowering<'_, '_> {
    /// Notes paths of a stage that an instruction reads.
    pub(super) fn watch_reads(&mut self, paths: impl IntoIterator<Item = String>) {
        self.watch.see(Seen::Reads(paths.into_iter().collect()));
    }

    /// Notes paths that an instruction makes.
    pub(super) fn watch_makes(&mut self, path: &str) {
        self.watch.see(Seen::Makes(vec![super::copy::join("/", path)]));
    }

    /// Adds the caches of the tools that a command calls. `inputs` are the command's; `origin` says where it stands.
    pub(super) fn add_caches(&mut self, exec: &mut Exec, inputs: &mut [VertexId], origin: Origin) {
        if !self.plan.options.auto_caches {
            return;
        }
        let reading = read(exec);
        if self.watch.at.is_some() {
            self.mount_caches(&reading, exec, inputs, origin);
        }
        self.watch.see(Seen::Run(Box::new(reading)));
        let bound = exec.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Bind { source, .. } => Some(source.clone()),
            MountKind::Cache(CacheMount { from: Some((_, path)), .. }) => Some(path.clone()),
            _ => None,
        });
        self.watch.see(Seen::Reads(bound.collect()));
    }

    fn mount_caches(&mut self, reading: &Reading, exec: &mut Exec, inputs: &mut [VertexId], origin: Origin) {
        let user = match exec.user.split(':').next().unwrap_or_default() {
            "" | "0" | "root" => User::Root,
            user => User::Other(user),
        };
        let home = exec.env.iter().find(|(name, _)| name == "HOME").map(|(_, home)| super::copy::join("/", home));
        let base = base(self.graph, inputs[0]);
        let mut parents = BTreeSet::new();
        for (tool, folder) in &reading.uses {
            let is_free = exec.mounts.iter().all(|mount| matches!(relation(&mount.target, folder), Relation::Apart));
            if folder == "/" || !is_free || !self.watch.allows(reading, *tool, folder) {
                continue;
            }
            if let User::Other(_) = user {
                // Elsewhere it might not be allowed to make the folder at all, and its home is only known if it is set.
                let is_own = home.as_ref().is_some_and(|home| {
                    home != "/" && folder != home && matches!(relation(folder, home), Relation::Within)
                });
                let Some((parent, _)) = folder.rsplit_once('/').filter(|_| is_own) else { continue };
                if matches!(tool, Tool::Apt | Tool::Apk) {
                    continue;
                }
                parents.insert(parent.to_owned());
            }
            exec.mounts.push(mount(*tool, folder, &user, &exec.user, base.as_deref()));
            match tool {
                Tool::Nuitka => exec.mounts.extend(NOT_KEPT.iter().map(|part| Mount {
                    target: format!("{folder}/{part}"),
                    readonly: false,
                    kind: MountKind::Tmpfs { size: None },
                })),
                Tool::Apt => {
                    let path = format!("{SCRIPTS}/{APT_FILE}");
                    let data = APT_SETTINGS.as_bytes().to_vec();
                    exec.env.push(("APT_CONFIG".to_owned(), path.clone()));
                    exec.files.push(InlineFile { path, mode: 0o644, data });
                }
                _ => {}
            }
        }
        if !parents.is_empty() {
            // The daemon would make the folders above a mount point as root's, where other tools of the user write, too.
            let owner = Some(Owner { spec: exec.user.clone() });
            let actions = parents.into_iter().map(|path| FileAction::Mkdir { path, owner: owner.clone() }).collect();
            let text = format!("folders for the caches of: {}", origin.text);
            let op = Op::File(FileOp { actions });
            inputs[0] = self.graph.insert(op, vec![inputs[0]], Origin { text, ..origin }, false);
        }
    }
}

/// What a command calls.
fn read(exec: &Exec) -> Reading {
    let mut variables: Variables = exec.env.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
    if matches!(exec.user.split(':').next(), None | Some("" | "0" | "root")) {
        variables.entry("HOME".to_owned()).or_insert_with(|| Some("/root".to_owned()));
    }
    let calls = match exec.files.first() {
        Some(file) => {
            let text = String::from_utf8_lossy(&file.data);
            let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
            let interpreter = first.split([' ', '/']).rfind(|word| !word.is_empty() && !word.starts_with('-'));
            let is_shell = matches!(interpreter, Some("sh" | "bash" | "dash" | "ash" | "ksh" | "zsh"));
            shell::script(if is_shell { rest } else { "" }, variables, &exec.cwd)
        }
        None => shell::calls(&exec.argv, variables, &exec.cwd),
    };
    let mut reading = tools::read(&calls);
    if exec.network == kiln_graph::Network::None {
        // All that it does not have it must find.
        reading.relies.extend(reading.uses.iter().map(|(tool, _)| *tool));
    }
    reading
}

fn mount(tool: Tool, folder: &str, user: &User<'_>, spec: &str, base: Option<&str>) -> Mount {
    let (name, sharing) = match tool {
        Tool::Pip => ("pip", Sharing::Shared),
        Tool::Uv => ("uv", Sharing::Shared),
        Tool::Ccache => ("ccache", Sharing::Shared),
        Tool::Nuitka => ("nuitka", Sharing::Shared),
        Tool::Npm => ("npm", Sharing::Shared),
        Tool::Apt => ("apt-cache", Sharing::Locked),
        Tool::Apk => ("apk", Sharing::Locked),
        // Its lock lies beside these folders, in the container. Another copy costs less than waiting for a compiler.
        Tool::Cargo if folder.ends_with("/git") => ("cargo-git", Sharing::Private),
        Tool::Cargo => ("cargo-registry", Sharing::Private),
    };
    let mut id = name.to_owned();
    // Wheels that were built here say which machine they are for, but not for which C library.
    if let Some(base) = base.filter(|_| matches!(tool, Tool::Pip | Tool::Uv | Tool::Apt)) {
        id = format!("{id}-{base}");
    }
    let (mut mode, mut uid, mut gid) = (None, 0, 0);
    if let User::Other(user) = user {
        // What one user wrote the other could not replace.
        id = format!("{id}-{user}");
        match user.parse() {
            Ok(number) => {
                uid = number;
                gid = spec.split_once(':').and_then(|(_, group)| group.parse().ok()).unwrap_or_default();
            }
            // Who that is only the image knows.
            Err(_) => mode = Some(0o777),
        }
    }
    let cache = CacheMount { id, sharing, mode, uid, gid, from: None, added: true };
    Mount { target: folder.to_owned(), readonly: false, kind: MountKind::Cache(cache) }
}

/// The image that a stage stands on.
fn base(graph: &BuildGraph, mut at: VertexId) -> Option<String> {
    loop {
        let vertex = graph.vertex(at);
        match &vertex.op {
            // One that is pinned is another with every update, and its C library mostly is not.
            Op::Source(Source::Image { reference, .. }) => return reference.split('@').next().map(str::to_owned),
            Op::Source(_) => return None,
            _ => at = *vertex.inputs.first()?,
        }
    }
}
