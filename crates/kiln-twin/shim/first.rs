//! The first process of a container whose command is emulated.
//!
//! An emulator ends as its program does: by raising the signal for itself. For the first process of a container that has no
//! effect, so a program that crashes there would hang for good. Whatever else is the first can say how it ended.

use std::ffi::OsString;
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::enter::not_started;
use crate::serve::{kill, signal, wait};

/// Signals that are passed on: hang-up, interrupt, quit, those of users, terminate.
const PASSED: [i32; 6] = [1, 2, 3, 10, 12, 15];

/// The command, when it has started.
static CHILD: AtomicI32 = AtomicI32::new(0);

extern "C" fn pass(number: i32) {
    let child = CHILD.load(Ordering::Relaxed);
    if child > 0 {
        // SAFETY: a plain system call.
        unsafe { kill(child, number) };
    }
}

/// `first COMMAND...`: runs the command; its exit code, or that of a shell if a signal ended it.
pub(crate) fn run(command: &[OsString]) -> i32 {
    let Some((program, arguments)) = command.split_first() else {
        eprintln!("kiln-twin: first: no command");
        return 2;
    };
    for number in PASSED {
        // SAFETY: the handler does nothing that may not be done there.
        unsafe { signal(number, pass) };
    }
    match Command::new(program).args(arguments).spawn() {
        Ok(child) => {
            CHILD.store(child.id() as i32, Ordering::Relaxed);
            wait(Some(child.id() as i32))
        }
        Err(error) => {
            // In the words of a runtime; `kiln_twin::NOT_STARTED` is how it begins.
            eprintln!("kiln-twin: first: {}: {}", program.display(), error.to_string().to_lowercase());
            not_started(&error)
        }
    }
}
