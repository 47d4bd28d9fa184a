//! Contexts and Dockerfiles that are not where the command line usually points: on standard input, behind a URL, in a git
//! repository. They are brought into a folder of this machine before the project is read, and go when the build ends.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use kiln_fetch::archive::{self, Archive, Opened};
use kiln_fetch::{Attributes, FetchError};
use kiln_graph::remote::{is_url, parse_git, without_password};
use kiln_graph::{Digest, GitReference};
use kiln_solver::{BuildEvent, Cancel};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{DOWNLOADED, Fetcher, temporary, unless_stopped};
use crate::cli;
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::project;

/// The name that stands for standard input.
const STDIN: &str = "-";
/// What a Dockerfile is called if nobody says.
const DOCKERFILE: &str = "Dockerfile";
/// What BuildKit calls a Dockerfile that is a context.
const ONLY_FILE: &str = "context";
/// Bytes of a Dockerfile on standard input.
const MOST: u64 = 16 << 20;

/// A project that is no folder of the user's.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// What it is called: `NAME` of `https://host/NAME.git`.
    pub(crate) name: String,
    /// What tells it from others.
    pub(crate) id: String,
    /// Folder for kiln's state of it.
    pub(crate) state: PathBuf,
    /// Modes and owners that its archive had.
    pub(crate) attributes: HashMap<String, Attributes>,
}

/// The command line, changed such that it names folders and files of this machine.
pub(crate) struct Prepared {
    pub(crate) args: cli::Build,
    /// Set if the context was brought in.
    pub(crate) place: Option<Place>,
    /// How the Dockerfile is shown, if not by its path.
    pub(crate) dockerfile: Option<String>,
    /// Folder for what is unpacked later on; removed with this value.
    pub(crate) temporary: TempDir,
}

/// What the context of a command line is.
enum Asked {
    Folder,
    Stdin,
    Git(GitReference),
    Url(String),
}

/// Where a Dockerfile is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Written<'a> {
    /// Where `--file` says: of a folder, from the current one on.
    AsNamed,
    /// As `--file` says, but always in the context.
    InContext,
    /// Here: its name and its text.
    Inline(&'a str, &'a str),
}

/// Brings in what the command line names.
pub(crate) async fn prepare(
    environment: &Environment,
    args: &cli::Build,
    written: Written<'_>,
    events: &mpsc::Sender<BuildEvent>,
    cancel: &Cancel,
) -> Result<Prepared> {
    let temporary = temporary(environment)?;
    let asked = asked(&args.project.path)?;
    let on_stdin = args.file.as_deref() == Some(Path::new(STDIN));
    let mut prepared = Prepared { args: args.clone(), place: None, dockerfile: None, temporary };
    match (&asked, on_stdin) {
        (Asked::Stdin, true) => {
            return Err(CliError::Usage {
                problem: "standard input cannot be both the context and the Dockerfile".to_owned(),
                hint: "give one of them as a file".to_owned(),
            });
        }
        (_, true) => {
            let text = unless_stopped(cancel, |_| {
                let mut text = Vec::new();
                let read = std::io::stdin().take(MOST).read_to_end(&mut text);
                read.map_err(|source| FetchError::Io { action: "read", path: "standard input".into(), source })?;
                Ok(text)
            });
            prepared.set_dockerfile(DOCKERFILE, &text.await?)?;
        }
        (_, false) => {
            if let Written::Inline(name, text) = written {
                prepared.set_dockerfile(name, text.as_bytes())?;
            }
        }
    }
    let (name, id, context) = match asked {
        Asked::Folder => {
            if let (Written::InContext, Some(file)) = (written, &mut prepared.args.file) {
                *file = args.project.path.join(&*file);
            }
            return Ok(prepared);
        }
        Asked::Stdin => {
            let here = std::env::current_dir().unwrap_or_default();
            let stdin: Box<dyn Read + Send> = Box::new(std::io::stdin());
            let folder = prepared.temporary.path().join("context");
            let context = unless_stopped(cancel, move |stop| take_in(stdin, folder, stop)).await?;
            ("stdin".to_owned(), format!("stdin {}", here.display()), context)
        }
        Asked::Git(reference) => {
            let fetcher = prepared.fetcher(environment)?;
            let keep_git_dir = reference.keep_git_dir.unwrap_or(false);
            let tree = cancel.unless_stopped(fetcher.git(&reference, keep_git_dir, events)).await??;
            let id = format!("{} {}", reference.repository, reference.subdir);
            (reference.short_name().to_owned(), id, Brought::Folder(tree.folder, HashMap::new()))
        }
        Asked::Url(url) => {
            let fetcher = prepared.fetcher(environment)?;
            let remote = kiln_graph::Remote::Http { url: url.clone(), checksum: None };
            let got = fetcher.download(&url, remote.file_name(), None, events, cancel).await?;
            let folder = prepared.temporary.path().join("context");
            let file = fs::File::open(&got.file).map_err(CliError::io("read", &got.file))?;
            let file: Box<dyn Read + Send> = Box::new(std::io::BufReader::new(file));
            let context = unless_stopped(cancel, move |stop| take_in(file, folder, stop)).await?;
            let name = remote.file_name().split('.').next().unwrap_or_default().to_owned();
            (name, without_password(&url), context)
        }
    };
    let is_url = args.project.path != Path::new(STDIN);
    prepared.set_context(environment, name, &id, context, is_url)?;
    Ok(prepared)
}

