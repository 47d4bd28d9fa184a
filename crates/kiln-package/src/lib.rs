//! Packages of a program: archives, Debian, RPM and Alpine packages, and a shell script that installs from them.
//!
//! Synchronous, without Docker and without a look at the environment. [`Release`] says what is released, [`Program`] what
//! was built for one platform. From both [`layout::tree`] lays out what a package holds, and [`write()`] writes it in one
//! [`Format`]. The same input gives the same bytes: entries are in order of their names and belong to root, modes are 644
//! and 755, every time is [`Release::time`], and compressors run in one thread at fixed levels.

mod apk;
mod arch;
mod archive;
mod compress;
mod deb;
mod error;
mod format;
pub mod installer;
pub mod layout;
mod name;
mod need;
mod release;
mod rpm;
mod scripts;
mod sign;
#[cfg(test)]
mod testing;
mod tree;
mod version;

use std::path::Path;

use fs_err::File;

pub use error::PackageError;
pub use format::Format;
pub use name::package_name;
pub use need::{LibcKind, Need};
pub use release::{
    Completion, Depends, Document, DocumentKind, FolderFile, Named, Placed, Program, Release, Shape, Shell,
};
pub use sign::ApkKey;
pub use tree::{Content, Entry, Node, Role, Tree};
pub use version::{Version, VersionError};

/// The name of a package's file.
///
/// Errors: the format has no word for the version or the name.
pub fn file_name(format: Format, release: &Release, program: &Program) -> Result<String, PackageError> {
    let arch = program.platform.arch;
    // What `~` becomes on some servers of releases, so that the names in the sums stay true.
    let plain = |version: String| version.replace('~', ".");
    Ok(match format {
        Format::Deb => {
            // The epoch is no part of a file's name, by convention and because of the colon.
            let version = deb::version(release, true);
            format!("{}_{}_{}.deb", package_name(format, &release.name)?, plain(version), arch.debian_name())
        }
        Format::Rpm => {
            let version = plain(release.version.rpm());
            let name = package_name(format, &release.name)?;
            format!("{name}-{version}-{}.{}.rpm", rpm::RELEASE, arch::rpm(arch))
        }
        Format::Apk => {
            let name = package_name(format, &release.name)?;
            // Alpine's mirrors have a folder for each architecture; here they lie side by side.
            format!("{name}_{}_{}.apk", apk::version(release)?, arch::apk(arch))
        }
        archive => format!("{}.{archive}", layout::top(release, program)),
    })
}

/// Whether a file is named after the same program as this release's files, and after another version, as far as a name
/// tells: packages, and what is made of or about them.
pub fn is_of_another_version(file: &str, name: &str, version: &Version) -> bool {
    let packed = Format::ALL.into_iter().find(|format| file.contains(&format!(".{format}")));
    let mut names: Vec<String> = Format::ALL.into_iter().filter_map(|format| package_name(format, name).ok()).collect();
    names.push(name.to_owned());
    let after = |name: &String| file.strip_prefix(name.as_str())?.strip_prefix(['-', '_']);
    let Some(rest) = names.iter().find_map(after) else { return false };
    // `hello-386` is a program; only packages have a version in any case.
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let has_dot = rest[digits..].strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if digits == 0 || !(has_dot || packed.is_some()) {
        return false;
    }
    let apk = version.apk().ok();
    let spellings = [Some(version.as_str().to_owned()), Some(version.deb(true)), Some(version.rpm()), apk];
    let is_same = |version: String| {
        rest.strip_prefix(version.replace('~', ".").as_str()).is_some_and(|after| !continues_version(after))
    };
    !spellings.into_iter().flatten().any(is_same)
}

/// Whether what follows a version in a name still belongs to it: `1.2` is not the version of `1.2.1` or `1.2-rc.1`.
fn continues_version(after: &str) -> bool {
    let word = after.strip_prefix(['.', '-', '_', '~', '+']).unwrap_or(after);
    if after.starts_with('+') {
        return true;
    }
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        // Behind a dash is the revision of a package, behind an underscore an architecture.
        return !after.starts_with(['-', '_']);
    }
    let letters = word.bytes().take_while(u8::is_ascii_alphabetic).count();
    let number = word[letters..].starts_with(|c: char| c.is_ascii_digit());
    match &word[..letters] {
        "alpha" | "beta" | "rc" | "pre" | "preview" | "post" | "rev" | "dev" => true,
        "a" | "b" | "c" | "p" => number,
        _ => false,
    }
}

/// Whether a program can be packed in a format, as far as its C library goes: Debian and RPM distributions have glibc,
/// Alpine has musl, and a static program needs neither.
///
/// Errors: it cannot.
pub fn check_libc(format: Format, program: &Program) -> Result<(), PackageError> {
    let fits = match format {
        Format::Deb | Format::Rpm => !matches!(program.need.libc, LibcKind::Musl | LibcKind::Mixed),
        Format::Apk => !matches!(program.need.libc, LibcKind::Glibc { .. } | LibcKind::Mixed),
        _ => true,
    };
    if fits {
        return Ok(());
    }
    Err(PackageError::Libc { format, file: program.source.clone(), libc: program.need.libc.clone() })
}

