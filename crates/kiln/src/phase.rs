//! What a step is doing, told from its log: Nuitka's, pip's and apt's lines become phases for display.
//!
//! The built-in recipes say their phase in lines of their own (`kiln: phase: compile 12/497`); everything else is read
//! from the wording of the tools, so that a Dockerfile that knows nothing of kiln shows phases as well. Pure.

use std::fmt;

/// What a step is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The lists of system packages are fetched.
    PackageLists,
    /// System packages are installed; the package at hand, if known.
    Packages(Option<String>),
    /// pip looks for what the named requirement needs.
    Resolve(String),
    /// pip builds a wheel from source.
    Wheel(String),
    /// pip installs this many distributions, or an unknown number.
    Requirements(Option<usize>),
    /// The project's own hooks run.
    BeforeBuild,
    /// Nuitka reads and optimises Python modules; how many remain, if Nuitka says so.
    Python {
        /// Modules still to be optimised in this pass.
        remaining: Option<u64>,
    },
    /// Nuitka writes C.
    Generate,
    /// The C compiler works.
    Compile(Option<Count>),
    /// The linker works, under LTO the optimiser as well; the number of object files, if known.
    Link(Option<u64>),
    /// The onefile payload is packed.
    Payload,
    /// The program that unpacks the payload is compiled.
    Bootstrap,
    /// Reports are written.
    Report,
    /// Another phase that the step names itself.
    Other(String),
}

/// A part of a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    /// What is done.
    pub(crate) done: u64,
    /// All there is to do.
    pub(crate) total: u64,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.done, self.total)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PackageLists => f.write_str("reading package lists"),
            Self::Packages(None) => f.write_str("installing packages"),
            Self::Packages(Some(name)) => write!(f, "installing packages: {name}"),
            Self::Resolve(name) => write!(f, "installing requirements: {name}"),
            Self::Wheel(name) => write!(f, "building wheel: {name}"),
            Self::Requirements(None) => f.write_str("installing requirements"),
            Self::Requirements(Some(number)) => write!(f, "installing {number} requirements"),
            Self::BeforeBuild => f.write_str("before-build hook"),
            Self::Python { remaining: None } => f.write_str("Python"),
            Self::Python { remaining: Some(number) } => write!(f, "Python, {number} modules to go"),
            Self::Generate => f.write_str("generating C"),
            Self::Compile(None) => f.write_str("C compile"),
            Self::Compile(Some(count)) => write!(f, "C compile {count} files"),
            Self::Link(None) => f.write_str("link"),
            Self::Link(Some(files)) => write!(f, "link {files} files"),
            Self::Payload => f.write_str("payload"),
            Self::Bootstrap => f.write_str("bootstrap"),
            Self::Report => f.write_str("reports"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

impl Phase {
    /// What it is called without the numbers and names of the moment: `C compile`.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::PackageLists => "package lists",
            Self::Packages(_) => "packages",
            Self::Resolve(_) | Self::Requirements(_) => "requirements",
            Self::Wheel(_) => "wheels",
            Self::BeforeBuild => "before-build hook",
            Self::Python { .. } => "Python",
            Self::Generate => "generating C",
            Self::Compile(_) => "C compile",
            Self::Link(_) => "link",
            Self::Payload => "payload",
            Self::Bootstrap => "bootstrap",
            Self::Report => "reports",
            Self::Other(name) => name,
        }
    }
}

/// Follows the log of one step.
#[derive(Clone, Debug, Default)]
pub(crate) struct PhaseTracker {
    now: Option<Phase>,
}

impl PhaseTracker {
    /// The phase that begins, or makes progress, with this line of the log; none if the line says nothing new.
    pub(crate) fn line(&mut self, line: &str) -> Option<Phase> {
        let line = line.trim();
        let phase = own_protocol(line).or_else(|| nuitka(line)).or_else(|| pip(line)).or_else(|| packages(line))?;
        if self.is_less_than_known(&phase) || self.now.as_ref() == Some(&phase) {
            return None;
        }
        self.now = Some(phase.clone());
        Some(phase)
    }

