//! Dockerfiles: from text to the build graph. Pure: no I/O, no Docker.
//!
//! The flow: [`parse()`] reads the text to a [`Dockerfile`] whose parts know their place; [`Dockerfile::base_images`] says
//! which images a build of one target for one platform needs, and the caller resolves them with an engine;
//! [`Dockerfile::lower`] expands variables and adds the vertices of the reachable stages to a
//! [`BuildGraph`](kiln_graph::BuildGraph). [`Dockerfile::check`] finds what works but should be written differently.
//! [`Ignore`] reads `.dockerignore`, and [`glob`] matches the wildcards of `COPY`.
//!
//! # Why an own parser
//! The crate `parse-dockerfile` (0.1.9) is fast, maintained and keeps byte spans. But it hands out `--mount` as one
//! uninterpreted string, gives `ENV`, `ARG` and `LABEL` unsplit, reads only one here-document of a `RUN` and only at its
//! beginning, has no `# check` directive, and reports an error as a message with a line and a column: no kind, no
//! offending value, nothing to build a hint from. What kiln needs from a parser beyond that (places inside continued
//! lines, mount options, expansion, triggers that are parsed again) is most of the work, so the front end is its own.
//!
//! # Rules
//! They are those of BuildKit's `frontend/dockerfile`, down to what `ARG` and `ENV` of one name do to each other (the
//! later one wins in steps, `ARG` never changes the image). Known differences:
//! - several sources with a destination that does not end in `/` are an error, as the reference says, where BuildKit lets
//!   the last source overwrite the others;
//! - `FROM` finds stages without regard to case, and a stage name that is used twice means the last one before its use;
//! - a later `!` pattern in `.dockerignore` does not outlive a still later pattern that matches the folder above;
//! - `ADD` of URLs and git repositories, symbolic `--chmod` and `RUN --device` are refused.

mod ast;
mod check;
mod error;
pub mod expand;
mod ignore;
mod lower;
mod parse;
mod pattern;
mod span;
mod suggest;

pub use ast::{
    ArgDeclaration, Command, CommandLine, Directives, Dockerfile, Heredoc, Instruction, MountFlag, MountOption,
    OnBuild, Pair, Run, Stage, Transfer,
};
pub use check::{CheckConfig, Checked, Rule, Warning};
pub use error::{Error, ErrorKind};
pub use expand::ExpandError;
pub use ignore::{Ignore, IgnoreError};
pub use kiln_graph::glob;
pub use lower::{BaseImage, Lowered, LoweredCommand, NamedContext, NoCache, Options, ResolvedImage, ResolvedImages};
pub use parse::{parse, parse_bytes};
pub use span::{Span, Word};
