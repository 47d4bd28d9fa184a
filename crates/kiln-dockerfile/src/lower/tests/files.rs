use kiln_graph::Copy;

use super::*;

fn actions(text: &str) -> Vec<FileAction> {
    let (_, graph) = lower(text);
    let files = graph.iter().filter_map(|(_, vertex)| match &vertex.op {
        Op::File(file) => Some(file.actions.clone()),
        _ => None,
    });
    files.last().expect("a file vertex")
}

fn copy(text: &str) -> Copy {
    match actions(text).remove(0) {
        FileAction::Copy(copy) => copy,
        other => panic!("{other:?}"),
    }
}

#[test]
fn paths_of_copies() {
    for (text, sources, dest) in [
        ("COPY a .", &["a"][..], "/w/"),
        ("COPY a b", &["a"], "/w/b"),
        ("COPY a b/", &["a"], "/w/b/"),
        ("COPY a /", &["a"], "/"),
        ("COPY a /b", &["a"], "/b"),
        ("COPY a b/.", &["a"], "/w/b/"),
        ("COPY a ..", &["a"], "/"),
        ("COPY a ./b/../c", &["a"], "/w/c"),
        ("COPY a b c/", &["a", "b"], "/w/c/"),
        ("COPY . .", &["."], "/w/"),
        ("COPY / /x", &["."], "/x"),
        ("COPY /a/ /x", &["a"], "/x"),
        ("COPY ../a /x", &["a"], "/x"),
        ("COPY ./a/./b /x", &["a/b"], "/x"),
        ("COPY a*[b-c]? /x/", &["a*[b-c]?"], "/x/"),
        ("COPY [\"a b\", \"/c d/\"]", &["a b"], "/c d/"),
        ("COPY $A ${A}2", &["a1"], "/w/a12"),
        ("COPY \"$A\" /x", &["a1"], "/x"),
        ("COPY --parents a/./b/c d ./", &["a/./b/c", "d"], "/w/"),
        ("ADD a .", &["a"], "/w/"),
    ] {
        let copy = copy(&format!("FROM i\nARG A=a1\nWORKDIR /w\n{text}"));
        assert_eq!(
            (copy.sources.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), copy.dest.as_str()),
            (sources, dest),
            "{text}"
        );
    }
}

#[test]
fn flags_of_copies() {
    let text = "FROM i\nARG A=1\nCOPY --chown=u$A:g --chmod=0$A --link --exclude=*.$A a b";
    let with_flags = copy(text);
    assert_eq!(with_flags.owner.map(|owner| owner.spec).as_deref(), Some("u1:g"));
    assert_eq!((with_flags.chmod, with_flags.link, with_flags.parents), (Some(Chmod::Octal(1)), true, false));
    assert_eq!(with_flags.excludes, ["*.1"]);
    assert!(!with_flags.unpack);
    let plain = copy("FROM i\nUSER me\nCOPY a b");
    assert_eq!((plain.owner, plain.chmod), (None, None));
    assert!(copy("FROM i\nADD a b").unpack);
    assert!(!copy("FROM i\nADD --unpack=false a b").unpack);
}

#[test]
fn every_copy_is_a_vertex_of_its_own() {
    let (_, graph) = lower("FROM i\nCOPY a /\nCOPY b /\nCOPY c d /");
    assert_eq!(graph.len(), 5);
    let last = graph.iter().last().expect("a copy").1;
    // The file system below, and the context.
    assert_eq!(last.inputs.iter().map(|id| id.0).collect::<Vec<_>>(), [3, 1]);
}

#[test]
fn here_documents_become_files() {
    let write = |path: &str, mode: u32, data: &str| FileAction::Write {
        path: path.into(),
        mode,
        parents: None,
        owner: None,
        data: data.as_bytes().to_vec(),
    };
    let with_parents = |action, mode| match action {
        FileAction::Write { path, mode: own, owner, data, .. } => {
            FileAction::Write { path, mode: own, parents: Some(mode), owner, data }
        }
        other => other,
    };
    for (text, expected) in [
        ("COPY <<EOF single\nfile\nEOF", vec![write("/w/single", 0o644, "file\n")]),
        (
            "COPY <<A <<B double/\n1\nA\n2\nB",
            vec![write("/w/double/A", 0o644, "1\n"), write("/w/double/B", 0o644, "2\n")],
        ),
        ("COPY --chmod=777 <<EOF /x\n\tdummy\nEOF", vec![with_parents(write("/x", 0o777, "\tdummy\n"), 0o777)]),
        ("COPY <<-EOF /x\n\t\tdummy\n\tEOF", vec![write("/x", 0o644, "dummy\n")]),
        ("COPY <<EOF /x\n'$N' \"${N}\" \\$N \\\\\nEOF", vec![write("/x", 0o644, "'n' \"n\" $N \\\n")]),
        ("COPY <<'EOF' /x\n$N \\$N\nEOF", vec![write("/x", 0o644, "$N \\$N\n")]),
        ("COPY <<\"EOF\" /x\n$N\nEOF", vec![write("/x", 0o644, "$N\n")]),
        ("ADD <<EOF /x\nEOF", vec![write("/x", 0o644, "")]),
    ] {
        assert_eq!(actions(&format!("FROM i\nARG N=n\nWORKDIR /w\n{text}")), expected, "{text}");
    }
    let mixed = actions("FROM i\nCOPY --chown=u a <<EOF /d/\nx\nEOF");
    assert!(matches!(&mixed[0], FileAction::Copy(copy) if copy.sources == ["a"]));
    assert!(matches!(&mixed[1], FileAction::Write { owner: Some(owner), .. } if owner.spec == "u"));
}

