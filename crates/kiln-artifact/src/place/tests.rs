use tar::{Builder, EntryType, Header};

use super::*;
use crate::checksum::Sha256;

/// Type, path, link or content, mode.
type Raw<'a> = (EntryType, &'a str, &'a str, u32);

/// An archive. Paths are written raw, since `tar` refuses to write unsafe ones.
fn archive(entries: &[Raw]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, path, text, mode) in entries {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if is_link {
            header.as_gnu_mut().unwrap().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        let content = if is_link { "" } else { *text };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs_err::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs_err::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_goes_from_archive_to_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new/dist");
    let staging = Staging::new(&out).unwrap();
    assert_eq!(staging.path().parent(), Some(out.as_path()));
    let bytes = archive(&[
        (EntryType::Directory, "out/", "", 0o755),
        (EntryType::Regular, "out/hello", "program", 0o4755),
        (EntryType::Symlink, "out/link", "hello", 0o777),
        (EntryType::Link, "out/again", "out/hello", 0o755),
        (EntryType::Regular, "./out/sub/data", "data", 0o640),
    ]);
    let files = extract_tar(bytes.as_slice(), staging.path(), 1, Manner::Program).unwrap();
    let paths: Vec<_> = files.iter().map(|file| file.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["again", "hello", "sub/data"]);
    assert_eq!((files[1].size, files[1].mode, files[1].sha256), (7, 0o755, Sha256::of("program")));
    let placed = staging.commit(&[Placement::new("hello", "hello-linux-x86_64"), Placement::same("sub")]).unwrap();
    assert_eq!(placed, [out.join("hello-linux-x86_64"), out.join("sub")]);
    assert_eq!(names(&out), ["hello-linux-x86_64", "sub"]);
    assert_eq!(mode(&placed[0]), 0o755);
    assert_eq!(mode(&out.join("sub/data")), 0o640);
}

#[test]
fn unsafe_entries_are_refused_and_nothing_leaves_the_folder() {
    use EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};
    let outside = |target: &str| UnsafeReason::LinkOutside { target: target.into() };
    let missing = |target: &str| UnsafeReason::LinkMissing { target: target.into() };
    let cases: Vec<(Vec<Raw>, UnsafeReason)> = vec![
        (vec![(Regular, "/etc/passwd", "x", 0o644)], UnsafeReason::Absolute),
        (vec![(Regular, "../evil", "x", 0o644)], UnsafeReason::Parent),
        (vec![(Regular, "a/../../evil", "x", 0o644)], UnsafeReason::Parent),
        (vec![(Symlink, "link", "/etc", 0o777)], outside("/etc")),
        (vec![(Symlink, "link", "..", 0o777)], outside("..")),
        (vec![(Directory, "a", "", 0o755), (Symlink, "a/link", "../../x", 0o777)], outside("../../x")),
        (vec![(Symlink, "a", ".", 0o777), (Symlink, "b", "a/..", 0o777)], outside("a/..")),
        (vec![(Symlink, "a", "b", 0o777), (Regular, "a/file", "x", 0o644)], UnsafeReason::BelowLink),
        (
            vec![(Directory, "b", "", 0o755), (Symlink, "a", "b", 0o777), (Regular, "a/f", "x", 0o644)],
            UnsafeReason::BelowLink,
        ),
        (vec![(Regular, "a", "x", 0o644), (Regular, "a/file", "x", 0o644)], UnsafeReason::BelowLink),
        (vec![(Link, "a", "/etc/passwd", 0o644)], UnsafeReason::Absolute),
        (vec![(Link, "a", "b", 0o644)], missing("b")),
        (vec![(Symlink, "s", "b", 0o777), (Link, "a", "s", 0o644)], missing("s")),
        (vec![(Directory, "a", "", 0o755), (Regular, "a", "x", 0o644)], UnsafeReason::Clash),
        (vec![(Char, "null", "", 0o666)], UnsafeReason::Special),
        (vec![(Block, "disk", "", 0o666)], UnsafeReason::Special),
        (vec![(Fifo, "pipe", "", 0o666)], UnsafeReason::Special),
    ];
    for (entries, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let staging = Staging::new(folder.path()).unwrap();
        let error = extract_tar(archive(&entries).as_slice(), staging.path(), 0, Manner::Program).unwrap_err();
        let PlaceError::UnsafeEntry { reason, .. } = &error else { panic!("{entries:?}: {error:?}") };
        assert_eq!(*reason, expected, "{entries:?}");
        assert!(error.hint().is_some());
        drop(staging);
        assert_eq!(names(folder.path()), [""; 0], "{entries:?}");
    }
}

