//! `kiln build --shell-on-failure`, in a terminal.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use kiln_e2e::Project;

/// `script` gives a program a terminal of its own; what it writes there is in its own output.
#[test]
fn a_shell_where_a_step_has_failed() {
    let body = "ENV GREETING=hello\nWORKDIR /work\n\
        RUN --mount=type=secret,id=token --mount=type=cache,target=/cache echo half > done && echo kept > /cache/x && exit 3\n";
    let Some(project) = Project::new(&[("Dockerfile", &super::fresh(body)), ("token", "sesame\n")]) else { return };
    let build = ["build", "-f", "Dockerfile", "--secret", "id=token,src=token", "--shell-on-failure", "."];
    let none = project.kiln(&build);
    assert_eq!(none.code, Some(2), "{}", none.stderr);
    assert!(none.stderr.contains("--shell-on-failure needs a terminal"), "{}", none.stderr);

    let plain = project.command(&build);
    let line: Vec<_> =
        std::iter::once(plain.get_program()).chain(plain.get_args()).map(|word| word.to_string_lossy()).collect();
    let mut command = Command::new("timeout");
    command
        .args(["60", "script", "--quiet", "--return", "--command", &line.join(" "), "/dev/null"])
        .current_dir(project.path());
    command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("script runs");
    let mut keys = child.stdin.take().expect("it is piped");
    let mut screen = child.stdout.take().expect("it is piped");
    let mut seen = String::new();
    let mut wait_for = |seen: &mut String, words: &str| {
        let mut bytes = [0; 4096];
        while !seen.contains(words) {
            let count = screen.read(&mut bytes).expect("it can be read");
            assert!(count > 0, "`{words}` was not said: {seen}");
            *seen += &String::from_utf8_lossy(&bytes[..count]);
        }
    };
    wait_for(&mut seen, "/work # ");
    assert!(seen.contains("with exit code 3") && seen.contains("`exit` ends it"), "{seen}");
    keys.write_all(b"echo $GREETING $(cat done /cache/x /run/secrets/token) $((6 * 7))\n").expect("it reads");
    wait_for(&mut seen, "hello half kept sesame 42");
    // Ctrl-C is the shell's.
    keys.write_all(b"echo $((1000 + 1)); sleep 1000\n").expect("it reads");
    wait_for(&mut seen, "1001");
    keys.write_all(b"\x03echo $((40 + 4))\n").expect("it reads");
    wait_for(&mut seen, "44");
    keys.write_all(b"exit\n").expect("it reads");
    let status = child.wait().expect("it was started");
    assert_eq!(status.code(), Some(1), "{seen}");
    assert_eq!(project.left_behind(), [""; 0]);
}
