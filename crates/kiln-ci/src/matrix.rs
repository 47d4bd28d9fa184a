//! What a run tests and builds: Python versions, platforms, and a runner for each platform.

use kiln_config::{Config, Section, Settings, Twin};
use kiln_graph::{Arch, Platform};
use serde::Serialize;

use crate::trigger::{Occasion, Trigger};

/// What a run tests and builds. As JSON it is a matrix of GitHub's as it stands (each version on each platform, with the
/// runner of the platform); `python` alone is the axis of a test job, and `include` alone the matrix of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Matrix {
    /// Versions of Python to test with.
    pub python: Vec<String>,
    /// Platforms to build for.
    pub platform: Vec<Platform>,
    /// A row for each platform.
    pub include: Vec<Row>,
}

/// A platform of a matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The platform.
    pub platform: Platform,
    /// Its name in artifacts: `x86_64`, `i686`, `arm64`.
    pub arch: &'static str,
    /// What `runs-on` takes.
    pub runner: Labels,
    /// How the platform's programs run there.
    pub way: Way,
    /// The name of the program, if one of kiln's recipes builds it.
    pub artifact: String,
}

/// The labels of a runner: one, or several that all must fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Labels {
    /// One.
    One(String),
    /// Several.
    All(Vec<String>),
}

impl Labels {
    fn new(mut labels: Vec<String>) -> Self {
        if labels.len() == 1 { Self::One(labels.remove(0)) } else { Self::All(labels) }
    }
}

/// How a platform's programs run on a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// By the processor.
    Native,
    /// By the programs of the runner's own platform, as far as they go.
    Twin,
    /// By an emulator.
    Qemu,
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Twin => "twin",
            Self::Qemu => "qemu",
        })
    }
}

/// A matrix, and in words why it is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The matrix.
    pub matrix: Matrix,
    /// One line for each choice: which rule made it, and where that is set.
    pub reasons: Vec<String>,
}

/// The name of the default branch, and where it is from.
pub fn default_branch(settings: &Settings, trigger: &Trigger) -> String {
    let set = settings.ci.default_branch.clone();
    set.or_else(|| trigger.default_branch.clone()).unwrap_or_else(|| "main".to_owned())
}

/// The matrix of a run.
pub fn matrix(config: &Config, trigger: &Trigger) -> Explained {
    let settings = config.resolved();
    let set = |name: &str| format!("ci.{name} ({})", config.provenance(Section::Ci, name, None));
    let mut reasons = Vec::new();

    let default = default_branch(&settings, trigger);
    let occasion = trigger.occasion(&default);
    let default_from = match (&settings.ci.default_branch, &trigger.default_branch) {
        (Some(_), _) => set("default-branch"),
        (None, Some(_)) => "as the CI system or git says".to_owned(),
        (None, None) => "the usual name".to_owned(),
    };
    reasons.push(format!("run: {occasion}: {}; the default branch is {default} ({default_from})", told(trigger)));

    let (python, name) = match occasion {
        Occasion::PullRequest => (&settings.ci.python_pull_request, "python-pull-request"),
        _ => (&settings.ci.python, "python"),
    };
    reasons.push(format!("python: {}: {}", python.join(", "), set(name)));

    let everything = if let Some(platforms) = &settings.ci.platforms {
        (platforms, set("platforms"))
    } else {
        let from = config.provenance(Section::Build, "platforms", None);
        (&settings.build.platforms, format!("build.platforms ({from})"))
    };
    let (platforms, from) = match (&settings.ci.development_platforms, occasion) {
        (Some(platforms), Occasion::PullRequest | Occasion::Branch) => (platforms, set("development-platforms")),
        _ => everything,
    };
    let names: Vec<String> = platforms.iter().map(Platform::to_string).collect();
    reasons.push(format!("platforms: {}: {from}", names.join(", ")));

    let mut include = Vec::new();
    for &platform in platforms {
        let own = config.for_platform(platform);
        let provenance = config.provenance(Section::Ci, "runner", Some(platform));
        let is_own = provenance != config.provenance(Section::Ci, "runner", None);
        let machine = machine(&own.runner).unwrap_or(if is_own { platform.arch } else { Arch::Amd64 });
        let way = match (platform.arch.may_run_on(machine), own.twin) {
            (true, _) => Way::Native,
            (false, Twin::Off) => Way::Qemu,
            (false, _) => Way::Twin,
        };
        let key = if is_own { format!("platform.\"{platform}\".ci.runner") } else { "ci.runner".to_owned() };
        let runner = own.runner.join(", ");
        reasons.push(format!("{platform}: {way} on {runner}: {key} ({provenance}){}", advice(way, config, platform)));
        include.push(Row {
            platform,
            arch: platform.arch.artifact_name(),
            runner: Labels::new(own.runner),
            way,
            artifact: own.artifact,
        });
    }
    let matrix = Matrix { python: python.clone(), platform: platforms.clone(), include };
    Explained { matrix, reasons }
}

