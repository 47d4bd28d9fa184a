//! The rules: names, and what each asks for.

use std::fmt;

use serde::Serialize;

/// What a warning is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[allow(missing_docs, reason = "the names are BuildKit's, and `description` says what each means")]
#[non_exhaustive]
pub enum Rule {
    ConsistentInstructionCasing,
    CopyIgnoredFile,
    DuplicateStageName,
    ExposeInvalidFormat,
    ExposeProtoCasing,
    FromAsCasing,
    FromPlatformFlagConstDisallowed,
    InvalidDefaultArgInFrom,
    InvalidDefinitionDescription,
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
    /// Every rule, by name.
    pub const ALL: [Self; 22] = [
        Self::ConsistentInstructionCasing,
        Self::CopyIgnoredFile,
        Self::DuplicateStageName,
        Self::ExposeInvalidFormat,
        Self::ExposeProtoCasing,
        Self::FromAsCasing,
        Self::FromPlatformFlagConstDisallowed,
        Self::InvalidDefaultArgInFrom,
        Self::InvalidDefinitionDescription,
        Self::JsonArgsRecommended,
        Self::LegacyKeyValueFormat,
        Self::MaintainerDeprecated,
        Self::MultipleInstructionsDisallowed,
        Self::NoEmptyContinuation,
        Self::RedundantTargetPlatform,
        Self::ReservedStageName,
        Self::SecretsUsedInArgOrEnv,
        Self::StageNameCasing,
        Self::UndeclaredBuildArg,
        Self::UndefinedArgInFrom,
        Self::UndefinedVar,
        Self::WorkdirRelativePath,
    ];

    /// The name, as in `# check=skip=NAME`.
    pub fn name(self) -> &'static str {
        self.about().0
    }

    /// What the rule asks for, as a lowercase clause.
    pub fn description(self) -> &'static str {
        self.about().2
    }

    /// The page that explains the rule; none for kiln's own.
    pub fn url(self) -> Option<String> {
        let page = self.about().1;
        (!page.is_empty()).then(|| format!("https://docs.docker.com/go/dockerfile/rule/{page}/"))
    }

    /// Whether the rule is silent unless `# check=experimental=` names it.
    pub fn is_experimental(self) -> bool {
        matches!(self, Self::CopyIgnoredFile | Self::InvalidDefinitionDescription)
    }

    /// Name, page, description.
    fn about(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::ConsistentInstructionCasing => (
                "ConsistentInstructionCasing",
                "consistent-instruction-casing",
                "instructions of a file are all in upper or all in lower case",
            ),
            Self::CopyIgnoredFile => {
                ("CopyIgnoredFile", "copy-ignored-file", "what is copied is not left out by `.dockerignore`")
            }
            Self::DuplicateStageName => {
                ("DuplicateStageName", "duplicate-stage-name", "each stage has a name of its own")
            }
            Self::ExposeInvalidFormat => (
                "ExposeInvalidFormat",
                "expose-invalid-format",
                "`EXPOSE` names ports of the container, without addresses and ports of the host",
            ),
            Self::ExposeProtoCasing => {
                ("ExposeProtoCasing", "expose-proto-casing", "protocols in `EXPOSE` are in lower case")
            }
            Self::FromAsCasing => ("FromAsCasing", "from-as-casing", "`AS` is in the case of its `FROM`"),
            Self::FromPlatformFlagConstDisallowed => (
                "FromPlatformFlagConstDisallowed",
                "from-platform-flag-const-disallowed",
                "`FROM --platform` is no constant",
            ),
            Self::InvalidDefaultArgInFrom => (
                "InvalidDefaultArgInFrom",
                "invalid-default-arg-in-from",
                "`FROM` names an image when no build argument is given",
            ),
            Self::InvalidDefinitionDescription => (
                "InvalidDefinitionDescription",
                "invalid-definition-description",
                "a comment above `ARG` or `FROM` starts with the name that it describes",
            ),
            Self::JsonArgsRecommended => (
                "JSONArgsRecommended",
                "json-args-recommended",
                "`CMD` and `ENTRYPOINT` are JSON arrays, so that signals reach the program",
            ),
            Self::LegacyKeyValueFormat => (
                "LegacyKeyValueFormat",
                "legacy-key-value-format",
                "`ENV` and `LABEL` have an equals sign between name and value",
            ),
            Self::MaintainerDeprecated => {
                ("MaintainerDeprecated", "maintainer-deprecated", "the author is a label, not a `MAINTAINER`")
            }
            Self::MultipleInstructionsDisallowed => (
                "MultipleInstructionsDisallowed",
                "multiple-instructions-disallowed",
                "`CMD`, `ENTRYPOINT` and `HEALTHCHECK` stand once in a stage",
            ),
            Self::NoEmptyContinuation => {
                ("NoEmptyContinuation", "no-empty-continuation", "no blank line stands inside an instruction")
            }
            Self::RedundantTargetPlatform => (
                "RedundantTargetPlatform",
                "redundant-target-platform",
                "`FROM` does not ask for the platform that it has anyway",
            ),
            Self::ReservedStageName => {
                ("ReservedStageName", "reserved-stage-name", "no stage is called `scratch` or `context`")
            }
            Self::SecretsUsedInArgOrEnv => (
                "SecretsUsedInArgOrEnv",
                "secrets-used-in-arg-or-env",
                "secrets are no `ARG` or `ENV`, which stay in the image",
            ),
            Self::StageNameCasing => ("StageNameCasing", "stage-name-casing", "names of stages are in lower case"),
            Self::UndeclaredBuildArg => {
                ("UndeclaredBuildArg", "", "every build argument that is given is declared by an `ARG`")
            }
            Self::UndefinedArgInFrom => (
                "UndefinedArgInFrom",
                "undefined-arg-in-from",
                "`FROM` uses arguments that an `ARG` before it declares",
            ),
            Self::UndefinedVar => ("UndefinedVar", "undefined-var", "variables are set before they are used"),
            Self::WorkdirRelativePath => {
                ("WorkdirRelativePath", "workdir-relative-path", "the first `WORKDIR` of a stage is absolute")
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
