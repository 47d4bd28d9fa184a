//! What a command line asks of an interpreter or a compiler.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::places::CROSS;

/// What a Python command line runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// A script, a module, or code that calls pip; the count of options before it. Only these run natively.
    Runnable(usize),
    /// Other code, standard input, `--version`, an interactive session: small, or not known.
    Other,
}

/// Splits a Python command line (without the interpreter's name), after `Modules/main.c` and `Python/getopt.c`.
pub(crate) fn python(arguments: &[OsString]) -> Program {
    let mut at = 0;
    while let Some(argument) = arguments.get(at) {
        let bytes = argument.as_bytes();
        match bytes {
            [b'-'] => return Program::Other,
            [b'-', b'-', long @ ..] => {
                if long != b"check-hash-based-pycs" {
                    return Program::Other;
                }
                at += 2;
            }
            [b'-', cluster @ ..] => {
                let mut takes_next = false;
                for (index, letter) in cluster.iter().enumerate() {
                    let last = index + 1 == cluster.len();
                    match letter {
                        b'b' | b'B' | b'd' | b'E' | b'I' | b'O' | b'P' | b'q' | b'R' | b's' | b'S' | b't' | b'u'
                        | b'v' => {}
                        b'X' | b'W' => {
                            takes_next = last;
                            break;
                        }
                        // `-m module`, but `-mmodule` is left to the real one.
                        b'm' if last && index == 0 && arguments.len() > at + 1 => return Program::Runnable(at),
                        b'c' if last
                            && index == 0
                            && arguments.get(at + 1).is_some_and(|code| is_pip(code.as_bytes())) =>
                        {
                            return Program::Runnable(at);
                        }
                        _ => return Program::Other,
                    }
                }
                at += 1 + usize::from(takes_next);
            }
            _ => return Program::Runnable(at),
        }
    }
    Program::Other
}

/// Whether code for `-c` is how `ensurepip` calls pip, or how pip calls a project's `setup.py`: the same work as that of a
/// script. Any other code is likely to ask for the container's own modules, or is too short to matter.
fn is_pip(code: &[u8]) -> bool {
    let has = |text: &[u8]| code.windows(text.len()).any(|window| window == text);
    has(b"runpy.run_module(\"pip\"") || has(b"<pip-setuptools-caller>")
}

/// Whether a compiler call must see the machine that it runs on, or asks for its own paths.
pub(crate) fn compiler_is_personal(arguments: &[OsString]) -> bool {
    let foreign_plugin = arguments.windows(2).any(|pair| {
        // An emulated compiler driver calls the linker with a plugin of its own kind.
        (pair[0] == "-plugin" || pair[0] == "--plugin") && !pair[1].as_bytes().starts_with(CROSS.as_bytes())
    });
    foreign_plugin
        || arguments.iter().any(|argument| {
            let bytes = argument.as_bytes();
            let native = [b"-march=native".as_slice(), b"-mcpu=native", b"-mtune=native"];
            native.contains(&bytes) || bytes.starts_with(b"-print-") || bytes.starts_with(b"--print-")
        })
}
