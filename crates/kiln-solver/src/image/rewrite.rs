//! Layers whose files have a latest time: buildx's `rewrite-timestamp`.
//!
//! Only what this build added is written anew. The layers of a base image stay those that its maker signed, and whoever has
//! them need not fetch others.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::describe::Described;
use super::files::{Rewrite, copy};
use super::manifest::{Blob, Compression, digest};
use super::publish::{Images, work_folder};
use super::saved::{Hashing, temporary};
use crate::error::{Result, SolveError};
use crate::shared::joined;

impl Images<'_> {
    /// Makes the list that of the images with times of at most the epoch, or that of the images as they are.
    pub(super) async fn choose(&mut self, is_rewritten: bool) -> Result<()> {
        let Some(epoch) = self.exports.epoch else { return Ok(()) };
        if self.is_rewritten == is_rewritten {
            return Ok(());
        }
        let chosen = match self.others.take() {
            Some(others) => others,
            None => self.rewrite(epoch).await?,
        };
        self.others = Some(std::mem::replace(&mut self.list, chosen));
        self.is_rewritten = is_rewritten;
        Ok(())
    }

    /// The images with new layers for those that this build added.
    async fn rewrite(&mut self, epoch: i64) -> Result<Vec<Described>> {
        let own: BTreeSet<String> = self.list.iter().flat_map(|image| image.own().iter().cloned()).collect();
        self.pack(Compression::None, &own).await?;
        let folder = work_folder(&self.shared.plan.request).join("rewritten");
        let mut new: BTreeMap<String, String> = BTreeMap::new();
        for old in own {
            let (_, from) = self.layer(Compression::None, &old)?;
            let to = folder.clone();
            let written = tokio::task::spawn_blocking(move || layer(&from, epoch, &to));
            let (blob, path) = joined(written.await).map_err(SolveError::io("write", &folder))?;
            self.facts.learn_blob(Compression::None, &blob.digest, &blob);
            new.insert(old, blob.digest.clone());
            self.packed.insert((Compression::None, blob.digest.clone()), (blob, path));
        }
        self.list.iter().map(|image| with_layers(image, &new)).collect()
    }
}

/// Writes a layer again, below the folder, with no file newer than the epoch.
fn layer(from: &Path, epoch: i64, folder: &Path) -> io::Result<(Blob, PathBuf)> {
    fs_err::create_dir_all(folder)?;
    let file = temporary(folder)?;
    let rewrite = Rewrite { epoch: Some(epoch), ..Rewrite::default() };
    let mut out = tar::Builder::new(Hashing::new(io::BufWriter::new(fs_err::File::create(&file)?)));
    copy(io::BufReader::new(fs_err::File::open(from)?), &rewrite, &mut out)?;
    let mut out = out.into_inner()?;
    out.flush()?;
    let blob = out.blob();
    let path = folder.join(blob.digest.trim_start_matches("sha256:"));
    fs_err::rename(&file, &path)?;
    Ok((blob, path))
}

/// The image with new layers for old ones.
fn with_layers(image: &Described, new: &BTreeMap<String, String>) -> Result<Described> {
    let (base, own) = image.diff_ids.split_at(image.diff_ids.len() - image.own().len());
    let own = own.iter().map(|diff| new.get(diff).unwrap_or(diff));
    let diff_ids: Vec<String> = base.iter().chain(own).cloned().collect();
    let rewritten = || {
        let mut config: Value = serde_json::from_slice(&image.config)?;
        config["rootfs"]["diff_ids"] = json!(diff_ids);
        serde_json::to_vec(&config)
    };
    let config = rewritten().map_err(|error| SolveError::io("write", "the image's configuration")(error.into()))?;
    Ok(Described { id: digest(&config), config, diff_ids, ..image.clone() })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_layer_written_twice_is_the_same_whenever_its_files_were_made() {
        let folder = tempfile::tempdir().expect("folder");
        let write = |time: u64| {
            let mut archive = tar::Builder::new(Vec::new());
            for (path, kind) in [("usr/", tar::EntryType::Directory), ("usr/.wh.a", tar::EntryType::Regular)] {
                let mut header = tar::Header::new_ustar();
                header.set_entry_type(kind);
                header.set_mode(0o1755);
                header.set_mtime(time);
                header.set_size(0);
                archive.append_data(&mut header, path, io::empty()).expect("written");
            }
            let path = folder.path().join("layer.tar");
            std::fs::write(&path, archive.into_inner().expect("whole")).expect("written");
            layer(&path, 1000, folder.path()).expect("rewritten")
        };
        let ((blob, path), (again, _)) = (write(5000), write(6000));
        assert_eq!(blob, again);
        assert_ne!(write(500).0, blob, "what is older stays as it is");
        let mut bytes = Vec::new();
        fs_err::File::open(path).expect("there").read_to_end(&mut bytes).expect("read");
        assert_eq!((digest(&bytes), bytes.len() as u64), (blob.digest, blob.size));
        let mut archive = tar::Archive::new(bytes.as_slice());
        let seen = archive.entries().expect("entries").map(|entry| {
            let entry = entry.expect("entry");
            let header = entry.header();
            (entry.path().expect("path").into_owned(), header.mode().expect("mode"), header.mtime().expect("time"))
        });
        let expected = [("usr/", 0o1755, 1000), ("usr/.wh.a", 0o1755, 1000)];
        assert_eq!(seen.collect::<Vec<_>>(), expected.map(|(path, mode, time)| (path.into(), mode, time)));
    }
}
