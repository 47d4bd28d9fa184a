//! Where files come from: contexts on standard input and behind URLs, named contexts, `ADD` of what lies elsewhere. What
//! needs a daemon runs where `KILN_TEST_DOCKER_HOST` is set; it must have or reach `alpine:3.20`.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use common::{Project, Ran};

/// Runs kiln with these bytes on its standard input.
fn with_input(project: &Project, args: &[&str], input: &[u8]) -> Ran {
    let mut command = project.command(args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kiln runs");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // kiln may end before it has read all.
    std::thread::spawn(move || drop(stdin.write_all(&input)));
    Ran::new(&child.wait_with_output().expect("it ends"), &project.path(""))
}

/// An archive of files, of user 1000.
fn archive(files: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(*mode);
        header.set_uid(1000);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, text.as_bytes()).expect("entry");
    }
    builder.into_inner().expect("archive")
}

#[track_caller]
fn fails(ran: &Ran, code: i32, text: &str) {
    assert_eq!(ran.code, code, "{}", ran.stderr);
    assert!(ran.stderr.starts_with(&format!("error: {text}\n")), "{}", ran.stderr);
}

#[test]
fn standard_input_is_one_thing_only() {
    let project = Project::new(&[("Dockerfile", "FROM scratch\n")]);
    let both = with_input(&project, &["build", "-f", "-", "-"], b"");
    fails(&both, 2, "standard input cannot be both the context and the Dockerfile");
    let named = with_input(&project, &["build", "-f", "x", "-"], b"FROM scratch\n");
    fails(&named, 2, "the context is a Dockerfile itself, so --file `x` makes no sense");
    let wrong = with_input(&project, &["build", "-"], b"FROM scratch\nRUNN x\n");
    fails(&wrong, 3, "Dockerfile:2:1: unknown instruction `RUNN`");
    let wrong = with_input(&project, &["build", "-f", "-", "."], b"FROM scratch\nRUNN x\n");
    fails(&wrong, 3, "Dockerfile:2:1: unknown instruction `RUNN`");
}

#[test]
fn an_archive_cannot_reach_other_files() {
    let project = Project::new(&[]);
    let escapes = archive(&[("../evil", 0o644, "x"), ("Dockerfile", 0o644, "FROM scratch\n")]);
    let ran = with_input(&project, &["build", "-"], &escapes);
    fails(&ran, 3, "the archive is not safe to unpack: `../evil` leads out of the folder");
    let without = archive(&[("a", 0o644, "x")]);
    fails(&with_input(&project, &["build", "-"], &without), 3, "the context has no file Dockerfile");
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "Dockerfile", "/etc/passwd").expect("entry");
    let link = builder.into_inner().expect("archive");
    fails(&with_input(&project, &["build", "-"], &link), 3, "the context has no file Dockerfile");
    let settings = archive(&[
        ("kiln.toml", 0o644, "[project]\nentry = \"m.py\"\n[build]\noutput = \"/etc\"\n"),
        ("m.py", 0o644, ""),
    ]);
    fails(&with_input(&project, &["build", "-"], &settings), 2, "the project wants its results in /etc");
}

#[test]
fn named_contexts_are_checked() {
    let project = Project::new(&[("Dockerfile", "FROM scratch\n")]);
    let build = |context: &str| project.kiln(&["build", "-f", "Dockerfile", "--build-context", context, "."]);
    fails(&build("a=ftp://x"), 2, "--build-context a: `ftp://` is not understood");
    fails(&build("a=nowhere"), 2, "--build-context a: there is no folder nowhere");
    let query = "--build-context a: the query `b` has no meaning for a git repository";
    fails(&build("a=https://x.org/a.git?b=c"), 2, query);
    assert_eq!(build("a").code, 2);
}

