//! Reads one layer: finds the setting of every key, checks its value, and warns about what it does not know.

use std::ops::Range;
use std::path::{Path, PathBuf};

use kiln_graph::Platform;

use crate::error::{ConfigError, Location, Place, Warning};
use crate::key::{KEYS, Key, Section};
use crate::kind::{Kind, RECIPES, Rejected, Value};
use crate::layer::{FlagValue, Layer, LayerKind, Provenance, Source};
use crate::mask::mask;
use crate::raw::{self, Data, Name, Raw, Table, quote};
use crate::suggest::nearest;

/// A setting that a layer makes.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub(crate) key: &'static Key,
    /// The name of a build argument, for the key that is a table of them.
    pub(crate) argument: Option<String>,
    /// The platform, for an override.
    pub(crate) platform: Option<Platform>,
    pub(crate) value: Value,
    pub(crate) provenance: Provenance,
    /// The position of the layer; higher wins.
    pub(crate) rank: usize,
}

impl Assignment {
    /// The dotted key with its argument and platform.
    pub(crate) fn dotted(&self) -> String {
        dotted(self.key, self.argument.as_deref(), self.platform)
    }
}

/// `platform."linux/arm64".build.args.NAME`.
pub(crate) fn dotted(key: &Key, argument: Option<&str>, platform: Option<Platform>) -> String {
    let platform = platform.map(|platform| format!("platform.{}.", quote(&platform.to_string()))).unwrap_or_default();
    let argument = argument.map(|name| format!(".{name}")).unwrap_or_default();
    format!("{platform}{key}{argument}")
}

/// Reads a layer.
pub(crate) fn read(layer: &Layer, rank: usize) -> Result<(Vec<Assignment>, Vec<Warning>), ConfigError> {
    let mut reader = Reader { kind: layer.kind, rank, file: None, assignments: Vec::new(), warnings: Vec::new() };
    match &layer.source {
        Source::File { path, text } => {
            let table = raw::parse(path, text)?;
            let pyproject = layer.pyproject_path().is_some();
            reader.file = Some((path, text));
            if pyproject {
                if let Some(table) = tool_table(&table) {
                    reader.document(table)?;
                }
            } else {
                reader.document(&table)?;
            }
        }
        Source::Variables { variables, ignored } => reader.variables(variables, ignored)?,
        Source::Flags(flags) => reader.flags(flags)?,
    }
    reader.entry_or_module()?;
    Ok((reader.assignments, reader.warnings))
}

/// Whether a pyproject.toml has a `[tool.kiln]` table.
pub(crate) fn has_tool_table(path: &Path, text: &str) -> bool {
    raw::parse(path, text).is_ok_and(|table| tool_table(&table).is_some())
}

fn tool_table(table: &Table) -> Option<&Table> {
    subtable(subtable(table, "tool")?, "kiln")
}

pub(crate) fn subtable<'a>(table: &'a Table, name: &str) -> Option<&'a Table> {
    table.iter().find(|(key, _)| key.text == name).and_then(|(_, value)| match &value.data {
        Data::Table(table) => Some(table),
        _ => None,
    })
}

struct Reader<'a> {
    kind: LayerKind,
    rank: usize,
    file: Option<(&'a PathBuf, &'a String)>,
    assignments: Vec<Assignment>,
    warnings: Vec<Warning>,
}

