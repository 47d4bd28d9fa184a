//! Which files of the release's folder are published: those that `SHA256SUMS` lists, each held against its sum, and what is
//! made about them.

use std::collections::BTreeSet;
use std::path::Path;

use fs_err as fs;
use kiln_artifact::checksum::{SUMS_NAME, Sums, sha256_file};
use kiln_graph::glob;

use crate::error::{PublishError, Result};
use crate::model::LocalFile;

/// What is published beside the files of the list, unless somebody chooses: signatures, bills of materials, provenance.
const ABOUT: [&str; 9] = [
    ".minisig",
    ".sig",
    ".asc",
    ".sigstore.json",
    ".cdx.json",
    ".spdx.json",
    ".intoto.json",
    ".intoto.jsonl",
    ".provenance.json",
];
/// The installer, which need not be in the list.
const INSTALLER: &str = "install.sh";

/// What is published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// The files, by name.
    pub files: Vec<LocalFile>,
    /// Names in folders, which a release cannot have.
    pub in_folders: Vec<String>,
    /// Names of files that are of another version and that the list does not have.
    pub of_other_versions: Vec<String>,
}

/// Chooses files of `folder`, which is called `shown` to people. With `globs`, those that match one of them, and the list of
/// sums in any case. `is_other` says of a name whether it is of another version: an output folder keeps what earlier builds
/// made.
///
/// # Errors
/// [`PublishError::Sum`] if a file is not as the list says, [`PublishError::Files`] if something is missing or too much.
pub fn choose(folder: &Path, shown: &str, globs: &[String], is_other: &dyn Fn(&str) -> bool) -> Result<Chosen> {
    let list = folder.join(SUMS_NAME);
    let text = match fs::read_to_string(&list) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(PublishError::Files {
                problem: format!("there is no {SUMS_NAME} in {shown}, so nothing that could be published"),
                hint: "`kiln build` and `kiln package` make the files of a release".to_owned(),
            });
        }
        Err(source) => return Err(PublishError::Io { path: list, source }),
    };
    let sums = Sums::parse(&text).map_err(|error| PublishError::Files {
        problem: format!("{shown}/{SUMS_NAME} is damaged: {error}"),
        hint: "remove it and make the files anew".to_owned(),
    })?;
    let names = names(folder)?;
    let mut chosen = Chosen::default();
    let mut wanted = BTreeSet::from([SUMS_NAME.to_owned()]);
    let mut unused: Vec<&String> = globs.iter().collect();
    let mut is_chosen = |name: &str| {
        unused.retain(|glob| !glob::matches(glob, name));
        globs.iter().any(|glob| glob::matches(glob, name))
    };
    for (name, _) in sums.iter() {
        if globs.is_empty() || is_chosen(name) {
            if name.contains('/') {
                chosen.in_folders.push(name.to_owned());
            } else {
                wanted.insert(name.to_owned());
            }
        }
    }
    for name in &names {
        let of_list = name.strip_prefix(SUMS_NAME).is_some_and(is_about);
        if of_list || if globs.is_empty() { is_about(name) || name == INSTALLER } else { is_chosen(name) } {
            wanted.insert(name.clone());
        }
    }
    if let Some(glob) = unused.first() {
        return Err(PublishError::Files {
            problem: format!("no file in {shown} is called `{glob}`"),
            hint: "`assets` in [release] has the names of files, in which `*` stands for anything".to_owned(),
        });
    }
    // Left out, they would be missing for those who check `SHA256SUMS`.
    let listed: Vec<&str> =
        wanted.iter().map(String::as_str).filter(|name| is_other(name) && sums.get(name).is_some()).collect();
    if !listed.is_empty() {
        return Err(PublishError::Files {
            problem: format!("{shown}/{SUMS_NAME} lists files of another version: {}", listed.join(", ")),
            hint: "`kiln package` takes them off the list; or remove the files, and make the others anew".to_owned(),
        });
    }
    let (others, wanted): (BTreeSet<String>, BTreeSet<String>) = wanted.into_iter().partition(|name| is_other(name));
    chosen.of_other_versions = others.into_iter().collect();
    if wanted.len() == 1 {
        return Err(PublishError::Files {
            problem: format!("{shown}/{SUMS_NAME} lists no file that could be published"),
            hint: "`kiln build` and `kiln package` make the files of a release".to_owned(),
        });
    }
    for name in wanted {
        let path = folder.join(&name);
        if let Some(file) = read(&path, &name, &sums, shown)? {
            chosen.files.push(file);
        }
    }
    Ok(chosen)
}

fn is_about(name: &str) -> bool {
    ABOUT.iter().any(|ending| name.ends_with(ending))
}