    /// The phase at this point of the log.
    #[cfg(test)]
    fn now(&self) -> Option<&Phase> {
        self.now.as_ref()
    }

    /// A recipe and the tool below it both tell of a phase: the one without a number must not wipe out the other's.
    fn is_less_than_known(&self, phase: &Phase) -> bool {
        matches!(
            (&self.now, phase),
            (Some(Phase::Compile(Some(_))), Phase::Compile(None))
                | (Some(Phase::Link(Some(_))), Phase::Link(None))
                | (Some(Phase::Python { remaining: Some(_) }), Phase::Python { remaining: None })
        )
    }
}

/// `kiln: phase: NAME [N/M]`.
fn own_protocol(line: &str) -> Option<Phase> {
    let rest = line.strip_prefix("kiln: phase: ")?.trim();
    let (name, count) = match rest.split_once(' ') {
        Some((name, count)) => (name, parse_count(count)),
        None => (rest, None),
    };
    Some(match name {
        "" | "done" => return None,
        "packages" => Phase::Packages(None),
        "requirements" => Phase::Requirements(None),
        "before-build" => Phase::BeforeBuild,
        "python" => Phase::Python { remaining: count.map(|c| c.total.saturating_sub(c.done)) },
        "generate" => Phase::Generate,
        "compile" => Phase::Compile(count),
        "link" => Phase::Link(count.map(|c| c.total)),
        "payload" => Phase::Payload,
        "bootstrap" => Phase::Bootstrap,
        "report" => Phase::Report,
        _ => Phase::Other(rest.to_owned()),
    })
}

fn parse_count(text: &str) -> Option<Count> {
    let (done, total) = text.trim().split_once('/')?;
    Some(Count { done: done.parse().ok()?, total: total.parse().ok()? })
}

/// Lines such as `Nuitka-Scons: Backend C compiler: gcc (gcc 12).`
fn nuitka(line: &str) -> Option<Phase> {
    let (logger, text) = line.split_once(": ")?;
    if !logger.starts_with("Nuitka") {
        return None;
    }
    let text = text.trim_start();
    let starts = |start: &str| text.starts_with(start);
    Some(match logger {
        "Nuitka" if starts("Starting Python compilation") => Phase::Python { remaining: None },
        // Only with --show-progress.
        "Nuitka-Progress" if starts("Optimizing module") => {
            let (before, _) = text.split_once(" more modules to go")?;
            Phase::Python { remaining: before.rsplit(' ').next()?.parse().ok() }
        }
        "Nuitka" if starts("Completed Python level compilation") || starts("Generating source code") => Phase::Generate,
        "Nuitka" if starts("Running data composer tool") => Phase::Generate,
        "Nuitka" if starts("Running C compilation") => Phase::Compile(None),
        "Nuitka-Scons" if starts("Backend C compiler:") => Phase::Compile(None),
        "Nuitka-Scons" if starts("Backend C linking") => {
            let files = text.strip_prefix("Backend C linking with ").and_then(|rest| rest.split(' ').next());
            Phase::Link(files.and_then(|files| files.parse().ok()))
        }
        "Nuitka-Onefile" if starts("Creating single file") || starts("Using compression") => Phase::Payload,
        "Nuitka-Onefile" if starts("Onefile payload compression ratio") => Phase::Bootstrap,
        "Nuitka-Scons" if starts("Onefile C ") => Phase::Bootstrap,
        _ => return None,
    })
}

fn pip(line: &str) -> Option<Phase> {
    if let Some(requirement) = line.strip_prefix("Collecting ") {
        return Some(Phase::Resolve(distribution(requirement)?));
    }
    if let Some(names) = line.strip_prefix("Installing collected packages: ") {
        return Some(Phase::Requirements(Some(names.split(',').count())));
    }
    // `Building wheel for NAME (pyproject.toml): started`; later lines of the same wheel say `still running`, `finished`.
    let rest = line.strip_prefix("Building wheel for ")?;
    let (name, state) = rest.split_once(' ')?;
    state.trim_end().ends_with("started").then(|| Phase::Wheel(name.to_owned()))
}