impl Reader<'_> {
    fn place(&self, span: &Range<usize>) -> Place {
        match self.file {
            Some((path, text)) => Place::File(Box::new(Location::new(path, text, span.clone()))),
            None => Place::Found(self.kind.to_string()),
        }
    }

    fn document(&mut self, table: &Table) -> Result<(), ConfigError> {
        for (name, value) in table {
            if name.text == "platform" {
                for (header, value) in self.table(&name.text, value)? {
                    self.platform(header, value)?;
                }
            } else if let Some(section) = Section::from_name(&name.text) {
                for (leaf, value) in self.table(&name.text, value)? {
                    match Key::find(section, &leaf.text) {
                        Some(key) => self.assign(key, None, value, &self.place(&value.span))?,
                        None if Key::is_group(section, &leaf.text) => self.group(section, leaf, value)?,
                        None => self.unknown(&format!("{}.{}", section.name(), leaf.text), &leaf.span, None),
                    }
                }
            } else if !matches!(name.text.as_str(), "target" | "group" | "variable") {
                // Those are for `kiln bake`, and are no settings.
                self.unknown(&name.text, &name.span, None);
            }
        }
        Ok(())
    }

    /// A table in a section: `[cache.ccache]`.
    fn group(&mut self, section: Section, name: &Name, value: &Raw) -> Result<(), ConfigError> {
        for (leaf, value) in self.table(&format!("{}.{}", section.name(), name.text), value)? {
            let path = format!("{}.{}", name.text, leaf.text);
            match Key::find(section, &path) {
                Some(key) => self.assign(key, None, value, &self.place(&value.span))?,
                None => self.unknown(&format!("{}.{path}", section.name()), &leaf.span, None),
            }
        }
        Ok(())
    }

    fn platform(&mut self, header: &Name, value: &Raw) -> Result<(), ConfigError> {
        let platform: Platform =
            header.text.parse().map_err(|source| ConfigError::Platform { place: self.place(&header.span), source })?;
        let section_name = format!("platform.{}", quote(&header.text));
        for (name, value) in self.table(&section_name, value)? {
            if let Some(section) = Section::from_name(&name.text) {
                for (leaf, value) in self.table(&format!("{section_name}.{}", name.text), value)? {
                    match Key::find(section, &leaf.text) {
                        Some(key) if key.per_platform() => {
                            self.assign(key, Some(platform), value, &self.place(&value.span))?;
                        }
                        Some(key) => return Err(self.not_per_platform(key, &leaf.span)),
                        None => self.unknown(&format!("{}.{}", section.name(), leaf.text), &leaf.span, Some(platform)),
                    }
                }
                continue;
            }
            match by_leaf(&name.text).as_slice() {
                [key] => self.assign(key, Some(platform), value, &self.place(&value.span))?,
                [] => match KEYS.iter().find(|key| key.name == name.text) {
                    Some(key) => return Err(self.not_per_platform(key, &name.span)),
                    None => self.unknown(&name.text, &name.span, Some(platform)),
                },
                several => {
                    return Err(ConfigError::Ambiguous {
                        place: self.place(&name.span),
                        key: name.text.clone(),
                        candidates: several.iter().map(|key| key.dotted()).collect(),
                    });
                }
            }
        }
        Ok(())
    }

    fn variables(&mut self, variables: &[(String, String)], ignored: &[String]) -> Result<(), ConfigError> {
        for (name, text) in variables {
            let place = Place::Variable(name.clone());
            if let Some(key) = KEYS.iter().find(|key| key.variable() == *name) {
                self.assign(key, None, &raw::from_text(&key.kind, text), &place)?;
            } else if let Some((key, platform)) = platform_variable(name) {
                self.assign(key, Some(platform), &raw::from_text(&key.kind, text), &place)?;
            } else if !ignored.iter().any(|pattern| matches_pattern(pattern, name)) {
                let known: Vec<String> = KEYS.iter().map(Key::variable).collect();
                let suggestion = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
                self.warnings.push(Warning::UnknownVariable { name: name.clone(), suggestion });
            }
        }
        Ok(())
    }

    fn flags(&mut self, flags: &[(String, String, FlagValue)]) -> Result<(), ConfigError> {
        for (name, dotted, value) in flags {
            let place = Place::Flag(name.clone());
            let parts = split_dotted(dotted);
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let (platform, rest) = match parts.as_slice() {
                ["platform", platform, rest @ ..] => {
                    let wrong = |source| ConfigError::Platform { place: place.clone(), source };
                    (Some(platform.parse::<Platform>().map_err(wrong)?), rest)
                }
                rest => (None, rest),
            };
            let found = match rest {
                [leaf] if platform.is_some() => match by_leaf(leaf).as_slice() {
                    [key] => Some((*key, None)),
                    _ => None,
                },
                [section, leaf] => Section::from_name(section).and_then(|s| Key::find(s, leaf)).map(|key| (key, None)),
                [section, leaf, argument] => Section::from_name(section).and_then(|section| {
                    let in_group = Key::find(section, &format!("{leaf}.{argument}")).map(|key| (key, None));
                    let table = Key::find(section, leaf).filter(|key| key.kind == Kind::Arguments);
                    in_group.or(table.map(|key| (key, Some(*argument))))
                }),
                _ => None,
            };
            let Some((key, argument)) = found else {
                return Err(ConfigError::UnknownFlag { key: dotted.clone(), suggestion: suggest_key(dotted) });
            };
            if platform.is_some() && !key.per_platform() {
                return Err(ConfigError::NotPerPlatform { place, key: key.dotted() });
            }
            let raw = match (value, argument) {
                (FlagValue::Text(text), Some(argument)) => {
                    let name = Name { text: argument.to_owned(), span: 0..0 };
                    Raw::bare(Data::Table(vec![(name, Raw::bare(Data::Text(text.clone())))]))
                }
                (FlagValue::Text(text), None) => raw::from_text(&key.kind, text),
                (FlagValue::List(items), _) => list_flag(&key.kind, items),
            };
            self.assign(key, platform, &raw, &place)?;
        }
        Ok(())
    }

    /// Checks a value and notes what it sets.
    fn assign(
        &mut self,
        key: &'static Key,
        platform: Option<Platform>,
        raw: &Raw,
        place: &Place,
    ) -> Result<(), ConfigError> {
        let value = key.kind.check(raw).map_err(|Rejected { span, given, hint }| ConfigError::Value {
            place: if self.file.is_some() { self.place(&span) } else { place.clone() },
            key: dotted(key, None, platform),
            given: mask(&given),
            allowed: key.kind.allowed().into(),
            hint: hint.map(Into::into),
        })?;
        let provenance = Provenance { layer: self.kind, place: Some(place.clone()) };
        let values = match value {
            Value::Pairs(pairs) => {
                pairs.into_iter().map(|(name, value)| (Some(name), Value::Text(value))).collect::<Vec<_>>()
            }
            value => vec![(None, self.rebase(key, value))],
        };
        for (argument, value) in values {
            let rank = self.rank;
            let new = Assignment { key, argument, platform, value, provenance: provenance.clone(), rank };
            let earlier = self
                .assignments
                .iter_mut()
                .find(|old| old.key == key && old.argument == new.argument && old.platform == platform);
            match (earlier, self.kind) {
                (None, _) => self.assignments.push(new),
                (Some(old), LayerKind::Flags) => match (&mut old.value, new.value) {
                    (Value::List(items), Value::List(more)) => items.extend(more),
                    (value, new) => *value = new,
                },
                (Some(old), _) => {
                    let first = old.provenance.place.clone().unwrap_or_else(|| place.clone());
                    return Err(ConfigError::Twice { place: place.clone(), key: new.dotted(), first });
                }
            }
        }
        Ok(())
    }

    /// Makes the path of a file that belongs to the user relative to the user's file. Paths that describe a project stay
    /// relative to whichever project is built.
    fn rebase(&self, key: &Key, value: Value) -> Value {
        let folder = match (self.kind, self.file) {
            (LayerKind::User, Some((file, _))) => file.parent(),
            _ => None,
        };
        let is_users = |path: &str| match key.kind {
            Kind::Recipe => !RECIPES.contains(&path),
            Kind::Path => key.section == Section::Network,
            _ => false,
        };
        match (folder, value) {
            (Some(folder), Value::Text(path)) if is_users(&path) => {
                Value::Text(folder.join(path).to_string_lossy().into_owned())
            }
            (_, value) => value,
        }
    }

    fn table<'t>(&self, section: &str, value: &'t Raw) -> Result<&'t Table, ConfigError> {
        match &value.data {
            Data::Table(table) => Ok(table),
            _ => Err(ConfigError::NotATable {
                place: self.place(&value.span),
                section: section.to_owned(),
                given: value.to_toml(),
            }),
        }
    }

    fn not_per_platform(&self, key: &Key, span: &Range<usize>) -> ConfigError {
        ConfigError::NotPerPlatform { place: self.place(span), key: key.dotted() }
    }

    fn unknown(&mut self, key: &str, span: &Range<usize>, platform: Option<Platform>) {
        let shown = match platform {
            Some(platform) => format!("platform.{}.{key}", quote(&platform.to_string())),
            None => key.to_owned(),
        };
        self.warnings.push(Warning::UnknownKey { place: self.place(span), key: shown, suggestion: suggest_key(key) });
    }

    fn entry_or_module(&self) -> Result<(), ConfigError> {
        let is = |assignment: &&Assignment, name: &str| {
            assignment.key.section == Section::Project && assignment.key.name == name
        };
        for entry in self.assignments.iter().filter(|assignment| is(assignment, "entry")) {
            let same = |module: &&Assignment| is(module, "module") && module.platform == entry.platform;
            if let Some(module) = self.assignments.iter().find(same) {
                let place = |assignment: &Assignment| {
                    assignment.provenance.place.clone().unwrap_or_else(|| Place::Found(self.kind.to_string()))
                };
                return Err(ConfigError::EntryAndModule { place: place(module), other: place(entry) });
            }
        }
        Ok(())
    }
}

