//! Writes a first `kiln.toml` from what is found in a project.
//!
//! What was found and would otherwise have to be guessed stands as a setting; everything else stands as `#key = value` (no
//! blank after the sign) with its default or an example, so that the file shows all there is and fixes as little as possible.

use crate::facts::ProjectFacts;
use crate::key::{Fallback, KEYS, Key, Section};
use crate::raw::quote;

/// Columns of a comment.
const WIDTH: usize = 100;

/// A commented `kiln.toml` for a project. Every key appears; reading the file gives what kiln found.
pub fn init_toml(facts: &ProjectFacts) -> String {
    let mut file = String::new();
    comment(&mut file, &format!("How kiln bakes {}.", facts.name()));
    comment(
        &mut file,
        "Lines that begin with `#key` show defaults and examples. `kiln config show` prints every setting in force and where \
         it comes from.",
    );
    for section in Section::ALL {
        file.extend(["\n# ", section.doc(), "\n[", section.name(), "]\n"]);
        for key in KEYS.iter().filter(|key| key.section == section) {
            file.push('\n');
            write_key(&mut file, key, facts);
        }
    }
    file.push('\n');
    comment(
        &mut file,
        "Overrides for one platform: settings of [project], [nuitka], [build], [network] and [verify], by bare name where \
         only one section has it, else as section.name.",
    );
    file.push_str("#[platform.\"linux/arm64\"]\n#jobs = 2\n#project.python = \"3.12\"\n");
    file
}

/// What stands in the file for a key.
struct Line {
    /// A line of comment about what was found.
    note: Option<String>,
    /// The value, as TOML.
    value: String,
    /// Whether the line is a setting, rather than a comment.
    live: bool,
}

fn write_key(file: &mut String, key: &Key, facts: &ProjectFacts) {
    let doc = match key.default {
        Fallback::Value("[]" | "{}") => format!("{} Default: none.", key.doc),
        Fallback::Value(_) => key.doc.to_owned(),
        Fallback::Derived(words) => format!("{} Default: {words}.", key.doc),
    };
    comment(file, &doc);
    let line = found(key, facts).unwrap_or_else(|| Line {
        note: None,
        value: match key.default {
            // An empty list or table teaches nothing, so the example stands for it.
            Fallback::Value(default) if !matches!(default, "[]" | "{}") => default.to_owned(),
            _ => key.example.to_owned(),
        },
        live: false,
    });
    if let Some(note) = &line.note {
        comment(file, note);
    }
    file.extend([if line.live { "" } else { "#" }, key.name, " = ", line.value.as_str(), "\n"]);
}

/// What was found for a key, if anything.
fn found(key: &Key, facts: &ProjectFacts) -> Option<Line> {
    if key.section != Section::Project {
        return None;
    }
    let pyproject = facts.pyproject.as_ref();
    let shown = |value: String| Some(Line { note: None, value, live: false });
    let live = |value: String, note: Option<String>| Some(Line { note, value, live: true });
    match key.name {
        "name" if pyproject.is_some_and(|facts| facts.name.is_some()) => shown(quote(&facts.name())),
        "name" => live(quote(&facts.name()), None),
        "version" => shown(quote(pyproject?.version.as_ref()?)),
        "entry" => {
            let candidates = facts.entry_candidates();
            let (first, others) = candidates.split_first()?;
            let note = (!others.is_empty()).then(|| format!("Other candidates: {}.", others.join(", ")));
            live(quote(first), note)
        }
        "module" => {
            let script = pyproject?.scripts.first()?;
            let function = script.function.as_ref().map(|function| format!(":{function}")).unwrap_or_default();
            let module = quote(&format!("{}{function}", script.module));
            if facts.entry_candidates().is_empty() { live(module, None) } else { shown(module) }
        }
        "requirements" if facts.has("requirements.txt") => shown(quote("requirements.txt")),
        "requirements" => {
            let dependencies: Vec<String> = pyproject?.dependencies.iter().map(|item| quote(item)).collect();
            if dependencies.is_empty() { None } else { shown(format!("[{}]", dependencies.join(", "))) }
        }
        "python" => {
            let wanted = pyproject?.requires_python.as_ref()?;
            let note = Some(format!("pyproject.toml asks for {wanted}."));
            Some(Line { note, value: key.example.to_owned(), live: false })
        }
        "data" => {
            let data = facts.data_candidates();
            let items: Vec<String> = data.iter().map(|item| quote(item)).collect();
            if items.is_empty() { None } else { live(format!("[{}]", items.join(", ")), None) }
        }
        "icon" => live(quote(facts.icon_candidates().first()?), None),
        _ => None,
    }
}

