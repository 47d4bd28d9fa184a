//! The rules.

use std::collections::HashSet;

use kiln_graph::{Arch, Platform};

use super::{Check, Finding, Level, Policy};
use crate::contained::{ContainedFile, Content};
use crate::elf::{ElfFacts, Libc, Relro, is_libc_library, machine_name};
use crate::examine::{Examined, Program, Shape};
use crate::package::Form;

/// Libraries that every system but the smallest has, and that no builder takes along. Source: PEP 600, for what wheels may
/// expect of a system, and the list that Nuitka leaves out.
const OF_THE_SYSTEM: [&str; 17] = [
    "libgcc_s.so.1",
    "libstdc++.so.6",
    "libatomic.so.1",
    "libz.so.1",
    "libcrypt.so.1",
    "libnsl.so.1",
    "libanl.so.1",
    "libdrm.so.2",
    "libX11.so.6",
    "libXext.so.6",
    "libXrender.so.1",
    "libICE.so.6",
    "libSM.so.6",
    "libGL.so.1",
    "libglib-2.0.so.0",
    "libgobject-2.0.so.0",
    "libgthread-2.0.so.0",
];

/// What a file is in its artifact.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A program that people start.
    Program,
    /// Anything that it has with it.
    Inside,
}

/// Finds what is wrong with an artifact and gives it the policy's levels, the worst first.
pub fn judge(examined: &Examined, policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    let arch = policy.platform.map(|platform| platform.arch).or_else(|| examined.arch());
    architecture(examined, policy, &mut findings);
    for program in &examined.programs {
        self::program(examined, program, arch, &mut findings);
    }
    for file in &examined.files {
        let name = file.name.clone();
        self::file(examined, file, name, (Role::Inside, arch), &mut findings);
    }
    libraries(examined, &mut findings);
    glibc(examined, policy, &mut findings);
    secrets(examined, policy, &mut findings);
    policy.apply(&mut findings);
    findings.sort_by(|a, b| (a.level, a.check, &a.file).cmp(&(b.level, b.check, &b.file)));
    findings.dedup();
    findings
}

/// Who says what the artifact is for, and whether they agree.
fn architecture(examined: &Examined, policy: &Policy, findings: &mut Vec<Finding>) {
    let asked = policy.platform.map(|platform| (platform.arch, "--platform"));
    let claims = asked.into_iter().chain(examined.claims.iter().map(|claim| (claim.arch, claim.by)));
    let claims: Vec<(Arch, &str)> = claims.collect();
    if let [(first, by), rest @ ..] = claims.as_slice() {
        for (arch, who) in rest.iter().filter(|(arch, _)| arch.elf() != first.elf()) {
            let (first, arch) = (Platform::linux(*first), Platform::linux(*arch));
            let detail = format!("is for {first} by {by}, and for {arch} by {who}");
            findings.push(Finding::new(Check::Architecture, "", detail).fix("name it after what it is for"));
        }
    }
}

fn program(examined: &Examined, program: &Program, arch: Option<Arch>, findings: &mut Vec<Finding>) {
    let name = &program.file.name;
    if let Some(reason) = &program.damage {
        let fix = "do not strip or edit a onefile program after Nuitka has made it";
        findings
            .push(Finding::new(Check::Payload, name, format!("has a payload that cannot be read: {reason}")).fix(fix));
    }
    if !program.file.executable && !is_library(&program.file.name) {
        let detail = "may not be executed by its owner";
        findings
            .push(Finding::new(Check::Mode, name, detail).fix("chmod 755, or put it into an archive that keeps modes"));
    }
    if let Some(interpreter) = program.elf().and_then(|facts| facts.interpreter.as_deref())
        && !["/lib/", "/lib64/"].iter().any(|folder| interpreter.starts_with(folder))
    {
        let detail = format!("asks for the loader {interpreter}, which few systems have there");
        findings.push(Finding::new(Check::Interpreter, name, detail).fix("build in an image with an ordinary loader"));
    }
    file(examined, &program.file, name.clone(), (Role::Program, arch), findings);
    let family = |facts: &ElfFacts| match facts.libc {
        Libc::Glibc { .. } => Some("glibc"),
        Libc::Musl => Some("musl"),
        Libc::Static | Libc::Unknown => None,
    };
    let main = program.inside().first().and_then(ContainedFile::elf).and_then(family);
    let main = main.or_else(|| program.elf().and_then(family));
    for (index, inner) in program.inside().iter().enumerate() {
        // What a onefile program runs is a program as much as itself.
        let role = if index == 0 { Role::Program } else { Role::Inside };
        let shown = shown(examined, program, inner);
        if let (Some(own), Some(main)) = (inner.elf().and_then(family), main)
            && own != main
        {
            let detail = format!("is made for {own}, the program for {main}");
            let fix = "a wheel for another C library was installed: check the pip options";
            findings.push(Finding::new(Check::MixedLibc, &shown, detail).fix(fix));
        }
        file(examined, inner, shown, (role, arch), findings);
    }
}

