//! What a step sees besides its own files and its caches: files of other stages and of the context, scripts, secrets.
//!
//! A daemon mounts volumes and nothing else, so files that are bound are copied to a volume of the step's own, which is
//! why what the step writes there is lost, as it must be. Secrets lie in a volume in memory, held by a container of
//! kiln's that ends when this process does, however that happens; then they are gone.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use kiln_docker::{ContainerId, ContainerSpec, Hold, ImageId, MountSpec, VolumeSource, toolbox};
use kiln_graph::{
    Copy, Exec, FileAction, FileOp, InlineFile, MountKind, Origin, Owner, Platform, SecretMount, VertexId,
};

use crate::archive::{Apply, CopySource, Place};
use crate::error::{Result, SolveError};
use crate::secret::{Masks, Secret};
use crate::shared::{Reader, Shared, lock};
use crate::snapshot::Snapshot;
use crate::volumes::Held;

/// Where a container that fills a volume sees it. Files go there by that path rather than from above: Podman unpacks what
/// begins above a mount below it.
pub(crate) const FILLED: &str = "/kiln";
/// Where scripts are seen; the front end says so, too.
const SCRIPTS: &str = "/dev/pipes";
/// The variable that names a file of apt's settings.
const APT_CONFIG: &str = "APT_CONFIG";
/// Where a step finds the secrets that become variables.
const VARIABLES: &str = "/dev/kiln-secrets";

/// The mounts of a step. What holds its secrets ends with it.
#[derive(Default)]
pub(crate) struct Furniture {
    pub(crate) mounts: Vec<MountSpec>,
    /// Whether secrets have to become variables.
    pub(crate) variables: bool,
    /// A socket of the user's agent, as the step sees it.
    pub(crate) agent: Option<String>,
    /// What must not be seen in the step's output.
    pub(crate) masks: Masks,
    held: Option<(ContainerId, Hold)>,
}

impl Furniture {
    /// The command that puts secrets into variables and becomes the step's own.
    pub(crate) fn wrap(&self, argv: Vec<String>) -> Vec<String> {
        if !self.variables {
            return argv;
        }
        [kiln_twin::PROGRAM, "secrets", VARIABLES].map(str::to_owned).into_iter().chain(argv).collect()
    }

    /// Whether the step has secrets: its container cannot be read any more once they are gone, as the daemon looks for them
    /// to mount them for the reader.
    pub(crate) fn has_secrets(&self) -> bool {
        self.held.is_some()
    }

    /// Ends what holds the secrets.
    pub(crate) async fn clear(self, shared: &Shared) {
        if let Some((container, hold)) = self.held {
            drop(hold);
            // If it cannot be removed now it is at the end of the build; its input has ended anyway.
            let _ = shared.engine.remove_container(&container).await;
        }
    }
}