/// Serves files on the loopback interface, each with an `ETag`; notes what was asked and answered.
fn serve(files: Vec<(&'static str, Vec<u8>)>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("connection");
            let lines = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            let lines: Vec<String> = lines.collect();
            let path = lines[0].split(' ').nth(1).unwrap_or_default().to_owned();
            let known = lines.iter().any(|line| line.to_lowercase().starts_with("if-none-match: \"v\""));
            let file = files.iter().find(|(name, _)| *name == path).map(|(_, bytes)| bytes.as_slice());
            let (status, body) = match file {
                Some(_) if known => ("304 Not Modified", &b""[..]),
                Some(bytes) => ("200 OK", bytes),
                None => ("404 Not Found", &b""[..]),
            };
            log.lock().expect("whole").push(format!("{path} {}", &status[..3]));
            let head = format!(
                "HTTP/1.1 {status}\r\nETag: \"v\"\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    (address, asked)
}

/// A project on the daemon of the tests; none, said aloud, where there is no daemon.
fn on_daemon(files: &[(&str, &str)]) -> Option<Project> {
    let Some(host) = std::env::var("KILN_TEST_DOCKER_HOST").ok().filter(|host| !host.is_empty()) else {
        eprintln!("SKIPPED: set KILN_TEST_DOCKER_HOST to a daemon's address to run this test");
        return None;
    };
    Some(Project::on(&host, files))
}

const OUT: [&str; 5] = ["--platform", "linux/amd64", "-o", "out", "--progress=plain"];

#[track_caller]
fn good(ran: &Ran) {
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

/// Lists what is below `/x` of the stage before.
const LIST: &str =
    "RUN cd /x && find . -mindepth 1 | sort | xargs stat -c '%n %a %u' > /list\nFROM scratch\nCOPY --from=0 /list /\n";

#[test]
fn a_context_may_be_an_archive() {
    let Some(project) = on_daemon(&[]) else { return };
    let dockerfile = format!("FROM alpine:3.20\nCOPY . /x\n{LIST}");
    let files = [
        ("Dockerfile", 0o600, dockerfile.as_str()),
        (".dockerignore", 0o644, "a\n"),
        ("a", 0o640, "1"),
        ("d/b", 0o755, "2"),
    ];
    let tar = archive(&files);
    // As with BuildKit: modes and owners are the archive's, and nothing is left out.
    let expected = "./.dockerignore 644 1000\n./Dockerfile 600 1000\n./a 640 1000\n./d 755 0\n./d/b 755 1000\n";
    good(&with_input(&project, &[&["build"], &OUT[..], &["-"]].concat(), &tar));
    assert_eq!(project.read("out/list"), expected);
    let (address, _) = serve(vec![("/c.tar", tar)]);
    let url = format!("{address}/c.tar");
    good(&project.kiln(&[&["build"], &OUT[..], &[&url]].concat()));
    assert_eq!(project.read("out/list"), expected);
    assert_eq!(project.names(), ["out"], "nothing of the context is left");
}

#[test]
fn a_named_context_masks_stages_and_images() {
    let dockerfile = "FROM alpine:3.20 AS one\nRUN exit 1\nFROM one AS two\nFROM docker.io/library/masked AS three\nFROM alpine:3.20\n\
                      COPY --from=TWO / /x/two/\nCOPY --from=three / /x/three/\nCOPY --from=img /etc/alpine-release /x/\n";
    let Some(project) = on_daemon(&[
        ("Dockerfile", &format!("{dockerfile}{LIST}")),
        ("c/two/f", ""),
        ("c/three/g", ""),
        ("c/three/h", ""),
        ("c/three/.dockerignore", "h\n"),
    ]) else {
        return;
    };
    let contexts = [
        "--build-context=one=c/two",
        "--build-context",
        "masked:latest=c/three",
        "--build-context",
        "IMG=docker-image://alpine:3.20",
    ];
    let dockerfile = project.read("Dockerfile").replace("COPY --from=0", "COPY --from=3");
    project.write("Dockerfile", &dockerfile);
    good(&project.kiln(&[&["build", "-f", "Dockerfile"], &OUT[..], &contexts, &["."]].concat()));
    let expected = "./alpine-release 644 0\n./three 755 0\n./three/.dockerignore 644 0\n./three/g 644 0\n./two 755 0\n./two/f 644 0\n";
    assert_eq!(project.read("out/list"), expected);
}

#[test]
fn downloads_are_kept_as_long_as_they_do_not_change() {
    let Some(project) = on_daemon(&[]) else { return };
    let (address, asked) = serve(vec![("/v/tool", b"tool".to_vec()), ("/t.tar", archive(&[("in", 0o640, "x")]))]);
    let text = format!(
        "FROM alpine:3.20\nADD {address}/v/tool /x/\nADD --chmod=755 {address}/v/tool /x/run\n\
         ADD {address}/t.tar /x/\nADD --unpack=true {address}/t.tar /x/\n{LIST}"
    );
    project.write("Dockerfile", &text);
    let build = || project.kiln(&[&["build", "-f", "Dockerfile"], &OUT[..], &["."]].concat());
    good(&build());
    assert_eq!(project.read("out/list"), "./in 640 1000\n./run 755 0\n./t.tar 600 0\n./tool 600 0\n");
    assert_eq!(*asked.lock().expect("whole"), ["/v/tool 200", "/t.tar 200"]);
    let again = build();
    good(&again);
    assert!(again.stderr.contains("up to date"), "{}", again.stderr);
    assert_eq!(asked.lock().expect("whole")[2..], ["/v/tool 304", "/t.tar 304"]);
    let wrong = text.replace("ADD --chmod=755", &format!("ADD --checksum=sha256:{}", "0".repeat(64)));
    project.write("Dockerfile", &wrong);
    let ran = build();
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("error: Dockerfile:3: ") && ran.stderr.contains("has the digest sha256:"),
        "{}",
        ran.stderr
    );
}

#[test]
fn targets_of_a_bake_file_have_contexts_from_elsewhere() {
    let Some(project) = on_daemon(&[]) else { return };
    let files = [("D", 0o600, "FROM scratch\nCOPY f /\n"), ("f", 0o640, "1")];
    let (address, _) = serve(vec![("/c.tar", archive(&files)), ("/g", b"2".to_vec())]);
    project.write(
        "docker-bake.hcl",
        &format!(
            "group default {{\n  targets = [\"a\", \"b\"]\n}}\n\
             target a {{\n  context = \"{address}/c.tar\"\n  dockerfile = \"D\"\n  output = [\"a\"]\n}}\n\
             target b {{\n  contexts = {{ tar = \"{address}/c.tar\", one = \"{address}/g\", here = \"cwd://sub\", \
             img = \"docker-image://alpine:3.20\" }}\n  output = [\"b\"]\n  dockerfile-inline = <<EOT\n\
             FROM scratch\nCOPY --from=tar f /\nCOPY --from=one g /\nCOPY --from=here h /\n\
             COPY --from=img /etc/alpine-release /\nEOT\n}}\n"
        ),
    );
    project.write("sub/h", "3");
    good(&project.kiln(&["bake"]));
    assert_eq!((project.read("a/f"), project.read("b/f")), ("1".into(), "1".into()));
    assert_eq!((project.read("b/g"), project.read("b/h")), ("2".into(), "3".into()));
    assert!(project.read("b/alpine-release").starts_with("3.20"));
    let ran = project.kiln(&["bake", "--set", "a.dockerfile=nosuch", "a"]);
    fails(&ran, 3, "target a: the context has no file nosuch");
}
