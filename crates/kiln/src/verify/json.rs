//! What was found, for programs. Names of fields and words stay as they are; new ones may come.

use std::collections::HashSet;

use kiln_artifact::ContainedFile;
use kiln_artifact::elf::ElfFacts;
use kiln_artifact::examine::{Examined, Program, Shape};
use kiln_artifact::findings::is_breach;
use serde_json::{Value, json};

use super::{Subject, run_on};

/// All artifacts.
pub(crate) fn render(subjects: &[Subject], code: u8) -> Value {
    let artifacts: Vec<Value> = subjects.iter().map(artifact).collect();
    json!({ "passed": code == 0, "artifacts": artifacts })
}

fn artifact(subject: &Subject) -> Value {
    let examined = subject.examined.as_ref();
    json!({
        "path": subject.path,
        "kind": examined.map(kind),
        "platform": subject.platform().map(|platform| platform.to_string()),
        "size": examined.map(|examined| examined.size),
        "package": examined.and_then(|examined| examined.control.as_ref()),
        "programs": examined.map(programs).unwrap_or_default(),
        "passed": !is_breach(&subject.findings) && !run_on::is_breach(&subject.runs),
        "findings": subject.findings,
        "runs": subject.runs,
    })
}

fn kind(examined: &Examined) -> String {
    match &examined.shape {
        Shape::Program if examined.main().is_some_and(|main| main.payload.is_some()) => "onefile".to_owned(),
        Shape::Program => "program".to_owned(),
        Shape::Folder => "folder".to_owned(),
        Shape::Package(form) => json!(form).as_str().map_or_else(|| "tar".to_owned(), str::to_owned),
        Shape::Image { .. } => "image".to_owned(),
    }
}

/// Facts of the programs; of an image of the one that it starts.
fn programs(examined: &Examined) -> Vec<Value> {
    let is_image = matches!(examined.shape, Shape::Image { .. });
    let main = examined.main();
    let told = examined.programs.iter().filter(|program| !is_image || main == Some(program));
    told.filter_map(|program| Some(self::program(examined, program, program.elf()?))).collect()
}

fn program(examined: &Examined, program: &Program, facts: &ElfFacts) -> Value {
    let needs = examined.needs(program);
    let files = || program.inside().iter().chain(&examined.files);
    let inside: HashSet<&str> = files().map(ContainedFile::file_name).collect();
    let needed: HashSet<&str> = std::iter::once(&program.file)
        .chain(program.inside())
        .filter_map(ContainedFile::elf)
        .flat_map(|facts| facts.needed.iter().map(String::as_str))
        .collect();
    let mut bundled: Vec<&str> = needed.into_iter().filter(|name| inside.contains(name)).collect();
    bundled.sort_unstable();
    json!({
        "file": program.file.name,
        "size": program.file.size,
        "elf": facts,
        "machine": kiln_artifact::elf::machine_name(facts.identity()),
        "pie": facts.is_position_independent(),
        "nx": !facts.has_executable_stack(),
        "needs": {
            "text": needs.to_string(),
            "glibc": needs.glibc_floor(),
            "libraries_inside": bundled,
            "libraries_of_system": needs.libraries,
        },
        "payload": program.payload.as_ref().map(|payload| json!({
            "files": payload.files.len(),
            "stored_size": payload.stored_size,
            "unpacked_size": payload.unpacked_size,
            "compression": payload.compression,
            "placement": payload.placement,
        })),
    })
}
