//! Where everything lies in an archive or package.
//!
//! Packages follow the Filesystem Hierarchy Standard and what the distributions agree on beside it. An archive has one
//! folder at the top, with the program in it and the rest in folders by kind.

use crate::compress::gzipped;
use crate::deb;
use crate::error::PackageError;
use crate::format::Format;
use crate::name::package_name;
use crate::need::LibcKind;
use crate::release::{DocumentKind, Program, Release, Shape, Shell};
use crate::tree::{Content, Entry, Role, Tree};

/// The folder at the top of an archive, which its file is named by: `hello-1.2.3-linux-x86_64`. Where a program needs musl,
/// that is part of it, so that programs of both C libraries can lie in one release.
pub fn top(release: &Release, program: &Program) -> String {
    let arch = program.platform.arch.artifact_name();
    let libc = if program.need.libc == LibcKind::Musl { "-musl" } else { "" };
    format!("{}-{}-{}-{arch}{libc}", release.name, release.version, program.platform.os())
}

/// What is in a package of this format, and where.
///
/// Errors: two things would lie at one place, or a name does not say where its file goes.
pub fn tree(format: Format, release: &Release, program: &Program) -> Result<Tree, PackageError> {
    if format.is_archive() { archive(release, program) } else { package(format, release, program) }
}

fn archive(release: &Release, program: &Program) -> Result<Tree, PackageError> {
    let mut tree = Tree::new();
    let command = &release.command;
    add_program(&mut tree, program, command, &format!("lib/{command}"), "lib")?;
    for document in &release.documents {
        tree.insert(&document.name, Entry::bytes(document.bytes.clone(), role(document.kind)))?;
    }
    for completion in &release.completions {
        let name = match completion.shell {
            Shell::Bash => format!("{command}.bash"),
            Shell::Zsh => format!("_{command}"),
            Shell::Fish => format!("{command}.fish"),
        };
        tree.insert(&format!("completions/{name}"), Entry::bytes(completion.bytes.clone(), Role::Plain))?;
    }
    for page in &release.man {
        tree.insert(&format!("man/{}", page.name), Entry::bytes(page.bytes.clone(), Role::Document))?;
    }
    for unit in &release.systemd {
        tree.insert(&format!("systemd/{}", unit.name), Entry::bytes(unit.bytes.clone(), Role::Plain))?;
    }
    for script in &release.openrc {
        let entry = Entry { executable: true, ..Entry::bytes(script.bytes.clone(), Role::Plain) };
        tree.insert(&format!("openrc/{}", script.name), entry)?;
    }
    for file in release.config_files.iter().chain(&release.files) {
        tree.insert(&file.target, placed(file, Role::Plain))?;
    }
    Ok(tree.below(&top(release, program)))
}

