//! Cases of the conformance suite: a Dockerfile, its context, and what must come out of it, in a text file.
//!
//! ```text
//! === name of a case
//! args: --build-arg A=1          options of the build, if any
//! --- Dockerfile                 a file of the context; `mode=0755` may follow
//! --- link: here -> there        a symbolic link of the context
//! --- want out.txt               a file of the result, `mode=0600` may follow; its content below
//! --- want-link: here -> there   a symbolic link of the result
//! --- absent: path               nothing of this name is in the result
//! --- fails                      the build fails; words of kiln's error, a line each
//! ```
//!
//! A case that differs from what `docker buildx build` does on purpose says `differs: why`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// One case.
#[derive(Debug, Default)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Options of the build.
    pub args: Vec<String>,
    /// Why buildx does something else.
    pub differs: Option<String>,
    files: Vec<(String, Option<u32>, String)>,
    links: Vec<(String, String)>,
    want: BTreeMap<String, Entry>,
    absent: Vec<String>,
    /// Words of the error, if the build must fail.
    pub fails: Option<Vec<String>>,
}

/// Something in a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A file with its permission bits and content.
    File(u32, String),
    /// A folder with its permission bits.
    Folder(u32),
    /// A symbolic link.
    Link(String),
    /// A pipe or a device with its mode.
    Special(u32),
}

/// The cases of a text.
///
/// # Panics
/// If the text is no such file.
pub fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut body: Option<String> = None;
    let mut head = String::new();
    for line in text.lines().chain(["=== "]) {
        if line.starts_with("=== ") || line.starts_with("--- ") {
            if let Some(mut body) = body.take() {
                // An empty line before the next case is for people.
                if line.starts_with("=== ") && body.ends_with("\n\n") {
                    body.pop();
                }
                cases.last_mut().expect("a case begins with ===").part(&head, body);
            }
            if let Some(name) = line.strip_prefix("=== ") {
                cases.push(Case { name: name.trim().to_owned(), ..Case::default() });
            } else {
                line[4..].trim().clone_into(&mut head);
                body = Some(String::new());
            }
        } else if let Some(body) = &mut body {
            body.push_str(line);
            body.push('\n');
        } else if let Some(case) = cases.last_mut() {
            if let Some(args) = line.strip_prefix("args:") {
                case.args.extend(args.split_whitespace().map(str::to_owned));
            } else if let Some(why) = line.strip_prefix("differs:") {
                case.differs = Some(why.trim().to_owned());
            } else {
                assert!(line.trim().is_empty() || line.starts_with('#'), "{}: {line}", case.name);
            }
        }
    }
    cases.pop();
    cases
}

impl Case {
    fn part(&mut self, head: &str, body: String) {
        let pair = |text: &str| {
            let (left, right) = text.split_once("->").expect("a link leads somewhere");
            (left.trim().to_owned(), right.trim().to_owned())
        };
        if let Some(link) = head.strip_prefix("link:") {
            self.links.push(pair(link));
        } else if let Some(link) = head.strip_prefix("want-link:") {
            let (path, to) = pair(link);
            self.want.insert(path, Entry::Link(to));
        } else if let Some(path) = head.strip_prefix("absent:") {
            self.absent.push(path.trim().to_owned());
        } else if head == "fails" {
            self.fails = Some(body.lines().map(str::to_owned).collect());
        } else {
            let (want, head) = head.strip_prefix("want ").map_or((false, head), |head| (true, head));
            let (path, mode) = head.split_once(" mode=").map_or((head, None), |(path, mode)| {
                (path, Some(u32::from_str_radix(mode.trim(), 8).expect("an octal mode")))
            });
            if want {
                self.want.insert(path.to_owned(), Entry::File(mode.unwrap_or(0o644), body));
            } else {
                self.files.push((path.to_owned(), mode, body));
            }
        }
    }

    /// Writes the context.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) {
        for (path, mode, content) in &self.files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder");
            fs::write(&path, content).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode.unwrap_or(0o644))).expect("a mode");
        }
        for (path, to) in &self.links {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder");
            symlink(to, path).expect("a link");
        }
    }

    /// What is wrong with a result, a line each.
    pub fn problems(&self, tree: &BTreeMap<String, Entry>) -> Vec<String> {
        let mut problems = Vec::new();
        for (path, want) in &self.want {
            if tree.get(path) != Some(want) {
                problems.push(format!("{path}: wanted {want:?}, found {:?}", tree.get(path)));
            }
        }
        for path in self.absent.iter().filter(|path| tree.contains_key(*path)) {
            problems.push(format!("{path}: is there"));
        }
        problems
    }
}

/// All that is in a folder, by relative path.
///
/// # Panics
/// If it cannot be read.
pub fn tree(root: &Path) -> BTreeMap<String, Entry> {
    let mut tree = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().expect("a type"));
            let mode = fs::symlink_metadata(&path).expect("a file").permissions().mode() & 0o7777;
            let name = path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
            let found = if kind.is_symlink() {
                Entry::Link(fs::read_link(&path).expect("a link").to_string_lossy().into_owned())
            } else if kind.is_dir() {
                folders.push(path);
                Entry::Folder(mode)
            } else if !kind.is_file() {
                Entry::Special(mode)
            } else {
                Entry::File(mode, String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned())
            };
            tree.insert(name, found);
        }
    }
    tree
}

/// All that is in an archive, by path; special files are left out.
///
/// # Panics
/// If it is none.
pub fn tree_of_archive(bytes: &[u8]) -> BTreeMap<String, Entry> {
    let mut tree = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().trim_end_matches('/').to_owned();
        let mode = entry.header().mode().expect("a mode") & 0o7777;
        let found = match entry.header().entry_type() {
            tar::EntryType::Directory => Entry::Folder(mode),
            tar::EntryType::Symlink => {
                Entry::Link(entry.link_name().expect("a link").expect("one").display().to_string())
            }
            tar::EntryType::Regular => {
                let mut content = Vec::new();
                std::io::Read::read_to_end(&mut entry, &mut content).expect("whole");
                Entry::File(mode, String::from_utf8_lossy(&content).into_owned())
            }
            _ => continue,
        };
        tree.insert(path, found);
    }
    tree
}
