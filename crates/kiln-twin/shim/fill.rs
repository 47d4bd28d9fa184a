//! Copies what native programs need from the container's root to a volume, where a container of another platform will see
//! it at a path of its own.
//!
//! Only programs and libraries of this machine go: everything else a native program reads in the foreign container is
//! that container's own. Programs ask for their loader by absolute path, and the loader for its cache: both paths are
//! replaced in the copies, so nothing has to be put into the foreign root. musl's loader finds its path file beside
//! itself.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::decide::{DPKG, debian};
use crate::places::{CROSS, HOOK, PRELOAD, below};
use crate::{elf, ldcache};

/// Folders without programs, or that belong to the running system.
const SKIPPED: &[&str] = &["/boot", "/dev", "/proc", "/run", "/sys", "/tmp", "/usr/share", "/usr/include", "/var"];
/// Where Debian keeps the parts of cross compilers.
const COMPILERS: &str = "/usr/lib/gcc-cross";
/// Where glibc's loader finds the libraries that it loads with every program.
const PRELOADED: &str = "/etc/ld.so.preload";
/// `e_machine` of 386 programs, which an amd64 machine runs as well.
const I386: u16 = 3;
/// Where glibc's loader finds its cache.
const CACHE: &str = "/etc/ld.so.cache";

struct Filling {
    /// Where the volume is here.
    to: PathBuf,
    /// Where it will be seen.
    seen: String,
    device: u64,
    /// Only compilers and what they need.
    cross: bool,
    /// `e_machine` of the container's programs.
    machine: u16,
    /// Copies by inode, for hard links.
    copied: HashMap<u64, PathBuf>,
    /// The loader that programs ask for.
    loader: Option<PathBuf>,
    files: u64,
    bytes: u64,
}

/// `fill TO SEEN [ID]`.
pub(crate) fn run(arguments: &[OsString]) -> i32 {
    let [to, seen, id @ ..] = arguments else {
        eprintln!("kiln-twin: fill: say where to, and where that will be seen");
        return 2;
    };
    match fill(Path::new(to), &seen.to_string_lossy(), id.first().map(|id| id.to_string_lossy().into_owned())) {
        Ok((files, bytes)) => {
            println!("{files} files, {bytes} bytes");
            0
        }
        Err(error) => {
            eprintln!("kiln-twin: fill: {error}");
            1
        }
    }
}

fn fill(to: &Path, seen: &str, id: Option<String>) -> io::Result<(u64, u64)> {
    let device = fs::metadata("/")?.dev();
    let cross = seen == CROSS;
    if cross && !Path::new(COMPILERS).is_dir() {
        return Ok((0, 0));
    }
    let (to, seen, machine) = (to.to_owned(), seen.to_owned(), machine());
    let mut filling =
        Filling { to, seen, device, cross, machine, copied: HashMap::new(), loader: None, files: 0, bytes: 0 };
    empty(&filling.to)?;
    // The links at the top (`/lib` to `usr/lib`) come before what lies behind them.
    filling.folder(Path::new("/"))?;
    filling.loader()?;
    filling.graft()?;
    if let Some(id) = id {
        fs::write(filling.to.join(".kiln-id"), id)?;
    }
    Ok((filling.files, filling.bytes))
}

/// Removes what a filling that was killed has left.
fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

impl Filling {
    /// Whether a file is a program or library of the container's machine.
    fn is_own(&self, path: &Path) -> bool {
        elf::head_of(path).is_some_and(|head| head.machine == self.machine && (head.kind == 2 || head.kind == 3))
    }