/// The name of a file of a payload.
fn shown(examined: &Examined, program: &Program, inner: &ContainedFile) -> String {
    if examined.shape == Shape::Program { inner.name.clone() } else { format!("{}!{}", program.file.name, inner.name) }
}

/// What holds of any ELF file.
fn file(
    examined: &Examined,
    file: &ContainedFile,
    name: String,
    (role, arch): (Role, Option<Arch>),
    findings: &mut Vec<Finding>,
) {
    let facts = match &file.content {
        Content::Elf(facts) => facts,
        Content::BrokenElf { reason } => {
            findings.push(Finding::new(Check::BrokenElf, name, format!("cannot be read: {reason}")));
            return;
        }
        Content::Data | Content::Link { .. } => return,
    };
    if let Some(arch) = arch
        && facts.identity() != arch.elf()
    {
        let detail = format!("is for {}, not for {}", machine_name(facts.identity()), Platform::linux(arch));
        // The main program is what the claim is about; anything beside it went astray.
        let is_main = examined.main().is_some_and(|main| main.file.name == file.name);
        findings.push(if role == Role::Program && is_main {
            let fix = "the build ran on a base image of another platform: check how FROM names its image";
            Finding::new(Check::Architecture, name, detail).fix(fix)
        } else {
            let fix = "a dependency ships it for every machine: leave it out with --noinclude-data-files, or allow it";
            Finding::new(Check::ForeignFile, name, detail).fix(fix)
        });
        return;
    }
    // How the distribution builds its files is not for the user of an image to change.
    let is_of_image = matches!(examined.shape, Shape::Image { .. });
    let is_own = !is_of_image || examined.main().is_some_and(|main| name.starts_with(&main.file.name));
    if is_own {
        harden(facts, &name, role, findings);
    }
}

fn harden(facts: &ElfFacts, name: &str, role: Role, findings: &mut Vec<Finding>) {
    let mut find = |check, detail: String, fix: &str| findings.push(Finding::new(check, name, detail).fix(fix));
    if facts.writable_executable > 0 {
        let fix = "link it without -N and --omagic, and check assembler code for section flags";
        find(Check::WritableExecutable, "has a segment that is writable and executable".to_owned(), fix);
    }
    if facts.has_executable_stack() {
        let fix = "link it with -z noexecstack; assembler code needs a .note.GNU-stack section";
        find(Check::ExecutableStack, "makes the stack executable".to_owned(), fix);
    }
    if facts.text_relocations {
        let fix = "compile all of it with -fPIC";
        find(Check::TextRelocations, "lets the loader write into its code".to_owned(), fix);
    }
    let outside: Vec<&str> = facts
        .rpath
        .iter()
        .chain(&facts.runpath)
        .map(String::as_str)
        .filter(|folder| leads_outside(folder, name))
        .collect();
    if !outside.is_empty() {
        let detail = format!("looks for libraries in {}", outside.join(" and "));
        let fix = "remove it with patchelf, or let $ORIGIN lead to a folder inside: who may write there can replace a library";
        find(Check::Rpath, detail, fix);
    }
    if role == Role::Program && !facts.is_position_independent() {
        find(Check::Pie, "is loaded at a fixed address".to_owned(), "compile it with -fPIE and link it with -pie");
    }
    match (facts.relro, role) {
        // A program without a dynamic segment has little to protect.
        (Relro::None, _) if facts.libc == Libc::Static => {}
        (Relro::None, role) => {
            let finding = Finding::new(Check::Relro, name, "keeps its relocated data writable (no RELRO)");
            let finding = finding.fix("link it with -z relro -z now");
            findings.push(if role == Role::Program { finding } else { finding.at(Level::Info) });
        }
        (Relro::Partial, Role::Program) => {
            let finding = Finding::new(Check::Relro, name, "keeps its table of functions writable (partial RELRO)");
            findings.push(finding.fix("link it with -z now").at(Level::Info));
        }
        (Relro::Partial, Role::Inside) | (Relro::Full, _) => {}
    }
}

