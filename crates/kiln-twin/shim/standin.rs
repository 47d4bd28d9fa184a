//! A tool is called: find the container's program of that name, decide, and become the native or the emulated one.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::decide::{self, Native};
use crate::places::{APT_SETTINGS, CROSS, LINKS};
use crate::{elf, enter, options, python};

/// Set for what runs below ccache, so that a compiler it calls is not sought behind its mask again.
const BELOW_CCACHE: &str = "KILN_TWIN_CCACHE";
/// A file that decisions are written to, a line each.
const LOG: &str = "KILN_TWIN_LOG";

/// Becomes the tool; the exit code if there is none.
pub(crate) fn run(name: &OsStr, arguments: &[OsString]) -> i32 {
    let Some(tool) = find(name) else {
        eprintln!("{}: not found", Path::new(name).file_name().unwrap_or(name).display());
        return 127;
    };
    // What the tool sees as its own name, as if it had been started itself.
    let shown = if Path::new(name).parent() == Some(Path::new(LINKS)) { tool.clone().into_os_string() } else { name.into() };
    let error = match decide::native(&tool) {
        Some(native) => native_or_not(&native, &tool, &shown, arguments),
        None => emulated(&tool, &shown, arguments, "it has no native equal"),
    };
    eprintln!("{}: {error}", tool.display());
    126
}

/// The container's own program that was meant.
fn find(name: &OsStr) -> Option<PathBuf> {
    let path = Path::new(name);
    let base = path.file_name()?;
    if path.parent().is_some_and(|parent| !parent.as_os_str().is_empty() && parent != Path::new(LINKS)) {
        return path.exists().then(|| path.to_owned());
    }
    decide::in_path(base.to_str()?, std::env::var_os(BELOW_CCACHE).is_some())
}

fn native_or_not(native: &Native, tool: &Path, shown: &OsStr, arguments: &[OsString]) -> std::io::Error {
    match native {
        Native::Python(program) => python::run(program, tool, shown, arguments),
        Native::Script(interpreter) => {
            let mut line = vec![tool.as_os_str().to_owned()];
            line.extend_from_slice(arguments);
            match decide::native(interpreter) {
                Some(Native::Python(program)) => python::run(&program, interpreter, interpreter.as_os_str(), &line),
                _ => emulated(tool, shown, arguments, "its interpreter has no native equal"),
            }
        }
        Native::Cross(_) if options::compiler_is_personal(arguments) => {
            emulated(tool, shown, arguments, "it is asked about its machine or paths")
        }
        Native::Cross(program) => {
            let mut command = Command::new(program);
            // gcc finds its parts from its own path; the container's C++ headers for its machine lie elsewhere than the
            // cross compiler looks for them.
            if let Some(headers) = cpp_headers(program) {
                let mut list = std::env::var_os("CPLUS_INCLUDE_PATH").filter(|l| !l.is_empty()).unwrap_or_default();
                if !list.is_empty() {
                    list.push(":");
                }
                list.push(headers);
                command.env("CPLUS_INCLUDE_PATH", list);
            }
            log("native", tool, program, arguments);
            command.args(arguments).exec()
        }
        Native::Ccache(program) => {
            let mut command = Command::new(program);
            command.env(BELOW_CCACHE, "1");
            // Behind the compiler's name is this program, which does not change when the compiler does.
            let cross = fs::read_to_string(Path::new(CROSS).join(".kiln-id")).unwrap_or_default();
            let check = std::env::var("CCACHE_COMPILERCHECK").unwrap_or_default();
            command.env("CCACHE_COMPILERCHECK", format!("string:{check}\ntwin {}", cross.trim()));
            if std::env::var_os("CCACHE_COMPILERTYPE").is_none() && !cross.is_empty() {
                command.env("CCACHE_COMPILERTYPE", "gcc");
            }
            log("native", tool, program, arguments);
            command.arg0(shown).args(arguments).exec()
        }
        Native::Dpkg(program) | Native::Shell(program) => {
            log("native", tool, program, arguments);
            Command::new(program).arg0(shown).args(arguments).exec()
        }
        Native::ShellScript(shell, argument) => {
            log("native", tool, shell, arguments);
            Command::new(shell).arg0("/bin/sh").args(argument.iter()).arg(tool).args(arguments).exec()
        }
        Native::Apt(program, architecture) => {
            log("native", tool, program, arguments);
            let settings = format!("APT::Architecture \"{architecture}\";\n");
            apt(Command::new(program).arg0(shown).args(arguments), &settings)
        }
        Native::Ldd(loader) => match arguments {
            [file] if elf::is_dynamic(Path::new(file)) => {
                log("emulated (the loader at once)", tool, loader, arguments);
                let mut command = Command::new(loader);
                // As the script does it.
                for (name, value) in [("LD_TRACE_LOADED_OBJECTS", "1"), ("LD_WARN", ""), ("LD_BIND_NOW", "")] {
                    command.env(name, value);
                }
                command.env("LD_VERBOSE", "").arg(std::path::absolute(file).unwrap_or_else(|_| file.into())).exec()
            }
            _ => emulated(tool, shown, arguments, "it is asked for more than the libraries of a file"),
        },
        Native::Installer => {
            log("emulated (what it calls may be native)", tool, tool, arguments);
            apt(Command::new(tool).arg0(shown).args(arguments), "")
        }
        Native::Alike(program) => {
            if tool.ends_with("dpkg-deb") {
                enter::scan();
            }
            log("native", tool, program, arguments);
            Command::new(program).arg0(shown).args(arguments).exec()
        }
    }
}