/// What a stream holds.
enum Brought {
    /// A folder, with what its archive says of modes and owners.
    Folder(PathBuf, HashMap<String, Attributes>),
    /// A Dockerfile.
    Text(Vec<u8>),
}

fn take_in(stream: Box<dyn Read + Send>, folder: PathBuf, stop: &dyn Fn() -> bool) -> Result<Brought, FetchError> {
    let unreadable = |source| FetchError::Io { action: "read", path: "the context".into(), source };
    match archive::detect(stream).map_err(unreadable)? {
        Opened::Archive(mut archive) => {
            let attributes = unpack(&mut archive, &folder, stop)?;
            Ok(Brought::Folder(folder, attributes))
        }
        Opened::Other(rest) => {
            let mut text = Vec::new();
            rest.take(MOST).read_to_end(&mut text).map_err(unreadable)?;
            Ok(Brought::Text(text))
        }
    }
}

fn unpack(
    archive: &mut Archive,
    folder: &Path,
    stop: &dyn Fn() -> bool,
) -> Result<HashMap<String, Attributes>, FetchError> {
    let make = fs::create_dir_all(folder);
    make.map_err(|source| FetchError::Io { action: "make", path: folder.to_owned(), source })?;
    kiln_fetch::unpack(archive, folder, stop)
}

impl Prepared {
    /// What fetches a context: the project's own settings are in it, so only the user's and the command line's count.
    fn fetcher(&self, environment: &Environment) -> Result<Fetcher> {
        let config = project::without_folder(environment, &self.args.project)?;
        let here = std::env::current_dir().unwrap_or_default();
        Fetcher::new(environment, &config.resolved().network, &here)
    }

    /// Takes this text for the Dockerfile, which is shown under that name.
    fn set_dockerfile(&mut self, name: &str, text: &[u8]) -> Result<()> {
        let folder = self.temporary.path().join("dockerfile");
        let path = folder.join(DOCKERFILE);
        fs::create_dir_all(&folder).and_then(|()| fs::write(&path, text)).map_err(CliError::io("write", &path))?;
        self.args.file = Some(path);
        self.dockerfile = Some(name.to_owned());
        Ok(())
    }

    fn set_context(
        &mut self,
        environment: &Environment,
        name: String,
        id: &str,
        context: Brought,
        is_url: bool,
    ) -> Result<()> {
        let (folder, attributes) = match context {
            Brought::Folder(folder, attributes) => (folder, attributes),
            Brought::Text(text) => self.only_a_dockerfile(&text, is_url)?,
        };
        if self.dockerfile.is_none() {
            self.find_dockerfile(&folder)?;
        }
        let state = environment.cache_folder.join("projects").join(Digest::of(id).short());
        self.args.project.path = folder;
        self.place = Some(Place { name, id: id.to_owned(), state, attributes });
        Ok(())
    }

