use std::ffi::OsString;
use std::path::Path;

use super::options::{Program, compiler_is_personal, python};
use super::{elf, ldcache, places};

fn words(line: &str) -> Vec<OsString> {
    line.split(' ').map(OsString::from).collect()
}

#[test]
fn scripts_and_modules_run_natively() {
    for (line, at) in [
        ("main.py", 0),
        ("main.py -c x", 0),
        ("-m nuitka --version", 0),
        ("-X frozen_modules=off -S /venv/nuitka/__main__.py", 3),
        ("-Xdev -W ignore scons.py --quiet", 3),
        ("-IBu -m pip install x", 1),
        ("-OO -m compileall", 1),
        ("--check-hash-based-pycs always main.py", 2),
    ] {
        assert_eq!(python(&words(line)), Program::Runnable(at), "{line}");
    }
}

#[test]
fn other_code_and_questions_are_left_to_the_containers_interpreter() {
    for line in
        ["-c print(1)", "-", "-V", "--version", "-i main.py", "-Sc 1", "-X dev", "-W", "-mnuitka", "-h", "--help-all"]
    {
        assert_eq!(python(&words(line)), Program::Other, "{line}");
    }
    assert_eq!(python(&[]), Program::Other);
    // pip's own ways are as good as a script.
    for code in ["import runpy; runpy.run_module(\"pip\", run_name=\"__main__\")", "exec('# <pip-setuptools-caller>')"]
    {
        let line = ["-W", "ignore", "-c", code].map(OsString::from);
        assert_eq!(python(&line), Program::Runnable(2), "{code}");
    }
}

#[test]
fn compilers_that_look_at_their_machine_are_the_containers_own() {
    assert!(!compiler_is_personal(&words("-O2 -march=armv8-a -o a a.c")));
    assert!(compiler_is_personal(&words("-O2 -march=native -c a.c")));
    assert!(compiler_is_personal(&words("-print-file-name=libc.so")));
    assert!(compiler_is_personal(&words("-plugin /usr/lib/gcc/aarch64-linux-gnu/12/liblto_plugin.so -o a")));
    assert!(!compiler_is_personal(&words("-plugin /dev/cross/usr/lib/gcc-cross/x/12/liblto_plugin.so -o a")));
}

/// `/etc/ld.so.cache` with these libraries, after glibc's `dl-cache.h`.
fn cache(libraries: &[(&str, &str)]) -> Vec<u8> {
    let mut strings = Vec::new();
    let mut entries = Vec::new();
    let base = 48 + 24 * libraries.len();
    let mut add = |text: &str| {
        let at = u32::try_from(base + strings.len()).unwrap();
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
        at
    };
    for (name, path) in libraries {
        let (key, value) = (add(name), add(path));
        for word in [0x303_u32, key, value, 0, 7, 0] {
            entries.extend_from_slice(&word.to_le_bytes());
        }
    }
    let mut file = b"glibc-ld.so.cache1.1".to_vec();
    file.extend_from_slice(&u32::try_from(libraries.len()).unwrap().to_le_bytes());
    file.extend_from_slice(&u32::try_from(strings.len()).unwrap().to_le_bytes());
    file.extend_from_slice(&[2, 0, 0, 0, 99, 0, 0, 0]);
    file.resize(48, 0);
    [file, entries, strings].concat()
}

#[test]
fn the_loaders_cache_leads_below_another_root() {
    let libraries = [("libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6"), ("libz.so.1", "/usr/local/lib/libz.so.1")];
    let moved = ldcache::moved(&cache(&libraries), "/dev/native").unwrap();
    let expected = libraries.map(|(name, path)| (name, format!("/dev/native{path}")));
    let mut expected = cache(&expected.each_ref().map(|(name, path)| (*name, path.as_str())));
    // The offset of extensions is gone with them.
    expected[32..36].fill(0);
    assert_eq!(moved, expected);
    // An old header in front is left out.
    let old = [b"ld.so-1.7.0\0\0\0\0\0".to_vec(), cache(&libraries)].concat();
    assert_eq!(ldcache::moved(&old, "/dev/native").unwrap(), expected);
}

#[test]
fn a_broken_cache_is_none() {
    let whole = cache(&[("libc.so.6", "/lib/libc.so.6")]);
    for length in 0..whole.len() {
        assert!(ldcache::moved(&whole[..length], "/dev/native").is_none(), "{length}");
    }
    let mut wild = whole.clone();
    wild[20..24].fill(0xff);
    assert!(ldcache::moved(&wild, "/dev/native").is_none());
}

