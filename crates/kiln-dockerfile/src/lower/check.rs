//! Checks of what instructions came to: the values are known here, and what the base image set.

use super::copy::relative;
use super::stage::Lowering;
use crate::ast::{Command, CommandLine, Instruction};
use crate::check::Rule;
use crate::{Span, Word};

impl Lowering<'_, '_> {
    /// How an instruction is written: the form of commands and of pairs.
    pub(super) fn check_form(&mut self, instruction: &Instruction) {
        match &instruction.command {
            Command::Cmd(CommandLine::Shell(_)) | Command::Entrypoint(CommandLine::Shell(_)) if !self.has_shell() => {
                let keyword = instruction.keyword.to_uppercase();
                let message =
                    format!("`{keyword}` should be a JSON array, so that signals reach the program and not a shell");
                self.warn(Rule::JsonArgsRecommended, instruction.span, message);
            }
            Command::Env(pairs) | Command::Label(pairs) => {
                let keyword = instruction.keyword.to_uppercase();
                for pair in pairs.iter().filter(|pair| pair.legacy) {
                    let name = &pair.name.value;
                    let message = format!("write `{keyword} {name}=...`, not `{keyword} {name} ...`");
                    self.warn(Rule::LegacyKeyValueFormat, instruction.span, message);
                }
            }
            _ => {}
        }
    }

    /// The first `WORKDIR` of a stage, variables expanded.
    pub(super) fn check_workdir(&mut self, path: &str, span: Span) {
        if !path.starts_with('/') {
            let message = format!("relative folder `{path}` depends on the base image");
            self.warn(Rule::WorkdirRelativePath, span, message);
        }
    }

    /// A name that `ARG` or `ENV` sets.
    pub(super) fn check_secret(&mut self, keyword: &str, name: &str, span: Span) {
        if names_a_secret(name) {
            let message = format!("do not put secrets into `{keyword} {name}`; use `RUN --mount=type=secret`");
            self.warn(Rule::SecretsUsedInArgOrEnv, span, message);
        }
    }

    /// A port of `EXPOSE`, variables expanded.
    pub(super) fn check_port(&mut self, port: &str, span: Span) {
        let (numbers, protocol) = port.split_once('/').unwrap_or((port, ""));
        if numbers.contains(':') {
            let message = format!("`{port}`: only container ports can be exposed");
            self.warn(Rule::ExposeInvalidFormat, span, message);
        }
        if protocol != protocol.to_lowercase() {
            let message = format!("the protocol in `{port}` should be lowercase");
            self.warn(Rule::ExposeProtoCasing, span, message);
        }
    }

    /// A source in the build context, variables expanded.
    pub(super) fn check_source(&mut self, keyword: &str, source: &str, word: &Word) {
        let Some(ignore) = &self.plan.options.ignore else { return };
        let path = relative(source, false);
        if let Some(line) = ignore.line_that_excludes(&path).filter(|_| path != ".") {
            let message = format!("`{keyword}` of `{source}`, which line {line} of .dockerignore leaves out");
            self.warn(Rule::CopyIgnoredFile, word.span, message);
        }
    }

    fn has_shell(&mut self) -> bool {
        self.config().shell.as_ref().is_some_and(|shell| !shell.is_empty())
    }
}

/// Whether a word of the name, between underscores, is one that secrets have, and none is `public`.
fn names_a_secret(name: &str) -> bool {
    const SECRET: [&str; 10] =
        ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
    let name = name.to_lowercase();
    let has = |words: &[&str]| name.split('_').any(|word| words.contains(&word));
    has(&SECRET) && !has(&["public"])
}