    /// A context that is nothing but a Dockerfile. One behind a URL is a file of the context too, as with BuildKit.
    fn only_a_dockerfile(&mut self, text: &[u8], is_url: bool) -> Result<(PathBuf, HashMap<String, Attributes>)> {
        if let Some(file) = &self.args.file {
            return Err(CliError::Usage {
                problem: format!("the context is a Dockerfile itself, so --file `{}` makes no sense", file.display()),
                hint: "leave out --file, or give an archive with the Dockerfile in it".to_owned(),
            });
        }
        let folder = self.temporary.path().join("context");
        fs::create_dir_all(&folder).map_err(CliError::io("make", &folder))?;
        self.set_dockerfile(DOCKERFILE, text)?;
        let mut attributes = HashMap::new();
        if is_url {
            let path = folder.join(ONLY_FILE);
            fs::write(&path, text).map_err(CliError::io("write", &path))?;
            attributes.insert(ONLY_FILE.to_owned(), DOWNLOADED);
        }
        Ok((folder, attributes))
    }

    /// The Dockerfile is one of the context, unless it is named by a whole path.
    fn find_dockerfile(&mut self, folder: &Path) -> Result<()> {
        let named = match &self.args.file {
            Some(file) if file.is_absolute() => return Ok(()),
            Some(file) => file.clone(),
            // A project of kiln's says what it is by its settings.
            None if self.args.project.recipe.is_some() || folder.join("kiln.toml").exists() => return Ok(()),
            None => PathBuf::from(DOCKERFILE),
        };
        let missing = || CliError::Missing {
            problem: format!("the context has no file {}", named.display()),
            hint: "--file names the Dockerfile, relative to the context".to_owned(),
        };
        if named.components().any(|part| matches!(part, Component::ParentDir)) {
            return Err(missing());
        }
        // A link in it must not lead to other files of this machine.
        let root = fs::canonicalize(folder).map_err(CliError::io("find", folder))?;
        let path = fs::canonicalize(root.join(&named)).ok().filter(|path| path.starts_with(&root) && path.is_file());
        self.args.file = Some(path.ok_or_else(missing)?);
        self.dockerfile = Some(named.display().to_string());
        Ok(())
    }
}

fn asked(path: &Path) -> Result<Asked> {
    let Some(text) = path.to_str() else { return Ok(Asked::Folder) };
    if text == STDIN {
        return Ok(Asked::Stdin);
    }
    let full = match text.strip_prefix("github.com/") {
        Some(rest) if !path.exists() => {
            let (repository, rest) = rest.find(['#', '?']).map_or((rest, ""), |at| rest.split_at(at));
            format!("https://github.com/{}.git{rest}", repository.trim_end_matches(".git"))
        }
        _ => text.to_owned(),
    };
    match parse_git(&full) {
        Some(Ok(reference)) => Ok(Asked::Git(reference)),
        Some(Err(error)) => Err(CliError::Usage { problem: format!("`{text}`: {error}"), hint: error.hint() }),
        None if is_url(text) => Ok(Asked::Url(text.to_owned())),
        None => Ok(Asked::Folder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_told_apart() {
        let read = |text: &str| match asked(Path::new(text)) {
            Ok(Asked::Folder) => "folder".to_owned(),
            Ok(Asked::Stdin) => "stdin".to_owned(),
            Ok(Asked::Git(git)) => format!("git {git}"),
            Ok(Asked::Url(url)) => format!("url {url}"),
            Err(error) => error.to_string(),
        };
        for (text, expected) in [
            (".", "folder"),
            ("-", "stdin"),
            ("a.git", "folder"),
            ("https://x.org/a.git#v1:s", "git https://x.org/a.git#v1:s"),
            ("git@x.org:a.git", "git git@x.org:a.git"),
            ("github.com/a/b#v", "git https://github.com/a/b.git#v"),
            ("https://x.org/a.tgz", "url https://x.org/a.tgz"),
            ("https://x.org/a.git?b=c", "`https://x.org/a.git?b=c`: the query `b` has no meaning for a git repository"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
