//! A `COPY` of many files: what comes out when some of them change, come, go, or become something else.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use kiln_e2e::Project;

/// A folder that the base has closed lies on the way, and links and modes are seen in the result.
const BODY: &str = "RUN mkdir -p /srv/deep && chown 7:8 /srv/deep && chmod 2711 /srv/deep\n\
    COPY files /srv/deep/files\n\
    RUN cd /srv/deep && stat -c '%n %a %u:%g' . files files/0 files/new files/empty files/link > /out 2>/dev/null; \
    cat files/7 files/new/x >> /out 2>/dev/null; readlink files/link >> /out; find files | wc -l >> /out\n\
    FROM scratch\nCOPY --from=0 /out /\n";

#[test]
fn what_changes_among_many_files_is_what_comes_out() {
    let Some(project) = Project::new(&[("Dockerfile", &super::fresh(BODY))]) else { return };
    for index in 0..1100 {
        project.write(&format!("files/{index}"), "old\n");
    }
    let at = |path: &str| project.path().join("files").join(path);
    let build = |more: &[&str]| {
        project.build(&[&["-f", "Dockerfile", "-o", "out", "--platform=linux/amd64"], more, &["."]].concat());
        project.read("out/out")
    };
    // Each state as it comes out step by step is what it is when all is copied anew.
    let check = |name: &str, expected: &str| {
        let stepwise = build(&[]);
        assert_eq!(stepwise, expected, "{name}");
        assert_eq!(build(&["--no-cache"]), expected, "{name}, anew");
    };
    let root = ". 2711 7:8\nfiles 755 0:0\nfiles/0 644 0:0\n";
    check("cold", &format!("{root}old\n1101\n"));
    project.write("files/7", "new\n");
    project.write("files/new/x", "added\n");
    fs::create_dir(at("empty")).expect("made");
    check("more", &format!("{root}files/new 755 0:0\nfiles/empty 755 0:0\nnew\nadded\n1104\n"));
    symlink("7", at("link")).expect("linked");
    fs::set_permissions(at("0"), fs::Permissions::from_mode(0o755)).expect("a mode");
    let root = root.replace("files/0 644", "files/0 755");
    let more = "files/new 755 0:0\nfiles/empty 755 0:0\nfiles/link 777 0:0\nnew\nadded\n7\n1105\n";
    check("a link and a mode", &format!("{root}{more}"));
    // A file where a link was, and an empty folder less.
    fs::remove_file(at("link")).expect("removed");
    project.write("files/link", "file\n");
    fs::remove_dir(at("empty")).expect("removed");
    let more = "files/new 755 0:0\nfiles/link 644 0:0\nnew\nadded\n1104\n";
    check("another kind, and one less", &format!("{root}{more}"));
    fs::remove_dir_all(at("new")).expect("removed");
    check("a folder less", &format!("{root}files/link 644 0:0\nnew\n1102\n"));
}