#[test]
fn folders_without_permissions_can_be_filled_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let staging = Staging::new(folder.path()).unwrap();
    let bytes = archive(&[(EntryType::Directory, "a/", "", 0o055), (EntryType::Regular, "a/b", "x", 0o044)]);
    extract_tar(bytes.as_slice(), staging.path(), 0, Manner::Program).unwrap();
    assert_eq!((mode(&staging.path().join("a")), mode(&staging.path().join("a/b"))), (0o755, 0o444));
}

#[test]
fn a_cut_archive_is_an_error_of_reading() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = archive(&[(EntryType::Regular, "a", "x", 0o644), (EntryType::Regular, "b", &"y".repeat(3000), 0o644)]);
    for cut in [0, 700, 1024, 1100, 2000] {
        let target = folder.path().join(cut.to_string());
        fs_err::create_dir(&target).unwrap();
        let error = extract_tar(&bytes[..cut], &target, 0, Manner::Program).unwrap_err();
        assert!(matches!(error, PlaceError::Archive { .. }), "{cut}: {error:?}");
    }
}

#[test]
fn a_commit_replaces_what_is_there_by_a_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("hello");
    fs_err::write(&target, "old").unwrap();
    let held = File::open(&target).unwrap();
    let staging = Staging::new(folder.path()).unwrap();
    fs_err::write(staging.path().join("hello"), "new").unwrap();
    staging.commit(&[Placement::same("hello")]).unwrap();
    assert_eq!(fs_err::read_to_string(&target).unwrap(), "new");
    assert_eq!(io::read_to_string(held).unwrap(), "old");
    let staging = Staging::new(folder.path()).unwrap();
    fs_err::create_dir_all(staging.path().join("hello/sub")).unwrap();
    staging.commit(&[Placement::same("hello")]).unwrap();
    let staging = Staging::new(folder.path()).unwrap();
    fs_err::write(staging.path().join("hello"), "file again").unwrap();
    fs_err::write(staging.path().join("also"), "").unwrap();
    assert_eq!(staging.commit_all().unwrap(), [folder.path().join("also"), target.clone()]);
    assert_eq!(fs_err::read_to_string(&target).unwrap(), "file again");
    assert_eq!(names(folder.path()), ["also", "hello"]);
}

#[test]
fn a_commit_that_fails_puts_back_what_it_placed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    fs_err::write(out.join("a"), "old").unwrap();
    fs_err::create_dir(out.join("d")).unwrap();
    fs_err::write(out.join("d/old"), "old").unwrap();
    let too_long = "c".repeat(300);
    let staging = Staging::new(out).unwrap();
    for name in ["a", "b", "d", "c"] {
        fs_err::write(staging.path().join(name), "new").unwrap();
    }
    let placements = ["a", "b", "d"].map(Placement::same).into_iter();
    let placements: Vec<_> = placements.chain([Placement::new("c", &too_long)]).collect();
    let error = staging.commit(&placements).unwrap_err();
    assert!(matches!(&error, PlaceError::Place { path, .. } if path.ends_with(&too_long)), "{error:?}");
    assert_eq!(fs_err::read_to_string(out.join("a")).unwrap(), "old");
    assert_eq!(fs_err::read_to_string(out.join("d/old")).unwrap(), "old");
    assert_eq!(names(out), ["a", "d"]);
}

#[test]
fn nothing_is_placed_through_a_link() {
    let elsewhere = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    for name in ["lib", "empty"] {
        std::os::unix::fs::symlink(elsewhere.path(), out.join(name)).unwrap();
    }
    let staging = Staging::new(out).unwrap();
    fs_err::create_dir_all(staging.path().join("lib/deep")).unwrap();
    fs_err::write(staging.path().join("lib/deep/f"), "new").unwrap();
    staging.commit(&[Placement::same("lib/deep/f")]).unwrap();
    make_folder(out, Path::new("empty"), Permissions::from_mode(0o700)).unwrap();
    assert_eq!(names(elsewhere.path()), [""; 0]);
    assert_eq!(fs_err::read_to_string(out.join("lib/deep/f")).unwrap(), "new");
    assert!(out.join("lib").symlink_metadata().unwrap().is_dir());
    assert_eq!(mode(&out.join("empty")), 0o700);
    assert_eq!(names(out), ["empty", "lib"]);
}

