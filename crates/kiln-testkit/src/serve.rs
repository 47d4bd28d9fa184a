//! Containers that run one command after the other, as `kiln-twin serve` does it.

use bytes::Bytes;
use kiln_docker::{ContainerId, ContainerSpec, ExitStatus, LogChunk};
use tokio::sync::mpsc;

use crate::FakeEngine;
use crate::containers::{Outcome, State, Step};

/// A command that a container is asked to run.
struct Request {
    mark: String,
    cwd: String,
    argv: Vec<String>,
    env: Vec<String>,
}

/// Whether a container waits for commands.
pub(crate) fn is_server(spec: &ContainerSpec) -> bool {
    spec.argv.last().is_some_and(|last| last == "serve")
}

impl Request {
    /// Reads what `kiln-solver` sends; see `shim/serve.rs` of `kiln-twin`.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes.get(4..)?).ok()?.strip_suffix('\0')?;
        let mut fields = text.split('\0').map(str::to_owned);
        let (mark, cwd) = (fields.next()?, fields.next()?);
        let count = fields.next()?.parse().ok()?;
        let argv = fields.by_ref().take(count).collect();
        Some(Self { mark, cwd, argv, env: fields.collect() })
    }
}

impl FakeEngine {
    /// Keeps a container's standard input: runs what comes, and ends the container when it ends.
    pub(crate) async fn keep(self, id: ContainerId, mut sent: mpsc::UnboundedReceiver<Bytes>) {
        let mut last = 0;
        while let Some(bytes) = sent.recv().await {
            let Some(request) = Request::parse(&bytes) else { continue };
            let Some(code) = self.serve(&id, request).await else { return };
            last = code;
        }
        if let Ok(container) = self.world().container(&id) {
            container.stop.send_replace(Some(last));
        }
    }

    /// Runs one command; its exit code, unless the container is stopped before.
    async fn serve(&self, id: &ContainerId, request: Request) -> Option<i64> {
        let (outcome, mut stop) = {
            let mut world = self.world();
            let script = world.script.clone();
            let mut volumes = std::mem::take(&mut world.volumes);
            let ran = world.container(id).map(|container| {
                let Request { argv, env, cwd, .. } = request;
                let spec = ContainerSpec { argv, env, cwd, ..container.spec.clone() };
                let mut step = Step { spec: &spec, files: &mut container.files, volumes: &mut volumes };
                let outcome = script.map_or_else(Outcome::default, |script| script(&mut step));
                (outcome, container.stop.subscribe())
            });
            world.volumes = volumes;
            ran.ok()?
        };
        tokio::select! {
            () = tokio::time::sleep(outcome.takes) => {}
            _ = stop.wait_for(Option::is_some) => return None,
        }
        let mut world = self.world();
        let readers = &world.container(id).ok()?.readers;
        let code = outcome.exit.code;
        let end = Bytes::from(format!("\0{} {code} clean\n", request.mark));
        let ends = [false, true].map(|stderr| LogChunk { stderr, bytes: end.clone() });
        for chunk in outcome.output.into_iter().chain(ends) {
            for reader in readers {
                let _gone = reader.send(Ok(chunk.clone()));
            }
        }
        Some(code)
    }
}

/// Marks a container as ended as soon as something stops it.
pub(crate) async fn until_stopped(
    state: tokio::sync::watch::Sender<State>,
    mut stop: tokio::sync::watch::Receiver<Option<i64>>,
) {
    let code = stop.wait_for(Option::is_some).await.ok().and_then(|code| *code);
    state.send_replace(State::Ended(ExitStatus { code: code.unwrap_or(137), oom: false }));
}
