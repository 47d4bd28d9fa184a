//! Old and new side by side: what both would do for the same runs.

use std::collections::{BTreeMap, BTreeSet};

use kiln_config::Config;

use crate::error::MigrateError;
use crate::migrate::{Source, read};
use crate::plan::{Around, Build, How, Plan, default_branch, plan, scenarios};

/// Old and new side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What was compared.
    pub rows: Vec<Row>,
}

/// One thing in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The runs, by name.
    pub runs: Vec<String>,
    /// What it is: `flags of build, linux/arm64`.
    pub what: String,
    /// The old workflow's.
    pub old: String,
    /// The new one's.
    pub new: String,
    /// The comment that declares the difference.
    pub declared: Option<String>,
}

impl Row {
    /// Whether both say the same.
    pub fn is_same(&self) -> bool {
        self.old == self.new
    }
}

impl Comparison {
    /// Whether something differs that no comment declares.
    pub fn differs(&self) -> bool {
        self.rows.iter().any(|row| !row.is_same() && row.declared.is_none())
    }
}

/// Compares an old file with the one that was written for it, under the settings that the latter uses. `settings` is their
/// text, which may declare differences as `# kiln: differs: TOPIC: why`, with the first word of a row's name as the topic.
///
/// Errors: one of the files cannot be read.
pub fn compare(
    old: &Source,
    new: &Source,
    (config, settings): (&Config, &str),
    file: &dyn Fn(&str) -> Option<String>,
) -> Result<Comparison, MigrateError> {
    let (before, after) = (read(old)?, read(new)?);
    let default_branch = default_branch(&before, &old.text);
    let mut rows: Vec<Row> = Vec::new();
    for scenario in scenarios(&before, &default_branch) {
        let told = facts(&plan(&before, &scenario, &Around { read: file, config: None }));
        let found = facts(&plan(&after, &scenario, &Around { read: file, config: Some(config) }));
        let names: BTreeSet<&(usize, String)> = told.keys().chain(found.keys()).collect();
        for name in names {
            let value = |facts: &Facts| facts.get(name).cloned().unwrap_or_default();
            let (old_value, new_value) = (value(&told), value(&found));
            // Of a platform that only one of them builds, the row of platforms says enough.
            if name.0 > PLATFORMS && (is_absent(&told, &name.1) || is_absent(&found, &name.1)) {
                continue;
            }
            let same = |row: &&mut Row| row.what == name.1 && row.old == old_value && row.new == new_value;
            match rows.iter_mut().find(same) {
                Some(row) => row.runs.push(scenario.name.clone()),
                None => rows.push(Row {
                    runs: vec![scenario.name.clone()],
                    what: name.1.clone(),
                    old: old_value,
                    new: new_value,
                    declared: None,
                }),
            }
        }
    }
    for row in rows.iter_mut().filter(|row| !row.is_same()) {
        let topic = row.what.split([' ', ',']).next().unwrap_or_default();
        let declared = new.text.lines().chain(settings.lines()).find_map(|line| {
            let (_, said) = line.split_once('#').filter(|(_, said)| said.contains("kiln:"))?;
            said.split_once(&format!("differs: {topic}:")).map(|(_, why)| why.trim().to_owned())
        });
        row.declared = declared;
    }
    Ok(Comparison { rows })
}

/// The place of the rows of platforms.
const PLATFORMS: usize = 2;

/// Whether a job of a run does not build the platform that a fact is about.
fn is_absent(facts: &Facts, what: &str) -> bool {
    let Some((job, platform)) = what.split_once(" of ").and_then(|(_, place)| place.split_once(", ")) else {
        return false;
    };
    let list = facts.get(&(PLATFORMS, format!("platforms of {job}")));
    !list.is_some_and(|list| list.split(' ').any(|name| name == platform))
}

/// Named facts of a run; the number is their place in the table.
type Facts = BTreeMap<(usize, String), String>;

fn facts(plan: &Plan) -> Facts {
    let mut facts = Facts::new();
    for (job, versions) in &plan.tests {
        let mut versions: Vec<&String> = versions.iter().collect();
        versions.sort_by_key(|version| version.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>());
        let list: Vec<&str> = versions.into_iter().map(String::as_str).collect();
        facts.insert((0, format!("python of {job}")), list.join(" "));
    }
    for (job, topics) in &plan.suites {
        facts.extend(topics.iter().map(|(topic, value)| ((0, format!("{topic} of {job}")), value.clone())));
    }
    for job in &plan.unknown {
        facts.insert((1, format!("matrix of {job}")), "known only to the run itself".to_owned());
    }
    let mut platforms: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for build in &plan.builds {
        if !build.platform.is_empty() {
            platforms.entry(&build.job).or_default().insert(&build.platform);
        }
        let place = format!("of {}, {}", build.job, build.platform);
        let mut add = |order: usize, topic: &str, value: String| {
            if !value.is_empty() {
                let name = format!("{topic} {}", place.trim_end_matches([',', ' ']));
                let slot = facts.entry((order, name)).or_default();
                // Several builds of a job and platform are one fact.
                if !slot.split(" | ").any(|known| known == value) {
                    slot.push_str(if slot.is_empty() { "" } else { " | " });
                    slot.push_str(&value);
                }
            }
        };
        add(3, "artifact", build.artifact.clone().unwrap_or_default());
        add(4, "flags", build.flags.iter().cloned().collect::<Vec<_>>().join(" "));
        add(5, "runner", build.runner.clone());
        about_how(build, &mut add);
        for (name, value) in &build.asked {
            add(8, name, value.lines().map(str::trim).collect::<Vec<_>>().join(" "));
        }
    }
    for (job, list) in platforms {
        facts.insert((PLATFORMS, format!("platforms of {job}")), list.into_iter().collect::<Vec<_>>().join(" "));
    }
    facts
}

fn about_how(build: &Build, add: &mut dyn FnMut(usize, &str, String)) {
    match &build.how {
        How::Dockerfile { context, file, target, args } => {
            let target = target.as_ref().map(|target| format!(", stage {target}")).unwrap_or_default();
            add(6, "dockerfile", format!("{file}{target} in {context}"));
            let args: Vec<String> = args.iter().map(|(name, value)| format!("{name}={value}")).collect();
            add(7, "args", args.join(" "));
        }
        How::Command(words) => add(6, "command", words.join(" ")),
        How::Program(_) | How::Settings => {}
    }
}
