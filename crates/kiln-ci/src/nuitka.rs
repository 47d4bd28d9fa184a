//! A command line of Nuitka, as settings have words for it.

use std::collections::BTreeSet;

/// What a command line of Nuitka asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `onefile`, `standalone`, or another that no recipe makes.
    pub(crate) mode: Option<String>,
    pub(crate) output: Option<String>,
    /// The folder that the program is written to.
    pub(crate) folder: Option<String>,
    pub(crate) plugins: Vec<String>,
    pub(crate) static_libpython: Option<String>,
    pub(crate) lto: Option<String>,
    pub(crate) jobs: Option<String>,
    pub(crate) icon: Option<String>,
    /// `SRC=DST`, of folders and files.
    pub(crate) data: Vec<String>,
    pub(crate) compression: Option<bool>,
    /// Options that settings have no words for.
    pub(crate) extra: Vec<String>,
    /// The file, folder or module that is compiled.
    pub(crate) entry: Option<String>,
}

/// Options that a recipe gives by itself, or that change nothing about the program.
const NOT_NEEDED: [&str; 7] = [
    "--assume-yes-for-downloads",
    "--remove-output",
    "--progress-bar",
    "--show-progress",
    "--show-scons",
    "--quiet",
    "--report",
];

/// Options of older versions that take their value as a word of its own.
const VALUE_FOLLOWS: [&str; 2] = ["-o", "-j"];

/// The arguments behind `python -m nuitka` or `nuitka`, if the command is one.
pub(crate) fn arguments(words: &[String]) -> Option<&[String]> {
    let name = |word: &String| word.rsplit('/').next().unwrap_or(word).to_owned();
    let skip = words.iter().take_while(|word| is_prefix(word)).count();
    let words = &words[skip..];
    let first = name(words.first()?);
    if first == "nuitka" || first == "nuitka3" {
        return Some(&words[1..]);
    }
    if !first.starts_with("python") {
        return None;
    }
    let module = words.iter().position(|word| word == "-m")?;
    (words.get(module + 1)? == "nuitka").then(|| &words[module + 2..])
}

/// Words in front of a command: variables that are set for it, and programs that only run another one.
fn is_prefix(word: &str) -> bool {
    let is_variable = word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with('-')
    });
    is_variable || matches!(word, "time" | "exec" | "env" | "sudo" | "nice")
}

/// Reads the arguments.
pub(crate) fn options(arguments: &[String]) -> Options {
    let mut options = Options::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let word = word.trim();
        if !word.starts_with('-') {
            if !word.is_empty() && options.entry.is_none() {
                options.entry = Some(word.to_owned());
            }
            continue;
        }
        let (name, mut value) = match word.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (word, String::new()),
        };
        if VALUE_FOLLOWS.contains(&word) {
            value = words.next().cloned().unwrap_or_default();
        }
        let list = || value.split(',').filter(|item| !item.is_empty()).map(str::to_owned);
        let yes = || if value.is_empty() { "yes".to_owned() } else { value.clone() };
        match name {
            "--mode" => options.mode = Some(value),
            "--onefile" => options.mode = Some("onefile".to_owned()),
            "--standalone" if options.mode.is_none() => options.mode = Some("standalone".to_owned()),
            "--standalone" => {}
            "--output-filename" | "-o" => options.output = Some(value),
            "--output-dir" => options.folder = Some(value),
            "--enable-plugin" | "--enable-plugins" | "--plugin-enable" => options.plugins.extend(list()),
            "--static-libpython" => options.static_libpython = Some(yes()),
            "--lto" => options.lto = Some(yes()),
            "--jobs" | "-j" => options.jobs = Some(value),
            "--linux-icon" | "--linux-onefile-icon" => options.icon = Some(value),
            "--include-data-dir" | "--include-data-files" | "--include-data-file" => options.data.push(value),
            "--onefile-no-compression" => options.compression = Some(false),
            _ if NOT_NEEDED.contains(&name) => {}
            _ => options.extra.push(word.to_owned()),
        }
    }
    options
}

impl Options {
    /// What decides about the program, in one spelling each.
    pub(crate) fn flags(&self) -> BTreeSet<String> {
        let mut flags = BTreeSet::new();
        let mut add = |name: &str, value: &Option<String>| {
            if let Some(value) = value.as_ref().filter(|value| *value != "auto") {
                flags.insert(format!("--{name}={value}"));
            }
        };
        add("mode", &self.mode);
        add("static-libpython", &self.static_libpython);
        add("lto", &self.lto);
        add("jobs", &self.jobs);
        add("linux-icon", &self.icon);
        add("entry", &self.entry);
        flags.extend(self.plugins.iter().map(|plugin| format!("--enable-plugin={plugin}")));
        flags.extend(self.data.iter().map(|data| format!("--include-data={data}")));
        if self.compression == Some(false) {
            flags.insert("--onefile-no-compression".to_owned());
        }
        flags.extend(self.extra.iter().cloned());
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Options> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        arguments(&words).map(options)
    }

    #[test]
    fn the_command_line_of_the_guide() {
        let options = read(
            "python3 -m nuitka --mode=onefile --output-filename=chatrixcd-linux-arm64 --enable-plugin=anti-bloat \
             --assume-yes-for-downloads --static-libpython=yes --lto=no --jobs=4 --linux-icon=assets/icon.png \
             --include-data-dir=assets=assets chatrixcd/main.py",
        )
        .unwrap();
        assert_eq!(options.output.as_deref(), Some("chatrixcd-linux-arm64"));
        let flags: Vec<String> = options.flags().into_iter().collect();
        assert_eq!(
            flags,
            [
                "--enable-plugin=anti-bloat",
                "--entry=chatrixcd/main.py",
                "--include-data=assets=assets",
                "--jobs=4",
                "--linux-icon=assets/icon.png",
                "--lto=no",
                "--mode=onefile",
                "--static-libpython=yes"
            ]
        );
    }

    #[test]
    fn older_spellings_and_other_commands() {
        let options = read(
            "CC=clang /venv/bin/python -O -m nuitka --standalone --onefile -o app --include-package=x --quiet a.py",
        )
        .unwrap();
        assert_eq!((options.mode.as_deref(), options.output.as_deref()), (Some("onefile"), Some("app")));
        assert_eq!(options.extra, ["--include-package=x"]);
        assert_eq!(options.entry.as_deref(), Some("a.py"));
        assert!(read("nuitka3 --onefile a.py").is_some());
        for other in ["pip install nuitka", "python -m build", "python nuitka.py", ""] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
