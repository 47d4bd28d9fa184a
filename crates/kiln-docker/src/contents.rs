//! What is in an image, without running anything of it: a container that is never started shows its files.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use futures::StreamExt;
use kiln_graph::Platform;

use crate::labels;
use crate::{ContainerId, ContainerSpec, Engine, EngineError, FileKind, ImageId, PathStat, Result};

/// Links that are followed before they are taken for a circle.
const MOST_LINKS: usize = 8;

/// An image that is looked into. [`Contents::close`] ends it; if nobody calls that, the container is of its owner's and is
/// removed like all of those.
pub struct Contents {
    engine: Arc<dyn Engine>,
    container: ContainerId,
}

impl Contents {
    /// Makes the container.
    ///
    /// # Errors
    /// If the daemon fails.
    pub async fn open(engine: &Arc<dyn Engine>, image: ImageId, platform: Platform) -> Result<Self> {
        let spec = ContainerSpec::idle(image, platform, BTreeMap::from([(labels::ROLE.to_owned(), "copy".to_owned())]));
        Ok(Self { engine: engine.clone(), container: engine.create_container(&spec).await? })
    }

    /// Where an absolute path leads and what is there, links followed; nothing if nothing is.
    ///
    /// # Errors
    /// If the daemon fails.
    pub async fn find(&self, path: &str) -> Result<Option<(String, PathStat)>> {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            match self.engine.stat(&self.container, &path).await? {
                Some(stat) if stat.kind == FileKind::Symlink => path = stat.link_target,
                found => return Ok(found.map(|stat| (path, stat))),
            }
        }
        Ok(None)
    }

    /// The first bytes of a file; nothing if it is not there or no file.
    ///
    /// # Errors
    /// If the daemon fails.
    pub async fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let Some((path, _)) = self.find(path).await?.filter(|(_, stat)| stat.kind == FileKind::File) else {
            return Ok(None);
        };
        let mut stream = self.engine.download(&self.container, &path).await?;
        let broken = |source: std::io::Error| EngineError::Transport {
            action: format!("reading {path}"),
            source: source.into(),
        };
        let mut archive = Vec::new();
        while let Some(chunk) = stream.next().await {
            archive.extend_from_slice(&chunk.map_err(broken)?);
            if archive.len() as u64 > most {
                break;
            }
        }
        let mut archive = tar::Archive::new(archive.as_slice());
        let mut bytes = Vec::new();
        if let Some(entry) = archive.entries().map_err(broken)?.next() {
            // What was cut off is not wanted.
            let _ = entry.map_err(broken)?.take(most).read_to_end(&mut bytes);
        }
        Ok(Some(bytes))
    }

    /// Removes the container.
    ///
    /// # Errors
    /// If the daemon fails.
    pub async fn close(self) -> Result<()> {
        self.engine.remove_container(&self.container).await
    }
}
