//! `docker run`: which image, for which platform, and what is run in it.

use crate::shell::{Command, commands};

/// A `docker run`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) platform: Option<String>,
    pub(crate) image: String,
    /// The script behind `sh -c`, or the words of the command.
    pub(crate) script: String,
    /// `-v` and `--mount`.
    pub(crate) mounts: Vec<String>,
    /// `-e`, `--env` and `--env-file`, as they were written.
    pub(crate) variables: Vec<String>,
}

/// Options that take no value.
const SWITCHES: [&str; 10] =
    ["--rm", "-i", "-t", "-it", "-ti", "--interactive", "--tty", "--privileged", "--init", "--detach"];

/// The commands of a script that run a container, with what they run.
pub(crate) fn containers(script: &str) -> Vec<(Command, Container)> {
    let found = commands(script).into_iter();
    found.filter_map(|command| container(&command.texts()).map(|container| (command, container))).collect()
}

/// Reads the words of a command; nothing if it is another one.
pub(crate) fn container(words: &[String]) -> Option<Container> {
    let words = match words {
        [sudo, rest @ ..] if sudo == "sudo" => rest,
        words => words,
    };
    let [docker, run, ..] = words else { return None };
    if !matches!(docker.as_str(), "docker" | "podman") || run != "run" {
        return None;
    }
    let mut container = Container::default();
    let mut at = 2;
    while let Some(word) = words.get(at).map(|word| word.trim()) {
        at += 1;
        if word.is_empty() {
            continue;
        }
        if !word.starts_with('-') {
            word.clone_into(&mut container.image);
            break;
        }
        if SWITCHES.contains(&word) {
            continue;
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, value.to_owned()),
            _ => {
                at += 1;
                (word, words.get(at - 1).cloned().unwrap_or_default())
            }
        };
        match name {
            "--platform" => container.platform = Some(value),
            "-v" | "--volume" | "--mount" => container.mounts.push(value),
            "-e" | "--env" | "--env-file" => container.variables.push(value),
            _ => {}
        }
    }
    if container.image.is_empty() {
        return None;
    }
    let command = words.get(at..).unwrap_or_default();
    let shell = command.first().map(|word| word.rsplit('/').next().unwrap_or(word));
    let flag = command.iter().position(|word| word.starts_with('-') && word.ends_with('c') && !word.starts_with("--"));
    container.script = match (shell, flag) {
        (Some("sh" | "bash" | "ash" | "dash"), Some(flag)) => command.get(flag + 1).cloned().unwrap_or_default(),
        _ => command.join(" "),
    };
    Some(container)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_of_the_guide() {
        let script = "mkdir -p out\ndocker run --rm --platform linux/arm64 -v \"$PWD\":/src -w /src arm64v8/alpine:3.20 sh -c \"\n\
                      apk add gcc &&\npython3 -m nuitka a.py\n\"\nls\n";
        let found = containers(script);
        assert_eq!(found.len(), 1);
        let container = &found[0].1;
        assert_eq!(
            (container.platform.as_deref(), container.image.as_str()),
            (Some("linux/arm64"), "arm64v8/alpine:3.20")
        );
        assert_eq!(container.mounts, ["${PWD}:/src"]);
        assert!(container.script.contains("apk add gcc &&\npython3 -m nuitka"));
        assert!(script[found[0].0.span.clone()].ends_with('"'));
    }

    #[test]
    fn other_shapes() {
        let line = "sudo docker run --rm -it --platform=linux/arm64/v8 -e PLAT=x -v `pwd`:/io quay.io/pypa/many /io/build.sh a";
        let found = &containers(line)[0].1;
        assert_eq!((found.image.as_str(), found.script.as_str()), ("quay.io/pypa/many", "/io/build.sh a"));
        assert_eq!(
            (found.variables.as_slice(), found.mounts.as_slice()),
            (&["PLAT=x".to_owned()][..], &["`pwd`:/io".to_owned()][..])
        );
        assert_eq!(containers("docker build . ; docker run --rm").len(), 0);
        let shell = &containers("docker run -e A=1 debian bash -exc 'a b'")[0].1;
        assert_eq!(shell.script, "a b");
    }
}