#[test]
fn a_file_system_is_taken_as_it_is() {
    use EntryType::{Char, Fifo, Regular, Symlink};
    let folder = tempfile::tempdir().unwrap();
    let staging = Staging::new(folder.path()).unwrap();
    let entries = [
        (Symlink, "etc/mtab", "/proc/mounts", 0o777),
        (Symlink, "up", "../../x", 0o777),
        (Fifo, "pipe", "", 0o622),
        (Regular, "su", "x", 0o4755),
    ];
    extract_tar(archive(&entries).as_slice(), staging.path(), 0, Manner::Files).unwrap();
    let link = |name: &str| fs_err::read_link(staging.path().join(name)).unwrap();
    assert_eq!((link("etc/mtab"), link("up")), (Path::new("/proc/mounts").into(), Path::new("../../x").into()));
    assert_eq!(fs_err::symlink_metadata(staging.path().join("pipe")).unwrap().mode(), 0o010_622);
    assert_eq!(fs_err::metadata(staging.path().join("su")).unwrap().mode(), 0o104_755);
    // Nothing is written through what leads out.
    for entries in [[(Symlink, "x", "/tmp", 0o777), (Regular, "x/f", "", 0o644)], [(Char, "null", "", 0o666); 2]] {
        let error = extract_tar(archive(&entries).as_slice(), staging.path(), 0, Manner::Files).unwrap_err();
        assert!(matches!(error, PlaceError::UnsafeEntry { .. }), "{error:?}");
    }
}

#[test]
fn placements_stay_inside() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [("a", "../a"), ("../a", "a"), ("a", "/tmp/a"), ("a", "")] {
        let staging = Staging::new(folder.path()).unwrap();
        fs_err::write(staging.path().join("a"), "").unwrap();
        let error = staging.commit(&[Placement::new(from, to)]).unwrap_err();
        assert!(matches!(error, PlaceError::UnsafePlacement { .. }), "{from} {to}");
    }
}

#[test]
fn a_sweep_removes_the_dead_and_spares_the_living() {
    let folder = tempfile::tempdir().unwrap();
    let dead = folder.path().join(format!("{STAGING_PREFIX}1-2-3"));
    fs_err::create_dir_all(dead.join("sub")).unwrap();
    fs_err::write(folder.path().join("hello"), "").unwrap();
    let living = Staging::new(folder.path()).unwrap();
    assert_eq!(sweep(folder.path()).unwrap(), [dead]);
    assert!(living.path().is_dir());
    drop(living);
    assert_eq!(names(folder.path()), ["hello"]);
    assert_eq!(sweep(&folder.path().join("missing")).unwrap(), [""; 0].map(PathBuf::from));
}

#[test]
fn stagings_and_sweeps_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let out = folder.path();
            scope.spawn(move || {
                for round in 0..25 {
                    let staging = Staging::new(out).unwrap();
                    fs_err::write(staging.path().join("x"), "").unwrap();
                    sweep(out).unwrap();
                    staging.commit(&[Placement::new("x", format!("{thread}-{round}"))]).unwrap();
                }
            });
        }
    });
    assert_eq!(names(folder.path()).len(), 100);
}

#[test]
fn errors_name_their_path_and_help() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs_err::write(&file, "").unwrap();
    let error = Staging::new(&file).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
    assert!(error.hint().is_some(), "{error:?}");
    let full = PlaceError::Write { path: file, source: io::ErrorKind::StorageFull.into() };
    assert!(full.hint().unwrap().contains("full"));
}

#[test]
fn an_atomic_write_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("SHA256SUMS");
    for text in ["one", "two"] {
        write_atomically(&path, 0o644, text.as_bytes()).unwrap();
        assert_eq!(fs_err::read_to_string(&path).unwrap(), text);
    }
    assert_eq!((names(folder.path()).len(), mode(&path)), (1, 0o644));
    assert!(write_atomically("/".as_ref(), 0o644, b"").is_err());
}

#[test]
fn an_output_folder_is_left_only_where_something_was_placed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a/b");
    drop(Staging::new(&out).unwrap());
    assert_eq!(names(dir.path()), [""; 0]);
    let staging = Staging::new(&out).unwrap();
    let failing = Staging::new(&out).unwrap();
    fs_err::write(staging.path().join("x"), "x").unwrap();
    staging.commit_all().unwrap();
    drop(failing);
    assert_eq!(names(&out), ["x"]);
}