/// What else could be done where the twin or an emulator is used.
fn advice(way: Way, config: &Config, platform: Platform) -> String {
    match way {
        Way::Twin if platform.arch == Arch::Arm64 => {
            format!("; a native runner is set with [platform.\"{platform}\".ci] runner = \"ubuntu-24.04-arm\"")
        }
        Way::Native | Way::Twin => String::new(),
        Way::Qemu => {
            format!("; emulation.twin is off ({})", config.provenance(Section::Emulation, "twin", Some(platform)))
        }
    }
}

/// The machine of a runner, where its labels tell: GitHub's own runners, and the labels that self-hosted ones get by
/// themselves.
fn machine(labels: &[String]) -> Option<Arch> {
    labels.iter().find_map(|label| {
        let label = label.to_ascii_lowercase();
        match label.as_str() {
            "x64" => return Some(Arch::Amd64),
            "arm64" => return Some(Arch::Arm64),
            "arm" => return Some(Arch::ArmV7),
            _ => {}
        }
        let hosted = label.strip_prefix("ubuntu-")?;
        Some(if hosted.ends_with("-arm") || hosted.contains("arm64") { Arch::Arm64 } else { Arch::Amd64 })
    })
}

fn told(trigger: &Trigger) -> String {
    let from = |from: &str| if from.is_empty() { String::new() } else { format!(" ({from})") };
    let mut said = Vec::new();
    if !trigger.event.is_empty() {
        said.push(format!("event {}{}", trigger.event, from(&trigger.event_from)));
    }
    if !trigger.reference.is_empty() {
        said.push(format!("{}{}", trigger.reference, from(&trigger.reference_from)));
    }
    if let Some(base) = &trigger.base {
        said.push(format!("into {base}"));
    }
    if said.is_empty() { "neither event nor branch are known".to_owned() } else { said.join(", ") }
}

#[cfg(test)]
mod tests {
    use kiln_config::{Layer, ProjectFacts};

    use super::*;

    fn explained(toml: &str, event: &str, reference: &str) -> Explained {
        let facts = ProjectFacts { folder_name: "tool".to_owned(), ..ProjectFacts::default() };
        let loaded = Config::load([Layer::file("kiln.toml", toml)], &facts).unwrap();
        assert_eq!(loaded.warnings, []);
        let variables = [("GITHUB_EVENT_NAME", event), ("GITHUB_REF", reference)];
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        matrix(&loaded.config, &Trigger::read(&crate::trigger::Given::default(), &variable, (None, None)).unwrap())
    }

    fn platforms(explained: &Explained) -> Vec<String> {
        explained.matrix.platform.iter().map(Platform::to_string).collect()
    }

    #[test]
    fn the_defaults_are_those_of_the_guide() {
        let request = explained("", "pull_request", "refs/pull/1/merge");
        assert_eq!(request.matrix.python, ["3.12"]);
        assert_eq!(platforms(&request), ["linux/amd64", "linux/386", "linux/arm64"]);
        let main = explained("", "push", "refs/heads/main");
        assert_eq!(main.matrix.python, ["3.11", "3.12", "3.13"]);
        insta::assert_snapshot!(serde_json::to_string_pretty(&main.matrix).unwrap());
    }

    #[test]
    fn development_branches_may_have_fewer_platforms() {
        let toml = "[ci]\ndevelopment-platforms = [\"linux/amd64\"]\n";
        for (event, reference, count) in [
            ("pull_request", "refs/pull/1/merge", 1),
            ("push", "refs/heads/topic", 1),
            ("push", "refs/heads/main", 3),
            ("push", "refs/tags/v1", 3),
        ] {
            assert_eq!(platforms(&explained(toml, event, reference)).len(), count, "{event} {reference}");
        }
        let trunk = format!("{toml}default-branch = \"trunk\"\n");
        assert_eq!(platforms(&explained(&trunk, "push", "refs/heads/main")).len(), 1);
        assert_eq!(platforms(&explained(&trunk, "push", "refs/heads/trunk")).len(), 3);
    }

    #[test]
    fn runners_tell_the_way() {
        let toml = "[build]\nplatforms = [\"linux/386\", \"linux/arm64\", \"linux/arm/v7\", \"linux/s390x\"]\n\
                    [platform.\"linux/arm64\".ci]\nrunner = \"ubuntu-24.04-arm\"\n\
                    [platform.\"linux/s390x\".ci]\nrunner = [\"self-hosted\", \"zbox\"]\n\
                    [platform.\"linux/arm/v7\"]\ntwin = \"off\"\n";
        let explained = explained(toml, "push", "refs/heads/main");
        let ways: Vec<Way> = explained.matrix.include.iter().map(|row| row.way).collect();
        assert_eq!(ways, [Way::Native, Way::Native, Way::Qemu, Way::Native]);
        insta::assert_snapshot!(explained.reasons.join("\n"));
    }
}