#[test]
fn working_folders() {
    let mkdir = |path: &str, owner: Option<&str>| FileAction::Mkdir {
        path: path.into(),
        owner: owner.map(|spec| kiln_graph::Owner { spec: spec.into() }),
    };
    for (text, expected) in [
        ("WORKDIR /a", mkdir("/a", None)),
        ("WORKDIR /a\nWORKDIR b", mkdir("/a/b", None)),
        ("WORKDIR a/../b/", mkdir("/b", None)),
        ("ENV D=/d\nWORKDIR $D/e", mkdir("/d/e", None)),
        ("WORKDIR \"/a b\"", mkdir("/a b", None)),
        ("USER me:us\nWORKDIR /a", mkdir("/a", Some("me:us"))),
    ] {
        assert_eq!(actions(&format!("FROM i\n{text}")), [expected], "{text}");
    }
    assert_eq!(lower("FROM i\nWORKDIR /").1.len(), 1);
}

#[test]
fn copies_that_cannot_be() {
    for (text, expected) in [
        (
            "COPY a b c",
            "2:10 several sources need a folder as destination, not `c` | end the destination with a slash: `c/`",
        ),
        (
            "COPY a <<EOF c\nEOF",
            "2:14 several sources need a folder as destination, not `c` | end the destination with a slash: `c/`",
        ),
        (
            "COPY --chmod=999 a b",
            "2:14 invalid value `999` for `--chmod` | expected an octal mode between 0 and 7777, or changes \
             such as `u+x,go-w`",
        ),
        (
            "COPY --chmod=17777 a b",
            "2:14 invalid value `17777` for `--chmod` | expected an octal mode between 0 and 7777, or changes \
             such as `u+x,go-w`",
        ),
        ("COPY a[ /b", "2:6 invalid pattern `a[` | put a backslash before a bracket that is meant literally"),
        ("COPY https://x/y /z", "2:6 `COPY` does not read from the network: `https://x/y` | use `ADD`"),
        (
            "ADD https://x/y.git?what=1 /z",
            "2:5 `https://x/y.git?what=1` does not name a git repository: the query `what` has no meaning for a git \
             repository | known are `ref`, `branch`, `tag`, `commit`, `checksum`, `subdir`, `keep-git-dir`, `submodules`",
        ),
        (
            "ADD --checksum=sha256:00 https://x/y /z",
            "2:16 invalid value `sha256:00` for `--checksum` | expected `sha256:` and 64 hexadecimal digits",
        ),
        ("COPY git@x.org:a/b.git /z", "2:6 `COPY` does not read from the network: `git@x.org:a/b.git` | use `ADD`"),
        ("ADD --checksum=sha256:00 a /z", "2:16 `--checksum` needs exactly one remote source"),
    ] {
        assert_eq!(error(&format!("FROM i\n{text}")), expected, "{text}");
    }
}

#[test]
fn what_lies_elsewhere_is_an_input_of_its_own() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let text = format!("FROM i\nARG V=1\nADD --checksum={digest} https://x.org/v$V/tool.tgz /opt/");
    let (_, graph) = lower(&text);
    let remote = |index: usize| match &graph.iter().nth(index).expect("a vertex").1.op {
        Op::Source(Source::Remote(remote)) => remote.clone(),
        other => panic!("not a remote: {other:?}"),
    };
    assert_eq!(remote(1), Remote::Http { url: "https://x.org/v1/tool.tgz".into(), checksum: Some(digest) });
    let http = copy(&text);
    assert_eq!(
        (http.sources, http.unpack, http.chmod),
        (vec!["tool.tgz".to_owned()], false, Some(Chmod::Octal(0o600)))
    );
    assert!(copy("FROM i\nADD --unpack=true https://x.org/tool.tgz /opt/").unpack);
    let (_, graph) = lower("FROM i\nADD --keep-git-dir https://x.org/r.git#v1:sub /src");
    let Op::Source(Source::Remote(Remote::Git { reference, keep_git_dir })) = &graph.iter().nth(1).expect("it").1.op
    else {
        panic!("not a repository")
    };
    assert_eq!((reference.reference.as_deref(), reference.subdir.as_str(), *keep_git_dir), (Some("v1"), "sub", true));
    let mixed = actions("FROM i\nADD a https://x.org/f b c /d/");
    let inputs: Vec<_> = mixed
        .iter()
        .map(|action| match action {
            FileAction::Copy(copy) => (copy.input, copy.sources.join(" ")),
            other => panic!("not a copy: {other:?}"),
        })
        .collect();
    assert_eq!(inputs, [(1, "a".to_owned()), (2, "f".to_owned()), (1, "b c".to_owned())]);
}
