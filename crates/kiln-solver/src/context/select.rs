//! What a `COPY` selects from a context, and its digest.

use std::collections::HashSet;

use kiln_graph::{Copy, Digest, Hasher, glob};

use super::{Context, Entry, Kind};
use crate::error::Result;
use crate::pattern::{Patterns, clean, join, pivot, split_last, split_wildcard};

/// Links that are followed in one path before it is taken for a circle.
const MOST_LINKS: usize = 40;

/// One selected entry and its place below the destination.
#[derive(Debug)]
pub(crate) struct Selected<'a> {
    pub(crate) entry: &'a Entry,
    /// Path relative to the destination folder.
    pub(crate) place: String,
    /// Whether a source names it, rather than a folder that it is in.
    pub(crate) named: bool,
}

/// All that a `COPY` selects.
#[derive(Debug, Default)]
pub(crate) struct Selection<'a> {
    pub(crate) entries: Vec<Selected<'a>>,
    /// The one source is a file, so the destination may be a file name.
    pub(crate) single_file: bool,
    /// A source is a folder, so the destination becomes one even if the folder is empty.
    pub(crate) has_folder: bool,
    /// Sources that matched nothing, wildcards apart.
    pub(crate) missing: Vec<String>,
}

impl Context {
    /// What `copy` selects, in the order of its sources.
    ///
    /// A source that is a link is followed, as are links among its folders; links inside of a copied folder stay links.
    pub(crate) fn select<'a>(&'a self, copy: &Copy) -> Selection<'a> {
        let mut selection = Selection::default();
        let excludes = Patterns::new(copy.excludes.iter().map(String::as_str));
        let mut files = 0;
        for source in &copy.sources {
            if copy.parents {
                self.select_with_parents(source, &excludes, &mut selection);
                continue;
            }
            let path = clean(source);
            let named = if glob::has_wildcard(&path) { self.matching(&path) } else { vec![path] };
            for path in named {
                let Some(real) = self.resolve(&path) else {
                    selection.missing.push(if glob::has_wildcard(source) { path } else { source.clone() });
                    continue;
                };
                match self.entry(&real).filter(|entry| entry.kind != Kind::Folder) {
                    None => {
                        selection.has_folder = true;
                        self.add_below(&real, &excludes, &mut selection);
                    }
                    Some(entry) => {
                        // As in BuildKit, excludes are about what is in folders: a file that is named is meant.
                        files += 1;
                        let place = split_last(&path).1.to_owned();
                        selection.entries.push(Selected { entry, place, named: true });
                    }
                }
            }
        }
        selection.single_file = files == 1 && !selection.has_folder && !copy.parents && copy.sources.len() == 1;
        selection
    }

    /// Follows the links of a path; `None` if it leads to nothing.
    fn resolve(&self, path: &str) -> Option<String> {
        let mut todo: Vec<&str> = path.split('/').rev().filter(|part| !part.is_empty()).collect();
        let mut real = String::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part {
                "." | "" => {}
                ".." => real.truncate(real.rfind('/').unwrap_or(0)),
                part => {
                    let child = join(&real, part);
                    match &self.entry(&child)?.kind {
                        Kind::Symlink(to) => {
                            links += 1;
                            if links > MOST_LINKS {
                                return None;
                            }
                            if to.starts_with('/') {
                                real.clear();
                            }
                            todo.extend(to.split('/').rev());
                        }
                        Kind::Folder => real = child,
                        // Nothing is below a file.
                        Kind::File => return todo.iter().all(|p| p.is_empty() || *p == ".").then_some(child),
                    }
                }
            }
        }
        Some(real)
    }

    /// The paths that a wildcard matches. Links in its fixed part are followed.
    fn matching(&self, pattern: &str) -> Vec<String> {
        let (fixed, wild) = split_wildcard(pattern);
        let Some(real) = self.resolve(&fixed) else { return Vec::new() };
        let depth = wild.matches('/').count();
        let inner = |entry: &'_ Entry| -> String { relative(&entry.path, &real).to_owned() };
        self.below(&real)
            .iter()
            .filter(|e| relative(&e.path, &real).matches('/').count() == depth)
            .filter(|e| glob::matches(&wild, relative(&e.path, &real)))
            .map(|e| join(&fixed, &inner(e)))
            .collect()
    }

    /// All that a pattern covers, under its path below the pivot.
    fn select_with_parents<'a>(&'a self, source: &str, excludes: &Patterns, selection: &mut Selection<'a>) {
        let (root, pattern) = pivot(source);
        let Some(root) = self.resolve(&root) else {
            selection.missing.push(source.to_owned());
            return;
        };
        let include = Patterns::new([pattern.as_str()]);
        let before = selection.entries.len();
        let mut needed: HashSet<&str> = HashSet::new();
        let below = self.below(&root);
        for entry in below {
            let place = relative(&entry.path, &root);
            if (pattern.is_empty() || include.covers(place)) && !excludes.covers(place) {
                needed.insert(place);
                let mut folder = split_last(place).0;
                while !folder.is_empty() && needed.insert(folder) {
                    folder = split_last(folder).0;
                }
            }
        }
        // The folders that lead to what is selected come along, with their modes.
        selection.entries.extend(
            below
                .iter()
                .map(|entry| Selected { entry, place: relative(&entry.path, &root).to_owned(), named: false })
                .filter(|selected| needed.contains(selected.place.as_str())),
        );
        selection.has_folder = true;
        if selection.entries.len() == before && !glob::has_wildcard(&pattern) && !pattern.is_empty() {
            let known = self.entry(&join(&root, &pattern)).is_some();
            if !known {
                selection.missing.push(source.to_owned());
            }
        }
    }

    fn add_below<'a>(&'a self, folder: &str, excludes: &Patterns, selection: &mut Selection<'a>) {
        let below = self.below(folder);
        selection.entries.reserve(below.len());
        for entry in below {
            let place = relative(&entry.path, folder);
            if !excludes.covers(place) {
                selection.entries.push(Selected { entry, place: place.to_owned(), named: false });
            }
        }
    }

    /// The digest of a selection: places, kinds, modes and contents.
    pub(crate) fn selection_digest(&self, selection: &Selection<'_>) -> Result<Digest> {
        if let Some(identity) = self.identity {
            let mut hasher = Hasher::new();
            hasher.field("identity").field(identity.as_bytes());
            for selected in &selection.entries {
                hasher.field(&*selected.entry.path).field(&selected.place);
            }
            return Ok(hasher.finish());
        }
        self.hash_all(selection.entries.iter().map(|selected| selected.entry))?;
        let mut hasher = Hasher::new();
        hasher.field([u8::from(selection.single_file), u8::from(selection.has_folder)]);
        for selected in &selection.entries {
            self.hash_entry(&mut hasher, &selected.place, selected.entry)?;
        }
        Ok(hasher.finish())
    }

    /// The digest of one path and all below it; `None` if nothing is there.
    pub(crate) fn subtree_digest(&self, path: &str) -> Result<Option<Digest>> {
        let Some(path) = self.resolve(&clean(path)) else { return Ok(None) };
        let entry = self.entry(&path);
        self.hash_all(entry.into_iter().chain(self.below(&path)))?;
        let mut hasher = Hasher::new();
        if let Some(entry) = entry {
            self.hash_entry(&mut hasher, "", entry)?;
        }
        for entry in self.below(&path) {
            self.hash_entry(&mut hasher, relative(&entry.path, &path), entry)?;
        }
        Ok(Some(hasher.finish()))
    }

    fn hash_entry(&self, hasher: &mut Hasher, place: &str, entry: &Entry) -> Result<()> {
        let kind = match &entry.kind {
            Kind::Folder => 0,
            Kind::File => 1,
            Kind::Symlink(_) => 2,
        };
        let mode = entry.mode.to_le_bytes();
        hasher.field(place).field([kind, mode[0], mode[1], mode[2], mode[3]]).field(self.digest(entry)?.as_bytes());
        if entry.owner != (0, 0) {
            hasher.field("owner").field(entry.owner.0.to_le_bytes()).field(entry.owner.1.to_le_bytes());
        }
        Ok(())
    }
}

