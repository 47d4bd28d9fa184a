//! Build checks, with BuildKit's rule names.
//!
//! [`Dockerfile::check`] finds what the text alone shows. What needs values, such as variables that are not set, is
//! found while lowering. `# check=skip=...` silences rules in both.

use std::fmt;

use kiln_graph::Platform;
use serde::Serialize;

use crate::ast::{Command, CommandLine, Dockerfile, Instruction, Stage};
use crate::expand::{Mode, Variables, expand};
use crate::lower::default_args;
use crate::suggest::nearest;
use crate::{Span, Word};

/// What a warning is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[allow(missing_docs, reason = "the names are BuildKit's, and `description` says what each means")]
#[non_exhaustive]
pub enum Rule {
    ConsistentInstructionCasing,
    DuplicateStageName,
    ExposeInvalidFormat,
    ExposeProtoCasing,
    FromAsCasing,
    FromPlatformFlagConstDisallowed,
    InvalidDefaultArgInFrom,
    #[serde(rename = "JSONArgsRecommended")]
    JsonArgsRecommended,
    LegacyKeyValueFormat,
    MaintainerDeprecated,
    MultipleInstructionsDisallowed,
    NoEmptyContinuation,
    RedundantTargetPlatform,
    ReservedStageName,
    SecretsUsedInArgOrEnv,
    StageNameCasing,
    /// kiln's own: a build argument that no `ARG` declares.
    UndeclaredBuildArg,
    UndefinedArgInFrom,
    UndefinedVar,
    WorkdirRelativePath,
}

impl Rule {
    /// The name, as in `# check=skip=NAME`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConsistentInstructionCasing => "ConsistentInstructionCasing",
            Self::DuplicateStageName => "DuplicateStageName",
            Self::ExposeInvalidFormat => "ExposeInvalidFormat",
            Self::ExposeProtoCasing => "ExposeProtoCasing",
            Self::FromAsCasing => "FromAsCasing",
            Self::FromPlatformFlagConstDisallowed => "FromPlatformFlagConstDisallowed",
            Self::InvalidDefaultArgInFrom => "InvalidDefaultArgInFrom",
            Self::JsonArgsRecommended => "JSONArgsRecommended",
            Self::LegacyKeyValueFormat => "LegacyKeyValueFormat",
            Self::MaintainerDeprecated => "MaintainerDeprecated",
            Self::MultipleInstructionsDisallowed => "MultipleInstructionsDisallowed",
            Self::NoEmptyContinuation => "NoEmptyContinuation",
            Self::RedundantTargetPlatform => "RedundantTargetPlatform",
            Self::ReservedStageName => "ReservedStageName",
            Self::SecretsUsedInArgOrEnv => "SecretsUsedInArgOrEnv",
            Self::StageNameCasing => "StageNameCasing",
            Self::UndeclaredBuildArg => "UndeclaredBuildArg",
            Self::UndefinedArgInFrom => "UndefinedArgInFrom",
            Self::UndefinedVar => "UndefinedVar",
            Self::WorkdirRelativePath => "WorkdirRelativePath",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that works, but should not stay as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The rule it breaks.
    pub rule: Rule,
    /// Where; `None` if it is not about the file.
    pub span: Option<Span>,
    /// What, as a lowercase fragment.
    pub message: String,
}

impl Warning {
    pub(crate) fn new(rule: Rule, span: Span, message: String) -> Self {
        Self { rule, span: Some(span), message }
    }
}

/// `# check=`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckConfig {
    /// Rules that are silent; `all` silences every one.
    pub skip: Vec<String>,
    /// Whether warnings fail the build.
    pub error: bool,
}

impl CheckConfig {
    /// Whether warnings of a rule are wanted.
    pub fn wants(&self, rule: Rule) -> bool {
        !self.skip.iter().any(|name| name.eq_ignore_ascii_case("all") || name.eq_ignore_ascii_case(rule.name()))
    }
}

impl Dockerfile {
    /// The configuration in the file's `# check=` directive: `skip=A,B;error=true`.
    pub fn check_config(&self) -> CheckConfig {
        let mut config = CheckConfig::default();
        for setting in self.directives.check.as_deref().unwrap_or_default().split(';') {
            match setting.trim().split_once('=') {
                Some(("skip", rules)) => config.skip = rules.split(',').map(|rule| rule.trim().to_owned()).collect(),
                Some(("error", value)) => config.error = value.trim().eq_ignore_ascii_case("true"),
                _ => {}
            }
        }
        config
    }

    /// Everything that the text alone shows, in the order of the file. Values of build arguments do not matter;
    /// defaults do.
    pub fn check(&self) -> Vec<Warning> {
        let mut found = self.warnings.clone();
        let mut add = |rule, span, message| found.push(Warning::new(rule, span, message));
        check_casing(self, &mut add);
        check_from(self, &mut add);
        let mut has_workdir: Vec<(String, bool)> = Vec::new();
        for (index, stage) in self.stages.iter().enumerate() {
            let base = stage.base.value.to_lowercase();
            let inherited = has_workdir.iter().rev().find(|(name, _)| *name == base).is_some_and(|(_, has)| *has);
            let has = check_stage(stage, inherited, &mut add);
            has_workdir.push((stage.label(index), has));
        }
        for instruction in &self.global_args {
            check_secrets(instruction, &mut add);
        }
        let config = self.check_config();
        found.retain(|warning| config.wants(warning.rule));
        found.sort_by_key(|warning| warning.span);
        found
    }
}