/// Whether a search path is absolute, or leaves the folder that the artifact is in.
fn leads_outside(folder: &str, name: &str) -> bool {
    let inner = name.rsplit('!').next().unwrap_or(name);
    let rest = folder.strip_prefix("$ORIGIN").or_else(|| folder.strip_prefix("${ORIGIN}"));
    // A relative one is looked for below wherever the program is started.
    let Some(rest) = rest else { return true };
    let mut depth = i32::try_from(inner.matches('/').count()).unwrap_or(i32::MAX);
    for part in rest.split('/').filter(|part| !part.is_empty() && *part != ".") {
        depth = if part == ".." { depth - 1 } else { depth.saturating_add(1) };
        if depth < 0 {
            return true;
        }
    }
    false
}

/// Which libraries nobody brings.
fn libraries(examined: &Examined, findings: &mut Vec<Finding>) {
    let all = || {
        let programs = examined.programs.iter().map(|program| &program.file);
        programs.chain(examined.programs.iter().flat_map(Program::inside)).chain(&examined.files)
    };
    let provided: HashSet<&str> = all()
        .flat_map(|file| [Some(file.file_name()), file.elf().and_then(|facts| facts.soname.as_deref())])
        .flatten()
        .collect();
    let mut look = |file: &ContainedFile, name: String| {
        for library in file.elf().into_iter().flat_map(|facts| &facts.needed) {
            if is_libc_library(library) || provided.contains(library.as_str()) {
                continue;
            }
            let is_of_system = OF_THE_SYSTEM.contains(&library.as_str());
            if let Some(finding) = missing(examined, library, is_of_system) {
                findings.push(Finding { file: name.clone(), ..finding });
            }
        }
    };
    // Some of a distribution's files need what is installed only where they are used.
    let is_of_image = matches!(examined.shape, Shape::Image { .. });
    let main = examined.main().map(|main| &main.file);
    for program in examined.programs.iter().filter(|program| !is_of_image || Some(&program.file) == main) {
        look(&program.file, program.file.name.clone());
        for inner in program.inside() {
            look(inner, shown(examined, program, inner));
        }
    }
    for file in examined.files.iter().filter(|_| !is_of_image) {
        look(file, file.name.clone());
    }
}

/// What it means that a library is not in the artifact; nothing if a dependency of the package brings it.
fn missing(examined: &Examined, library: &str, is_of_system: bool) -> Option<Finding> {
    let depends = examined.control.as_ref().map_or(&[][..], |control| &control.depends);
    let is_declared = match examined.shape {
        // `so:libz.so.1`; `libz.so.1()(64bit)`.
        Shape::Package(Form::Apk | Form::Rpm) => depends.iter().any(|one| {
            let name = one.strip_prefix("so:").unwrap_or(one);
            name.split(['(', '=', '>', '<', '~', ' ']).next() == Some(library)
        }),
        _ => false,
    };
    if is_declared {
        return None;
    }
    if is_of_system {
        return Some(Finding::new(
            Check::SystemLibrary,
            "",
            format!("needs {library} of the system, which minimal images lack"),
        ));
    }
    let finding =
        Finding::new(Check::Library, "", format!("needs {library}, which is neither inside nor part of the C library"));
    let others = depends.iter().filter(|one| !one.starts_with("libc6") && !one.is_empty()).count();
    Some(match examined.shape {
        // Which package has which library, only the distribution knows.
        Shape::Package(Form::Deb) if others > 0 => finding
            .fix(format!("make sure that one of its dependencies brings it: {}", depends.join(", ")))
            .at(Level::Warning),
        Shape::Package(form) if form.is_package() => {
            finding.fix("name what brings it among the package's dependencies")
        }
        _ => finding
            .fix("take it along, for instance with --include-data-files=FOLDER/LIBRARY=LIBRARY in nuitka.extra-args"),
    })
}

