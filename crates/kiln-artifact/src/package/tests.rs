use std::path::PathBuf;

use proptest::prelude::*;

use super::testing::{Entry, apk, deb, docker, gzip, layout, rpm, special, tar, zip};
use super::*;

const ENTRIES: [Entry<'_>; 2] = [("./usr/bin/hello", b"program", 0o755), ("usr/share/doc/hello", b"text", 0o644)];

fn on_disk(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("package");
    fs_err::write(&path, bytes).unwrap();
    (folder, path)
}

/// Names, contents and modes of all that is installed, and what the package says of itself.
/// Form, members with content and mode, and what the package says of itself.
type Read = (Form, Vec<(String, String, u32)>, Option<Control>);

fn read(bytes: &[u8]) -> Result<Read, PackageError> {
    let (_folder, path) = on_disk(bytes);
    let form = detect(&path)?.ok_or_else(|| PackageError::Unsupported("nothing".to_owned()))?;
    let mut found = Vec::new();
    let control = walk(&path, form, Bounds::default(), &mut |member| {
        let mut text = String::new();
        member.body.read_to_string(&mut text)?;
        if !member.is_control && member.kind == MemberKind::File {
            found.push((member.name, text, member.mode));
        }
        Ok(())
    })?;
    Ok((form, found, control))
}

#[test]
fn every_form_is_told_by_its_content_and_read() {
    let control = "Package: hello\nVersion: 1.0\nArchitecture: arm64\nDepends: libc6 (>= 2.28), libz1\n";
    let info = "pkgname = hello\npkgver = 1.0-r0\narch = aarch64\ndepend = so:libc.musl-aarch64.so.1\n";
    let xz = [0xfd, b'7', b'z', b'X', b'Z', 0, 0, 0];
    let all = [
        (tar(&ENTRIES, true), Form::Tar(None), None),
        (gzip(&tar(&ENTRIES, true)), Form::Tar(Some("gzip")), None),
        (zstd::encode_all(tar(&ENTRIES, true).as_slice(), 1).unwrap(), Form::Tar(Some("zstd")), None),
        (zip(&ENTRIES), Form::Zip, None),
        (deb(control, &ENTRIES), Form::Deb, Some(("arm64", "libc6 (>= 2.28)"))),
        (apk(info, &ENTRIES), Form::Apk, Some(("aarch64", "so:libc.musl-aarch64.so.1"))),
        (rpm("aarch64", "libc.so.6()(64bit)", &ENTRIES), Form::Rpm, Some(("aarch64", "libc.so.6()(64bit)"))),
    ];
    for (bytes, form, said) in all {
        let (found, files, control) = read(&bytes).unwrap_or_else(|error| panic!("{form}: {error}"));
        assert_eq!(found, form);
        let text = |name: &str, text: &str, mode| (name.to_owned(), text.to_owned(), mode);
        assert_eq!(
            files,
            [text("usr/bin/hello", "program", 0o755), text("usr/share/doc/hello", "text", 0o644)],
            "{form}"
        );
        assert_eq!(control.as_ref().map(|c| (c.arch.as_str(), c.depends[0].as_str())), said, "{form}");
        assert!(control.is_none_or(|control| control.name == "hello"), "{form}");
    }
    for bytes in [&b""[..], b"text", b"\x7fELF", &[0; 2000], &gzip(b"text"), &xz] {
        let (_folder, path) = on_disk(bytes);
        assert_eq!(detect(&path).unwrap(), None, "{bytes:?}");
    }
    assert_eq!(detect(tempfile::tempdir().unwrap().path()).unwrap(), None);
}

#[test]
fn images_are_read_wherever_their_layers_lie() {
    let whole = [docker("arm64", &ENTRIES), layout("arm64", &ENTRIES, false)];
    let packed = whole.iter().map(|bytes| gzip(bytes)).collect::<Vec<_>>();
    for bytes in whole.iter().chain(&packed[1..]) {
        let (folder, path) = on_disk(bytes);
        assert_eq!(detect(&path).unwrap(), Some(Form::Image));
        let images = images(&path, Bounds::default(), folder.path()).unwrap();
        assert_eq!((images.len(), images[0].platform.as_str()), (1, "linux/arm64"));
        assert_eq!(images[0].command[0].rsplit('/').next(), Some("hello"));
        let mut names = Vec::new();
        let gather = &mut |member: Member<'_>| {
            names.push(member.name);
            Ok(())
        };
        images[0].walk(Bounds::default(), gather).unwrap();
        assert_eq!(names, ["usr/bin/hello", "usr/share/doc/hello"]);
    }
    let (folder, path) = on_disk(&layout("amd64", &ENTRIES, true));
    let images = images(&path, Bounds::default(), folder.path()).unwrap();
    let error = images[0].walk(Bounds::default(), &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("does not have the digest"), "{error}");
}

