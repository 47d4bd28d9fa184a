//! RPM packages, by the `rpm` crate.

use std::io::Write;

use rpm::{BuildConfig, CompressionWithLevel, Dependency, FileOptions, PackageBuilder};

use crate::arch;
use crate::deb;
use crate::error::PackageError;
use crate::format::Format;
use crate::name::package_name;
use crate::release::{Program, Release};
use crate::scripts;
use crate::tree::{Content, Entry, Node, Role, Tree};

/// The first package of a version.
pub(crate) const RELEASE: &str = "1";

/// Folders that belong to the distribution's own packages: a package that owned them too would contend for their modes. Those
/// of shells belong to whoever puts something there, as nobody else may.
const SHARED: [&str; 18] = [
    "etc",
    "opt",
    "usr",
    "usr/bin",
    "usr/lib",
    "usr/lib/systemd",
    "usr/lib/systemd/system",
    "usr/libexec",
    "usr/sbin",
    "usr/share",
    "usr/share/applications",
    "usr/share/doc",
    "usr/share/icons",
    "usr/share/licenses",
    "usr/share/man",
    "var",
    "var/lib",
    "var/log",
];

pub(crate) fn write(
    mut out: impl Write,
    release: &Release,
    program: &Program,
    tree: &Tree,
) -> Result<(), PackageError> {
    let name = package_name(Format::Rpm, &release.name)?;
    let arch = program.platform.arch;
    // The field must be there, as a licence that nobody named.
    let license = release.license.as_deref().unwrap_or("LicenseRef-Unknown");
    let mut builder = PackageBuilder::new(&name, &release.version.rpm(), license, arch::rpm(arch), &release.summary);
    let time = u32::try_from(release.time).unwrap_or(u32::MAX);
    let config = BuildConfig::v4().compression(CompressionWithLevel::Zstd(19)).source_date(time);
    builder.using_config(config).release(RELEASE).build_host("localhost").description(release.description.as_str());
    if let Some(epoch) = release.version.epoch() {
        builder.epoch(epoch);
    }
    if let Some(homepage) = &release.homepage {
        builder.url(homepage.as_str());
    }
    if let Some(vendor) = &release.vendor {
        builder.vendor(vendor.as_str());
    }
    builder.packager(deb::maintainer(release));
    for capability in program.need.rpm(arch) {
        builder.requires(Dependency::any(capability));
    }
    for line in &release.depends.rpm {
        builder.requires(dependency(line));
    }
    scripts::rpm(release, &mut builder);
    for node in tree.nodes() {
        match node {
            Node::Folder(path) if is_shared(path) => {}
            Node::Folder(path) => {
                builder.with_dir_entry(FileOptions::dir(format!("/{path}")).permissions(0o755))?;
            }
            Node::Entry(path, entry) => add(&mut builder, &format!("/{path}"), entry)?,
        }
    }
    let package = builder.build()?;
    package.write(&mut out)?;
    Ok(out.flush()?)
}

fn is_shared(folder: &str) -> bool {
    SHARED.contains(&folder) || folder.strip_prefix("usr/share/man/").is_some_and(|rest| !rest.contains('/'))
}

fn add(builder: &mut PackageBuilder, path: &str, entry: &Entry) -> Result<(), PackageError> {
    if let Content::Link(target) = &entry.content {
        builder.with_symlink(FileOptions::symlink(path, target.as_str()))?;
        return Ok(());
    }
    let mode = if entry.executable { 0o755 } else { 0o644 };
    let options = FileOptions::new(path).permissions(mode);
    let options = match entry.role {
        Role::Plain => options,
        Role::Document => options.doc(),
        Role::License => options.license(),
        Role::Config => options.config().noreplace(),
    };
    // With the bytes rather than the file, whose own time would get into the package.
    builder.with_file_contents(entry.read()?.into_owned(), options)?;
    Ok(())
}

/// `NAME`, or `NAME >= VERSION` with one of rpm's operators.
fn dependency(line: &str) -> Dependency {
    let mut words = line.split_whitespace();
    let (name, operator, version) = (words.next().unwrap_or_default(), words.next(), words.next());
    match (operator, version) {
        (Some(">="), Some(version)) => Dependency::greater_eq(name, version),
        (Some(">"), Some(version)) => Dependency::greater(name, version),
        (Some("<="), Some(version)) => Dependency::less_eq(name, version),
        (Some("<"), Some(version)) => Dependency::less(name, version),
        (Some("=" | "=="), Some(version)) => Dependency::eq(name, version),
        // A rich dependency such as `(a or b)` is one word to rpm.
        _ => Dependency::any(line),
    }
}
