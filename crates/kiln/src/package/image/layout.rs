//! The context of the image: its files, laid out as they will be in it, and the end of its Dockerfile.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err as fs;
use kiln_config::DataMapping;

use super::base::{Found, SCRATCH};
use super::{Program, Request};
use crate::error::{CliError, Result};

/// The folder of what all platforms have.
const COMMON: &str = "common";
/// The folder with what everybody may write to.
const OPEN: &str = "open";
/// The folder with the user's home folder.
const OWN: &str = "own";
/// An empty folder.
const EMPTY: &str = "empty";
/// Where home folders are.
const HOMES: &str = "/home";
/// What a user is called who has only a number.
const NONROOT: &str = "nonroot";
/// The number of a user who has only a name, where there is no list of users. Source: distroless' `nonroot`.
const NONROOT_ID: &str = "65532";

/// Who runs the program.
pub(super) struct Account {
    /// As it is set.
    spec: String,
    user: String,
    group: String,
}

impl Account {
    pub(super) fn of(spec: &str) -> Self {
        let (user, group) = spec.split_once(':').unwrap_or((spec, spec));
        Self { spec: spec.to_owned(), user: user.to_owned(), group: group.to_owned() }
    }

    /// The home folder that is made; none for root and for users whom the base image knows.
    fn home(&self, base: &str) -> Option<&str> {
        match () {
            () if matches!(self.user.as_str(), "0" | "root") => None,
            () if is_number(&self.user) => Some(NONROOT),
            () if base == SCRATCH => Some(&self.user),
            () => None,
        }
    }

    /// Owner of folders that are made, as numbers where no list of users can be asked.
    fn owner(&self, base: &str) -> String {
        let id = |name: &str| match name {
            "root" => "0".to_owned(),
            name if base == SCRATCH && !is_number(name) => NONROOT_ID.to_owned(),
            name => name.to_owned(),
        };
        if self.spec.contains(':') { format!("{}:{}", id(&self.user), id(&self.group)) } else { id(&self.user) }
    }

    /// `/etc/passwd` and `/etc/group` of an image that has none.
    fn lists(&self) -> [(&'static str, String); 2] {
        let mut lists = [
            ("etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\n".to_owned()),
            ("etc/group", "root:x:0:\n".to_owned()),
        ];
        if let Some(name) = self.home(SCRATCH) {
            let id = |name: &str| if is_number(name) { name.to_owned() } else { NONROOT_ID.to_owned() };
            let (user, group) = (id(&self.user), id(&self.group));
            let named = if is_number(&self.group) { name } else { &self.group };
            let _infallible = writeln!(lists[0].1, "{name}:x:{user}:{group}::{HOMES}/{name}:/sbin/nologin");
            if group != "0" {
                let _infallible = writeln!(lists[1].1, "{named}:x:{group}:");
            }
        }
        lists
    }
}

fn is_number(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_digit())
}

/// What follows the built-in Dockerfile.
pub(super) fn dockerfile(
    request: &Request,
    account: &Account,
    (base, found): (&str, Found),
    programs: &[Program],
) -> Result<String> {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    if !found.tmp {
        line(format!("COPY --chmod=1777 {OPEN}/ /"));
    }
    let owner = account.owner(base);
    let mut folder = request.image.workdir.clone();
    if let Some(folder) = &folder {
        line(format!("COPY --chown={owner} {EMPTY}/ {}/", folder.trim_end_matches('/')));
    }
    if let Some(home) = account.home(base) {
        line(format!("COPY --chown={owner} {OWN}/ {HOMES}/"));
        line(format!("ENV HOME={HOMES}/{home}"));
        folder.get_or_insert(format!("{HOMES}/{home}"));
    }
    if !request.image.ports.is_empty() {
        line(format!("EXPOSE {}", request.image.ports.join(" ")));
    }
    // Before the user: it is there already, and the user may be one of a list that comes with these files.
    if let Some(folder) = folder {
        line(format!("WORKDIR {folder}"));
    }
    line(format!("USER {}", account.spec));
    let starts: Vec<String> = programs.iter().map(|program| start(&request.name, program)).collect();
    if let Some(other) = starts.iter().find(|start| **start != starts[0]) {
        return Err(CliError::Missing {
            problem: format!("the programs of the platforms start by different names: {} and {other}", starts[0]),
            hint: "build all of them in the same mode: [nuitka] mode".to_owned(),
        });
    }
    // Of an argument in this form nothing is expanded.
    line(format!("ENTRYPOINT {}", serde_json::json!(starts[..1])));
    line("CMD []".to_owned());
    Ok(text)
}

