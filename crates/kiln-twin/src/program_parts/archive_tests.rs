use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::archive::{Giver, Taker};

/// A name that no header has room for.
const LONG: usize = 150;

/// A folder with one of everything that a cache may have.
fn tree(root: &Path) {
    let deep = root.join("a").join("d".repeat(LONG));
    fs::create_dir_all(&deep).expect("made");
    fs::write(root.join("empty"), "").expect("written");
    fs::write(root.join("a/block"), [7; 512]).expect("written");
    fs::write(deep.join("large"), vec![42; 700_001]).expect("written");
    fs::set_permissions(root.join("a/block"), fs::Permissions::from_mode(0o640)).expect("set");
    let file = fs::File::options().write(true).open(root.join("a/block")).expect("open");
    file.set_modified(UNIX_EPOCH + Duration::from_secs(981_173_106)).expect("set");
    symlink("../empty", root.join("a/link")).expect("made");
    symlink("x".repeat(LONG), root.join("far")).expect("made");
    fs::hard_link(deep.join("large"), root.join("z-same")).expect("made");
    fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o750)).expect("set");
}

fn given(folder: &Path) -> Vec<u8> {
    let mut archive = Vec::new();
    Giver::new(&mut archive).all(folder).expect("given");
    archive
}

/// The same without the name of the folder, as kiln sends it.
fn below(archive: &[u8]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(archive).entries().expect("an archive") {
        let mut entry = entry.expect("whole");
        let strip = |path: &Path| Path::new(".").join(path.strip_prefix("tree").expect("the folder's name"));
        let path = strip(&entry.path().expect("a path"));
        let link = entry.link_name().expect("a link").map(std::borrow::Cow::into_owned);
        let mut header = entry.header().clone();
        match link {
            Some(link) if entry.header().entry_type().is_hard_link() => {
                out.append_link(&mut header, path, strip(&link)).expect("added");
            }
            Some(link) if entry.header().entry_type().is_symlink() => {
                out.append_link(&mut header, path, link).expect("added");
            }
            _ => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).expect("read");
                out.append_data(&mut header, path, &content[..]).expect("added");
            }
        }
    }
    out.into_inner().expect("an end")
}

#[test]
fn what_is_given_can_be_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.path().join("tree"), folder.path().join("to"));
    tree(&from);
    let archive = given(&from);
    assert_eq!(archive, given(&from), "one tree is one archive");
    Taker::new(&below(&archive)[..], to.clone()).all().expect("taken");
    let large = Path::new("a").join("d".repeat(LONG)).join("large");
    for path in ["empty", "a/block", "a", "z-same"].iter().map(Path::new).chain([large.as_path()]) {
        let [one, other] = [&from, &to].map(|root| fs::metadata(root.join(path)).expect("there"));
        assert_eq!((one.mode(), one.mtime(), one.nlink()), (other.mode(), other.mtime(), other.nlink()), "{path:?}");
        if one.is_file() {
            let [one, other] = [&from, &to].map(|root| fs::read(root.join(path)).expect("read"));
            assert_eq!(one, other, "{path:?}");
        }
    }
    for path in ["a/link", "far"] {
        let [one, other] = [&from, &to].map(|root| fs::read_link(root.join(path)).expect("a link"));
        assert_eq!(one, other);
        let [one, other] = [&from, &to].map(|root| fs::symlink_metadata(root.join(path)).expect("there").mtime());
        assert_eq!(one, other);
    }
}

#[test]
fn what_was_cut_off_or_leads_out_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let from = folder.path().join("tree");
    tree(&from);
    let archive = below(&given(&from));
    let take = |archive: &[u8], name: &str| {
        Taker::new(archive, folder.path().join(name)).all().map_err(|error| error.to_string())
    };
    // Its last two blocks say that it ended.
    for (number, len) in [0, 511, 512, 5000, archive.len() - 1024].into_iter().enumerate() {
        take(&archive[..len], &format!("cut{number}")).expect_err("not whole");
    }
    let mut broken = archive.clone();
    broken[20] ^= 1;
    let error = take(&broken, "broken").expect_err("not what was sent");
    assert!(error.contains("no archive"), "{error}");
    for path in ["../out", "/out", "a/../../out"] {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(0);
        header.set_mode(0o644);
        header.set_cksum();
        let mut out = tar::Builder::new(Vec::new());
        out.append(&header, std::io::empty()).expect("added");
        fs::create_dir_all(folder.path().join("out")).expect("made");
        let error = take(&out.into_inner().expect("an end"), "out").expect_err("outside");
        assert!(error.contains("leads out"), "{error}");
    }
}
