//! Python in disguise: the native interpreter runs the container's program with the container's prefix, standard library
//! and packages, and poses as the container's interpreter.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::options::{self, Program};
use crate::places::{FACTS, LAUNCH, PROBE};
use crate::standin::{emulated, log};

/// The file with the container's facts, for the launcher.
const FACTS_VARIABLE: &str = "KILN_TWIN_FACTS";

/// Facts that are told to the native interpreter instead of compared: they name the machine, or are text for people.
const TOLD: [&str; 6] = ["version", "machine", "multiarch", "suffixes", "git", LIBM];
/// What the C library's functions give. Where they differ, only what is known not to depend on them runs natively.
const LIBM: &str = "libm";
/// What kiln's recipes run Nuitka with: it must be native for that to be.
const RECIPE: &str = "/kiln/bake.py";
/// The line that says so to the launcher, and to later calls.
const LIBM_DIFFERS: &str = "libm_differs\tTrue\n";

/// Becomes the native interpreter, or the container's if that must be.
pub(crate) fn run(program: &Path, tool: &Path, shown: &OsStr, arguments: &[OsString]) -> io::Error {
    // An interpreter that is started by its name alone looks for itself in the path, where it would find this program.
    let shown = if shown.as_bytes().contains(&b'/') { shown } else { tool.as_os_str() };
    let Program::Runnable(options) = options::python(arguments) else {
        return emulated(tool, shown, arguments, "it runs neither a module nor a script");
    };
    let facts = match facts(program, tool) {
        Ok(facts) => facts,
        Err(why) => return emulated(tool, shown, arguments, &why),
    };
    if !is_exact(&arguments[options..]) && fs::read_to_string(&facts).is_ok_and(|facts| facts.contains(LIBM_DIFFERS)) {
        return emulated(tool, shown, arguments, "it may compute with functions that differ from the container's");
    }
    log("native", tool, program, arguments);
    // The interpreter finds its prefix by its name: that of the container's interpreter, absolute.
    let name = if tool.is_absolute() { tool.to_owned() } else { std::path::absolute(tool).unwrap_or_else(|_| tool.into()) };
    Command::new(program)
        .arg0(name)
        .args(&arguments[..options])
        .arg(LAUNCH)
        .args(&arguments[options..])
        .env(FACTS_VARIABLE, facts)
        .exec()
}

/// Whether a program is known to compute nothing by the C library's functions, or to ask the container's interpreter:
/// Nuitka (`launch.py`) and pip, but not the build scripts that pip runs.
fn is_exact(program: &[OsString]) -> bool {
    let is_known = |name: &str| ["nuitka", "pip", "ensurepip", "venv"].iter().any(|known| name.starts_with(known));
    match program {
        [option, module, ..] if option == "-m" => module.to_str().is_some_and(is_known),
        [script, ..] => {
            let path = Path::new(script);
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            path == Path::new(RECIPE) || is_known(name) || path.components().any(|part| part.as_os_str() == "nuitka")
        }
        [] => false,
    }
}

/// The file of facts about the container's interpreter, if the native one agrees with it; else why not.
fn facts(program: &Path, tool: &Path) -> Result<PathBuf, String> {
    let canonical = fs::canonicalize(tool).map_err(|error| error.to_string())?;
    let name: String =
        canonical.as_os_str().as_bytes().iter().map(|b| if b.is_ascii_alphanumeric() { char::from(*b) } else { '_' }).collect();
    let file = Path::new(FACTS).join(&name);
    let refused = Path::new(FACTS).join(format!("{name}.refused"));
    if file.exists() {
        return Ok(file);
    }
    if let Ok(why) = fs::read_to_string(&refused) {
        return Err(why);
    }
    let asked = ask(&canonical).and_then(|target| Ok((ask(program)?, target)));
    let outcome = asked.and_then(|(native, target)| {
        let end = if native.get(LIBM) == target.get(LIBM) { "" } else { LIBM_DIFFERS };
        compare(&native, &target).map(|()| (target, end))
    });
    let keep = |path: &Path, text: &str| {
        // Another process may be at it, too: each writes a file of its own and puts it in place whole.
        let own = Path::new(FACTS).join(format!("{name}.{}", std::process::id()));
        fs::create_dir_all(FACTS).and_then(|()| fs::write(&own, text)).and_then(|()| fs::rename(&own, path))
    };
    match outcome {
        Ok((target, end)) => {
            let lines: Vec<String> = target.iter().map(|(name, value)| format!("{name}\t{value}\n")).collect();
            keep(&file, &(lines.concat() + end)).map_err(|error| format!("{FACTS}: {error}"))?;
            Ok(file)
        }
        Err(why) => {
            // Loud: a step that is slow for this reason must say so. Once, because it is remembered.
            if keep(&refused, &why).is_ok() {
                eprintln!("kiln: twin: {} stays emulated: {why}", tool.display());
            }
            Err(why)
        }
    }
}

/// What an interpreter says of itself.
fn ask(interpreter: &Path) -> Result<BTreeMap<String, String>, String> {
    let asked = Command::new(interpreter).args(["-I", "-S", PROBE]).env_remove("PYTHONHOME").output();
    let printed = asked.map_err(|error| format!("{}: {error}", interpreter.display()))?;
    if !printed.status.success() {
        let text = String::from_utf8_lossy(&printed.stderr);
        let last = text.trim().lines().last().unwrap_or("it ended without a word").to_owned();
        return Err(format!("{} cannot be asked about itself: {last}", interpreter.display()));
    }
    let text = String::from_utf8_lossy(&printed.stdout);
    Ok(text.lines().filter_map(|line| line.split_once('\t')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect())
}

/// Both interpreters must agree in all that ends up in a program.
fn compare(native: &BTreeMap<String, String>, target: &BTreeMap<String, String>) -> Result<(), String> {
    let names = native.keys().chain(target.keys());
    for name in names.filter(|name| !TOLD.contains(&name.as_str())) {
        let (ours, theirs) = (native.get(name), target.get(name));
        if ours != theirs {
            let text = |value: Option<&String>| value.map_or("nothing", String::as_str).to_owned();
            return Err(format!("the native interpreter has {name} {}, this one {}", text(ours), text(theirs)));
        }
    }
    Ok(())
}