#[test]
fn what_leads_out_is_refused() {
    let bad: [Entry<'_>; 1] = [("a/../../etc/passwd", b"x", 0o644)];
    let hard = [special(::tar::EntryType::Link, "h", "../../etc/shadow"), vec![0; 1024]].concat();
    for bytes in [
        tar(&bad, true),
        zip(&bad),
        deb("Package: x\n", &bad),
        apk("pkgname = x\n", &bad),
        rpm("x86_64", "x", &bad),
        hard,
    ] {
        let error = read(&bytes).unwrap_err();
        assert!(matches!(error, PackageError::Unsafe { .. }), "{error:?}");
        assert!(error.to_string().contains("leads out"), "{error}");
    }
    // An absolute name is one below the folder.
    assert_eq!(read(&tar(&[("/etc/passwd", b"x", 0o644)], true)).unwrap().1[0].0, "etc/passwd");
}

#[test]
fn nothing_is_unpacked_through_a_link() {
    let link = special(::tar::EntryType::Symlink, "l", "../outside");
    let through = [link.clone(), tar(&[("l/x", b"bad", 0o644)], true)].concat();
    let (folder, path) = on_disk(&through);
    let root = folder.path().join("root");
    fs_err::create_dir(&root).unwrap();
    fs_err::create_dir(folder.path().join("outside")).unwrap();
    let error = unpack(&path, Form::Tar(None), Bounds::default(), &root).unwrap_err();
    assert!(matches!(error, PackageError::Unsafe { .. }), "{error:?}");
    assert!(!folder.path().join("outside/x").exists());
    let replaced = [link, tar(&[("l", b"mine", 0o755), ("d/e", b"x", 0o600)], true)].concat();
    fs_err::write(&path, replaced).unwrap();
    fs_err::remove_dir_all(&root).unwrap();
    fs_err::create_dir(&root).unwrap();
    unpack(&path, Form::Tar(None), Bounds::default(), &root).unwrap();
    assert_eq!(fs_err::read_to_string(root.join("l")).unwrap(), "mine");
    assert_eq!(fs_err::read_to_string(root.join("d/e")).unwrap(), "x");
}

#[test]
fn traps_are_told_by_their_size() {
    // A megabyte of zeros takes some hundred bytes with zstd; limits are those of a test.
    let zeros = vec![0; 1 << 20];
    let entries: Vec<Entry<'_>> = (0..8).map(|_| ("zeros", zeros.as_slice(), 0o644)).collect();
    let bytes = zstd::encode_all(tar(&entries, true).as_slice(), 19).unwrap();
    let (_folder, path) = on_disk(&bytes);
    let read = |bounds: Bounds| {
        let visit =
            &mut |member: Member<'_>| io::copy(member.body, &mut io::sink()).map(drop).map_err(PackageError::from);
        walk(&path, Form::Tar(Some("zstd")), bounds, visit).map(drop)
    };
    read(Bounds::default()).unwrap();
    for bounds in [
        Bounds { bytes: 2 << 20, ..Bounds::default() },
        Bounds { members: 4, ..Bounds::default() },
        Bounds { bytes: 4 << 20, ratio: 10, ..Bounds::default() },
    ] {
        let error = read(bounds).unwrap_err();
        assert!(matches!(error, PackageError::TooLarge { .. }), "{bounds:?}: {error:?}");
    }
}

#[test]
fn what_is_cut_off_is_damaged() {
    let whole =
        [deb("Package: x\n", &ENTRIES), rpm("x86_64", "x", &ENTRIES), gzip(&tar(&ENTRIES, true)), zip(&ENTRIES)];
    for bytes in whole {
        let error = read(&bytes[..bytes.len() - bytes.len() / 4]).unwrap_err();
        assert!(matches!(error, PackageError::Damaged { .. } | PackageError::Unsupported(_)), "{error:?}");
    }
}

proptest! {
    /// A byte changed anywhere in any form: any answer but a panic.
    #[test]
    fn hostile_packages_do_not_panic(at in any::<prop::sample::Index>(), value in any::<u8>(), form in 0..7_usize) {
        let mut bytes = match form {
            0 => deb("Package: x\nArchitecture: amd64\n", &ENTRIES),
            1 => rpm("x86_64", "x", &ENTRIES),
            2 => apk("pkgname = x\n", &ENTRIES),
            3 => zip(&ENTRIES),
            4 => docker("amd64", &ENTRIES),
            5 => layout("amd64", &ENTRIES, false),
            _ => tar(&ENTRIES, true),
        };
        let at = at.index(bytes.len());
        bytes[at] = value;
        let _ = read(&bytes);
        let (folder, path) = on_disk(&bytes);
        if let Ok(images) = images(&path, Bounds::default(), folder.path()) {
            for image in images {
                let _ = image.walk(Bounds::default(), &mut |_| Ok(()));
            }
        }
    }
}
