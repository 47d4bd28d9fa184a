//! The output folder: its disk, and whether the programs in it are for their platforms.

use super::{Artifact, ArtifactFound, Check, Facts, HereDisk, HereFacts};
use crate::report::size;

/// Free bytes below which a build cannot place its files, and those that are wanted.
const NEEDED: u64 = 100_000_000;
const WANTED: u64 = 1_000_000_000;

pub(super) fn verdicts(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![output(&facts.here)];
    match &facts.here.artifacts {
        Err(trouble) => checks.push(Check::troubled("artifact", trouble)),
        Ok(found) if found.is_empty() => checks.push(Check::skipped("artifact", "nothing was built here yet")),
        Ok(found) => checks.extend(found.iter().map(artifact)),
    }
    checks
}

fn output(here: &HereFacts) -> Check {
    let folder = here.output.display();
    let HereDisk { free, total, writable } = match &here.disk {
        Ok(disk) => disk,
        Err(trouble) => return Check::troubled("output", trouble),
    };
    let detail = format!("{folder}: {} free of {} on this machine", size(*free), size(*total));
    if !writable {
        let detail = format!("{folder}: one may not write there");
        return Check::failed("output", detail, "check who owns it, or choose another folder with `build.output`");
    }
    let fix = "free some space on this machine, or choose another folder with `build.output`";
    if *free < NEEDED {
        return Check::failed("output", format!("{detail}: results may not fit"), fix);
    }
    if *free < WANTED {
        return Check::warning("output", format!("{detail}: nearly full"), fix);
    }
    Check::ok("output", detail)
}

fn artifact(artifact: &Artifact) -> Check {
    let Artifact { path, platform, is_program, found } = artifact;
    let again = "build it again; with a Dockerfile of your own, check how FROM names its image";
    let check = match found {
        ArtifactFound::Nothing => {
            Check::warning("artifact", format!("{path} was built, and is gone"), "build it again")
        }
        ArtifactFound::Folder => Check::ok("artifact", format!("{path}: a folder")),
        ArtifactFound::Elf { fits: true, machine } => Check::ok("artifact", format!("{path}: for {machine}")),
        ArtifactFound::Elf { fits: false, machine } => Check::failed(
            "artifact",
            format!("{path} is for {machine}, not for {platform}: there it ends with \"exec format error\""),
            again,
        ),
        ArtifactFound::Other(reason) if *is_program => {
            Check::failed("artifact", format!("{path} is no program: {reason}"), again)
        }
        ArtifactFound::Other(_) => Check::ok("artifact", format!("{path}: there, and no program")),
    };
    check.on(*platform)
}

#[cfg(test)]
mod tests {
    use kiln_graph::{Arch, Platform};

    use super::super::Status;
    use super::*;

    fn of(found: ArtifactFound, is_program: bool) -> Check {
        let platform = Platform::linux(Arch::Arm64);
        artifact(&Artifact { path: "dist/hello-linux-arm64".to_owned(), platform, is_program, found })
    }

    #[test]
    fn a_program_of_another_machine_is_named() {
        let wrong = of(ArtifactFound::Elf { fits: false, machine: "x86_64".to_owned() }, true);
        assert_eq!(wrong.status, Status::Failed);
        for words in ["dist/hello-linux-arm64 is for x86_64, not for linux/arm64", "exec format error"] {
            assert!(wrong.detail.contains(words), "{}", wrong.detail);
        }
        assert_eq!(of(ArtifactFound::Elf { fits: true, machine: "aarch64".to_owned() }, true).status, Status::Ok);
        assert_eq!(of(ArtifactFound::Other("not an ELF file".to_owned()), true).status, Status::Failed);
        assert_eq!(of(ArtifactFound::Other("not an ELF file".to_owned()), false).status, Status::Ok);
        assert_eq!(of(ArtifactFound::Nothing, true).status, Status::Warning);
    }

    #[test]
    fn the_output_folder_needs_room_and_permission() {
        let of = |free, writable| {
            output(&HereFacts {
                output: "dist".into(),
                disk: Ok(HereDisk { free, total: 10_000_000_000, writable }),
                builds: Vec::new(),
                artifacts: Ok(Vec::new()),
                mismatches: Vec::new(),
            })
            .status
        };
        assert_eq!(of(5_000_000_000, true), Status::Ok);
        assert_eq!(of(5_000_000_000, false), Status::Failed);
        assert_eq!(of(500_000_000, true), Status::Warning);
        assert_eq!(of(5_000, true), Status::Failed);
    }
}
