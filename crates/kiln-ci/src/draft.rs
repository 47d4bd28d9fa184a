//! A kiln.toml that is to be written: settings of all platforms, and those in which platforms differ.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kiln_graph::Platform;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Number(u32),
    List(Vec<String>),
    Pairs(BTreeMap<String, String>),
}

/// Settings by their dotted names.
pub(crate) type Settings = BTreeMap<&'static str, Value>;

impl Value {
    /// A path of a module as its name, if the key is that of a module.
    pub(crate) fn module(self, key: &str) -> Self {
        match self {
            Self::Text(text) if key == "project.module" => Self::Text(text.trim_start_matches("./").replace('/', ".")),
            other => other,
        }
    }

    fn to_toml(&self) -> String {
        match self {
            Self::Text(text) => quote(text),
            Self::Number(number) => number.to_string(),
            Self::List(items) => format!("[{}]", items.iter().map(|item| quote(item)).collect::<Vec<_>>().join(", ")),
            Self::Pairs(pairs) => {
                let pairs: Vec<String> =
                    pairs.iter().map(|(name, value)| format!("{name} = {}", quote(value))).collect();
                format!("{{ {} }}", pairs.join(", "))
            }
        }
    }
}

/// A TOML basic string.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Settings that are to be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    /// Of the whole project.
    pub(crate) general: Settings,
    /// Of each platform; what all have in common is written once.
    pub(crate) platforms: Vec<(Platform, Settings)>,
    /// The runner of each platform as far as jobs agree on it, the usual one too.
    pub(crate) runners: BTreeMap<Platform, String>,
    /// Lines of comment.
    pub(crate) comments: Vec<String>,
}

impl Draft {
    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.general.is_empty() && self.platforms.is_empty()
    }

    /// The settings of a platform, which are added to.
    pub(crate) fn of(&mut self, platform: Platform) -> &mut Settings {
        let at = self.platforms.iter().position(|(known, _)| *known == platform).unwrap_or_else(|| {
            self.platforms.push((platform, Settings::new()));
            self.platforms.len() - 1
        });
        &mut self.platforms[at].1
    }

    /// Finds a pattern for the names of the programs: `tool-linux-arm64` is `{name}-linux-{arch}`.
    pub(crate) fn name(&mut self, names: &[(Platform, String)]) {
        let twice = names.iter().find(|(platform, name)| names.iter().any(|(p, n)| p != platform && n == name));
        if let Some((_, name)) = twice {
            if is_name(name) {
                self.general.insert("project.name", Value::Text(name.clone()));
            }
            self.comments.push(format!(
                "kiln: differs: artifact: `{name}` was written anew for each platform, over the one before"
            ));
            return;
        }
        let mut patterns: Vec<(String, String)> = names
            .iter()
            .map(|(platform, name)| {
                let (folder, arch) = (platform.folder(), platform.arch.artifact_name());
                let pattern = if name.contains(&folder) {
                    name.replacen(&folder, "{platform}", 1)
                } else {
                    name.replacen(arch, "{arch}", 1)
                };
                let project = pattern.split("-linux").next().unwrap_or(&pattern);
                let project = project.split('{').next().unwrap_or(project).trim_end_matches(['-', '_', '.']).to_owned();
                (project, pattern)
            })
            .collect();
        patterns.dedup();
        if let [(project, pattern)] = patterns.as_slice()
            && is_name(project)
        {
            self.general.insert("project.name", Value::Text(project.clone()));
            let pattern = pattern.replacen(project.as_str(), "{name}", 1);
            if pattern != "{name}-linux-{arch}" {
                self.general.insert("build.artifact", Value::Text(pattern));
            }
            return;
        }
        for (platform, name) in names {
            self.of(*platform).insert("build.artifact", Value::Text(name.clone()));
        }
    }

    /// The file.
    pub(crate) fn to_toml(&self) -> String {
        let mut general = self.general.clone();
        if general.get("ci.development-platforms") == general.get("build.platforms") {
            general.remove("ci.development-platforms");
        }
        let mut own: Vec<(Platform, Settings)> = self.platforms.clone();
        let all = match self.general.get("build.platforms") {
            Some(Value::List(list)) => list.len(),
            _ => own.len(),
        };
        // What not every platform has cannot be the rule.
        if let Some((_, first)) = self.platforms.first().filter(|_| own.len() >= all) {
            for (key, value) in first {
                if own.iter().all(|(_, settings)| settings.get(key) == Some(value)) {
                    general.insert(key, value.clone());
                    for (_, settings) in &mut own {
                        settings.remove(key);
                    }
                }
            }
            // Otherwise what most have is the rule, and the others are exceptions, where every platform has a value.
            let keys: Vec<&'static str> = own.iter().flat_map(|(_, settings)| settings.keys().copied()).collect();
            for key in keys {
                let values: Vec<&Value> = own.iter().filter_map(|(_, settings)| settings.get(key)).collect();
                if values.len() < own.len() || key == "build.args" {
                    continue;
                }
                let count = |value: &Value| values.iter().filter(|other| **other == value).count();
                let Some(most) = values.iter().copied().max_by_key(|value| count(value)).cloned() else { continue };
                if count(&most) < 2 {
                    continue;
                }
                for (_, settings) in &mut own {
                    if settings.get(key) == Some(&most) {
                        settings.remove(key);
                    }
                }
                general.insert(key, most);
            }
        }
        let mut text = String::from("# Written by `kiln migrate`. `kiln config show` prints every setting in force.\n");
        for comment in &self.comments {
            let _ = writeln!(text, "# {comment}");
        }
        sections(&mut text, &general, None);
        own.sort_by_key(|(platform, _)| *platform);
        for (platform, settings) in own.iter().filter(|(_, settings)| !settings.is_empty()) {
            sections(&mut text, settings, Some(*platform));
        }
        text
    }
}

