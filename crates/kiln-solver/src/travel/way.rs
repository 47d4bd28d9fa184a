//! The short way to a volume: kiln's program reads or fills it in a container, and a socket of this machine joins it with
//! this process. A daemon's own copying costs several times as much (see `kiln-twin/shim/carry.rs`). Where the daemon is on
//! another machine or cannot reach the socket there is no such way, which is found out by trying.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;

use futures::StreamExt;
use kiln_docker::{ContainerId, MountSpec, VolumeSource};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::Guide;
use crate::error::{Result, SolveError};

/// Where the program sees the socket.
const DOOR: &str = "/kiln-door";
/// Bytes that are kept of what the program says.
const MOST_SAID: usize = 1000;

/// A program of kiln's at work in a volume.
pub(super) struct Way {
    container: ContainerId,
    stream: UnixStream,
    said: JoinHandle<Vec<u8>>,
}

/// A socket that a container can be given.
struct Door {
    listener: UnixListener,
    folder: TempDir,
}

impl Door {
    fn open() -> io::Result<Self> {
        // Only its owner gets into the folder, and what the daemon mounts.
        let folder = tempfile::Builder::new().prefix("kiln-").tempdir()?;
        let listener = UnixListener::bind(folder.path().join("door"))?;
        // Whom the container's root is for this machine is not known here.
        std::fs::set_permissions(folder.path().join("door"), Permissions::from_mode(0o666))?;
        Ok(Self { listener, folder })
    }

    fn mount(&self) -> MountSpec {
        let path = self.folder.path().join("door").display().to_string();
        MountSpec { target: DOOR.to_owned(), source: VolumeSource::Host(path), readonly: false }
    }
}

impl Guide {
    /// Starts kiln's program with these words and a socket beside a volume. None if it cannot be reached that way, which is
    /// not tried again.
    pub(super) async fn way(&self, volume: &str, words: &[&str]) -> Result<Option<Way>> {
        if kiln_twin::program(self.engine.info().arch).is_none() || self.no_way.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let tools = self.tools().await?;
        let way = match Door::open() {
            Ok(door) => self.through(&door, volume, words, tools).await?,
            Err(error) => {
                tracing::debug!("no socket for a volume: {error}");
                None
            }
        };
        self.no_way.store(way.is_none(), Ordering::Relaxed);
        Ok(way)
    }

    async fn through(&self, door: &Door, volume: &str, words: &[&str], tools: MountSpec) -> Result<Option<Way>> {
        let argv = [&[kiln_twin::PROGRAM], words, &[DOOR]].concat().into_iter().map(str::to_owned).collect();
        let container = match self.beside(volume, argv, vec![tools, door.mount()]).await {
            Ok(container) => container,
            // The daemon's machine has no such file. If it is something else, the daemon says it again.
            Err(error) => {
                tracing::debug!("no way to {volume} through a socket: {error}");
                return Ok(None);
            }
        };
        let came = async {
            let mut logs = self.engine.attach(&container).await?;
            let said = tokio::spawn(async move {
                let mut said = Vec::new();
                while let Some(Ok(chunk)) = logs.next().await {
                    said.extend(chunk.bytes.iter().take(MOST_SAID.saturating_sub(said.len())));
                }
                said
            });
            self.engine.start_container(&container).await?;
            tokio::select! {
                came = door.listener.accept() => {
                    let stream = came.and_then(|(stream, _)| stream.into_std());
                    let blocking = stream.and_then(|stream| stream.set_nonblocking(false).map(|()| stream));
                    Ok(blocking.ok().map(|stream| (stream, said)))
                }
                status = self.engine.wait_container(&container) => {
                    let code = status?.code;
                    tracing::debug!("no way to {volume} through a socket: exit code {code}");
                    if code == kiln_twin::NO_WAY { Ok(None) } else { Err(failure(code, &said.await.unwrap_or_default())) }
                }
            }
        };
        match self.cancel.unless_stopped(came).await.and_then(|came| came) {
            Ok(Some((stream, said))) => Ok(Some(Way { container, stream, said })),
            Ok(None) => {
                self.close(&container).await?;
                Ok(None)
            }
            Err(error) => {
                self.close(&container).await?;
                Err(error)
            }
        }
    }
}

impl Way {
    /// The connection, for a blocking thread.
    pub(super) fn stream(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// The container.
    pub(super) fn container(&self) -> &ContainerId {
        &self.container
    }

    /// Waits for the program; the container is still to be closed.
    ///
    /// # Errors
    /// If the program failed, with what it said.
    pub(super) async fn ended(self, guide: &Guide) -> Result<()> {
        drop(self.stream);
        let code = guide.engine.wait_container(&self.container).await?.code;
        if code == 0 {
            return Ok(());
        }
        Err(failure(code, &self.said.await.unwrap_or_default()))
    }
}

fn failure(code: i64, said: &[u8]) -> SolveError {
    let said = String::from_utf8_lossy(said);
    let said = said.trim().trim_start_matches("kiln-twin: ");
    let problem = if said.is_empty() { format!("kiln's program ended with exit code {code}") } else { said.to_owned() };
    SolveError::Travel { problem, hint: None }
}