/// `requests` of `requests[socks]>=2.22.0 (from httpie)`.
fn distribution(requirement: &str) -> Option<String> {
    let end =
        requirement.find(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))).unwrap_or(requirement.len());
    (end > 0).then(|| requirement[..end].to_owned())
}

/// apt, dpkg and apk.
fn packages(line: &str) -> Option<Phase> {
    if let Some(rest) = line.strip_prefix("Get:") {
        // A package: `Get:7 http://... bookworm/main amd64 gcc-12 amd64 12.2.0-14 [19.3 MB]`.
        // A list: `Get:3 http://... bookworm/main amd64 Packages [8792 kB]`.
        let words: Vec<&str> = rest.split_whitespace().collect();
        return match words.get(4..6) {
            Some([name, after]) if !name.starts_with('[') && !after.starts_with('[') => {
                Some(Phase::Packages(Some((*name).to_owned())))
            }
            _ => Some(Phase::PackageLists),
        };
    }
    if line.starts_with("fetch http") && line.contains("APKINDEX") {
        return Some(Phase::PackageLists);
    }
    if let Some(rest) = line.strip_prefix("Unpacking ").or_else(|| line.strip_prefix("Setting up ")) {
        let (name, _) = rest.split_once(" (")?;
        return Some(Phase::Packages(Some(name.split(':').next()?.to_owned())));
    }
    // apk: `(12/87) Installing gcc (13.2.1_git20240309-r0)`.
    let (count, rest) = line.strip_prefix('(')?.split_once(") Installing ")?;
    parse_count(count)?;
    Some(Phase::Packages(Some(rest.split(' ').next()?.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phases(log: &str) -> Vec<String> {
        let mut tracker = PhaseTracker::default();
        log.lines().filter_map(|line| tracker.line(line)).map(|phase| phase.to_string()).collect()
    }

    /// As Nuitka 4.3.3 writes it without a terminal.
    const NUITKA: &str = "\
Nuitka-Options: Used command line options:
Nuitka-Options:   --onefile --jobs=2 --output-dir=out hello.py
Nuitka: Starting Python compilation with:
Nuitka:   Version '4.3.3' on Python 3.11 (flavor 'Debian Python') commercial grade 'not installed'.
Nuitka-Plugins:anti-bloat: Not including '_json' automatically in order to avoid bloat, but this may cause: slow.
Nuitka: Completed Python level compilation and optimization.
Nuitka: Generating source code for C backend compiler.
Nuitka: Running data composer tool for optimal constant value handling.
Nuitka: Running C compilation via Scons.
Nuitka-Scons: Backend C compiler: gcc (gcc 12).
Nuitka-Scons: Backend C linking with 7 files (no progress information available for this stage).
Nuitka-Scons:WARNING: You are not using ccache, re-compilation of identical code will be slower than necessary.
Nuitka-Onefile: Creating single file from dist folder, this may take a while.
Nuitka-Onefile: Running bootstrap binary compilation via Scons.
Nuitka-Onefile: Using compression for onefile payload.
Nuitka-Onefile: Onefile payload compression ratio (30.59%) size 25868380 to 7913994.
Nuitka-Scons: Onefile C compiler: gcc (gcc 12).
Nuitka-Scons: Onefile C linking.
Nuitka-Onefile: Keeping onefile build directory 'out/hello.onefile-build'.
Nuitka: Successfully created 'out/hello.bin'.";

    #[test]
    fn nuitka_alone_tells_its_phases() {
        let expected = ["Python", "generating C", "C compile", "link 7 files", "payload", "bootstrap"];
        assert_eq!(phases(NUITKA), expected);
    }

    #[test]
    fn a_recipe_adds_counts_and_does_not_repeat_phases() {
        let log = "\
kiln: phase: before-build
Nuitka: Starting Python compilation with:
kiln: phase: python
Nuitka: Generating source code for C backend compiler.
kiln: phase: generate
Nuitka: Running C compilation via Scons.
kiln: phase: compile
kiln: phase: compile 3/497
Nuitka-Scons: Backend C compiler: gcc (gcc 12).
kiln: phase: compile 6/497
kiln: phase: compile 6/497
Nuitka-Scons: Backend C linking with 11 files (no progress information available for this stage).
kiln: phase: link
kiln: phase: report
kiln: phase: sign everything
kiln: phase: done";
        let expected = [
            "before-build hook",
            "Python",
            "generating C",
            "C compile",
            "C compile 3/497 files",
            "C compile 6/497 files",
            "link 11 files",
            "reports",
            "sign everything",
        ];
        assert_eq!(phases(log), expected);
    }

    #[test]
    fn the_log_of_a_real_build() {
        let expected = ["Python", "generating C", "C compile", "C compile 2/11 files"];
        let found = phases(include_str!("../tests/fixtures/nuitka-onefile.log"));
        assert_eq!(found[..expected.len()], expected);
        assert_eq!(found[found.len() - 4..], ["link 11 files", "payload", "bootstrap", "reports"]);
    }

    #[test]
    fn modules_are_counted_where_nuitka_shows_progress() {
        let mut tracker = PhaseTracker::default();
        tracker.line("Nuitka-Progress: Optimizing module 'rich.text', 42 more modules to go after that.");
        assert_eq!(tracker.now(), Some(&Phase::Python { remaining: Some(42) }));
    }

    #[test]
    fn pip_tells_what_it_looks_for() {
        let log = "\
Collecting requests[socks]>=2.22.0 (from httpie==3.2.4)
  Downloading requests-2.34.2-py3-none-any.whl (73 kB)
Requirement already satisfied: pip in /venv/lib/python3.11/site-packages (23.0.1)
Collecting markdown-it-py>=2.2.0
Building wheels for collected packages: mypkg
  Building wheel for mypkg (pyproject.toml): started
  Building wheel for mypkg (pyproject.toml): finished with status 'done'
Installing collected packages: urllib3, PySocks, requests
Successfully installed urllib3-2.8.0";
        let expected = [
            "installing requirements: requests",
            "installing requirements: markdown-it-py",
            "building wheel: mypkg",
            "installing 3 requirements",
        ];
        assert_eq!(phases(log), expected);
    }

    #[test]
    fn apt_and_apk_tell_the_package() {
        let log = "\
Get:1 http://mirror.example/debian bookworm InRelease [151 kB]
Get:3 http://mirror.example/debian bookworm/main amd64 Packages [8792 kB]
Get:7 http://mirror.example/debian bookworm/main amd64 gcc-12 amd64 12.2.0-14 [19.3 MB]
Unpacking libgcc-12-dev:amd64 (12.2.0-14+deb12u1) ...
Setting up gcc (4:12.2.0-3) ...
fetch https://mirror.example/alpine/v3.20/main/x86_64/APKINDEX.tar.gz
(12/87) Installing musl-dev (1.2.5-r0)";
        let expected = [
            "reading package lists",
            "installing packages: gcc-12",
            "installing packages: libgcc-12-dev",
            "installing packages: gcc",
            "reading package lists",
            "installing packages: musl-dev",
        ];
        assert_eq!(phases(log), expected);
    }

    #[test]
    fn other_output_is_no_phase() {
        let log =
            "hello\nNuitka\nGet:\nSetting up \nCollecting \n(1/2) Removing x\n: :\n\u{1f600}: x\nBuilding wheel for ";
        assert_eq!(phases(log), ["reading package lists"], "only `Get:` speaks of packages");
    }
}
