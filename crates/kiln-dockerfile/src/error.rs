//! What can be wrong with a Dockerfile, where, and what to do about it.

use std::fmt;

use kiln_graph::{PlatformError, RemoteError};

use crate::{BaseImage, ExpandError, Span};

/// A mistake in a Dockerfile, or in what was asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The file, as the user named it.
    pub file: String,
    /// The offending text; `None` if the mistake is not in the file (an unknown target, for instance).
    pub span: Option<Span>,
    /// What is wrong.
    pub kind: Box<ErrorKind>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, span: Span) -> Self {
        Self { file: String::new(), span: Some(span), kind: Box::new(kind) }
    }

    /// A mistake that is not in the file.
    pub(crate) fn nowhere(kind: ErrorKind) -> Self {
        Self { file: String::new(), span: None, kind: Box::new(kind) }
    }

    pub(crate) fn in_file(mut self, file: &str) -> Self {
        if self.file.is_empty() {
            file.clone_into(&mut self.file);
        }
        self
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        self.kind.hint()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.kind)
    }
}

/// The kinds of mistakes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No instructions at all.
    #[error("no instructions in the file")]
    Empty,
    /// Bytes that are no text, outside of a comment.
    #[error("byte 0x{byte:02x} is no UTF-8")]
    NotUtf8 {
        /// The first of them.
        byte: u8,
    },
    /// A character that no program can be given.
    #[error("NUL character in an instruction")]
    Nul,
    /// Something other than `ARG` comes first.
    #[error("`{instruction}` before the first `FROM`")]
    BeforeFrom {
        /// The keyword.
        instruction: String,
    },
    /// Only `ARG`s.
    #[error("no `FROM` in the file")]
    NoStage,
    /// Not a Dockerfile keyword.
    #[error("unknown instruction `{keyword}`")]
    UnknownInstruction {
        /// As written.
        keyword: String,
        /// The keyword that was probably meant.
        suggestion: Option<String>,
    },
    /// Not a flag of this instruction.
    #[error("unknown flag `--{flag}` of `{instruction}`")]
    UnknownFlag {
        /// The keyword.
        instruction: String,
        /// Name of the flag.
        flag: String,
        /// The flags it has.
        allowed: Vec<&'static str>,
        /// The flag that was probably meant.
        suggestion: Option<String>,
    },
    /// A flag that may be given once.
    #[error("flag `--{flag}` given twice")]
    DuplicateFlag {
        /// Name of the flag.
        flag: String,
    },
    /// A flag without its value.
    #[error("flag `--{flag}` needs a value")]
    FlagNeedsValue {
        /// Name of the flag.
        flag: String,
    },
    /// A value outside of what is allowed.
    #[error("invalid value `{value}` for {what}")]
    InvalidValue {
        /// What it was given for.
        what: String,
        /// The value.
        value: String,
        /// What is allowed, as a phrase or a list.
        expected: String,
    },
    /// Too few or too many arguments.
    #[error("`{instruction}` takes {expected}")]
    Arguments {
        /// The keyword.
        instruction: String,
        /// How many, in words.
        expected: &'static str,
    },
    /// A word that should have been a pair.
    #[error("`{word}` is not of the form name=value")]
    NotKeyValue {
        /// The word.
        word: String,
    },
    /// A pair without a name.
    #[error("`{instruction}` with a blank name")]
    BlankName {
        /// The keyword.
        instruction: String,
    },
    /// The shell form where only the exec form is allowed.
    #[error("`{instruction}` takes a JSON array of strings")]
    NotJson {
        /// The keyword.
        instruction: String,
    },
    /// Numbers, objects, ... in an exec form.
    #[error("a JSON array of arguments may hold strings only")]
    JsonNotStrings,
    /// No line with the word that ends a here-document.
    #[error("here-document `{name}` does not end")]
    UnterminatedHeredoc {
        /// The word that ends it.
        name: String,
    },
    /// A here-document as the last argument of a copy.
    #[error("a here-document cannot be a destination")]
    HeredocDestination,
    /// A second `# escape=`, `# syntax=` or `# check=`.
    #[error("parser directive `{name}` given twice")]
    DuplicateDirective {
        /// Name of the directive.
        name: String,
    },
    /// A name that a stage cannot have.
    #[error("invalid stage name `{name}`")]
    StageName {
        /// The name.
        name: String,
    },
    /// An instruction that cannot be a trigger.
    #[error("`{instruction}` is not allowed as an `ONBUILD` trigger")]
    OnBuildNotAllowed {
        /// Its keyword.
        instruction: String,
    },
    /// Not an option of a mount.
    #[error("unknown mount option `{option}`")]
    UnknownMountOption {
        /// As written.
        option: String,
        /// The option that was probably meant.
        suggestion: Option<String>,
    },
    /// Not a type of mount.
    #[error("unknown mount type `{given}`")]
    UnknownMountType {
        /// As written.
        given: String,
        /// The type that was probably meant.
        suggestion: Option<String>,
    },
    /// An option that this type of mount does not have.
    #[error("mount option `{option}` does not go with type `{kind}`")]
    MountOptionNotAllowed {
        /// The option.
        option: &'static str,
        /// The mount type.
        kind: &'static str,
    },
    /// A secret that cannot be named.
    #[error("a secret mount needs `id`, `source` or `target`, and only one of `id` and `source`")]
    SecretName,
    /// A mount that would hide the root.
    #[error("invalid mount target `{target}`")]
    MountTarget {
        /// The target.
        target: String,
    },
    /// `--from` and `from=` are not expanded.
    #[error("variables are not expanded in `from`: `{value}`")]
    VariableInFrom {
        /// As written.
        value: String,
    },
    /// The expansion of variables failed.
    #[error("cannot expand `{word}`")]
    Expand {
        /// As written.
        word: String,
        /// Why.
        #[source]
        source: ExpandError,
    },
    /// `FROM` nothing.
    #[error("`{word}` expands to nothing")]
    Blank {
        /// As written.
        word: String,
    },
    /// `FROM --platform` with something that is no platform.
    #[error("invalid platform `{value}`")]
    Platform {
        /// The value after expansion.
        value: String,
        /// Why.
        #[source]
        source: PlatformError,
    },
    /// The target is not in the file.
    #[error("no stage `{target}` in the file")]
    UnknownTarget {
        /// As asked for.
        target: String,
        /// The stages there are.
        stages: Vec<String>,
        /// The stage that was probably meant.
        suggestion: Option<String>,
    },
    /// A stage index that is too large.
    #[error("no stage with index {index} before this one")]
    UnknownStageIndex {
        /// The index.
        index: usize,
    },
    /// A stage that needs itself or a later one.
    #[error("stage `{stage}` is not defined before it is used")]
    StageOrder {
        /// The stage that is needed.
        stage: String,
    },
    /// The caller did not resolve an image.
    #[error("image `{}` was not resolved for {}", image.reference, image.platform)]
    ImageNotResolved {
        /// The image.
        image: BaseImage,
    },
    /// Several sources to one file.
    #[error("several sources need a folder as destination, not `{dest}`")]
    DestinationNotFolder {
        /// The destination after expansion.
        dest: String,
    },
    /// `COPY` from the network.
    #[error("`COPY` does not read from the network: `{source_text}`")]
    RemoteCopy {
        /// The source.
        source_text: String,
    },
    /// `--checksum` without a remote source.
    #[error("`--checksum` needs exactly one remote source")]
    ChecksumWithoutRemote,
    /// A wildcard that is malformed.
    #[error("invalid pattern `{pattern}`")]
    Pattern {
        /// The source after expansion.
        pattern: String,
    },
    /// A git repository that is named in a way that makes no sense.
    #[error("`{text}` does not name a git repository")]
    Remote {
        /// The source as written.
        text: String,
        /// Why.
        #[source]
        source: RemoteError,
    },
    /// A trigger in a base image that cannot be read.
    #[error("`ONBUILD {trigger}` of the base image is invalid")]
    Trigger {
        /// The instruction.
        trigger: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
}