fn sections(text: &mut String, settings: &Settings, platform: Option<Platform>) {
    for section in kiln_config::Section::ALL {
        // In the order in which they are explained.
        let mine: Vec<(&str, &Value)> = kiln_config::keys()
            .filter(|key| key.section == section)
            .filter_map(|key| Some((key.name, settings.get(key.dotted().as_str())?)))
            .collect();
        if mine.is_empty() {
            continue;
        }
        let header = platform.map(|platform| format!("platform.\"{platform}\".")).unwrap_or_default();
        let _ = write!(text, "\n[{header}{}]\n", section.name());
        for (name, value) in mine {
            let _ = writeln!(text, "{name} = {}", value.to_toml());
        }
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

#[cfg(test)]
mod tests {
    use kiln_graph::Arch;

    use super::*;

    #[test]
    fn what_platforms_share_is_written_once() {
        let mut draft = Draft::default();
        for (arch, lto) in [(Arch::Amd64, "yes"), (Arch::I386, "yes"), (Arch::Arm64, "no")] {
            let settings = draft.of(Platform::linux(arch));
            settings.insert("nuitka.lto", Value::Text(lto.to_owned()));
            settings.insert("nuitka.jobs", Value::Number(4));
            let args = [("ARCH".to_owned(), arch.artifact_name().to_owned())].into();
            settings.insert("build.args", Value::Pairs(args));
        }
        draft.name(&[
            (Platform::linux(Arch::Amd64), "tool-linux-x86_64".to_owned()),
            (Platform::linux(Arch::Arm64), "tool-linux-arm64".to_owned()),
        ]);
        draft.comments.push("one".to_owned());
        insta::assert_snapshot!(draft.to_toml());
    }

    #[test]
    fn names_that_follow_no_pattern_are_each_platforms_own() {
        let mut draft = Draft::default();
        draft.name(&[
            (Platform::linux(Arch::Amd64), "tool-amd64".to_owned()),
            (Platform::linux(Arch::Arm64), "tool-aarch64".to_owned()),
        ]);
        assert!(draft.to_toml().contains("[platform.\"linux/arm64\".build]\nartifact = \"tool-aarch64\"\n"));
        let mut draft = Draft::default();
        draft.name(&[(Platform::linux(Arch::Arm64), "dist/app_linux_arm64".to_owned())]);
        assert!(draft.to_toml().contains("artifact"), "{}", draft.to_toml());
    }
}
