//! What a package holds: files and links by their paths, and the folders that follow from them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use crate::error::PackageError;

/// The files and links of a package, by their paths: relative to its root, `/`-separated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

/// A file or link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What is in it.
    pub content: Content,
    /// Whether its mode is 755 rather than 644.
    pub executable: bool,
    /// What it is to a package manager.
    pub role: Role,
}

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// What is in this file.
    File(PathBuf),
    /// It is a symbolic link with this text.
    Link(String),
}

/// What a file is to a package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A part of the program.
    Plain,
    /// Documentation.
    Document,
    /// The licence.
    License,
    /// Settings, which the user may change and a newer package must not replace.
    Config,
}

/// A folder, file or link in the order in which they are written: folders before what is in them, all by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node<'a> {
    /// A folder; its path has no slash at the end.
    Folder(&'a str),
    /// A file or link.
    Entry(&'a str, &'a Entry),
}

impl Entry {
    /// A file with these bytes.
    pub fn bytes(bytes: impl Into<Vec<u8>>, role: Role) -> Self {
        Self { content: Content::Bytes(bytes.into()), executable: false, role }
    }

    /// A symbolic link.
    pub fn link(target: impl Into<String>) -> Self {
        Self { content: Content::Link(target.into()), executable: false, role: Role::Plain }
    }

    /// Its permission bits.
    pub fn mode(&self) -> u32 {
        match self.content {
            Content::Link(_) => 0o777,
            _ if self.executable => 0o755,
            _ => 0o644,
        }
    }

    /// The bytes of a file; none of a link.
    pub fn read(&self) -> io::Result<Cow<'_, [u8]>> {
        match &self.content {
            Content::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            Content::File(path) => fs_err::read(path).map(Cow::Owned),
            Content::Link(_) => Ok(Cow::Borrowed(&[])),
        }
    }

    /// Bytes of a file; 0 for a link.
    pub fn size(&self) -> io::Result<u64> {
        match &self.content {
            Content::Bytes(bytes) => Ok(bytes.len() as u64),
            Content::File(path) => fs_err::metadata(path).map(|metadata| metadata.len()),
            Content::Link(_) => Ok(0),
        }
    }
}

impl Tree {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a file or link at a path; slashes at its beginning do not count.
    ///
    /// Errors: the path leads out of the package, or something is there already.
    pub fn insert(&mut self, path: &str, entry: Entry) -> Result<(), PackageError> {
        let path = path.trim_start_matches('/');
        let is_part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(char::is_control);
        if !path.split('/').all(is_part) {
            return Err(PackageError::Place { path: path.to_owned() });
        }
        let below = format!("{path}/");
        let is_folder = self.entries.range(below.clone()..).next().is_some_and(|(other, _)| other.starts_with(&below));
        let is_in_file = ancestors(path).any(|folder| self.entries.contains_key(folder));
        if is_folder || is_in_file || self.entries.contains_key(path) {
            return Err(PackageError::Twice { path: path.to_owned() });
        }
        self.entries.insert(path.to_owned(), entry);
        Ok(())
    }

    /// Files and links by their paths, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// The folders, in order.
    pub fn folders(&self) -> BTreeSet<&str> {
        self.entries.keys().flat_map(|path| ancestors(path)).collect()
    }

    /// All of it in the order in which it is written.
    pub fn nodes(&self) -> Vec<Node<'_>> {
        let mut nodes: Vec<(&str, Node<'_>)> =
            self.folders().into_iter().map(|folder| (folder, Node::Folder(folder))).collect();
        nodes.extend(self.iter().map(|(path, entry)| (path, Node::Entry(path, entry))));
        nodes.sort_by_key(|(path, _)| *path);
        nodes.into_iter().map(|(_, node)| node).collect()
    }

    /// The same below a folder.
    pub fn below(self, folder: &str) -> Self {
        Self { entries: self.entries.into_iter().map(|(path, entry)| (format!("{folder}/{path}"), entry)).collect() }
    }

    /// Bytes of all files together.
    pub fn size(&self) -> io::Result<u64> {
        self.entries.values().map(Entry::size).sum()
    }
}

/// The folders above a path, the outermost first.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain() -> Entry {
        Entry::bytes("x", Role::Plain)
    }

    #[test]
    fn nothing_lies_at_the_place_of_something_else() {
        let mut tree = Tree::new();
        tree.insert("/usr/bin/a", plain()).unwrap();
        tree.insert("usr/bin-x", plain()).unwrap();
        for path in ["usr/bin/a", "usr/bin", "usr", "usr/bin/a/b"] {
            assert!(matches!(tree.insert(path, plain()), Err(PackageError::Twice { .. })), "{path}");
        }
        for path in ["", "/", "a/../b", "./a", "a//b", "a/", "a\nb"] {
            assert!(matches!(tree.insert(path, plain()), Err(PackageError::Place { .. })), "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn folders_come_before_what_is_in_them(paths in prop::collection::vec("[a-c-]{1,2}(/[a-c.-]{1,3}x){0,3}", 1..12)) {
            let mut tree = Tree::new();
            for path in &paths {
                // What is taken already is not what is tested.
                let _ = tree.insert(path, plain());
            }
            let mut seen = BTreeSet::new();
            for node in tree.nodes() {
                let (Node::Folder(path) | Node::Entry(path, _)) = node;
                prop_assert!(ancestors(path).all(|folder| seen.contains(folder)), "{path}");
                prop_assert!(seen.insert(path), "{path} twice");
            }
        }
    }
}
