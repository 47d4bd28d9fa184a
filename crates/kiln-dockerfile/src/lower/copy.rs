//! `COPY` and `ADD`.

use kiln_graph::remote::{self, is_url};
use kiln_graph::{Chmod, ChmodError, Copy, FileAction, FileOp, Op, Owner, Remote};

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
        let mode = self.optional(transfer.chmod.as_ref())?;
        let chmod = mode_bits(transfer.chmod.as_ref(), mode.as_deref())?;
        let excludes = self.all(&transfer.excludes)?;
        let from =
            sources.iter().zip(&transfer.sources).map(|(source, word)| self.place_of(source, word, transfer, add));
        let from = from.collect::<Result<Vec<From>, Error>>()?;
        if transfer.from.is_none() {
            let words = sources.iter().zip(&transfer.sources).zip(&from);
            for ((source, word), _) in words.filter(|(_, place)| !matches!(place, From::Remote(_))) {
                self.check_source(&instruction.keyword.to_uppercase(), source, word);
            }
        }
        if let Some(checksum) = &transfer.checksum
            && !matches!(from.as_slice(), [From::Remote(_)] if transfer.contents.is_empty())
        {
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
        let said = super::history::transfer(transfer, add, &sources, owner.as_ref(), mode.as_deref(), &excludes, &dest);
        let mut inputs = vec![self.root()];
        let mut actions = Vec::new();
        let mut local: Vec<String> = Vec::new();
        let copy = |input: usize, sources: Vec<String>| Copy {
            input,
            sources,
            dest: target.clone(),
            owner: owner.clone(),
            chmod: chmod.clone(),
            unpack: transfer.unpack.unwrap_or(add),
            link: transfer.link,
            parents: transfer.parents,
            excludes: excludes.clone(),
        };
        // Later sources may replace what earlier ones have brought, so their order stays.
        for (index, (source, place)) in sources.iter().zip(&from).enumerate() {
            let From::Remote(remote) = place else {
                local.push(relative(source, transfer.parents));
                if !matches!(from.get(index + 1), Some(From::Here)) {
                    let vertex = match &transfer.from {
                        Some(word) => self.origin(word)?,
                        None => self.context(),
                    };
                    actions.push(FileAction::Copy(copy(input(&mut inputs, vertex), std::mem::take(&mut local))));
                }
                continue;
            };
            let span = transfer.sources.get(index).map_or(transfer.dest.span, |word| word.span);
            let input = input(&mut inputs, self.remote(remote.clone(), span));
            actions.push(FileAction::Copy(match remote {
                Remote::Http { .. } => {
                    let name = remote.file_name().to_owned();
                    let chmod = chmod.clone().or(Some(Chmod::Octal(DOWNLOADED)));
                    let unpack = transfer.unpack.unwrap_or(false);
                    Copy { chmod, unpack, ..copy(input, vec![name]) }
                }
                Remote::Git { .. } => Copy { unpack: false, ..copy(input, vec![".".into()]) },
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
            let mode = chmod.as_ref().map_or(0o644, |chmod| chmod.apply(0o644, false));
            actions.push(FileAction::Write {
                path,
                mode,
                parents: chmod.as_ref().map(|chmod| chmod.apply(0o755, true)),
                owner,
                data: text.into_bytes(),
            });
        }
        let place = self.place(instruction, &text);
        self.add(Op::File(FileOp { actions }), inputs, place);
        if transfer.from.is_some() {
            self.watch_reads(sources.iter().map(|source| join("/", source)));
        }
        self.watch_makes(&target);
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

    /// Where a source lies.
    fn place_of(&mut self, source: &str, word: &Word, transfer: &Transfer, add: bool) -> Result<From, Error> {
        let bad = |source| Error::new(ErrorKind::Remote { text: word.value.clone(), source }, word.span);
        let git = remote::parse_git(source);
        if !add && (git.is_some() || is_url(source)) {
            return Err(Error::new(ErrorKind::RemoteCopy { source_text: source.to_owned() }, word.span));
        }
        let checksum = self.optional(transfer.checksum.as_ref())?;
        if let Some(git) = git {
            let mut reference = git.map_err(bad)?;
            if let Some(checksum) = checksum {
                remote::check_commit(&checksum).map_err(bad)?;
                reference.checksum = Some(checksum);
            }
            let keep_git_dir = transfer.keep_git_dir || reference.keep_git_dir.unwrap_or(false);
            return Ok(From::Remote(Remote::Git { reference, keep_git_dir }));
        }
        if is_url(source) {
            if let Some(value) = checksum.as_ref().filter(|checksum| !is_sha256(checksum)) {
                let expected = "`sha256:` and 64 hexadecimal digits".into();
                let kind = ErrorKind::InvalidValue { what: "`--checksum`".into(), value: value.clone(), expected };
                return Err(Error::new(kind, transfer.checksum.as_ref().map_or(word.span, |checksum| checksum.span)));
            }
            return Ok(From::Remote(Remote::Http { url: source.to_owned(), checksum }));
        }
        if !is_valid(source) {
            return Err(Error::new(ErrorKind::Pattern { pattern: source.to_owned() }, word.span));
        }
        Ok(From::Here)
    }
}

/// The mode of a downloaded file, as in BuildKit.
const DOWNLOADED: u32 = 0o600;

/// Where a source lies.
enum From {
    /// In the build context, or in what `--from` names.
    Here,
    Remote(Remote),
}

fn is_sha256(checksum: &str) -> bool {
    let digits = checksum.strip_prefix("sha256:").unwrap_or_default();
    digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn mode_bits(word: Option<&Word>, text: Option<&str>) -> Result<Option<Chmod>, Error> {
    let (Some(word), Some(text)) = (word, text) else { return Ok(None) };
    text.parse().map(Some).map_err(|error: ChmodError| {
        let what = "`--chmod`".into();
        let kind = ErrorKind::InvalidValue { what, value: text.to_owned(), expected: error.to_string() };
        Error::new(kind, word.span)
    })
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
pub(super) fn relative(source: &str, parents: bool) -> String {
    let from_root = |path: &str| {
        let path = clean(&format!("/{path}"));
        if path == "/" { ".".to_owned() } else { path[1..].to_owned() }
    };
    match source.split_once("/./") {
        Some((pivot, rest)) if parents => format!("{}/./{}", from_root(pivot), from_root(rest)),
        _ => from_root(source),
    }
}