/// Adds a text as lines of comment.
fn comment(file: &mut String, text: &str) {
    // Names of files and folders may hold anything; a newline must not end the comment.
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH && line.len() > 1 {
            file.push_str(&line);
            file.push('\n');
            line.truncate(1);
        }
        line.push(' ');
        line.extend(word.chars().filter(|c| !c.is_control()));
    }
    file.push_str(&line);
    file.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::layer::Layer;
    use crate::pyproject;
    use crate::settings::{Program, Requirements, Settings};

    fn projects() -> Vec<ProjectFacts> {
        let facts = |files: &[&str], toml: Option<&str>| ProjectFacts {
            folder_name: "my app".to_owned(),
            folder_digest: "abc".to_owned(),
            pyproject: toml.map(|text| pyproject::read(text).unwrap()),
            files: files.iter().map(|file| (*file).to_owned()).collect(),
        };
        let toml = "[project]\nname = \"hello\"\nversion = \"1.2\"\nrequires-python = \">=3.9\"\n\
                    dependencies = [\"rich>=13,<15; python_version < '4'\"]\nscripts.hello = \"hello.__main__:main\"\n";
        vec![
            facts(&[], None),
            facts(&["main.py", "requirements.txt", "assets/icon.png", "assets/a \"b\"\n/x.png"], None),
            facts(&["src/hello/__main__.py", "src/hello/templates/a.html"], Some(toml)),
            facts(&["main.py", "app.py", "requirements.txt"], Some("[project]\nname = \"hello\"\n")),
        ]
    }

    fn load(text: &str, facts: &ProjectFacts) -> Settings {
        let loaded = Config::load([Layer::file("kiln.toml", text)], facts).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(loaded.warnings, [], "{text}");
        loaded.config.resolved()
    }

    #[test]
    fn the_file_reads_back_as_what_was_found() {
        for facts in projects() {
            let text = init_toml(&facts);
            let mut expected = Config::load([], &facts).unwrap().config.resolved();
            expected.project.program = facts.entry_candidates().first().cloned().map(Program::Entry);
            let mut read = load(&text, &facts);
            let data: Vec<String> =
                read.project.data.drain(..).map(|item| format!("{}={}", item.source, item.target)).collect();
            assert_eq!(data, facts.data_candidates());
            assert_eq!(read.project.icon.take(), facts.icon_candidates().first().cloned());
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn defaults_that_are_shown_are_the_defaults() {
        for facts in projects() {
            let text = init_toml(&facts);
            let uncommented = |wanted: &dyn Fn(&str) -> bool| -> String {
                let line = |line: &str| match line.strip_prefix('#') {
                    Some(rest) if rest.contains(" = ") && !rest.starts_with(' ') && wanted(rest) => format!("{rest}\n"),
                    _ => format!("{line}\n"),
                };
                text.lines().map(line).collect()
            };
            let is_default = |line: &str| {
                KEYS.iter().any(
                    |key| matches!(key.default, Fallback::Value(value) if line == format!("{} = {value}", key.name)),
                )
            };
            assert_eq!(load(&uncommented(&is_default), &facts), load(&text, &facts));
            let not_overrides = |line: &str| !line.starts_with("jobs = 2") && !line.starts_with("project.");
            let all = uncommented(&|line| not_overrides(line) && !line.starts_with("module"));
            assert!(load(&all, &facts).network.ca_certificates.is_some());
        }
    }

    #[test]
    fn every_key_appears_once_and_lines_are_short() {
        let facts = &projects()[2];
        let text = init_toml(facts);
        for key in KEYS {
            let at = text.find(&format!("\n[{}]", key.section.name())).unwrap();
            let section = text[at + 2..].split("\n[").next().unwrap();
            let lines = section.lines().filter(|line| {
                line.strip_prefix('#')
                    .unwrap_or(line)
                    .strip_prefix(key.name)
                    .is_some_and(|rest| rest.starts_with(" = "))
            });
            assert_eq!(lines.count(), 1, "{key}");
        }
        assert!(text.lines().all(|line| line.len() <= WIDTH + 20), "{text}");
        assert!(text.contains("#version = \"1.2\"\n") && text.contains("\nentry = \"src/hello/__main__.py\"\n"));
        assert!(text.contains("# pyproject.toml asks for >=3.9.\n"));
        let uncommented = text.replace("#requirements = ", "requirements = ");
        let expected = Requirements::List(vec!["rich>=13,<15; python_version < '4'".to_owned()]);
        assert_eq!(load(&uncommented, facts).project.requirements, expected);
    }
}