/// The settings that a bare key in a `[platform]` table can mean.
fn by_leaf(name: &str) -> Vec<&'static Key> {
    KEYS.iter().filter(|key| key.name == name && key.per_platform()).collect()
}

/// The key that a wrong dotted key was meant to be: the same name in another section, else the nearest spelling.
fn suggest_key(wrong: &str) -> Option<String> {
    let dotted: Vec<String> = KEYS.iter().map(Key::dotted).collect();
    let (section, leaf) = wrong.rsplit_once('.').unwrap_or(("", wrong));
    if let Some(section) = Section::from_name(section) {
        let names = KEYS.iter().filter(|key| key.section == section).map(|key| key.name);
        if let Some(name) = nearest(leaf, names) {
            return Some(format!("{}.{name}", section.name()));
        }
    }
    if let Some(key) = KEYS.iter().find(|key| key.name == leaf) {
        return Some(key.dotted());
    }
    if section.is_empty() {
        let sections = Section::ALL.iter().map(|section| section.name()).chain(["platform"]);
        if let Some(name) = nearest(leaf, sections) {
            return Some(name.to_owned());
        }
        return nearest(leaf, KEYS.iter().map(|key| key.name))
            .and_then(|name| KEYS.iter().find(|key| key.name == name))
            .map(Key::dotted);
    }
    nearest(wrong, dotted.iter().map(String::as_str)).map(str::to_owned)
}

