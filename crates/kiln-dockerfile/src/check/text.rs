//! The checks that need nothing but the text.

use kiln_graph::Platform;

use super::{Rule, Warning, did_you_mean};
use crate::ast::{Command, Dockerfile, Stage};
use crate::expand::{Mode, Variables, expand};
use crate::lower::default_args;
use crate::{Span, Word};

/// All that is found, in no order.
pub(super) fn find(file: &Dockerfile) -> Vec<Warning> {
    let mut found = file.warnings.clone();
    let mut add = |rule, span, message| found.push(Warning::new(rule, span, message));
    check_casing(file, &mut add);
    check_from(file, &mut add);
    for stage in &file.stages {
        check_stage(stage, &mut add);
    }
    found
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
    // A stage that is named for its platform is meant to have it, whatever is built.
    let name = stage.name.as_ref().map(|name| name.value.to_lowercase()).unwrap_or_default();
    if !expanded.text.split('/').take(2).any(|part| !part.is_empty() && name.contains(part)) {
        let message = format!("`--platform` should not be the constant `{}`", expanded.text);
        add(Rule::FromPlatformFlagConstDisallowed, word.span, message);
    }
}

fn check_stage(stage: &Stage, add: &mut impl FnMut(Rule, Span, String)) {
    let mut last: [Option<Span>; 3] = [None; 3];
    for instruction in &stage.instructions {
        let (index, keyword) = match &instruction.command {
            Command::Cmd(_) => (0, "CMD"),
            Command::Entrypoint(_) => (1, "ENTRYPOINT"),
            Command::Healthcheck(_) => (2, "HEALTHCHECK"),
            Command::Maintainer(_) => {
                let message = "`MAINTAINER` is deprecated; use `LABEL org.opencontainers.image.authors`".into();
                add(Rule::MaintainerDeprecated, instruction.span, message);
                continue;
            }
            _ => continue,
        };
        if let Some(earlier) = last[index].replace(instruction.span) {
            let message = format!("only the last `{keyword}` of a stage counts");
            add(Rule::MultipleInstructionsDisallowed, earlier, message);
        }
    }
}