/// Writes a package to `path`, which should be in a staging folder: a file that could not be finished is left there.
///
/// Errors: the program is of no use in this format, a name or version does not fit it, a file cannot be read or written.
pub fn write(format: Format, release: &Release, program: &Program, path: &Path) -> Result<(), PackageError> {
    check_libc(format, program)?;
    release.check_lines()?;
    let tree = layout::tree(format, release, program)?;
    let failed = |source| PackageError::Io { path: path.to_owned(), source };
    let out = std::io::BufWriter::new(File::create(path).map_err(failed)?);
    match format {
        Format::Deb => deb::write(out, release, program, &tree),
        Format::Rpm => rpm::write(out, release, program, &tree),
        Format::Apk => apk::write(out, release, program, &tree),
        archive => archive::write(archive, out, release.time, &tree),
    }
    .map_err(|error| error.at(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{glibc, program, release};

    fn written(format: Format, release: &Release, program: &Program) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        write(format, release, program, &path).unwrap_or_else(|error| panic!("{format}: {error}"));
        fs_err::read(path).unwrap()
    }

    #[test]
    fn the_same_input_gives_the_same_bytes_later_too() {
        let folder = tempfile::tempdir().unwrap();
        for format in Format::ALL {
            let libc = if format == Format::Apk { LibcKind::Musl } else { glibc() };
            let (program, settings) = program(folder.path(), libc);
            let release = Release { config_files: vec![settings], ..release() };
            let first = written(format, &release, &program);
            // Times of files, and the order in which they were made, do not count.
            let later = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
            File::options().append(true).open(&program.source).unwrap().set_modified(later).unwrap();
            assert_eq!(first, written(format, &release, &program), "{format}");
            let moved = Release { time: release.time + 2, ..release.clone() };
            assert_ne!(first, written(format, &moved, &program), "{format}");
        }
    }

    #[test]
    fn files_are_named_as_their_formats_do() {
        let folder = tempfile::tempdir().unwrap();
        let release = release();
        let (musl, _) = program(folder.path(), LibcKind::Musl);
        let (gnu, _) = program(folder.path(), glibc());
        let name = |format, program: &Program| file_name(format, &release, program).unwrap();
        assert_eq!(name(Format::TarGz, &gnu), "hello-1.2.3rc1-linux-arm64.tar.gz");
        assert_eq!(name(Format::Zip, &musl), "hello-1.2.3rc1-linux-arm64-musl.zip");
        assert_eq!(name(Format::Deb, &gnu), "hello_1.2.3.rc1-1_arm64.deb");
        assert_eq!(name(Format::Rpm, &gnu), "hello-1.2.3.rc1-1.aarch64.rpm");
        assert_eq!(name(Format::Apk, &musl), "hello_1.2.3_rc1-r0_aarch64.apk");
    }

    #[test]
    fn files_of_other_versions_are_told_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let (program, _) = program(folder.path(), LibcKind::Static);
        let is_other =
            |file: &str, version: &str| is_of_another_version(file, &release().name, &version.parse().unwrap());
        for format in Format::ALL {
            let file = file_name(format, &release(), &program).unwrap();
            for file in [file.clone(), format!("{file}.cdx.json")] {
                assert!(!is_other(&file, release().version.as_str()), "{file}");
                for version in ["1.2.3", "1.2", "1.2.3rc2", "1.2.3rc10", "1.2.3.post1", "1.2.4rc1", "2"] {
                    assert!(is_other(&file, version), "{file}, {version}");
                }
            }
        }
        for file in ["hello-1.2.intoto.jsonl", "hello-1.2-image.tar", "hello-1.2-amd64", "hello_1.2_arm64", "hello-1.2"]
        {
            assert!(!is_other(file, "1.2"), "{file}");
            assert!(is_other(file, "1.3"), "{file}");
        }
        for file in ["hello-1.2.1-amd64", "hello-1.20-amd64", "hello-1.2-rc.1-amd64", "hello-1.2a1", "hello-1.2+local"]
        {
            assert!(is_other(file, "1.2"), "{file}");
        }
        let unversioned =
            ["hello-linux-arm64", "hello-386", "hello-world-1.0-linux-arm64.tar.gz", "other_1.0-1_arm64.deb"];
        for file in unversioned.into_iter().chain(["install.sh", "SHA256SUMS", "hello-linux-arm64.cdx.json"]) {
            assert!(!is_other(file, "1.2"), "{file}");
        }
    }

    #[test]
    fn a_program_is_of_no_use_where_its_c_library_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let allowed = |format, libc| check_libc(format, &program(folder.path(), libc).0).is_ok();
        assert_eq!(
            [Format::Deb, Format::Rpm, Format::Apk, Format::Zip].map(|f| allowed(f, glibc())),
            [true, true, false, true]
        );
        assert_eq!([Format::Deb, Format::Rpm, Format::Apk].map(|f| allowed(f, LibcKind::Musl)), [false, false, true]);
        assert_eq!([Format::Deb, Format::Rpm, Format::Apk].map(|f| allowed(f, LibcKind::Static)), [true; 3]);
    }

    #[test]
    fn no_value_can_add_a_field() {
        let folder = tempfile::tempdir().unwrap();
        let (program, _) = program(folder.path(), glibc());
        let release = Release { summary: "hello\nDepends: evil".to_owned(), ..release() };
        let error = write(Format::Deb, &release, &program, &folder.path().join("x")).unwrap_err();
        assert_eq!(error.to_string(), "`release.summary` may not have several lines in a package");
    }
}