/// The path of what starts the program.
fn start(name: &str, program: &Program) -> String {
    match &program.inspection.program {
        Some(main) if program.inspection.path.is_dir() => format!("/usr/local/lib/{name}/{}", main.name),
        _ => format!("/usr/local/bin/{name}"),
    }
}

/// Lays out the context.
pub(super) fn lay_out(
    context: &Path,
    project: &Path,
    request: &Request,
    account: &Account,
    base: &str,
    programs: &[Program],
) -> Result<()> {
    let made = |path: &str| {
        let path = context.join(path);
        fs::create_dir_all(&path).map(|()| path.clone()).map_err(CliError::io("make", &path))
    };
    for program in programs {
        let path = &program.inspection.path;
        let below = if path.is_dir() { "usr/local/lib" } else { "usr/local/bin" };
        let target = made(&format!("{}/{below}", program.platform.folder()))?.join(&request.name);
        copy(path, &target)?;
        let main = if path.is_dir() {
            program.inspection.program.as_ref().map(|main| target.join(&main.name))
        } else {
            Some(target)
        };
        if let Some(main) = main {
            let permissions = std::fs::Permissions::from_mode(0o755);
            fs::set_permissions(&main, permissions).map_err(CliError::io("set the mode of", &main))?;
        }
    }
    let common = made(COMMON)?;
    made(&format!("{OPEN}/tmp"))?;
    made(EMPTY)?;
    if let Some(home) = account.home(base) {
        // Not the user's, as its parent: the copy of the home folder finds it there.
        made(&format!("{COMMON}{HOMES}"))?;
        made(&format!("{OWN}/{home}"))?;
    }
    if base == SCRATCH {
        made(&format!("{COMMON}/etc"))?;
        for (path, text) in account.lists() {
            let path = common.join(path);
            fs::write(&path, text).map_err(CliError::io("write", &path))?;
        }
    }
    for file in &request.image.files {
        add(project, &common, file)?;
    }
    set_times(context, request.epoch)
}

/// Adds a file or folder that the settings name.
fn add(project: &Path, common: &Path, file: &DataMapping) -> Result<()> {
    let source = project.join(&file.source);
    if !source.exists() {
        return Err(CliError::Missing {
            problem: format!("`{}={}`: there is no {}", file.source, file.target, source.display()),
            hint: "name files of the project with files in [release.image]".to_owned(),
        });
    }
    let target: PathBuf =
        Path::new(&file.target).components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let target = common.join(target);
    let parent = target.parent().unwrap_or(common);
    fs::create_dir_all(parent).map_err(CliError::io("make", parent))?;
    copy(&source, &target)
}

/// Copies a file, or a folder with all that is in it. Links stay links in folders.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = CliError::io("copy", from);
    let copied = || -> std::io::Result<Vec<(PathBuf, PathBuf)>> {
        if !from.is_dir() {
            return fs::copy(from, to).map(|_| Vec::new());
        }
        fs::create_dir_all(to)?;
        let mut below = Vec::new();
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            if entry.file_type()?.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(&source)?, target)?;
            } else {
                below.push((source, target));
            }
        }
        Ok(below)
    };
    copied().map_err(failed)?.iter().try_for_each(|(from, to)| copy(from, to))
}

/// Gives all files and folders the same time: a layer keeps what is older than the epoch.
fn set_times(path: &Path, epoch: i64) -> Result<()> {
    let failed = CliError::io("set the time of", path);
    let meta = fs::symlink_metadata(path).map_err(CliError::io("read", path))?;
    if meta.is_symlink() {
        return Ok(());
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path).map_err(CliError::io("read", path))? {
            set_times(&entry.map_err(CliError::io("read", path))?.path(), epoch)?;
        }
    }
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(epoch).unwrap_or_default());
    std::fs::File::open(path).and_then(|file| file.set_modified(time)).map_err(failed)
}