    fn folder(&mut self, folder: &Path) -> io::Result<()> {
        let mut entries: Vec<fs::DirEntry> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(|entry| (!entry.file_type().is_ok_and(|t| t.is_symlink()), entry.file_name()));
        for entry in entries {
            let path = entry.path();
            let kind = entry.file_type()?;
            if SKIPPED.iter().any(|skipped| path == Path::new(skipped)) || path == self.to {
                continue;
            }
            if kind.is_dir() {
                if fs::symlink_metadata(&path)?.dev() == self.device {
                    self.folder(&path)?;
                }
            } else if kind.is_symlink() {
                self.link(&path)?;
            } else if kind.is_file() {
                self.file(&path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
            }
        }
        Ok(())
    }

    fn place(&self, path: &Path) -> io::Result<PathBuf> {
        let place = below(&self.to.to_string_lossy(), path);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(place)
    }

    /// Links to programs, libraries and folders; absolute ones lead to the same place below the volume.
    fn link(&self, path: &Path) -> io::Result<()> {
        let Ok(behind) = fs::metadata(path) else { return Ok(()) };
        if !behind.is_dir() && !(behind.is_file() && self.is_own(path)) {
            return Ok(());
        }
        let target = fs::read_link(path)?;
        let target = if target.is_absolute() { below(&self.seen, &target) } else { target };
        let place = self.place(path)?;
        if fs::symlink_metadata(&place).is_err() {
            symlink(target, place)?;
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        let is_other_tool = || {
            let folder = path.parent().is_some_and(|f| ["/bin", "/sbin", "/usr/bin", "/usr/sbin"].iter().any(|b| f == Path::new(b)));
            folder && !path.to_string_lossy().contains("-linux-")
        };
        if metadata.len() < 64 || (self.cross && is_other_tool()) || !self.is_own(path) {
            return Ok(());
        }
        let place = self.place(path)?;
        if let Some(copy) = self.copied.get(&metadata.ino()).filter(|_| metadata.nlink() > 1) {
            fs::hard_link(copy, &place)?;
            return Ok(());
        }
        let mut file = fs::read(path)?;
        if let Some((offset, room)) = elf::interpreter(&file) {
            let loader = String::from_utf8_lossy(&file[offset..offset + room - 1]).trim_end_matches('\0').to_owned();
            if !elf::overwrite(&mut file, offset, room, &self.loader_seen()) {
                return Err(io::Error::other(format!("its loader's path {loader} is too short to be replaced")));
            }
            self.loader.get_or_insert_with(|| loader.into());
        }
        self.write(&place, &file, metadata.permissions().mode() & 0o755)?;
        if path.ends_with("usr/bin/dpkg") || path.ends_with("usr/bin/dpkg-query") {
            self.dpkg(path, &file)?;
        }
        self.copied.insert(metadata.ino(), place);
        self.files += 1;
        self.bytes += metadata.len();
        Ok(())
    }

    fn write(&self, place: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let mut file = fs::File::create(place)?;
        file.write_all(bytes)?;
        file.set_permissions(fs::Permissions::from_mode(mode | 0o444))
    }

    fn loader_seen(&self) -> String {
        format!("{}/lib/ld", self.seen)
    }

    /// The loader under the name that all programs ask for now, and what tells it where the libraries are.
    fn loader(&mut self) -> io::Result<()> {
        let Some(loader) = self.loader.clone() else { return Ok(()) };
        let mut file = fs::read(&loader)?;
        let place = self.place(Path::new("/lib/ld"))?;
        if loader.to_string_lossy().contains("/ld-musl-") {
            let machine = loader.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().trim_end_matches(".so");
            let paths = fs::read_to_string(format!("/etc/{machine}.path")).unwrap_or_else(|_| "/lib:/usr/local/lib:/usr/lib".into());
            let paths: Vec<String> =
                paths.split([':', '\n']).filter(|p| !p.is_empty()).map(|p| format!("{}{p}", self.seen)).collect();
            let list = self.place(Path::new(&format!("/etc/{machine}.path")))?;
            self.write(&list, paths.join("\n").as_bytes(), 0o644)?;
        } else {
            let moved = fs::read(CACHE).ok().and_then(|cache| ldcache::moved(&cache, &self.seen));
            let moved = moved.ok_or_else(|| io::Error::other(format!("{CACHE} is missing or of an unknown format")))?;
            let seen = format!("{}/ld.c", self.seen);
            let at = file.windows(CACHE.len() + 1).position(|window| window == [CACHE.as_bytes(), b"\0"].concat());
            if !at.is_some_and(|at| elf::overwrite(&mut file, at, CACHE.len() + 1, &seen)) {
                return Err(io::Error::other(format!("{} has no place for another cache", loader.display())));
            }
            let cache = self.to.join("ld.c");
            self.write(&cache, &moved, 0o644)?;
            self.preload(&mut file)?;
        }
        self.write(&place, &file, 0o755)
    }

    /// Makes the loader load the hook with every program, unless this kiln has none.
    fn preload(&self, loader: &mut [u8]) -> io::Result<()> {
        let at = loader.windows(PRELOADED.len() + 1).position(|window| window == [PRELOADED.as_bytes(), b"\0"].concat());
        let seen = format!("{}/{PRELOAD}", self.seen);
        // It is a library of this program's own machine.
        if self.cross || self.machine != elf::OWN || fs::metadata(HOOK).map_or(0, |m| m.len()) == 0 {
            return Ok(());
        }
        if at.is_some_and(|at| elf::overwrite(loader, at, PRELOADED.len() + 1, &seen)) {
            self.write(&self.to.join(PRELOAD), HOOK.as_bytes(), 0o644)?;
        }
        Ok(())
    }

    /// Debian's dpkg says for which architecture it is made by a constant: copies of it say others.
    fn dpkg(&mut self, path: &Path, file: &[u8]) -> io::Result<()> {
        let own = [b"\0".as_slice(), debian(elf::OWN).unwrap_or_default().as_bytes(), b"\0"].concat();
        let places: Vec<usize> = file.windows(own.len()).enumerate().filter(|(_, w)| *w == own).map(|(at, _)| at).collect();
        let [at] = places.as_slice() else { return Ok(()) };
        for name in DPKG.iter().map(|(_, name)| *name).filter(|name| name.len() + 2 == own.len()) {
            let mut other = file.to_vec();
            other[at + 1..at + 1 + name.len()].copy_from_slice(name.as_bytes());
            let mut place = self.place(path)?.into_os_string();
            place.push(format!("-{name}"));
            self.write(Path::new(&place), &other, 0o755)?;
        }
        Ok(())
    }

    /// A cross compiler of Debian gets the container's headers and start files for its own: what belongs to the target
    /// is the target's.
    fn graft(&self) -> io::Result<()> {
        let root = Path::new(COMPILERS);
        for triple in fs::read_dir(root).into_iter().flatten().flatten() {
            for version in fs::read_dir(triple.path())?.flatten().filter(|v| v.path().is_dir()) {
                let home = Path::new("/usr/lib/gcc").join(triple.file_name()).join(version.file_name());
                for entry in fs::read_dir(version.path())?.flatten() {
                    let place = self.place(&entry.path())?;
                    if fs::symlink_metadata(&place).is_err() {
                        symlink(home.join(entry.file_name()), place)?;
                    }
                }
            }
            let headers = self.place(&Path::new("/usr").join(triple.file_name()).join("include/c++"))?;
            symlink("/usr/include/c++", headers)?;
        }
        Ok(())
    }
}

/// What machine the container's programs are for: this one, or the 386 that an amd64 machine runs as well.
fn machine() -> u16 {
    let shell = elf::head_of(Path::new("/bin/sh")).map(|head| head.machine);
    shell.filter(|machine| *machine == I386).unwrap_or(elf::OWN)
}
