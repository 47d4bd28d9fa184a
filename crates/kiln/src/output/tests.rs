use clap::Parser;

use super::*;
use crate::cli::{Cli, Command};

fn read(line: &str) -> Result<Asked> {
    let cli = Cli::try_parse_from(["kiln", "build"].into_iter().chain(line.split_whitespace())).expect("valid");
    let Some(Command::Build(build)) = cli.command else { panic!("not a build") };
    asked(&build, Path::new("/spool"))
}

/// What is asked for, in short.
fn short(line: &str) -> String {
    let asked = match read(line) {
        Ok(asked) => asked,
        Err(error) => return format!("{error}"),
    };
    let list = |names: &[ImageName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join("+");
    let mut texts: Vec<String> = asked.folder.iter().map(|folder| format!("files {}", folder.display())).collect();
    texts.extend(asked.exports.iter().map(|export| match export {
        Export::Tar { dest } => format!("tar {}", dest.display()),
        Export::Load { names, rewritten } => {
            format!("load {}{}", list(names), if *rewritten { " rewritten" } else { "" }).trim_end().to_owned()
        }
        Export::Push { names, insecure, form } => {
            format!("push {}{} {:?}", list(names), if *insecure { " insecure" } else { "" }, form.types)
        }
        Export::Archive(archive) => format!(
            "{} {} {} {} {:?}",
            if archive.docker { "docker" } else { "oci" },
            if archive.folder { "folder" } else { "file" },
            archive.dest.display(),
            list(&archive.names),
            archive.form.types
        ),
    }));
    texts.extend(asked.stdout.map(|_| "to stdout".to_owned()));
    texts.join("; ")
}

#[test]
fn outputs_mean_what_they_mean_to_buildx() {
    for (line, expected) in [
        ("", ""),
        ("-o out", "files out"),
        ("-o type=local,dest=out", "files out"),
        ("-o -", "tar /spool; to stdout"),
        ("-o type=tar", "tar /spool; to stdout"),
        ("-o type=tar,dest=/x/a.tar -o out", "files out; tar /x/a.tar"),
        ("-o type=docker", "load"),
        ("-t a -t b/c:1", "load docker.io/library/a:latest+docker.io/b/c:1"),
        ("-t a --load", "load docker.io/library/a:latest"),
        ("-t a --load -o type=docker", "load docker.io/library/a:latest"),
        ("-o type=docker,name=n:2", "load docker.io/library/n:2"),
        ("-o type=docker,name=n:2 -t a", "load docker.io/library/a:latest"),
        ("-o type=docker,dest=/d.tar -t a", "docker file /d.tar docker.io/library/a:latest Docker"),
        ("-o type=image,name=r.example/x -t a", "load docker.io/library/a:latest"),
        ("-o type=image,name=r.example/x,push=true", "push r.example/x:latest Oci"),
        ("-o type=image,name=r.example/x --push", "push r.example/x:latest Oci"),
        (
            "-o type=registry,oci-mediatypes=false,registry.insecure=true -t r.example/x",
            "push r.example/x:latest insecure Docker",
        ),
        ("-t r.example/x --push --load", "load r.example/x:latest; push r.example/x:latest Oci"),
        ("-o type=oci,dest=/o.tar", "oci file /o.tar  Oci"),
        ("-o type=oci,dest=/o,tar=false", "oci folder /o  Oci"),
        ("-o type=oci", "oci file /spool  Oci; to stdout"),
        ("-o type=docker,name=n:2,rewrite-timestamp=true", "load docker.io/library/n:2 rewritten"),
        ("-o type=image,name=n:2,rewrite-timestamp=true", "load docker.io/library/n:2 rewritten"),
        ("-o type=cacheonly", ""),
        (r#"-o type=image,"name=a,b""#, "load docker.io/library/a:latest+docker.io/library/b:latest"),
    ] {
        assert_eq!(short(line), expected, "{line}");
    }
    assert!(read("-o type=cacheonly").expect("valid").explicit);
    assert!(!read("").expect("valid").explicit);
}

#[test]
fn mistakes_are_named() {
    for (line, expected) in [
        ("-o foo=bar,dest=x", "there is no option `foo`"),
        ("-o type=foo", "there is no type `foo`"),
        ("-o dest=x,tar=true", "type is required"),
        ("-o type=local", "dest is required"),
        ("-o type=local,out", "`out` is no key=value"),
        ("-o type=image,push=maybe", "`push=maybe` is neither true nor false"),
        ("-o type=oci,compression=estargz", "compression `estargz` is not supported"),
        ("-o type=oci,tar=false", "dest must name"),
        ("-o - -o type=oci", "standard output is taken"),
        ("-o a -o b", "one folder"),
        ("-o type=image,name=x,push=true,push-by-digest=true", "`push-by-digest` is not supported"),
        ("--push", "an image needs a name"),
        ("-o type=registry", "an image needs a name"),
        ("-t UPPER", "--tag: `UPPER` is not a name"),
        ("--annotation x --push -t a", "--annotation `x`"),
        ("--annotation nothing:a=b --push -t a", "--annotation `nothing:a=b`"),
    ] {
        assert!(short(line).contains(expected), "{line}: {}", short(line));
    }
    let error = read("-o type=foo").expect_err("wrong");
    assert_eq!(error.code(), crate::error::exit::USAGE);
    assert!(error.hint().is_some_and(|hint| hint.contains("cacheonly")));
}

#[test]
fn annotations_have_levels() {
    let line = "-o type=registry,annotation-index.a=1,annotation.b=2 -t x --annotation manifest[linux/arm64]:c=3 --annotation d=4";
    let asked = read(line).expect("valid");
    let [Export::Push { form, .. }] = asked.exports.as_slice() else { panic!("one push") };
    let notes: Vec<_> = form.annotations.iter().map(|note| (note.level, note.name.as_str())).collect();
    let arm64 = "linux/arm64".parse().expect("known");
    let expected = [
        (Level::Manifest(Some(arm64)), "c"),
        (Level::Manifest(None), "d"),
        (Level::Index, "a"),
        (Level::Manifest(None), "b"),
    ];
    assert_eq!(notes, expected);
}

#[test]
fn several_platforms_are_not_loaded() {
    let platforms: Vec<Platform> = ["linux/amd64", "linux/386"].map(|text| text.parse().expect("known")).into();
    for (line, fits) in
        [("-t a", false), ("-o type=docker,dest=x", false), ("-o type=oci,dest=x", true), ("-o x", true)]
    {
        let exports = read(line).expect("valid").exports;
        assert_eq!(check_platforms(&exports, &platforms, StoreKind::Classic).is_ok(), fits, "{line}");
        assert!(check_platforms(&exports, &platforms[..1], StoreKind::Classic).is_ok());
        let holds = check_platforms(&exports, &platforms, StoreKind::Containerd).is_ok();
        assert_eq!(holds, fits || line == "-t a", "{line}");
    }
}
