//! A library that glibc's loader puts into every native program: what such a program executes by path goes through
//! `kiln-twin`, unless it is a native program itself. So a native shell finds the native Python behind
//! `/usr/bin/python3`, and a script's own interpreter line leads to a native shell.
//!
//! Compiled by the build script to a shared library without dependencies; the few symbols it asks for are in every
//! libc. The native loader loads it, because its list of preloaded libraries is in the native root (`fill.rs`).

#![no_std]
#![allow(unsafe_code, reason = "a library below libc")]

use core::arch::asm;
use core::ffi::{c_char, c_int};
use core::ptr;

const SHIM: &[u8] = b"/dev/kiln/twin/kiln-twin\0";
/// Arguments beyond this leave a command to the kernel.
const MOST: usize = 4000;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const OPENAT: usize = 257;
    pub const READ: usize = 0;
    pub const CLOSE: usize = 3;
    pub const EXECVE: usize = 59;
    /// `e_machine` of our own programs: both words of this machine run natively.
    pub const OWN: [u8; 2] = [62, 3];
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const OPENAT: usize = 56;
    pub const READ: usize = 63;
    pub const CLOSE: usize = 57;
    pub const EXECVE: usize = 221;
    pub const OWN: [u8; 2] = [183, 183];
}

unsafe extern "C" {
    static environ: *const *const c_char;
    fn __errno_location() -> *mut c_int;
}

/// The prebuilt core library asks for it; nothing unwinds here.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            out("rcx") _, out("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d, options(nostack));
    }
    result
}

/// Executes, and sets `errno` if that fails.
unsafe fn execute(path: *const c_char, argv: *const *const c_char, envp: *const *const c_char) -> c_int {
    let result = unsafe { call(number::EXECVE, path as usize, argv as usize, envp as usize, 0) };
    unsafe { *__errno_location() = -result as c_int };
    -1
}

/// Whether kiln's program decides about the file: a script, or a program of another machine.
unsafe fn is_foreign(path: *const c_char) -> bool {
    const HERE: isize = -100;
    const CLOSE_ON_EXEC: usize = 0o2000000;
    let file = unsafe { call(number::OPENAT, HERE as usize, path as usize, CLOSE_ON_EXEC, 0) };
    if file < 0 {
        return false;
    }
    let mut head = [0u8; 20];
    let read = unsafe { call(number::READ, file as usize, head.as_mut_ptr() as usize, head.len(), 0) };
    unsafe { call(number::CLOSE, file as usize, 0, 0, 0) };
    if read < 2 {
        return false;
    }
    if head[0] == b'#' && head[1] == b'!' {
        return true;
    }
    let is_program = read == 20 && head[0] == 0x7f && head[1] == b'E' && head[2] == b'L' && head[3] == b'F';
    is_program && !(head[19] == 0 && (head[18] == number::OWN[0] || head[18] == number::OWN[1]))
}

unsafe fn length(text: *const c_char) -> usize {
    let mut count = 0;
    while unsafe { *text.add(count) } != 0 {
        count += 1;
    }
    count
}

/// Where the last component of a path begins; `None` without a slash.
unsafe fn base(path: *const c_char) -> Option<*const c_char> {
    let mut at = unsafe { length(path) };
    while at > 0 {
        if unsafe { *path.add(at - 1) } == b'/' as c_char {
            return Some(unsafe { path.add(at) });
        }
        at -= 1;
    }
    None
}

unsafe fn same(left: *const c_char, right: *const c_char) -> bool {
    let mut at = 0;
    loop {
        let (l, r) = unsafe { (*left.add(at), *right.add(at)) };
        if l != r {
            return false;
        }
        if l == 0 {
            return true;
        }
        at += 1;
    }
}

/// `execve(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execve(
    path: *const c_char,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> c_int {
    unsafe {
        let first = if argv.is_null() { ptr::null() } else { *argv };
        let named = match base(path) {
            // Who gives a program another name than its own wants that name seen.
            Some(name) if !first.is_null() => same(name, base(first).unwrap_or(first)),
            _ => false,
        };
        if !named || !is_foreign(path) {
            return execute(path, argv, envp);
        }
        let mut list = [ptr::null::<c_char>(); MOST + 2];
        list[0] = path;
        let mut count = 1;
        while !(*argv.add(count)).is_null() {
            if count > MOST {
                return execute(path, argv, envp);
            }
            list[count] = *argv.add(count);
            count += 1;
        }
        execute(SHIM.as_ptr().cast(), list.as_ptr(), envp)
    }
}

/// `execv(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execv(path: *const c_char, argv: *const *const c_char) -> c_int {
    unsafe { execve(path, argv, environ) }
}

/// `execvp(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvp(file: *const c_char, argv: *const *const c_char) -> c_int {
    unsafe { execvpe(file, argv, environ) }
}

/// `execvpe(3)`. A file that the kernel does not know is not handed to a shell: whoever wants that asks for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvpe(
    file: *const c_char,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> c_int {
    const NOT_FOUND: c_int = 2;
    const NO_PERMISSION: c_int = 13;
    const NOT_A_FOLDER: c_int = 20;
    unsafe {
        if base(file).is_some() {
            return execve(file, argv, envp);
        }
        let mut folder = search_path();
        let name = length(file);
        let mut denied = false;
        loop {
            let mut size = 0;
            while *folder.add(size) != 0 && *folder.add(size) != b':' as c_char {
                size += 1;
            }
            let mut whole = [0 as c_char; 4096];
            if size + name + 2 < whole.len() {
                let mut at = 0;
                while at < size {
                    whole[at] = *folder.add(at);
                    at += 1;
                }
                if size == 0 {
                    whole[at] = b'.' as c_char;
                    at += 1;
                }
                whole[at] = b'/' as c_char;
                at += 1;
                let mut letter = 0;
                while letter < name {
                    whole[at + letter] = *file.add(letter);
                    letter += 1;
                }
                execve(whole.as_ptr(), argv, envp);
                match *__errno_location() {
                    NOT_FOUND | NOT_A_FOLDER => {}
                    NO_PERMISSION => denied = true,
                    _ => return -1,
                }
            }
            if *folder.add(size) == 0 {
                break;
            }
            folder = folder.add(size + 1);
        }
        *__errno_location() = if denied { NO_PERMISSION } else { NOT_FOUND };
        -1
    }
}

/// The value of `PATH`, else what libc takes.
unsafe fn search_path() -> *const c_char {
    const DEFAULT: &[u8] = b"/bin:/usr/bin\0";
    let mut at = unsafe { environ };
    while !at.is_null() && unsafe { !(*at).is_null() } {
        let entry = unsafe { *at };
        let mut matched = 0;
        while matched < 5 && unsafe { *entry.add(matched) } == b"PATH="[matched] as c_char {
            matched += 1;
        }
        if matched == 5 {
            return unsafe { entry.add(5) };
        }
        at = unsafe { at.add(1) };
    }
    DEFAULT.as_ptr().cast()
}
