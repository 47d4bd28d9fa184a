//! `RUN`.

use kiln_graph::{CacheMount, Exec, InlineFile, Mount, MountKind, Op, SecretMount, VertexId};

use super::copy::join;
use super::stage::Lowering;
use crate::ast::{CommandLine, Heredoc, Instruction, MountFlag, Run};
use crate::ignore::clean;
use crate::parse::mount::MountRequest;
use crate::{Error, ErrorKind};

/// Where BuildKit puts scripts, and so do we: scripts may look at their own path.
pub(super) const SCRIPTS: &str = "/dev/pipes";

impl Lowering<'_, '_> {
    pub(super) fn run(&mut self, instruction: &Instruction, run: &Run) -> Result<(), Error> {
        let mut inputs = vec![self.root()];
        let mut agents = 0;
        let mut mounts = Vec::new();
        for flag in &run.mounts {
            mounts.push(self.mount(flag, &mut inputs, &mut agents)?);
        }
        let secrets: Vec<String> = mounts
            .iter()
            .filter_map(|mount| match &mount.kind {
                MountKind::Secret(secret) => secret.env.clone(),
                _ => None,
            })
            .collect();
        let mut text = self.display(instruction, &secrets);
        let (argv, files) = self.command(run);
        if let Some(summary) = run.heredocs.first().and_then(summary) {
            text = format!("{text} ({summary})");
        }
        let said = super::history::run(&self.arguments_said(), &argv);
        let mut exec = Exec {
            argv,
            env: self.env().to_vec(),
            cwd: self.cwd().to_owned(),
            user: self.user().to_owned(),
            platform: self.platform(),
            mounts,
            network: run.network,
            privileged: run.privileged,
            files,
        };
        let place = self.place(instruction, &text);
        self.add_caches(&mut exec, &mut inputs, place.clone());
        self.add(Op::Exec(Box::new(exec)), inputs, place);
        self.note_command();
        self.note_files(said);
        Ok(())
    }

    /// The arguments, and the script if the command is one.
    fn command(&self, run: &Run) -> (Vec<String>, Vec<InlineFile>) {
        let line = match &run.command {
            CommandLine::Exec(arguments) => return (arguments.clone(), vec![]),
            CommandLine::Shell(line) => line,
        };
        let [first, ..] = run.heredocs.as_slice() else { return (self.with_shell(line), vec![]) };
        if !crate::parse::is_heredoc_word(line) {
            // The shell reads these here-documents itself.
            let mut script = line.clone();
            for heredoc in &run.heredocs {
                script.push('\n');
                script.push_str(&heredoc.content);
                script.push_str(&heredoc.name);
            }
            return (self.with_shell(&script), vec![]);
        }
        let content = first.text();
        if !content.starts_with("#!") {
            return (self.with_shell(&content), vec![]);
        }
        let path = format!("{SCRIPTS}/{}", first.name);
        let file = InlineFile { path: path.clone(), mode: 0o755, data: content.into_bytes() };
        (self.with_shell(&path), vec![file])
    }

    fn mount(&mut self, flag: &MountFlag, inputs: &mut Vec<VertexId>, agents: &mut usize) -> Result<Mount, Error> {
        let request = flag.resolve(&mut |word| self.expand(word))?;
        let kind = match request.kind {
            "cache" => {
                let from = match flag.from() {
                    Some(word) if word.value != "scratch" && !word.value.is_empty() => {
                        let input = input(inputs, self.origin(word)?);
                        Some((input, join("/", &request.source)))
                    }
                    _ => None,
                };
                let id = if request.id.is_empty() { clean(&request.target) } else { request.id.clone() };
                MountKind::Cache(CacheMount {
                    id,
                    sharing: request.sharing,
                    mode: request.mode,
                    uid: request.uid.unwrap_or(0),
                    gid: request.gid.unwrap_or(0),
                    from,
                    added: false,
                })
            }
            "tmpfs" => MountKind::Tmpfs { size: request.size },
            "secret" => return Ok(secret(request)),
            "ssh" => {
                let id = if request.id.is_empty() { "default".to_owned() } else { request.id };
                let target = if request.target.is_empty() {
                    format!("/run/buildkit/ssh_agent.{agents}")
                } else {
                    request.target
                };
                *agents += 1;
                let kind = MountKind::Ssh {
                    id,
                    required: request.required,
                    mode: request.mode.unwrap_or(0o600),
                    uid: request.uid.unwrap_or(0),
                    gid: request.gid.unwrap_or(0),
                };
                return Ok(Mount { target: join("/", &target), readonly: true, kind });
            }
            _ => {
                let vertex = match flag.from() {
                    Some(word) if !word.value.is_empty() => self.origin(word)?,
                    _ => self.context(),
                };
                MountKind::Bind { input: input(inputs, vertex), source: join("/", &request.source) }
            }
        };
        let target = join(self.cwd(), &request.target);
        if target == "/" {
            let kind = ErrorKind::MountTarget { target: request.target };
            return Err(Error::new(kind, request.span));
        }
        Ok(Mount { target, readonly: request.readonly, kind })
    }
}

fn secret(request: MountRequest) -> Mount {
    let base = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    let id = match (&request.source, &request.id) {
        (source, _) if !source.is_empty() => source.clone(),
        (_, id) if !id.is_empty() => id.clone(),
        _ => base(&request.target),
    };
    // With `env=`, a file appears only if a target asks for one.
    let file = request.env.is_none() || !request.target.is_empty();
    let target = if request.target.is_empty() { format!("/run/secrets/{}", base(&id)) } else { request.target };
    Mount {
        target: join("/", &target),
        readonly: true,
        kind: MountKind::Secret(SecretMount {
            id,
            required: request.required,
            env: request.env,
            file,
            mode: request.mode.unwrap_or(0o400),
            uid: request.uid.unwrap_or(0),
            gid: request.gid.unwrap_or(0),
        }),
    }
}

/// The index of a vertex among the inputs; it is added if it is not there.
pub(super) fn input(inputs: &mut Vec<VertexId>, vertex: VertexId) -> usize {
    // Input 0 is what the step works on; a copy of its own base is still an input of its own.
    if let Some(index) = inputs.iter().skip(1).position(|known| *known == vertex) {
        return index + 1;
    }
    inputs.push(vertex);
    inputs.len() - 1
}

/// The first line of a script, for people.
fn summary(heredoc: &Heredoc) -> Option<String> {
    let mut lines = heredoc.content.trim().lines();
    let first = lines.next().filter(|line| !line.is_empty())?;
    Some(if lines.next().is_some() { format!("{first}...") } else { first.to_owned() })
}
