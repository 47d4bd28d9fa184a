//! What a Dockerfile says, before variables are expanded.

use kiln_graph::{Healthcheck, Network};

use crate::check::Warning;
use crate::{Span, Word};

/// Every instruction there is.
pub(crate) const KEYWORDS: [&str; 18] = [
    "FROM",
    "RUN",
    "COPY",
    "ADD",
    "ARG",
    "ENV",
    "WORKDIR",
    "USER",
    "SHELL",
    "LABEL",
    "CMD",
    "ENTRYPOINT",
    "EXPOSE",
    "VOLUME",
    "STOPSIGNAL",
    "HEALTHCHECK",
    "ONBUILD",
    "MAINTAINER",
];

/// The types of `RUN --mount`.
pub(crate) const MOUNT_TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

/// The options of `RUN --mount`.
pub(crate) const MOUNT_OPTIONS: [&str; 19] = [
    "type",
    "target",
    "dst",
    "destination",
    "source",
    "src",
    "from",
    "ro",
    "readonly",
    "rw",
    "readwrite",
    "id",
    "sharing",
    "required",
    "mode",
    "uid",
    "gid",
    "size",
    "env",
];

/// A parsed Dockerfile.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    /// The file, as the user named it.
    pub name: String,
    /// The comments at the top that steer the parser.
    pub directives: Directives,
    /// The `ARG`s before the first `FROM`.
    pub global_args: Vec<Instruction>,
    /// The stages, at least one.
    pub stages: Vec<Stage>,
    /// What the parser noticed.
    pub(crate) warnings: Vec<Warning>,
}

/// Parser directives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `# syntax=`: the front end that BuildKit would load. kiln reads every file itself.
    pub syntax: Option<String>,
    /// `# escape=`: a backtick in place of the backslash.
    pub escape: Option<char>,
    /// `# check=`: configuration of the build checks.
    pub check: Option<String>,
}

impl Directives {
    /// The character that escapes others and continues lines.
    pub fn escape(&self) -> char {
        self.escape.unwrap_or('\\')
    }
}

/// A `FROM` and what follows it.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The name after `AS`, as written.
    pub name: Option<Word>,
    /// The image or stage that it starts from.
    pub base: Word,
    /// `--platform`.
    pub platform: Option<Word>,
    /// The `FROM` line.
    pub span: Span,
    /// `FROM` as written.
    pub keyword: String,
    /// `AS` as written.
    pub as_keyword: Option<String>,
    /// Everything up to the next `FROM`.
    pub instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// From the keyword to the end of the last here-document.
    pub span: Span,
    /// The keyword as written.
    pub keyword: String,
    /// The instruction with its continued lines joined, without here-documents.
    pub text: String,
    /// The lines of the file.
    pub original: String,
    /// What it says.
    pub command: Command,
}

/// What an instruction says.
#[derive(Clone, Debug)]
pub enum Command {
    /// `RUN`.
    Run(Box<Run>),
    /// `COPY`.
    Copy(Box<Transfer>),
    /// `ADD`.
    Add(Box<Transfer>),
    /// `ARG`.
    Arg(Vec<ArgDeclaration>),
    /// `ENV`.
    Env(Vec<Pair>),
    /// `LABEL`.
    Label(Vec<Pair>),
    /// `WORKDIR`.
    Workdir(Word),
    /// `USER`.
    User(Word),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `CMD`.
    Cmd(CommandLine),
    /// `ENTRYPOINT`.
    Entrypoint(CommandLine),
    /// `EXPOSE`.
    Expose(Vec<Word>),
    /// `VOLUME`.
    Volume(Vec<Word>),
    /// `STOPSIGNAL`.
    StopSignal(Word),
    /// `HEALTHCHECK`.
    Healthcheck(Box<Healthcheck>),
    /// `ONBUILD`.
    OnBuild(Box<OnBuild>),
    /// `MAINTAINER`.
    Maintainer(String),
}

/// A command in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// A line for the shell.
    Shell(String),
    /// A JSON array of arguments.
    Exec(Vec<String>),
}

/// A `name=value` of `ENV` or `LABEL`.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Left of `=`.
    pub name: Word,
    /// Right of `=`.
    pub value: Word,
    /// Written as `name value`, the old form.
    pub legacy: bool,
}

/// One name of an `ARG`.
#[derive(Clone, Debug)]
pub struct ArgDeclaration {
    /// The name.
    pub name: Word,
    /// The default.
    pub default: Option<Word>,
}

/// `RUN`.
#[derive(Clone, Debug)]
pub struct Run {
    /// The command.
    pub command: CommandLine,
    /// `--mount`.
    pub mounts: Vec<MountFlag>,
    /// `--network`.
    pub network: Network,
    /// `--security=insecure`.
    pub privileged: bool,
    /// Here-documents in the order of their words.
    pub heredocs: Vec<Heredoc>,
}

/// One `--mount`, its values not yet expanded.
#[derive(Clone, Debug)]
pub struct MountFlag {
    /// The options in order.
    pub options: Vec<MountOption>,
    /// The whole flag.
    pub span: Span,
}

impl MountFlag {
    /// The value of `from=`, which is never expanded.
    pub fn from(&self) -> Option<&Word> {
        self.options.iter().rev().find(|o| o.name == "from").and_then(|o| o.value.as_ref())
    }
}

/// One option of a mount.
#[derive(Clone, Debug)]
pub struct MountOption {
    /// Its name in lowercase, one of those BuildKit knows.
    pub name: String,
    /// Its value, if it has one.
    pub value: Option<Word>,
}

/// `COPY` or `ADD`.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Files and folders.
    pub sources: Vec<Word>,
    /// Here-documents that become files.
    pub contents: Vec<Heredoc>,
    /// Where they go.
    pub dest: Word,
    /// `--from`.
    pub from: Option<Word>,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`.
    pub excludes: Vec<Word>,
    /// `--checksum`.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`.
    pub keep_git_dir: bool,
    /// `--unpack`.
    pub unpack: Option<bool>,
}

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it; also the name of its file.
    pub name: String,
    /// File descriptor written before `<<`.
    pub descriptor: u32,
    /// Whether variables in it are expanded: its word was not quoted.
    pub expand: bool,
    /// `<<-`: leading tabs are dropped.
    pub chomp: bool,
    /// The lines, as written.
    pub content: String,
}

impl Heredoc {
    /// The lines without their leading tabs, if `<<-` asks for that.
    pub fn text(&self) -> String {
        if self.chomp {
            self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
        } else {
            self.content.clone()
        }
    }
}

/// `ONBUILD`.
#[derive(Clone, Debug)]
pub struct OnBuild {
    /// The trigger with its here-documents, as it is stored in an image.
    pub trigger: String,
    /// The trigger, parsed.
    pub instruction: Instruction,
}
