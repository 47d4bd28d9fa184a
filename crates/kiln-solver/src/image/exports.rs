//! What a caller asks for beyond the files of each target, and what became of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_docker::registry::{ImageName, RegistryOptions};
use kiln_graph::Platform;
use serde::Serialize;

use super::manifest::{Compression, Descriptor, MediaTypes};

/// What is made of all targets together, once all are built.
#[derive(Clone, Debug, Default)]
pub struct Exports {
    /// In this order.
    pub list: Vec<Export>,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970: nothing that is made claims to be newer.
    pub epoch: Option<i64>,
    /// How registries are reached.
    pub registry: RegistryOptions,
}

impl Exports {
    /// Whether any of them is an image.
    pub(crate) fn has_image(&self) -> bool {
        self.list.iter().any(|export| !matches!(export, Export::Tar { .. }))
    }

    /// Whether any of them is an archive of files.
    pub(crate) fn has_tar(&self) -> bool {
        self.list.iter().any(|export| matches!(export, Export::Tar { .. }))
    }
}

/// One thing that is made of all targets.
#[derive(Clone, Debug)]
pub enum Export {
    /// The files of all targets in one tar archive; those of several platforms in a folder each.
    Tar {
        /// The archive.
        dest: PathBuf,
    },
    /// An image archive or layout.
    Archive(ImageArchive),
    /// An image on the daemon.
    Load {
        /// Its names.
        names: Vec<ImageName>,
        /// As [`ImageForm::rewritten`].
        rewritten: bool,
    },
    /// An image in registries.
    Push {
        /// Its names.
        names: Vec<ImageName>,
        /// Whether plain HTTP and unknown certificates will do.
        insecure: bool,
        /// How it is written.
        form: ImageForm,
    },
}

impl Export {
    /// Whether times of files are changed.
    pub(crate) fn is_rewritten(&self) -> bool {
        match self {
            Self::Tar { .. } => false,
            Self::Load { rewritten, .. } => *rewritten,
            Self::Archive(ImageArchive { form, .. }) | Self::Push { form, .. } => form.rewritten,
        }
    }
}

/// An image archive or layout.
#[derive(Clone, Debug)]
pub struct ImageArchive {
    /// The archive, or the folder of the layout.
    pub dest: PathBuf,
    /// Whether `dest` is a folder.
    pub folder: bool,
    /// Whether `docker load` of old daemons reads it, too.
    pub docker: bool,
    /// Its names.
    pub names: Vec<ImageName>,
    /// How it is written.
    pub form: ImageForm,
}

/// How an image is written.
#[derive(Clone, Debug, Default)]
pub struct ImageForm {
    /// Whose media types.
    pub types: MediaTypes,
    /// How layers are packed.
    pub compression: Compression,
    /// Annotations of manifests and the index.
    pub annotations: Vec<Annotation>,
    /// Whether [`Exports::epoch`] is the latest time of files, too, in layers that are not those of the base image.
    pub rewritten: bool,
}

impl ImageForm {
    pub(crate) fn of_manifest(&self, platform: Platform) -> BTreeMap<String, String> {
        let wanted = self.annotations.iter().filter(|annotation| match annotation.level {
            Level::Manifest(None) => true,
            Level::Manifest(Some(only)) => only == platform,
            Level::Index => false,
        });
        wanted.map(|annotation| (annotation.name.clone(), annotation.value.clone())).collect()
    }

    pub(crate) fn of_index(&self) -> BTreeMap<String, String> {
        let wanted = self.annotations.iter().filter(|annotation| annotation.level == Level::Index);
        wanted.map(|annotation| (annotation.name.clone(), annotation.value.clone())).collect()
    }
}

/// A note on an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// Where it is written.
    pub level: Level,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Where an annotation is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The manifests, of one platform or all.
    Manifest(Option<Platform>),
    /// The index.
    Index,
}

/// Something that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// `tar`, `archive`, `daemon` or `registry`.
    pub kind: &'static str,
    /// Path or reference.
    pub name: String,
    /// The image's digest, where it is one.
    pub digest: Option<String>,
    /// Size in bytes, where it is a file.
    pub size: Option<u64>,
}

/// The image that was made.
#[derive(Clone, Debug, Default)]
pub struct ImageResult {
    /// Digest of the configuration, if there is one platform: what docker shows as the image's id.
    pub config: Option<String>,
    /// The manifest or index, where one was written.
    pub descriptor: Option<Descriptor>,
    /// All names that it got.
    pub names: Vec<ImageName>,
}

impl ImageResult {
    /// What identifies the image: its id, or the digest of the index.
    pub fn id(&self) -> Option<&str> {
        self.config.as_deref().or(self.digest())
    }

    /// The digest of the manifest or index; of an image that was only loaded, its id.
    pub fn digest(&self) -> Option<&str> {
        self.descriptor.as_ref().map(|descriptor| descriptor.digest.as_str()).or(self.config.as_deref())
    }
}

/// All that was made of the targets together.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// In the order that was asked for.
    pub exported: Vec<Exported>,
    /// The image, if there is one.
    pub image: Option<ImageResult>,
}