fn package(format: Format, release: &Release, program: &Program) -> Result<Tree, PackageError> {
    let mut tree = Tree::new();
    let name = package_name(format, &release.name)?;
    add_program(&mut tree, program, &format!("usr/bin/{}", release.command), &format!("usr/lib/{name}"), "../lib")?;
    documents(&mut tree, format, release, &name)?;
    for completion in &release.completions {
        let command = &release.command;
        let path = match completion.shell {
            Shell::Bash => format!("usr/share/bash-completion/completions/{command}"),
            Shell::Zsh if format == Format::Deb => format!("usr/share/zsh/vendor-completions/_{command}"),
            Shell::Zsh => format!("usr/share/zsh/site-functions/_{command}"),
            Shell::Fish => format!("usr/share/fish/vendor_completions.d/{command}.fish"),
        };
        tree.insert(&path, Entry::bytes(completion.bytes.clone(), Role::Plain))?;
    }
    for page in &release.man {
        let plain = page.name.strip_suffix(".gz").unwrap_or(&page.name);
        let section = plain.rsplit_once('.').map(|(_, section)| section);
        let Some(section) = section.filter(|section| section.starts_with(|c: char| c.is_ascii_digit())) else {
            let reason = "a page of the manual is named NAME.SECTION, such as hello.1";
            return Err(PackageError::Unclear { key: "release.man", file: page.name.clone(), reason });
        };
        let bytes = if plain == page.name { gzipped(&page.bytes)? } else { page.bytes.clone() };
        let path = format!("usr/share/man/man{}/{plain}.gz", &section[..1]);
        tree.insert(&path, Entry::bytes(bytes, Role::Document))?;
    }
    for (key, files) in [("release.systemd", &release.systemd), ("release.openrc", &release.openrc)] {
        // They stand in scripts that root runs.
        let is_plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "@._:-".contains(c));
        if let Some(file) = files.iter().find(|file| !is_plain(&file.name)) {
            let reason = "a service has a name of letters, digits and `@._:-`";
            return Err(PackageError::Unclear { key, file: file.name.clone(), reason });
        }
    }
    if format == Format::Apk {
        for script in &release.openrc {
            let entry = Entry { executable: true, ..Entry::bytes(script.bytes.clone(), Role::Plain) };
            tree.insert(&format!("etc/init.d/{}", script.name), entry)?;
        }
    } else {
        for unit in &release.systemd {
            tree.insert(
                &format!("usr/lib/systemd/system/{}", unit.name),
                Entry::bytes(unit.bytes.clone(), Role::Plain),
            )?;
        }
    }
    for (files, role) in [(&release.config_files, Role::Config), (&release.files, Role::Plain)] {
        for file in files {
            let inner = || format!("usr/share/{name}/{}", file.target);
            let path = if file.target.starts_with('/') { file.target.clone() } else { inner() };
            tree.insert(&path, placed(file, role))?;
        }
    }
    Ok(tree)
}

/// The program at `command`; a folder lies at `library`, and what leads to the folder above it from `command`'s is `way`.
fn add_program(
    tree: &mut Tree,
    program: &Program,
    command: &str,
    library: &str,
    way: &str,
) -> Result<(), PackageError> {
    let Shape::Folder { main, files } = &program.shape else {
        let content = Content::File(program.source.clone());
        return tree.insert(command, Entry { content, executable: true, role: Role::Plain });
    };
    for file in files {
        let entry = match &file.link {
            Some(target) => Entry::link(target),
            None => Entry {
                content: Content::File(program.source.join(&file.name)),
                executable: file.executable,
                role: Role::Plain,
            },
        };
        tree.insert(&format!("{library}/{}", file.name), entry)?;
    }
    let folder = library.rsplit('/').next().unwrap_or(library);
    tree.insert(command, Entry::link(format!("{way}/{folder}/{main}")))
}

fn documents(tree: &mut Tree, format: Format, release: &Release, name: &str) -> Result<(), PackageError> {
    let folder = format!("usr/share/doc/{name}");
    for document in &release.documents {
        let entry = Entry::bytes(document.bytes.clone(), role(document.kind));
        match (format, document.kind) {
            // It is a part of the copyright file.
            (Format::Deb, DocumentKind::License) => {}
            (Format::Deb, DocumentKind::Changelog) => {
                let bytes = gzipped(&document.bytes)?;
                tree.insert(&format!("{folder}/changelog.gz"), Entry::bytes(bytes, Role::Document))?;
            }
            (_, DocumentKind::License) => {
                tree.insert(&format!("usr/share/licenses/{name}/{}", document.name), entry)?;
            }
            _ => tree.insert(&format!("{folder}/{}", document.name), entry)?,
        }
    }
    if format == Format::Deb {
        tree.insert(&format!("{folder}/copyright"), Entry::bytes(deb::copyright(release), Role::License))?;
        let changelog = gzipped(deb::changelog(release, name).as_bytes())?;
        tree.insert(&format!("{folder}/changelog.Debian.gz"), Entry::bytes(changelog, Role::Document))?;
    }
    Ok(())
}

fn placed(file: &crate::Placed, role: Role) -> Entry {
    Entry { content: Content::File(file.source.clone()), executable: file.executable, role }
}

fn role(kind: DocumentKind) -> Role {
    if kind == DocumentKind::License { Role::License } else { Role::Document }
}