#[test]
fn heads_tell_machines() {
    let mut head = [0; 64];
    head[..6].copy_from_slice(b"\x7fELF\x02\x01");
    (head[16], head[18]) = (3, 183);
    let found = elf::head(&head).unwrap();
    assert_eq!((found.machine, found.kind), (183, 3));
    head[5] = 2;
    assert_eq!(elf::head(&head).unwrap().machine, 183 << 8);
    assert_eq!(elf::head(b"#!/bin/sh"), None);
    assert_ne!(elf::OWN, 0);
}

#[test]
fn a_loaders_path_is_replaced_in_its_place() {
    // One program header, at 64; the path behind it.
    let mut file = vec![0; 64 + 56];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    (file[16], file[18], file[32], file[54], file[56]) = (3, 62, 64, 56, 1);
    let path = b"/lib64/ld-linux-x86-64.so.2\0";
    (file[64], file[72], file[96]) = (3, 120, u8::try_from(path.len()).unwrap());
    file.extend_from_slice(path);
    let (offset, room) = elf::interpreter(&file).unwrap();
    assert_eq!((offset, room), (120, path.len()));
    assert!(elf::overwrite(&mut file, offset, room, "/dev/native/lib/ld"));
    assert!(file[offset..].starts_with(b"/dev/native/lib/ld\0"));
    assert!(!elf::overwrite(&mut file, offset, room, &"x".repeat(path.len())));
    for length in 0..file.len() {
        assert!(elf::interpreter(&file[..length]).is_none(), "{length}");
    }
    assert!(!elf::is_dynamic(Path::new("/nonexistent")));
}

#[test]
fn a_32_bit_programs_loader_is_found_in_either_order_of_bytes() {
    let path = b"/lib/ld-linux.so.2\0";
    for big in [false, true] {
        let mut file = vec![0; 52 + 32];
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 1, if big { 2 } else { 1 }]);
        let mut put = |at: usize, size: usize, value: u8| file[if big { at + size - 1 } else { at }] = value;
        // Type, machine; program headers: where, size, count; the segment: type, offset, size.
        for (at, size, value) in [(16, 2, 3), (18, 2, 3), (28, 4, 52), (42, 2, 32), (44, 2, 1)] {
            put(at, size, value);
        }
        for (at, value) in [(52, 3), (56, 84), (68, u8::try_from(path.len()).unwrap())] {
            put(at, 4, value);
        }
        file.extend_from_slice(path);
        assert_eq!(elf::interpreter(&file), Some((84, path.len())), "{big}");
        // Exactly as long as what replaces it.
        assert!(elf::overwrite(&mut file, 84, path.len(), "/dev/native/lib/ld"));
        for length in 0..file.len() {
            assert!(elf::interpreter(&file[..length]).is_none(), "{length}");
        }
    }
}

#[test]
fn files_tell_their_machine() {
    let own = std::env::current_exe().unwrap();
    assert_eq!(elf::head_of(&own).unwrap().machine, elf::OWN);
    assert!(elf::is_dynamic(&own));
    assert_eq!(elf::head_of(Path::new("/nonexistent")), None);
}

#[test]
fn native_programs_are_of_the_targets_width() {
    use kiln_graph::Arch;
    assert_eq!(crate::stands_in(Arch::Amd64, Arch::Arm64), Some(Arch::Amd64));
    assert_eq!(crate::stands_in(Arch::Amd64, Arch::S390x), Some(Arch::Amd64));
    assert_eq!(crate::stands_in(Arch::Amd64, Arch::ArmV7), Some(Arch::I386));
    assert_eq!(crate::stands_in(Arch::Arm64, Arch::Amd64), Some(Arch::Arm64));
    // What the daemon's machine runs by itself, and what nothing here can stand in for.
    for (daemon, target) in [(Arch::Amd64, Arch::Amd64), (Arch::Amd64, Arch::I386), (Arch::Arm64, Arch::I386)] {
        assert_eq!(crate::stands_in(daemon, target), None, "{target:?} on {daemon:?}");
    }
}

#[test]
fn places_agree_with_the_program() {
    assert_eq!((places::NATIVE, places::CROSS), (crate::NATIVE, crate::CROSS));
    assert_eq!(places::SHIM, crate::PROGRAM);
    assert!(places::is_shim(places::SHIM.as_ref()) && !places::is_shim("python3".as_ref()));
    assert_eq!(places::below("/dev/native", Path::new("/usr/bin")), Path::new("/dev/native/usr/bin"));
}
