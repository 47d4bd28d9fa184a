//! What a `COPY` selects from a context, and its digest.

use kiln_graph::{Copy, Digest, Hasher, glob};

use super::{Context, Entry, Kind};
use crate::error::Result;

/// One selected entry and its place below the destination.
#[derive(Debug)]
pub(crate) struct Selected<'a> {
    pub(crate) entry: &'a Entry,
    /// Path relative to the destination folder; empty for the folder itself.
    pub(crate) place: String,
}

/// All that a `COPY` selects.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    pub(crate) entries: Vec<Selected<'a>>,
    /// The one source is a file, so the destination may be a file name.
    pub(crate) single_file: bool,
    /// Sources that matched nothing, wildcards apart.
    pub(crate) missing: Vec<String>,
}

/// A source path as a relative path without `.`, `..` or doubled slashes. `..` cannot leave the context.
pub(crate) fn clean(source: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in source.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Context {
    /// What `copy` selects, in the order of its sources.
    pub(crate) fn select<'a>(&'a self, copy: &Copy) -> Selection<'a> {
        let mut selection = Selection { entries: Vec::new(), single_file: false, missing: Vec::new() };
        let excluded = |path: &str| copy.excludes.iter().any(|pattern| excludes(pattern, path));
        let mut files = 0;
        let mut folders = 0;
        for source in &copy.sources {
            let path = clean(source);
            let matched: Vec<&Entry> = if glob::has_wildcard(&path) {
                self.entries().iter().filter(|e| glob::matches(&path, &e.path)).collect()
            } else if path.is_empty() {
                folders += 1;
                self.add_below("", "", &excluded, &mut selection);
                continue;
            } else if let Some(entry) = self.entry(&path) {
                vec![entry]
            } else {
                selection.missing.push(source.clone());
                continue;
            };
            for entry in matched {
                let place = if copy.parents { entry.path.to_string() } else { String::new() };
                if entry.kind == Kind::Folder {
                    folders += 1;
                    if copy.parents {
                        selection.entries.push(Selected { entry, place: place.clone() });
                    }
                    self.add_below(&entry.path, &place, &excluded, &mut selection);
                } else if !excluded(&entry.path) {
                    files += 1;
                    let name = entry.path.rsplit('/').next().unwrap_or_default().to_owned();
                    selection.entries.push(Selected { entry, place: if copy.parents { place } else { name } });
                }
            }
        }
        selection.single_file = files == 1 && folders == 0 && !copy.parents && copy.sources.len() == 1;
        selection
    }

    fn add_below<'a>(
        &'a self,
        folder: &str,
        place: &str,
        excluded: &dyn Fn(&str) -> bool,
        selection: &mut Selection<'a>,
    ) {
        for entry in self.below(folder) {
            if excluded(&entry.path) {
                continue;
            }
            let inner = entry.path[folder.len()..].trim_start_matches('/');
            let place = if place.is_empty() { inner.to_owned() } else { format!("{place}/{inner}") };
            selection.entries.push(Selected { entry, place });
        }
    }

    /// The digest of a selection: places, kinds, modes and contents.
    pub(crate) fn selection_digest(&self, selection: &Selection<'_>) -> Result<Digest> {
        let mut hasher = Hasher::new();
        hasher.field([u8::from(selection.single_file)]);
        for selected in &selection.entries {
            self.hash_entry(&mut hasher, &selected.place, selected.entry)?;
        }
        Ok(hasher.finish())
    }

    /// The digest of one path and all below it; `None` if nothing is there.
    pub(crate) fn subtree_digest(&self, path: &str) -> Result<Option<Digest>> {
        let path = clean(path);
        let mut hasher = Hasher::new();
        match self.entry(&path) {
            Some(entry) => self.hash_entry(&mut hasher, "", entry)?,
            None if path.is_empty() => {}
            None => return Ok(None),
        }
        for entry in self.below(&path) {
            self.hash_entry(&mut hasher, &entry.path[path.len()..], entry)?;
        }
        Ok(Some(hasher.finish()))
    }

    fn hash_entry(&self, hasher: &mut Hasher, place: &str, entry: &Entry) -> Result<()> {
        let kind = match &entry.kind {
            Kind::Folder => "folder",
            Kind::File => "file",
            Kind::Symlink(_) => "link",
        };
        hasher.field(place).field(kind).field(entry.mode.to_le_bytes()).field(self.digest(entry)?.to_string());
        Ok(())
    }
}

/// `--exclude` patterns match a path or any of its parents.
fn excludes(pattern: &str, path: &str) -> bool {
    let pattern = clean(pattern);
    let mut end = path.len();
    loop {
        if glob::matches(&pattern, &path[..end]) {
            return true;
        }
        match path[..end].rfind('/') {
            Some(slash) => end = slash,
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::context::{Everything, StatCache};

    fn copy(sources: &[&str]) -> Copy {
        Copy {
            input: 0,
            sources: sources.iter().map(|s| (*s).to_owned()).collect(),
            dest: "/src/".into(),
            owner: None,
            chmod: None,
            unpack: false,
            link: false,
            parents: false,
            excludes: vec![],
        }
    }

    fn context() -> (tempfile::TempDir, Context) {
        let dir = tempfile::tempdir().expect("temporary folder");
        for path in ["pkg/a.py", "pkg/sub/b.py", "main.py", "notes.txt"] {
            let path = dir.path().join(path);
            fs_err::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs_err::write(&path, path.to_string_lossy().as_bytes()).expect("file");
        }
        let context = Context::scan(dir.path(), Arc::new(Everything), StatCache::default()).expect("scan");
        (dir, context)
    }

    fn places(context: &Context, copy: &Copy) -> Vec<String> {
        context.select(copy).entries.iter().map(|s| s.place.clone()).collect()
    }

    #[test]
    fn a_folder_gives_its_contents_and_a_file_its_name() {
        let (_dir, context) = context();
        assert_eq!(places(&context, &copy(&["pkg"])), ["a.py", "sub", "sub/b.py"]);
        assert_eq!(places(&context, &copy(&["./pkg/sub/../a.py"])), ["a.py"]);
        assert_eq!(places(&context, &copy(&["*.py", "notes.txt"])), ["main.py", "notes.txt"]);
        assert_eq!(places(&context, &copy(&["."])).len(), 6);
        assert!(context.select(&copy(&["main.py"])).single_file);
        assert!(!context.select(&copy(&["pkg"])).single_file);
        assert_eq!(context.select(&copy(&["nothing"])).missing, ["nothing"]);
        let with_parents = Copy { parents: true, ..copy(&["pkg/sub/b.py"]) };
        assert_eq!(places(&context, &with_parents), ["pkg/sub/b.py"]);
        let but = Copy { excludes: vec!["pkg/sub".into(), "*.txt".into()], ..copy(&["."]) };
        assert_eq!(places(&context, &but), ["main.py", "pkg", "pkg/a.py"]);
    }

    #[test]
    fn what_is_not_selected_does_not_count() {
        let (dir, context) = context();
        let digest = |c: &Context| c.selection_digest(&c.select(&copy(&["pkg"]))).expect("digest");
        let before = digest(&context);
        fs_err::write(dir.path().join("main.py"), "changed").expect("write");
        let again = Context::scan(dir.path(), Arc::new(Everything), StatCache::default()).expect("scan");
        assert_eq!(digest(&again), before);
        fs_err::write(dir.path().join("pkg/a.py"), "changed").expect("write");
        let again = Context::scan(dir.path(), Arc::new(Everything), StatCache::default()).expect("scan");
        assert_ne!(digest(&again), before);
    }
}
