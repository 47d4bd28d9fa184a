//! Which tools a command calls, and where each keeps its cache. Sources: the tools' own manuals.

use std::collections::BTreeSet;

use super::super::copy::join;
use super::shell::{Call, Word};

/// A tool whose cache kiln knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Tool {
    Pip,
    Uv,
    Ccache,
    Nuitka,
    Apt,
    Apk,
    Cargo,
    Npm,
}

/// Where apt keeps what it downloads.
const APT: &str = "/var/cache/apt";
/// Where apk keeps its index.
const APK: &str = "/var/cache/apk";

/// What the calls of one command mean for caches.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    /// Tools that would use a cache, and its folder.
    pub(super) uses: Vec<(Tool, String)>,
    /// Tools that must not get one here: their cache is emptied, or is a result itself.
    pub(super) refused: BTreeSet<Tool>,
    /// Tools that count on what an earlier step left in the image.
    pub(super) relies: BTreeSet<Tool>,
    /// Paths that the command names.
    pub(super) touched: Vec<Touch>,
}

/// A path that a command names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Touch {
    /// Absolute.
    pub(super) path: String,
    pub(super) by: By,
}

/// What names a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A program that removes what lies below.
    Remover,
    /// A program that changes or lists all that lies below.
    Walker,
    /// A program that copies all that lies below.
    Copier,
    /// Another program.
    Other,
}

/// Programs that compile, or call what compiles.
const COMPILES: &[&str] = &[
    "c++",
    "cargo",
    "cc",
    "clang",
    "clang++",
    "cmake",
    "configure",
    "g++",
    "gcc",
    "gmake",
    "make",
    "meson",
    "ninja",
    "nuitka",
    "pip",
    "python",
    "scons",
    "uv",
];
/// Variables that put a program in front of the compiler.
const LAUNCHERS: &[&str] = &["CC", "CXX", "CMAKE_C_COMPILER_LAUNCHER", "CMAKE_CXX_COMPILER_LAUNCHER", "RUSTC_WRAPPER"];

/// Reads the calls of a command.
pub(super) fn read(calls: &[Call]) -> Reading {
    let mut reading = Reading::default();
    let mut updated = false;
    for call in calls {
        let (name, first) = program(call);
        let command = Command { call, words: &call.words[first..] };
        match name {
            "pip" => command.pip(&mut reading),
            "uv" => command.uv(&mut reading),
            "uvx" => drop(reading.refused.insert(Tool::Uv)),
            "nuitka" => command.nuitka(&mut reading),
            "apt" | "apt-get" => command.apt(&mut reading),
            "apk" => command.apk(&mut updated, &mut reading),
            "cargo" => command.cargo(&mut reading),
            "npm" => command.npm(&mut reading),
            // What it fetched is run from the cache the next time, also in the finished image.
            "npx" => drop(reading.refused.insert(Tool::Npm)),
            _ => {}
        }
        command.ccache(name, &mut reading);
        command.touches(name, &mut reading.touched);
    }
    reading
}

/// The program that is called, without version and folder, and where its arguments begin. A Python module that is a
/// tool is that tool.
fn program(call: &Call) -> (&str, usize) {
    let name = call.name();
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let plain = if plain.ends_with('-') { plain.trim_end_matches('-') } else { plain };
    if !matches!(plain, "python" | "pypy") {
        return (if matches!(plain, "pip" | "nuitka" | "gcc" | "g++" | "clang" | "clang++") { plain } else { name }, 1);
    }
    let mut at = 1;
    while let Some(word) = call.words.get(at) {
        match word.text.as_str() {
            "-m" => {
                let module = call.words.get(at + 1).map_or("", |word| word.text.as_str());
                return if matches!(module, "pip" | "nuitka" | "uv") { (module, at + 2) } else { ("python", at + 1) };
            }
            "-X" | "-W" => at += 2,
            option if option.starts_with('-') && option != "-c" => at += 1,
            _ => break,
        }
    }
    ("python", 1)
}

struct Command<'a> {
    call: &'a Call,
    /// The arguments.
    words: &'a [Word],
}