fn check_casing(file: &Dockerfile, add: &mut impl FnMut(Rule, Span, String)) {
    let keywords = || {
        file.stages.iter().flat_map(|stage| {
            let own = std::iter::once((stage.keyword.as_str(), stage.span));
            own.chain(stage.instructions.iter().map(|i| (i.keyword.as_str(), i.span)))
        })
    };
    let lower = keywords().filter(|(keyword, _)| *keyword == keyword.to_lowercase()).count();
    let upper = keywords().filter(|(keyword, _)| *keyword == keyword.to_uppercase()).count();
    let majority_is_lower = lower > upper;
    for (keyword, span) in keywords() {
        let (right, case) = if majority_is_lower {
            (keyword.to_lowercase(), "lowercase")
        } else {
            (keyword.to_uppercase(), "uppercase")
        };
        if right != keyword {
            let message = format!("`{keyword}` should be {case}, as most instructions here are");
            add(Rule::ConsistentInstructionCasing, span, message);
        }
    }
}

fn check_from(file: &Dockerfile, add: &mut impl FnMut(Rule, Span, String)) {
    // The values do not matter here, only that they are set; any platform will do.
    let platform = Platform::linux(kiln_graph::Arch::Amd64);
    let mut args = default_args(platform, platform, "default");
    let mut declared: Vec<String> = args.iter().map(|(name, _)| name.clone()).collect();
    for instruction in &file.global_args {
        let Command::Arg(arguments) = &instruction.command else { continue };
        for argument in arguments {
            declared.push(argument.name.value.clone());
            let mode = Mode::word(file.directives.escape());
            let default = argument.default.as_ref().and_then(|default| expand(&default.value, mode, &args).ok());
            args.extend(default.map(|value| (argument.name.value.clone(), value.text)));
        }
    }
    let mut names: Vec<String> = Vec::new();
    for stage in &file.stages {
        if let Some(name) = &stage.name {
            let lower = name.value.to_lowercase();
            if lower != name.value {
                add(Rule::StageNameCasing, name.span, format!("stage name `{}` should be lowercase", name.value));
            }
            if matches!(lower.as_str(), "scratch" | "context") {
                add(Rule::ReservedStageName, name.span, format!("`{lower}` is reserved and should not name a stage"));
            }
            if names.contains(&lower) {
                add(Rule::DuplicateStageName, name.span, format!("stage name `{lower}` is used more than once"));
            }
            names.push(lower);
        }
        if let Some(keyword) = &stage.as_keyword {
            let upper = |text: &str| text == text.to_uppercase();
            let lower = |text: &str| text == text.to_lowercase();
            if upper(&stage.keyword) && !upper(keyword) || lower(&stage.keyword) && !lower(keyword) {
                let message = format!("`{keyword}` and `{}` should have the same case", stage.keyword);
                add(Rule::FromAsCasing, stage.span, message);
            }
        }
        let mode = Mode::word(file.directives.escape());
        for word in std::iter::once(&stage.base).chain(&stage.platform) {
            let Ok(expanded) = expand(&word.value, mode, &args) else { continue };
            for name in expanded.unmatched.iter().filter(|name| !declared.contains(name)) {
                let message = format!("`FROM` uses `{name}`, which no `ARG` before it declares");
                add(Rule::UndefinedArgInFrom, word.span, did_you_mean(message, name, &declared));
            }
        }
        if let Ok(base) = expand(&stage.base.value, mode, &args)
            && (base.text.is_empty() || base.text.ends_with([':', '/', '@']) || base.text.starts_with([':', '/']))
        {
            let message = format!("without build arguments, `{}` is no valid base image", stage.base.value);
            add(Rule::InvalidDefaultArgInFrom, stage.base.span, message);
        }
        if let Some(word) = &stage.platform {
            check_platform(stage, word, &args, mode, add);
        }
    }
}

fn check_platform(
    stage: &Stage,
    word: &Word,
    args: &[(String, String)],
    mode: Mode,
    add: &mut impl FnMut(Rule, Span, String),
) {
    let Ok(expanded) = expand(&word.value, mode, args) else { return };
    let only_target = expanded.matched.len() == 1 && expanded.matched.contains("TARGETPLATFORM");
    if only_target && expanded.unmatched.is_empty() && args.value("TARGETPLATFORM") == Some(&expanded.text) {
        let message = format!("`--platform={}` is the default and may be left out", word.value);
        add(Rule::RedundantTargetPlatform, word.span, message);
    }
    if !expanded.matched.is_empty() || !expanded.unmatched.is_empty() {
        return;
    }
    let Ok(platform) = expanded.text.parse::<Platform>() else { return };
    let name = stage.name.as_ref().map(|name| name.value.to_lowercase()).unwrap_or_default();
    if !name.contains(platform.os()) && !name.contains(platform.arch.oci().0) {
        let message = format!("`--platform` should not be the constant `{}`", expanded.text);
        add(Rule::FromPlatformFlagConstDisallowed, word.span, message);
    }
}