fn platform_variable(name: &str) -> Option<(&'static Key, Platform)> {
    let rest = name.strip_prefix("KILN_PLATFORM_")?;
    Platform::all()
        .filter(|platform| rest.starts_with(&platform.folder().to_ascii_uppercase()))
        .flat_map(|platform| KEYS.iter().map(move |key| (key, platform)))
        .find(|(key, platform)| key.per_platform() && key.platform_variable(*platform) == name)
}

fn matches_pattern(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |beginning| name.starts_with(beginning))
}

/// The items of a flag that was given several times or is a list in itself.
fn list_flag(kind: &Kind, items: &[String]) -> Raw {
    match kind {
        Kind::List(_) | Kind::Platforms | Kind::Requirements | Kind::Smoke | Kind::Command => {
            Raw::bare(Data::List(items.iter().map(|item| Raw::bare(Data::Text(item.clone()))).collect()))
        }
        Kind::Arguments => Raw::bare(Data::Table(
            items
                .iter()
                .map(|item| item.split_once('=').unwrap_or((item, "")))
                .map(|(name, value)| {
                    (Name { text: name.to_owned(), span: 0..0 }, Raw::bare(Data::Text(value.to_owned())))
                })
                .collect(),
        )),
        _ => raw::from_text(kind, items.last().map_or("", String::as_str)),
    }
}

/// The parts of a dotted key; dots inside double quotes do not separate.
fn split_dotted(key: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in key.chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c => {
                if let Some(part) = parts.last_mut() {
                    part.push(c);
                }
            }
        }
    }
    parts
}