impl ErrorKind {
    fn hint(&self) -> Option<String> {
        let did_you_mean =
            |suggestion: &Option<String>| suggestion.as_ref().map(|name| format!("did you mean `{name}`?"));
        match self {
            Self::Empty | Self::NoStage => Some("a Dockerfile needs at least one `FROM`".into()),
            Self::NotUtf8 { .. } => Some("save the file as UTF-8".into()),
            Self::Nul => Some("is the file saved as UTF-16? save it as UTF-8".into()),
            Self::BeforeFrom { .. } => Some("only `ARG` may stand before the first `FROM`".into()),
            Self::UnknownInstruction { suggestion, .. } => did_you_mean(suggestion)
                .or_else(|| Some(format!("instructions are {}", crate::ast::KEYWORDS.join(", ")))),
            Self::UnknownFlag { allowed, suggestion, instruction, .. } => {
                suggestion.as_ref().map(|name| format!("did you mean `--{name}`?")).or_else(|| {
                    Some(if allowed.is_empty() {
                        format!("`{instruction}` has no flags")
                    } else {
                        format!("`{instruction}` has --{}", allowed.join(", --"))
                    })
                })
            }
            Self::FlagNeedsValue { flag } => Some(format!("write `--{flag}=VALUE`")),
            Self::InvalidValue { expected, .. } => Some(format!("expected {expected}")),
            Self::NotKeyValue { .. } => Some("quote values that contain spaces: name=\"a b\"".into()),
            Self::NotJson { instruction } => Some(format!("write `{instruction} [\"/bin/sh\", \"-c\"]`")),
            Self::UnterminatedHeredoc { name } => Some(format!("end it with a line that holds only `{name}`")),
            Self::StageName { .. } => {
                Some("a stage name starts with a letter and holds letters, digits, `-`, `_` and `.`".into())
            }
            Self::UnknownMountOption { suggestion, .. } => did_you_mean(suggestion)
                .or_else(|| Some(format!("mount options are {}", crate::ast::MOUNT_OPTIONS.join(", ")))),
            Self::UnknownMountType { suggestion, .. } => did_you_mean(suggestion)
                .or_else(|| Some(format!("mount types are {}", crate::ast::MOUNT_TYPES.join(", ")))),
            Self::VariableInFrom { .. } => {
                Some("define a stage with `FROM ... AS name`, which may use global ARGs, and name it here".into())
            }
            Self::Expand { source, .. } => source.hint(),
            Self::Blank { .. } => Some("pass the build argument, or give the `ARG` before `FROM` a default".into()),
            Self::Platform { source, .. } => Some(source.hint()),
            Self::UnknownTarget { stages, suggestion, .. } => {
                let known = format!("stages are {}", stages.join(", "));
                Some(did_you_mean(suggestion).map_or(known.clone(), |question| format!("{question} {known}")))
            }
            Self::StageOrder { .. } => Some("move that stage above this one".into()),
            Self::DestinationNotFolder { dest } => Some(format!("end the destination with a slash: `{dest}/`")),
            Self::RemoteCopy { .. } => Some("use `ADD`".into()),
            Self::Remote { source, .. } => Some(source.hint()),
            Self::Pattern { .. } => Some("put a backslash before a bracket that is meant literally".into()),
            Self::Trigger { source, .. } => source.hint(),
            _ => None,
        }
    }
}