impl Command<'_> {
    /// The first argument that is one of these, and what comes after it.
    fn sub(&self, known: &[&str]) -> Option<(&str, &[Word])> {
        let at = self.words.iter().position(|word| known.contains(&word.text.as_str()))?;
        Some((&self.words[at].text, &self.words[at + 1..]))
    }

    fn has(&self, options: &[&str]) -> bool {
        self.words.iter().any(|word| options.contains(&word.text.as_str()))
    }

    /// The value of `--option VALUE` or `--option=VALUE`.
    fn option(&self, name: &str) -> Option<&Word> {
        self.words.iter().enumerate().find_map(|(at, word)| {
            if word.text == name { self.words.get(at + 1) } else { Some(word).filter(|_| is_option(word, name)) }
        })
    }

    /// The cache folder: that of the option, of the variable, or `rest` below the user's folder for caches.
    fn folder(&self, option: &str, variables: &[&str], rest: &str) -> Option<String> {
        let absolute = |path: &str| match (path.starts_with('/'), &self.call.folder) {
            (true, _) => Some(join("/", path)),
            (false, Some(folder)) => Some(join(folder, path)),
            (false, None) => None,
        };
        if let Some(word) = self.option(option).filter(|_| !option.is_empty()) {
            let value = word.text.strip_prefix(option).and_then(|rest| rest.strip_prefix('=')).unwrap_or(&word.text);
            return if word.sure && !value.is_empty() { absolute(value) } else { None };
        }
        let set = variables.iter().chain(&["XDG_CACHE_HOME"]).find(|name| self.call.is_set(name));
        match set {
            Some(&"XDG_CACHE_HOME") => Some(join(&absolute(self.call.value("XDG_CACHE_HOME")?)?, rest)),
            Some(name) => absolute(self.call.value(name)?),
            None => Some(join(self.call.value("HOME")?, &format!(".cache/{rest}"))),
        }
    }

    fn pip(&self, reading: &mut Reading) {
        match self.sub(&["install", "download", "wheel", "cache", "uninstall", "config", "list", "show", "freeze"]) {
            Some(("install" | "download" | "wheel", _)) => {}
            Some(("cache", rest)) if !starts_with(rest, &["dir", "info", "list"]) => {
                reading.refused.insert(Tool::Pip);
                return;
            }
            _ => return,
        }
        // Whatever this variable says, pip takes it for a yes.
        if self.has(&["--no-cache-dir"]) || self.call.is_set("PIP_NO_CACHE_DIR") {
            return;
        }
        reading.uses.extend(self.folder("--cache-dir", &["PIP_CACHE_DIR"], "pip").map(|folder| (Tool::Pip, folder)));
    }

    fn uv(&self, reading: &mut Reading) {
        let known =
            ["pip", "sync", "add", "remove", "lock", "export", "build", "tool", "run", "cache", "venv", "python"];
        match self.sub(&known) {
            Some(("pip", rest)) if starts_with(rest, &["install", "sync", "compile"]) => {}
            Some(("tool", rest)) if starts_with(rest, &["install", "upgrade"]) => {}
            Some(("sync" | "add" | "remove" | "lock" | "export" | "build", _)) => {}
            // What these make of packages stays in the cache, for the next run; or they empty it.
            Some(("run" | "tool" | "cache", _)) => {
                reading.refused.insert(Tool::Uv);
                return;
            }
            _ => return,
        }
        let links = self.option("--link-mode").is_some_and(|word| word.text.ends_with("symlink"));
        if links
            || self.call.is_set("UV_LINK_MODE") && !matches!(self.call.value("UV_LINK_MODE"), Some("copy" | "hardlink"))
        {
            reading.refused.insert(Tool::Uv);
        }
        if self.has(&["--offline"]) || self.call.is_set("UV_OFFLINE") {
            reading.relies.insert(Tool::Uv);
        }
        if self.has(&["--no-cache", "--no-cache-dir", "-n"]) || self.call.is_set("UV_NO_CACHE") {
            return;
        }
        reading.uses.extend(self.folder("--cache-dir", &["UV_CACHE_DIR"], "uv").map(|folder| (Tool::Uv, folder)));
    }

    fn nuitka(&self, reading: &mut Reading) {
        if self.words.iter().any(|word| word.text.starts_with("--clean-cache")) {
            reading.refused.insert(Tool::Nuitka);
        }
        if self.words.iter().all(|word| word.sure && matches!(word.text.as_str(), "--version" | "--help" | "-h")) {
            return;
        }
        reading.uses.extend(self.folder("", &["NUITKA_CACHE_DIR"], "Nuitka").map(|folder| (Tool::Nuitka, folder)));
    }

    fn apt(&self, reading: &mut Reading) {
        let known = [
            "update",
            "install",
            "reinstall",
            "upgrade",
            "dist-upgrade",
            "full-upgrade",
            "build-dep",
            "remove",
            "purge",
            "autoremove",
            "clean",
            "autoclean",
            "auto-clean",
            "distclean",
            "dist-clean",
        ];
        let moved = self.call.is_set("APT_CONFIG") || self.words.iter().any(|word| word.text.contains("Dir::Cache"));
        match self.sub(&known) {
            // Downloads that are wanted, or not wanted, where they are.
            _ if moved || self.has(&["-d", "--download-only"]) => drop(reading.refused.insert(Tool::Apt)),
            Some(("clean" | "autoclean" | "auto-clean" | "distclean" | "dist-clean", _)) => {
                reading.refused.insert(Tool::Apt);
            }
            Some(("update" | "remove" | "purge" | "autoremove", _)) | None => {}
            Some(_) => reading.uses.push((Tool::Apt, APT.to_owned())),
        }
    }

    fn apk(&self, updated: &mut bool, reading: &mut Reading) {
        let reads = ["add", "upgrade", "fix", "fetch", "search", "list", "policy"];
        let sub = self.sub(&[reads.as_slice(), &["update", "del", "info", "cache"]].concat());
        let Some((sub, rest)) = sub else { return };
        if sub == "cache" && !starts_with(rest, &["download", "sync"]) || self.has(&["--root", "-p"]) {
            reading.refused.insert(Tool::Apk);
        }
        if self.has(&["--no-cache"]) || matches!(sub, "del" | "info" | "cache") {
            return;
        }
        *updated |= sub == "update" || self.has(&["-U", "--update-cache", "--update"]);
        if !*updated {
            reading.relies.insert(Tool::Apk);
            return;
        }
        let folder =
            self.option("--cache-dir").map_or_else(|| Some(APK.to_owned()), |_| self.folder("--cache-dir", &[], ""));
        reading.uses.extend(folder.map(|folder| (Tool::Apk, folder)));
    }

    fn cargo(&self, reading: &mut Reading) {
        let sub = self.words.iter().map(|word| word.text.as_str()).find(|word| !word.starts_with(['-', '+']));
        if matches!(sub, None | Some("new" | "init" | "clean" | "fmt" | "help" | "version" | "uninstall" | "login")) {
            return;
        }
        if self.has(&["--offline", "--frozen"]) || self.call.is_set("CARGO_NET_OFFLINE") {
            reading.relies.insert(Tool::Cargo);
        }
        let home = if self.call.is_set("CARGO_HOME") {
            self.call.value("CARGO_HOME").filter(|home| home.starts_with('/')).map(str::to_owned)
        } else {
            self.call.value("HOME").map(|home| join(home, ".cargo"))
        };
        // Not all of it: programs that are installed lie there, too.
        let folders = home.into_iter().flat_map(|home| ["registry", "git"].map(|part| join(&home, part)));
        reading.uses.extend(folders.map(|folder| (Tool::Cargo, folder)));
    }

    fn npm(&self, reading: &mut Reading) {
        let installs = [
            "install",
            "i",
            "in",
            "add",
            "ci",
            "clean-install",
            "install-clean",
            "update",
            "up",
            "upgrade",
            "install-test",
            "it",
            "install-ci-test",
            "cit",
            "dedupe",
        ];
        let sub = self
            .sub(&[installs.as_slice(), &["cache", "exec", "x", "init", "create", "run", "test", "start"]].concat());
        match sub {
            Some(("cache" | "exec" | "x" | "init" | "create", _)) => drop(reading.refused.insert(Tool::Npm)),
            Some(("run" | "test" | "start", _)) | None => {}
            Some(_) => {
                if self.has(&["--offline"]) || self.call.is_set("npm_config_offline") {
                    reading.relies.insert(Tool::Npm);
                }
                let variables = ["npm_config_cache", "NPM_CONFIG_CACHE"];
                let is_said = self.option("--cache").is_some() || variables.iter().any(|name| self.call.is_set(name));
                let folder = if is_said {
                    self.folder("--cache", &variables, "")
                } else {
                    self.call.value("HOME").map(|home| join(home, ".npm"))
                };
                reading.uses.extend(folder.map(|folder| (Tool::Npm, folder)));
            }
        }
    }

    /// ccache itself, and what compiles where variables or arguments lead through it.
    fn ccache(&self, name: &str, reading: &mut Reading) {
        let is_ccache = |text: &str| text.split([' ', '=', '/']).any(|part| part == "ccache");
        let through = match name {
            "ccache" => {
                if self.has(&["-C", "--clear"]) {
                    reading.refused.insert(Tool::Ccache);
                }
                true
            }
            name if COMPILES.contains(&name) => {
                let path = self.call.value("PATH").unwrap_or_default();
                path.split(':').any(is_ccache)
                    || LAUNCHERS.iter().any(|name| self.call.value(name).is_some_and(is_ccache))
                    || self.words.iter().any(|word| word.text.contains('=') && is_ccache(&word.text))
            }
            _ => false,
        };
        if through && !self.call.is_set("CCACHE_DISABLE") {
            reading.uses.extend(self.folder("", &["CCACHE_DIR"], "ccache").map(|folder| (Tool::Ccache, folder)));
        }
    }

    /// The paths among the arguments, and the files that are read and written.
    fn touches(&self, name: &str, touched: &mut Vec<Touch>) {
        let by = match name {
            "rm" | "rmdir" | "unlink" => By::Remover,
            "find" | "chown" | "chmod" | "chgrp" | "setfacl" => By::Walker,
            "cp" | "mv" | "tar" | "rsync" | "zip" | "install" => By::Copier,
            _ => By::Other,
        };
        let is_cache_option = |at: usize| {
            let before = at.checked_sub(1).map_or("", |before| self.words[before].text.as_str());
            let options = ["--cache-dir", "--cache"];
            options.contains(&before) || options.iter().any(|option| is_option(&self.words[at], option))
        };
        let arguments = self.words.iter().enumerate().filter(|(at, _)| !is_cache_option(*at)).map(|(_, word)| word);
        // What is said or made sure of is no use of it.
        let arguments = arguments.filter(|_| !matches!(name, "echo" | "printf" | "mkdir"));
        for word in arguments.chain(&self.call.files) {
            for text in
                [Some(word.text.as_str()), word.text.split_once('=').map(|(_, value)| value)].into_iter().flatten()
            {
                if let Some(path) = self.path(text, word.sure) {
                    touched.push(Touch { path, by });
                }
            }
        }
    }

    /// A word as an absolute path, if it looks like one. Of a pattern it is the folder that is searched.
    fn path(&self, text: &str, sure: bool) -> Option<String> {
        let pattern = text.find(['*', '?', '[', '{']);
        let text = match (pattern, sure) {
            (Some(at), _) => &text[..text[..at].rfind('/').map_or(0, |slash| slash + 1)],
            (None, true) => text,
            (None, false) => return None,
        };
        if text.starts_with('/') {
            return Some(join("/", text));
        }
        let is_path = text.contains('/') || text.starts_with('.') || pattern.is_some();
        let folder =
            self.call.folder.as_ref().filter(|_| is_path && !text.contains("://") && !text.starts_with('-'))?;
        Some(join(folder, text))
    }
}

/// Whether the first word that is no option is one of these.
fn starts_with(words: &[Word], known: &[&str]) -> bool {
    words.iter().find(|word| !word.text.starts_with('-')).is_some_and(|word| known.contains(&word.text.as_str()))
}

/// Whether a word is `--option=VALUE`.
fn is_option(word: &Word, name: &str) -> bool {
    word.text.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
}