/// Which files need a newer glibc than allowed.
fn glibc(examined: &Examined, policy: &Policy, findings: &mut Vec<Finding>) {
    let Some(allowed) = policy.glibc_max else { return };
    // An image brings its own.
    if matches!(examined.shape, Shape::Image { .. }) {
        return;
    }
    let mut look = |file: &ContainedFile, name: String| {
        if let Some(needed) = file.elf().and_then(ElfFacts::glibc_floor).filter(|needed| *needed > allowed) {
            let symbols = newest(file, allowed);
            let detail = format!("needs glibc {needed}, newer than the {allowed} that is allowed{symbols}");
            findings.push(Finding::new(Check::Glibc, name, detail).fix(crate::check::older_base(allowed)));
        }
    };
    for program in &examined.programs {
        look(&program.file, program.file.name.clone());
        for inner in program.inside() {
            look(inner, shown(examined, program, inner));
        }
    }
    for file in &examined.files {
        look(file, file.name.clone());
    }
}

/// The libraries whose versions are too new, if there are others than the C library itself.
fn newest(file: &ContainedFile, allowed: crate::elf::GlibcVersion) -> String {
    let versions = file.elf().into_iter().flat_map(|facts| &facts.versions).filter(|need| !need.weak);
    let mut libraries: Vec<&str> = versions
        .filter(|need| {
            let number = need.version.strip_prefix("GLIBC_").and_then(|number| number.parse().ok());
            number.is_some_and(|number: crate::elf::GlibcVersion| number > allowed)
        })
        .map(|need| need.library.as_str())
        .filter(|library| *library != "libc.so.6")
        .collect();
    libraries.dedup();
    if libraries.is_empty() { String::new() } else { format!(" (in {})", libraries.join(", ")) }
}

/// Whether a file lies where distributions put shared libraries, and is called like one.
fn is_system_library(file: &str) -> bool {
    let is_there = ["lib/", "lib64/", "usr/lib/", "usr/lib64/"].iter().any(|folder| file.starts_with(folder));
    is_there && is_library(file)
}

/// Whether a file is called like a shared library: those need not be executable, even if they can be.
fn is_library(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split_once(".so").is_some_and(|(_, version)| version.is_empty() || version.starts_with('.'))
}

fn secrets(examined: &Examined, policy: &Policy, findings: &mut Vec<Finding>) {
    for leak in examined.leaks.found() {
        let detail = format!("has a secret at byte {}: {}, {}", leak.offset, leak.kind, leak.excerpt);
        let fix = "revoke it, and read it at run time instead; what is none goes into `[verify] secrets-allow`";
        let mut finding = Finding::new(Check::Secret, &leak.file, detail).fix(fix);
        // Libraries for cryptography have keys in them to test themselves. In an image they are the distribution's.
        if matches!(examined.shape, Shape::Image { .. }) && is_system_library(&leak.file) {
            finding.level = Level::Info;
        }
        if policy.allows_secret(leak.kind, &leak.file) {
            (finding.level, finding.allowed) = (Level::Info, true);
        }
        findings.push(finding);
    }
    if examined.leaks.more() > 0 {
        let detail = format!("has {} more secrets than are listed", examined.leaks.more());
        findings.push(Finding::new(Check::Secret, "", detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_a_system_are_known_by_place_and_name() {
        for file in ["usr/lib/x86_64-linux-gnu/libgnutls.so.30.34.3", "lib/libc.so", "usr/lib64/libcrypto.so.3"] {
            assert!(is_system_library(file), "{file}");
        }
        for file in ["usr/local/bin/hello", "usr/lib/hello/key.pem", "app/libx.so.1", "usr/lib/a.source", "usr/lib/x"] {
            assert!(!is_system_library(file), "{file}");
        }
    }
}
