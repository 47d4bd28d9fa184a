//! `COPY` and `ADD`.

use kiln_graph::{Copy, FileAction, FileOp, Op, Owner};

use super::run::input;
use super::stage::Lowering;
use crate::ast::{Instruction, Transfer};
use crate::expand::{Mode, expand};
use crate::ignore::clean;
use crate::pattern::is_valid;
use crate::{Error, ErrorKind, Word};

impl Lowering<'_, '_> {
    pub(super) fn transfer(&mut self, instruction: &Instruction, transfer: &Transfer, add: bool) -> Result<(), Error> {
        let dest = self.expand(&transfer.dest)?;
        let sources = self.all(&transfer.sources)?;
        let owner = self.optional(transfer.chown.as_ref())?.map(|spec| Owner { spec });
        let chmod = self.mode_bits(transfer.chmod.as_ref())?;
        let excludes = self.all(&transfer.excludes)?;
        let at = |index: usize| transfer.sources.get(index).map_or(transfer.dest.span, |word| word.span);
        let mut remote = sources.iter().enumerate().filter(|(_, source)| is_url(source) || is_git(source));
        if let Some((index, source)) = remote.next() {
            let kind = if add {
                let what = if is_git(source) { "of a git repository" } else { "of a URL" };
                ErrorKind::NotYet { feature: format!("`ADD` {what} (`{source}`)") }
            } else {
                ErrorKind::RemoteCopy { source_text: source.clone() }
            };
            return Err(Error::new(kind, at(index)));
        }
        if let Some((index, pattern)) = sources.iter().enumerate().find(|(_, source)| !is_valid(source)) {
            let kind = ErrorKind::Pattern { pattern: pattern.clone() };
            return Err(Error::new(kind, at(index)));
        }
        if let Some(checksum) = &transfer.checksum {
            return Err(Error::new(ErrorKind::ChecksumWithoutRemote, checksum.span));
        }
        let folder = is_folder(&dest);
        if sources.len() + transfer.contents.len() > 1 && !folder {
            let kind = ErrorKind::DestinationNotFolder { dest };
            return Err(Error::new(kind, transfer.dest.span));
        }
        let mut target = join(self.cwd(), &dest);
        if folder && !target.ends_with('/') {
            target.push('/');
        }
        let text = self.display(instruction, &[]);
        let said = super::history::transfer(transfer, add, &sources, owner.as_ref(), chmod, &excludes, &dest);
        let mut inputs = vec![self.root()];
        let mut actions = Vec::new();
        if !sources.is_empty() {
            let vertex = match &transfer.from {
                Some(word) => self.origin(word)?,
                None => self.context(),
            };
            actions.push(FileAction::Copy(Copy {
                input: input(&mut inputs, vertex),
                sources: sources.iter().map(|source| relative(source, transfer.parents)).collect(),
                dest: target.clone(),
                owner: owner.clone(),
                chmod,
                unpack: transfer.unpack.unwrap_or(add),
                link: transfer.link,
                parents: transfer.parents,
                excludes,
            }));
        }
        for heredoc in &transfer.contents {
            let mut text = heredoc.text();
            if heredoc.expand {
                let expanded = expand(&text, Mode::document(), self.env()).map_err(|source| {
                    let kind = ErrorKind::Expand { word: format!("<<{}", heredoc.name), source };
                    Error::new(kind, instruction.span)
                })?;
                self.warn_unmatched(instruction.span, &expanded);
                text = expanded.text;
            }
            let path = if folder { join(&target, &heredoc.name) } else { target.clone() };
            let owner = owner.clone();
            let mode = chmod.unwrap_or(0o644);
            actions.push(FileAction::Write { path, mode, owner, data: text.into_bytes() });
        }
        self.add(Op::File(FileOp { actions }), inputs, instruction, &text);
        self.note_files(said);
        Ok(())
    }

    fn all(&mut self, words: &[Word]) -> Result<Vec<String>, Error> {
        words.iter().map(|word| self.expand(word)).collect()
    }

    fn optional(&mut self, word: Option<&Word>) -> Result<Option<String>, Error> {
        let text = word.map(|word| self.expand(word)).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    fn mode_bits(&mut self, word: Option<&Word>) -> Result<Option<u32>, Error> {
        let (Some(word), Some(text)) = (word, self.optional(word)?) else { return Ok(None) };
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if mode <= 0o7777 => Ok(Some(mode)),
            _ => {
                let what = "`--chmod`".into();
                let expected = "an octal mode between 0 and 7777".into();
                let kind = ErrorKind::InvalidValue { what, value: text, expected };
                Err(Error::new(kind, word.span))
            }
        }
    }
}

/// An absolute path: `path` itself, or in the folder `base`.
pub(super) fn join(base: &str, path: &str) -> String {
    if path.starts_with('/') { clean(path) } else { clean(&format!("/{base}/{path}")) }
}

/// Whether a destination says that it is a folder.
fn is_folder(dest: &str) -> bool {
    dest.is_empty() || dest.ends_with('/') || matches!(dest.rsplit('/').next(), Some("." | ".."))
}

/// A source relative to the root that it is copied from. With `--parents`, a `/./` in it marks where the kept part
/// starts, so it stays.
fn relative(source: &str, parents: bool) -> String {
    let from_root = |path: &str| {
        let path = clean(&format!("/{path}"));
        if path == "/" { ".".to_owned() } else { path[1..].to_owned() }
    };
    match source.split_once("/./") {
        Some((pivot, rest)) if parents => format!("{}/./{}", from_root(pivot), from_root(rest)),
        _ => from_root(source),
    }
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// Whether a source is a git repository, by BuildKit's rules.
fn is_git(source: &str) -> bool {
    let path = source.split(['#', '?']).next().unwrap_or_default();
    source.starts_with("git://")
        || source.starts_with("ssh://")
        || source.starts_with("git@")
        || is_url(source) && path.trim_end_matches('/').strip_suffix(".git").is_some()
}