/// Becomes apt, with settings of ours: what the container is, and the links in the path that apt gives to dpkg. In a file,
/// because apt notes its command line in the container's log.
fn apt(command: &mut Command, settings: &str) -> std::io::Error {
    let mut text = format!("{settings}DPkg::Path \"{LINKS}:/usr/sbin:/usr/bin:/sbin:/bin\";\n");
    match std::env::var("APT_CONFIG") {
        Ok(own) if own == APT_SETTINGS => return command.exec(),
        Ok(own) if !own.is_empty() => text.push_str(&format!("#include \"{own}\";\n")),
        _ => {}
    }
    let new = format!("{APT_SETTINGS}.{}", std::process::id());
    match fs::write(&new, text).and_then(|()| fs::rename(&new, APT_SETTINGS)) {
        Ok(()) => command.env("APT_CONFIG", APT_SETTINGS).exec(),
        Err(error) => error,
    }
}

/// The folder of the target's C++ headers that depend on its machine: `/usr/include/TRIPLE/c++/VERSION`.
fn cpp_headers(compiler: &Path) -> Option<PathBuf> {
    let name = compiler.file_name()?.to_str()?;
    let (triple, version) = name.rsplit_once("-g++-").or_else(|| name.rsplit_once("-gcc-"))?;
    let folder = Path::new("/usr/include").join(triple).join("c++").join(version);
    folder.is_dir().then_some(folder)
}

/// Becomes the container's own program, which runs under emulation.
pub(crate) fn emulated(tool: &Path, shown: &OsStr, arguments: &[OsString], why: &str) -> std::io::Error {
    log(&format!("emulated ({why})"), tool, tool, arguments);
    Command::new(tool).arg0(shown).args(arguments).exec()
}

/// Notes a decision where `KILN_TWIN_LOG` says.
pub(crate) fn log(way: &str, tool: &Path, program: &Path, arguments: &[OsString]) {
    let Some(file) = std::env::var_os(LOG).filter(|file| !file.is_empty()) else { return };
    let Ok(mut file) = fs::OpenOptions::new().create(true).append(true).open(file) else { return };
    let mut line = format!("kiln-twin: {way}: {}", tool.display());
    if program != tool {
        line.push_str(&format!(" by {}", program.display()));
    }
    for argument in arguments {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line.push('\n');
    // One write, so that lines of several processes do not mix.
    let _ = file.write_all(line.as_bytes());
}