/// Makes all that a step sees. `held` has its caches.
pub(crate) async fn furnish(
    shared: &Arc<Shared>,
    id: VertexId,
    exec: &Exec,
    inputs: &[Snapshot],
    held: &Held,
) -> Result<Furniture> {
    let origin = shared.plan.graph().vertex(id).origin();
    let mut caches = held.volumes.iter();
    let mut furniture = Furniture::default();
    let mut binds = Vec::new();
    let mut secrets = Vec::new();
    // Unique among the steps of all builds that run now, and a step that runs once more without native programs begins anew.
    let name = format!("{}-{}-{}", shared.plan.request.id, id.0, lock(&shared.volumes).len());
    let volume = format!("kiln-step-{name}");
    for mount in &exec.mounts {
        let target = mount.target.clone();
        let source = match &mount.kind {
            MountKind::Cache(_) => {
                VolumeSource::Volume(caches.next().expect("a volume is held for each cache mount").clone())
            }
            MountKind::Tmpfs { size } => {
                furniture.mounts.push(MountSpec { target, source: VolumeSource::Tmpfs(*size), readonly: false });
                continue;
            }
            MountKind::Bind { input, source } => {
                let part = binds.len();
                binds.push((*input, source.clone(), format!("/{part}")));
                VolumeSource::Part { volume: volume.clone(), path: part.to_string() }
            }
            MountKind::Secret(secret) => {
                if let Some(value) = shared.settings(id).find_map(|settings| settings.secrets.get(&secret.id)) {
                    furniture.masks.add(value);
                    secrets.push((secret, value, target));
                } else if secret.required {
                    return Err(SolveError::SecretMissing { origin: Box::new(origin.clone()), id: secret.id.clone() });
                }
                continue;
            }
            MountKind::Ssh { id: agent, required, .. } => match shared.settings(id).find_map(|s| s.agents.get(agent)) {
                Some(socket) => {
                    furniture.agent.get_or_insert_with(|| target.clone());
                    let source = VolumeSource::Host(socket.display().to_string());
                    furniture.mounts.push(MountSpec { target, source, readonly: false });
                    continue;
                }
                None if *required => {
                    return Err(SolveError::AgentMissing { origin: Box::new(origin.clone()), id: agent.clone() });
                }
                None => continue,
            },
        };
        furniture.mounts.push(MountSpec { target, source, readonly: mount.readonly });
    }
    if !binds.is_empty() || !exec.files.is_empty() {
        fill(shared, &volume, exec, inputs, &binds, origin).await?;
        if !exec.files.is_empty() {
            let source = VolumeSource::Part { volume, path: "scripts".to_owned() };
            furniture.mounts.push(MountSpec { target: SCRIPTS.to_owned(), source, readonly: true });
        }
    }
    if !secrets.is_empty() {
        let volume = format!("kiln-secrets-{name}");
        hide(shared, volume, &secrets, origin, &mut furniture).await?;
    }
    Ok(furniture)
}

/// Copies what is bound, and scripts, to a new volume.
async fn fill(
    shared: &Arc<Shared>,
    volume: &str,
    exec: &Exec,
    inputs: &[Snapshot],
    binds: &[(usize, String, String)],
    origin: &Origin,
) -> Result<()> {
    let mut actions: Vec<FileAction> = binds.iter().map(|(input, source, dest)| copy(*input, source, dest)).collect();
    for file in &exec.files {
        let name = file.path.strip_prefix(SCRIPTS).unwrap_or(&file.path).trim_start_matches('/');
        let path = format!("/scripts/{name}");
        let data = with_injected(shared, exec, file);
        actions.push(FileAction::Write { path, mode: file.mode, parents: None, owner: None, data });
    }
    let mut sources = HashMap::new();
    for (input, ..) in binds {
        sources.insert(*input, shared.source_of(&inputs[*input]).await?);
    }
    let marks = shared.labels("step");
    shared.engine.ensure_volume(volume, &marks).await?;
    shared.note_volume(volume);
    write(shared, volume, (FILLED, actions), sources, None, origin).await
}

/// A file's content. apt's settings of the step alone stand in for those of all steps, so these are added.
fn with_injected(shared: &Shared, exec: &Exec, file: &InlineFile) -> Vec<u8> {
    let run = &shared.plan.request.run;
    let mut data = file.data.clone();
    let is_apts = exec.env.iter().any(|(name, value)| name == APT_CONFIG && *value == file.path);
    let injected = run.env.get(&exec.platform).into_iter().flatten().find(|(name, _)| name == APT_CONFIG);
    if let Some((_, path)) = injected.filter(|_| is_apts) {
        let found =
            run.tools.iter().find(|tool| path.strip_prefix(toolbox::MOUNT_POINT) == Some(&format!("/{}", tool.path)));
        data.extend(found.into_iter().flat_map(|tool| &tool.bytes));
    }
    data
}

/// A whole path of an input.
pub(crate) fn copy(input: usize, source: &str, dest: &str) -> FileAction {
    FileAction::Copy(Copy {
        input,
        sources: vec![source.to_owned()],
        dest: dest.to_owned(),
        owner: None,
        chmod: None,
        unpack: false,
        link: false,
        parents: false,
        excludes: Vec::new(),
    })
}