/// Checks the instructions of a stage; says whether it has a working folder of its own.
fn check_stage(stage: &Stage, inherited_workdir: bool, add: &mut impl FnMut(Rule, Span, String)) -> bool {
    let mut has_workdir = inherited_workdir;
    let mut has_shell = false;
    let mut last: [Option<Span>; 3] = [None; 3];
    for instruction in &stage.instructions {
        let span = instruction.span;
        let mut once = |index: usize, keyword: &str| {
            if let Some(earlier) = last[index].replace(span) {
                let message = format!("only the last `{keyword}` of a stage counts");
                add(Rule::MultipleInstructionsDisallowed, earlier, message);
            }
        };
        match &instruction.command {
            Command::Cmd(line) => {
                once(0, "CMD");
                check_form("CMD", line, has_shell, span, add);
            }
            Command::Entrypoint(line) => {
                once(1, "ENTRYPOINT");
                check_form("ENTRYPOINT", line, has_shell, span, add);
            }
            Command::Healthcheck(_) => once(2, "HEALTHCHECK"),
            Command::Shell(_) => has_shell = true,
            Command::Maintainer(_) => {
                let message = "`MAINTAINER` is deprecated; use `LABEL org.opencontainers.image.authors`".into();
                add(Rule::MaintainerDeprecated, span, message);
            }
            Command::Workdir(path) => {
                if !has_workdir && !path.value.trim_start_matches(['"', '\'']).starts_with(['/', '$']) {
                    let message = format!("relative folder `{}` depends on the base image", path.value);
                    add(Rule::WorkdirRelativePath, path.span, message);
                }
                has_workdir = true;
            }
            Command::Env(pairs) | Command::Label(pairs) => {
                for pair in pairs.iter().filter(|pair| pair.legacy) {
                    let keyword = instruction.keyword.to_uppercase();
                    let message =
                        format!("write `{keyword} {}=...`, not `{keyword} {} ...`", pair.name.value, pair.name.value);
                    add(Rule::LegacyKeyValueFormat, span, message);
                }
            }
            Command::Expose(ports) => {
                for port in ports.iter().filter(|port| !port.value.contains('$')) {
                    if port.value.contains(':') {
                        let message = format!("`{}`: only container ports can be exposed", port.value);
                        add(Rule::ExposeInvalidFormat, port.span, message);
                    }
                    if port.value != port.value.to_lowercase() {
                        let message = format!("the protocol in `{}` should be lowercase", port.value);
                        add(Rule::ExposeProtoCasing, port.span, message);
                    }
                }
            }
            _ => {}
        }
        check_secrets(instruction, add);
    }
    has_workdir
}

fn check_form(
    keyword: &str,
    line: &CommandLine,
    has_shell: bool,
    span: Span,
    add: &mut impl FnMut(Rule, Span, String),
) {
    if matches!(line, CommandLine::Shell(_)) && !has_shell {
        let message = format!("`{keyword}` should be a JSON array, so that signals reach the program and not a shell");
        add(Rule::JsonArgsRecommended, span, message);
    }
}

fn check_secrets(instruction: &Instruction, add: &mut impl FnMut(Rule, Span, String)) {
    let (keyword, names): (_, Vec<&Word>) = match &instruction.command {
        Command::Env(pairs) => ("ENV", pairs.iter().map(|pair| &pair.name).collect()),
        Command::Arg(arguments) => ("ARG", arguments.iter().map(|argument| &argument.name).collect()),
        _ => return,
    };
    for name in names.into_iter().filter(|name| names_a_secret(&name.value)) {
        let message = format!("do not put secrets into `{keyword} {}`; use `RUN --mount=type=secret`", name.value);
        add(Rule::SecretsUsedInArgOrEnv, name.span, message);
    }
}

/// Whether a word of the name, between underscores, is one that secrets have.
fn names_a_secret(name: &str) -> bool {
    const SECRET: [&str; 10] =
        ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
    const HARMLESS: [&str; 3] = ["public", "file", "version"];
    let name = name.to_lowercase();
    let has = |words: &[&str]| name.split('_').any(|word| words.contains(&word));
    has(&SECRET) && !has(&HARMLESS)
}

/// Adds a suggestion to a message about an unknown variable.
pub(crate) fn did_you_mean(message: String, name: &str, known: &[String]) -> String {
    match nearest(name, known.iter().map(String::as_str)) {
        Some(suggestion) => format!("{message} (did you mean `{suggestion}`?)"),
        None => message,
    }
}

#[cfg(test)]
mod tests;
