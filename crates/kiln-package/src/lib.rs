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

/// Whether a file is a package of the same name as this release's, and of another version, as far as its name tells.
pub fn is_of_another_version(file: &str, release: &Release) -> bool {
    let Some(format) = Format::ALL.into_iter().find(|format| file.ends_with(&format!(".{format}"))) else {
        return false;
    };
    let Ok(name) = package_name(format, &release.name) else { return false };
    let plain = release.version.as_str().to_owned();
    // What follows the version tells it from a longer one, such as that of a pre-release.
    let (version, after) = match format {
        Format::Deb => (release.version.deb(true), "-"),
        Format::Rpm => (release.version.rpm(), "-"),
        Format::Apk => (release.version.apk().unwrap_or(plain), "-r"),
        _ => (plain, "-linux-"),
    };
    let version = version.replace('~', ".");
    let Some(rest) = file.strip_prefix(&name).and_then(|rest| rest.strip_prefix(['-', '_'])) else { return false };
    let is_version = rest.starts_with(|c: char| c.is_ascii_digit());
    let is_same = rest.strip_prefix(&version).is_some_and(|rest| rest.starts_with(after));
    is_version && !is_same
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
    fn packages_of_other_versions_are_told_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let (program, _) = program(folder.path(), LibcKind::Static);
        let old = Release { version: "1.2.3".parse().unwrap(), ..release() };
        for format in Format::ALL {
            let file = file_name(format, &release(), &program).unwrap();
            assert!(!is_of_another_version(&file, &release()), "{file}");
            assert!(is_of_another_version(&file, &old), "{file}");
        }
        for file in ["hello-linux-arm64", "hello-world-1.0-linux-arm64.tar.gz", "other_1.0-1_arm64.deb", "install.sh"] {
            assert!(!is_of_another_version(file, &release()), "{file}");
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