/// Writes files to a volume, which is at [`FILLED`]; the paths of the actions begin in `folder`.
pub(crate) async fn write(
    shared: &Arc<Shared>,
    volume: &str,
    (folder, actions): (&str, Vec<FileAction>),
    sources: HashMap<usize, CopySource>,
    root: Option<Root>,
    origin: &Origin,
) -> Result<()> {
    let platform = Platform::linux(shared.engine.info().arch);
    let image = shared.scratch_image(platform).await?;
    let mount =
        MountSpec { target: FILLED.to_owned(), source: VolumeSource::Volume(volume.to_owned()), readonly: false };
    let spec = ContainerSpec { mounts: vec![mount], ..shared.idle(image.clone(), platform, "copy") };
    let container = shared.create(spec).await?;
    if !actions.is_empty() {
        put(shared, (&container, folder), &image, actions, sources, origin).await?;
    }
    let Some(root) = root else { return Ok(()) };
    let archive = root.archive().map_err(SolveError::io("write", "the archive"))?;
    Ok(shared.engine.upload(&container, "/", futures::stream::iter([Ok(archive.into())]).boxed()).await?)
}

/// Writes files to a folder in a container of an empty image, and so to what is mounted in it.
async fn put(
    shared: &Arc<Shared>,
    (container, folder): (&ContainerId, &str),
    image: &ImageId,
    actions: Vec<FileAction>,
    sources: HashMap<usize, CopySource>,
    origin: &Origin,
) -> Result<()> {
    let platform = Platform::linux(shared.engine.info().arch);
    let place = Place::Container(shared.reader_of(image, platform, Reader::Questions).await?);
    let apply = Apply { op: FileOp { actions }, sources, whole: true, only: None, origin: origin.clone() };
    shared.transfer(container, folder, place, Vec::new(), vec![apply]).await.map(drop)
}

/// The root folder of a volume.
pub(crate) struct Root {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Root {
    fn archive(&self) -> std::io::Result<Vec<u8>> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(self.mode);
        header.set_uid(self.uid.into());
        header.set_gid(self.gid.into());
        header.set_size(0);
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut header, format!("{}/", FILLED.trim_start_matches('/')), std::io::empty())?;
        builder.into_inner()
    }
}

/// Puts secrets into memory, where the step finds them.
async fn hide(
    shared: &Arc<Shared>,
    volume: String,
    secrets: &[(&SecretMount, &Secret, String)],
    origin: &Origin,
    furniture: &mut Furniture,
) -> Result<()> {
    let daemon = shared.engine.info().arch;
    if !shared.has_program() {
        return Err(SolveError::Unsupported {
            origin: Box::new(origin.clone()),
            what: format!("`--mount=type=secret` on {} daemons by this kiln", daemon.oci().0),
        });
    }
    let platform = Platform::linux(daemon);
    let image = shared.scratch_image(platform).await?;
    shared.engine.ensure_memory_volume(&volume, &shared.labels("secret")).await?;
    shared.note_volume(&volume);
    let whole = MountSpec { target: FILLED.to_owned(), source: VolumeSource::Volume(volume.clone()), readonly: false };
    let (container, hold) = shared.holder("secret", |spec| spec.mounts.push(whole)).await?;
    furniture.held = Some((container.clone(), hold));
    let mut actions = Vec::new();
    for (index, (secret, value, target)) in secrets.iter().enumerate() {
        let mut add = |path: String, mode: u32, owner: Option<Owner>| {
            let data = value.bytes().to_owned();
            actions.push(FileAction::Write { path: format!("/{path}"), mode, parents: None, owner, data });
        };
        if secret.file {
            let owner = Owner { spec: format!("{}:{}", secret.uid, secret.gid) };
            add(index.to_string(), secret.mode, Some(owner));
            let source = VolumeSource::Part { volume: volume.clone(), path: index.to_string() };
            furniture.mounts.push(MountSpec { target: target.clone(), source, readonly: true });
        }
        if let Some(name) = &secret.env {
            // Whoever has the variable may read the file.
            add(format!("variables/{name}"), 0o444, None);
            furniture.variables = true;
        }
    }
    if furniture.variables {
        let source = VolumeSource::Part { volume: volume.clone(), path: "variables".to_owned() };
        furniture.mounts.push(MountSpec { target: VARIABLES.to_owned(), source, readonly: true });
    }
    put(shared, (&container, FILLED), &image, actions, HashMap::new(), origin).await
}