/// A path below a folder, relative to it.
fn relative<'a>(path: &'a str, folder: &str) -> &'a str {
    path.strip_prefix(folder).map_or(path, |rest| rest.trim_start_matches('/'))
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

    fn parents(sources: &[&str]) -> Copy {
        Copy { parents: true, ..copy(sources) }
    }

    fn but(sources: &[&str], excludes: &[&str]) -> Copy {
        Copy { excludes: excludes.iter().map(|s| (*s).to_owned()).collect(), ..copy(sources) }
    }

    fn context() -> (tempfile::TempDir, Context) {
        let dir = tempfile::tempdir().expect("temporary folder");
        for path in ["pkg/a.py", "pkg/sub/b.py", "pkg/sub/c.txt", "main.py", "notes.txt"] {
            let path = dir.path().join(path);
            fs_err::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs_err::write(&path, path.to_string_lossy().as_bytes()).expect("file");
        }
        let link = |to: &str, at: &str| fs_err::os::unix::fs::symlink(to, dir.path().join(at)).expect("link");
        link("pkg/sub", "inner");
        link("../main.py", "pkg/link.py");
        link("nowhere", "dangling");
        link("circle", "circle");
        let context = Context::scan(dir.path(), Arc::new(Everything), StatCache::default()).expect("scan");
        (dir, context)
    }

    fn places(context: &Context, copy: &Copy) -> Vec<String> {
        context.select(copy).entries.iter().map(|s| s.place.clone()).collect()
    }

    #[test]
    fn a_folder_gives_its_contents_and_a_file_its_name() {
        let (_dir, context) = context();
        assert_eq!(places(&context, &copy(&["pkg"])), ["a.py", "link.py", "sub", "sub/b.py", "sub/c.txt"]);
        assert_eq!(places(&context, &copy(&["./pkg/sub/../a.py"])), ["a.py"]);
        assert_eq!(places(&context, &copy(&["*.py", "notes.txt"])), ["main.py", "notes.txt"]);
        assert_eq!(places(&context, &copy(&["."])).len(), 11);
        assert!(context.select(&copy(&["main.py"])).single_file);
        assert!(context.select(&copy(&["mai*.py"])).single_file);
        assert!(!context.select(&copy(&["pkg"])).single_file);
        assert_eq!(context.select(&copy(&["nothing"])).missing, ["nothing"]);
        assert_eq!(context.select(&copy(&["main.py/x"])).missing, ["main.py/x"]);
        assert!(context.select(&copy(&["nothing*"])).missing.is_empty());
    }

    #[test]
    fn wildcards_in_the_middle_give_the_contents_of_folders() {
        let (_dir, context) = context();
        assert_eq!(places(&context, &copy(&["p*/sub/*.py"])), ["b.py"]);
        assert_eq!(places(&context, &copy(&["pkg/s*"])), ["b.py", "c.txt"]);
        assert_eq!(places(&context, &copy(&["*/a.py"])), ["a.py"]);
    }

    #[test]
    fn named_links_are_followed_and_keep_their_names() {
        let (_dir, context) = context();
        assert_eq!(places(&context, &copy(&["inner"])), ["b.py", "c.txt"]);
        assert_eq!(places(&context, &copy(&["inner/b.py"])), ["b.py"]);
        assert_eq!(places(&context, &copy(&["inner/*.txt"])), ["c.txt"]);
        let through = copy(&["pkg/link.py"]);
        let selection = context.select(&through);
        assert_eq!(selection.entries[0].place, "link.py");
        assert_eq!(&*selection.entries[0].entry.path, "main.py");
        assert!(selection.single_file);
        assert_eq!(context.select(&copy(&["dangling"])).missing, ["dangling"]);
        assert_eq!(context.select(&copy(&["circle"])).missing, ["circle"]);
    }

    #[test]
    fn parents_are_kept_from_the_pivot_on() {
        let (_dir, context) = context();
        assert_eq!(places(&context, &parents(&["pkg/sub/b.py"])), ["pkg", "pkg/sub", "pkg/sub/b.py"]);
        assert_eq!(places(&context, &parents(&["pkg/./sub/b.py"])), ["sub", "sub/b.py"]);
        assert_eq!(places(&context, &parents(&["pkg/./*/*.txt"])), ["sub", "sub/c.txt"]);
        assert_eq!(places(&context, &parents(&["**/*.txt"])), ["notes.txt", "pkg", "pkg/sub", "pkg/sub/c.txt"]);
        assert_eq!(places(&context, &parents(&["inner"])), ["inner"], "links are kept as links");
        assert_eq!(context.select(&parents(&["pkg/x"])).missing, ["pkg/x"]);
    }

    #[test]
    fn excludes_are_relative_to_the_source() {
        let (_dir, context) = context();
        assert_eq!(places(&context, &but(&["pkg"], &["sub", "*.txt", "link.py"])), ["a.py"]);
        assert_eq!(places(&context, &but(&["pkg/sub"], &["*.txt"])), ["b.py"]);
        assert_eq!(places(&context, &but(&["pkg"], &["**/*.py"])), ["sub", "sub/c.txt"]);
        assert_eq!(places(&context, &but(&["*.py", "*.txt"], &["*.txt"])), ["main.py", "notes.txt"]);
        let kept = Copy { parents: true, ..but(&["pkg/./sub"], &["**/*.py"]) };
        assert_eq!(places(&context, &kept), ["sub", "sub/c.txt"]);
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
