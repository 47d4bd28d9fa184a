//! Volumes that are filled once and only read afterwards.
//!
//! A volume counts as filled only when its *seal* exists: a second, empty volume, made last. Making a volume is atomic,
//! so a crash leaves an unsealed volume that is filled again, and a sealed one is never written to while others use it.
//! The name of the filling container is the lock between two kilns.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::emulation::run_created;
use crate::{ContainerId, ContainerSpec, Engine, EngineError, Result, probe_image};

const POLL: Duration = Duration::from_millis(100);

/// A volume that is filled once.
pub(crate) struct Sealed<'a> {
    /// Its name.
    pub(crate) volume: String,
    /// The label that all its objects carry.
    pub(crate) label: &'static str,
    /// The label's value.
    pub(crate) value: String,
    /// More labels of the volume.
    pub(crate) labels: BTreeMap<String, String>,
    /// How long another kiln may take to fill it before it is taken for dead.
    pub(crate) patience: Duration,
    /// How it is filled.
    pub(crate) work: Work<'a>,
}

/// What a filling container does.
pub(crate) enum Work<'a> {
    /// Gets an archive, unpacked at a folder; it never runs.
    Upload(&'a str, &'a (dyn Fn() -> Vec<u8> + Send + Sync)),
    /// Runs its command to a good end.
    Run,
}

impl Sealed<'_> {
    /// The name of a volume's seal.
    pub(crate) fn seal_of(volume: &str) -> String {
        format!("{volume}-sealed")
    }

    /// The volume that the volume of this name seals, if it is a seal.
    pub(crate) fn sealed_by(volume: &str) -> Option<&str> {
        volume.strip_suffix("-sealed")
    }

    /// Removes a volume and its seal: the volume first, because it may be in use and then needs its seal.
    pub(crate) async fn remove(engine: &dyn Engine, volume: &str) -> Result<()> {
        engine.remove_volume(volume).await?;
        engine.remove_volume(&Self::seal_of(volume)).await
    }

    fn seal(&self) -> String {
        Self::seal_of(&self.volume)
    }

    /// Fills the volume through a container like `spec`, unless that was done before. One round trip if it was.
    pub(crate) async fn ensure(&self, engine: &dyn Engine, spec: &ContainerSpec) -> Result<()> {
        let mut waited = Duration::ZERO;
        loop {
            if self.is_sealed(engine).await? {
                return Ok(());
            }
            match self.fill(engine, spec).await {
                // Another kiln holds the lock: soon there is a seal, or its maker is dead.
                Err(EngineError::Conflict { .. }) if waited < self.patience => {
                    tokio::time::sleep(POLL).await;
                    waited += POLL;
                }
                Err(EngineError::Conflict { .. }) => {
                    waited = Duration::ZERO;
                    self.break_lock(engine).await?;
                }
                filled => return filled,
            }
        }
    }

    pub(crate) async fn is_sealed(&self, engine: &dyn Engine) -> Result<bool> {
        let volumes = engine.volumes_with_label(&format!("{}={}", self.label, self.value), false).await?;
        let there = |name: &str| volumes.iter().any(|volume| volume.name == name);
        let (volume, seal) = (there(&self.volume), there(&self.seal()));
        if seal && !volume {
            // Whoever removed the volume has not come to its seal, which would vouch for a new, empty one.
            engine.remove_volume(&self.seal()).await?;
        }
        Ok(volume && seal)
    }

    /// Removes the container of a kiln that died while it filled the volume.
    async fn break_lock(&self, engine: &dyn Engine) -> Result<()> {
        for container in engine.containers_with_label(self.label).await? {
            if container.name == self.volume {
                engine.remove_container(&container.id).await?;
            }
        }
        Ok(())
    }

    /// Fills and seals the volume under the lock; `Conflict` if another has it.
    async fn fill(&self, engine: &dyn Engine, spec: &ContainerSpec) -> Result<()> {
        let mark = (self.label.to_owned(), self.value.clone());
        let mut marks = self.labels.clone();
        marks.extend([mark.clone()]);
        let mut spec = spec.clone();
        spec.labels.extend([mark]);
        spec.name = Some(self.volume.clone());
        // Before the container, which would make a volume without labels.
        engine.ensure_volume(&self.volume, &marks).await?;
        let id = engine.create_container(&spec).await?;
        let filled = async {
            // The other may have finished between our look and our lock.
            if self.is_sealed(engine).await? {
                return Ok(());
            }
            self.work(engine, &id).await?;
            engine.ensure_volume(&self.seal(), &marks).await
        }
        .await;
        let removed = engine.remove_container(&id).await;
        filled.and(removed)
    }

    async fn work(&self, engine: &dyn Engine, id: &ContainerId) -> Result<()> {
        match self.work {
            Work::Upload(folder, archive) => engine.upload(id, folder, probe_image::once(archive())).await,
            Work::Run => {
                let ran = run_created(engine, id).await?;
                if ran.exit.code == 0 {
                    return Ok(());
                }
                let action = format!("filling the volume {}", self.volume);
                let last = ran.output.trim().lines().last().unwrap_or("the program said nothing").to_owned();
                Err(EngineError::Api { action, status: 0, message: last })
            }
        }
    }
}