/// The files of a folder itself, hidden ones left out.
fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let failed = |source| PublishError::Io { path: folder.to_owned(), source };
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && entry.path().is_file() {
            names.insert(name);
        }
    }
    Ok(names)
}

fn read(path: &Path, name: &str, sums: &Sums, shown: &str) -> Result<Option<LocalFile>> {
    let failed = |source| PublishError::Io { path: path.to_owned(), source };
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(PublishError::Files {
                problem: format!("{SUMS_NAME} lists {name}, which is not in {shown}"),
                hint: "make the files anew with `kiln build` and `kiln package`".to_owned(),
            });
        }
        Err(source) => return Err(failed(source)),
    };
    let found = sha256_file(path).map_err(failed)?;
    match sums.get(name) {
        Some(listed) if listed != found => {
            Err(PublishError::Sum { path: Path::new(shown).join(name), listed: listed.short(), found: found.short() })
        }
        _ => Ok(Some(LocalFile { name: name.to_owned(), path: path.to_owned(), size, sha256: found })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str], listed: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for name in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, name).expect("written");
        }
        let mut sums = Sums::new();
        for name in listed {
            sums.insert(*name, kiln_artifact::checksum::Sha256::of(name));
        }
        fs::write(folder.path().join(SUMS_NAME), sums.to_string()).expect("written");
        folder
    }

    fn is_other(name: &str) -> bool {
        name.contains("-1.1")
    }

    fn names_of(folder: &Path, globs: &[&str]) -> Result<Vec<String>> {
        let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
        choose(folder, "dist", &globs, &is_other).map(|chosen| chosen.files.into_iter().map(|file| file.name).collect())
    }

    #[test]
    fn what_is_listed_and_what_is_about_it_is_published() {
        let files = ["app-1.2.tar.gz", "app-1.2.deb", "app/lib.so", "app.cdx.json", "SHA256SUMS.minisig", "install.sh"];
        let more = [".hidden.sig", "notes.txt", "app-1.2.tar.gz.sigstore.json"];
        let folder = folder(&[files.as_slice(), &more].concat(), &files[..3]);
        let everything = names_of(folder.path(), &[]).expect("files");
        assert_eq!(
            everything,
            [
                "SHA256SUMS",
                "SHA256SUMS.minisig",
                "app-1.2.deb",
                "app-1.2.tar.gz",
                "app-1.2.tar.gz.sigstore.json",
                "app.cdx.json",
                "install.sh"
            ]
        );
        let chosen = choose(folder.path(), "dist", &[], &is_other).expect("files");
        assert_eq!(chosen.in_folders, ["app/lib.so"]);
        assert_eq!(chosen.files[2].size, 11);
        let some = names_of(folder.path(), &["*.deb", "notes.txt"]).expect("files");
        assert_eq!(some, ["SHA256SUMS", "SHA256SUMS.minisig", "app-1.2.deb", "notes.txt"]);
        let error = names_of(folder.path(), &["*.deb", "*.rpm"]).expect_err("no rpm");
        assert_eq!(error.to_string(), "no file in dist is called `*.rpm`");
    }

    #[test]
    fn what_earlier_versions_left_is_not_published() {
        let folder =
            folder(&["app-1.2.deb", "app-1.1.deb", "app-1.1.deb.sig", "app-1.1.intoto.jsonl"], &["app-1.2.deb"]);
        let chosen = choose(folder.path(), "dist", &[], &is_other).expect("files");
        let names: Vec<&str> = chosen.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["SHA256SUMS", "app-1.2.deb"]);
        assert_eq!(chosen.of_other_versions, ["app-1.1.deb.sig", "app-1.1.intoto.jsonl"]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let changed = folder(&["app-1.2.deb"], &["app-1.2.deb"]);
        fs::write(changed.path().join("app-1.2.deb"), "tampered").expect("written");
        assert!(matches!(names_of(changed.path(), &[]), Err(PublishError::Sum { .. })));
        let told = |files: &[&str], listed: &[&str]| {
            names_of(folder(files, listed).path(), &[]).expect_err("refused").to_string()
        };
        assert_eq!(told(&[], &["gone"]), "SHA256SUMS lists gone, which is not in dist");
        assert_eq!(told(&[], &[]), "dist/SHA256SUMS lists no file that could be published");
        let all = ["app-1.2-linux.tar.gz", "app-1.1-linux.tar.gz", "app-glibc2.36"];
        assert_eq!(told(&all, &all), "dist/SHA256SUMS lists files of another version: app-1.1-linux.tar.gz");
        let empty = tempfile::tempdir().expect("a folder");
        assert!(
            names_of(empty.path(), &[]).expect_err("none").to_string().starts_with("there is no SHA256SUMS in dist")
        );
    }
}
