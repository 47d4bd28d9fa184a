//! `kiln build --shell-on-failure`, in a terminal.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use kiln_e2e::Project;
use rustix::process::{Pid, Signal, kill_process};

const BUILD: [&str; 7] = ["build", "-f", "Dockerfile", "--secret", "id=token,src=token", "--shell-on-failure", "."];

/// A step that fails halfway.
fn project() -> Option<Project> {
    let body = "ENV GREETING=hello\nWORKDIR /work\n\
        RUN --mount=type=secret,id=token --mount=type=cache,target=/cache \
        echo half > done && echo kept > /cache/x && exit 3\n";
    Project::new(&[("Dockerfile", &super::fresh(body)), ("token", "sesame\n")])
}

/// kiln in a terminal of its own, by `script`: what it writes there is in the output of that.
struct Screen {
    child: Child,
    keys: ChildStdin,
    output: ChildStdout,
    seen: String,
}

impl Screen {
    fn new(project: &Project) -> Self {
        let kiln = project.command(&BUILD);
        let words = std::iter::once(kiln.get_program()).chain(kiln.get_args()).map(|word| word.to_string_lossy());
        let mut command = Command::new("timeout");
        let line = words.collect::<Vec<_>>().join(" ");
        command.args([
            "60",
            "script",
            "--quiet",
            "--return",
            "--command",
            &format!("echo $$ > pid; exec {line}"),
            "/dev/null",
        ]);
        command.env_clear().envs(kiln.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
        command.current_dir(project.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("script runs");
        let keys = child.stdin.take().expect("it is piped");
        let output = child.stdout.take().expect("it is piped");
        Self { child, keys, output, seen: String::new() }
    }

    fn wait_for(&mut self, words: &str) {
        let mut bytes = [0; 4096];
        while !self.seen.contains(words) {
            let count = self.output.read(&mut bytes).expect("it can be read");
            assert!(count > 0, "`{words}` was not said: {}", self.seen);
            self.seen += &String::from_utf8_lossy(&bytes[..count]);
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("it reads");
    }
}

#[test]
fn a_shell_where_a_step_has_failed() {
    let Some(project) = project() else { return };
    let none = project.kiln(&BUILD);
    assert_eq!(none.code, Some(2), "{}", none.stderr);
    assert!(none.stderr.contains("--shell-on-failure needs a terminal"), "{}", none.stderr);

    let mut screen = Screen::new(&project);
    screen.wait_for("/work # ");
    assert!(screen.seen.contains("with exit code 3") && screen.seen.contains("`exit` ends it"), "{}", screen.seen);
    screen.press("echo $GREETING $(cat done /cache/x /run/secrets/token) $((6 * 7))\n");
    screen.wait_for("hello half kept sesame 42");
    // Ctrl-C is the shell's. It goes to the program in front, so whoever says that it is there has to be that program: a
    // Ctrl-C between the shell's own `echo` and its start of `sleep` would be lost.
    screen.press("sh -c 'echo $((1000 + 1)); exec sleep 1000'\n");
    screen.wait_for("1001");
    screen.seen.clear();
    screen.press("\x03");
    screen.wait_for("/work # ");
    screen.press("echo $((40 + 4))\n");
    screen.wait_for("44");
    screen.press("exit\n");
    assert_eq!(screen.child.wait().expect("it was started").code(), Some(1), "{}", screen.seen);
    assert_eq!(project.left_behind(), [""; 0]);
}

#[test]
fn what_a_killed_shell_leaves_goes_with_the_next_build() {
    let Some(project) = project() else { return };
    let mut screen = Screen::new(&project);
    screen.wait_for("/work # ");
    let left = project.left_behind();
    assert!(left.iter().any(|what| what.starts_with("image ")), "{left:?}");
    let pid = project.read("pid").trim().parse().ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::KILL).expect("it runs");
    assert_ne!(screen.child.wait().expect("it was started").code(), Some(0));
    project.write("Dockerfile", &super::fresh("RUN true\n"));
    project.build(&["-f", "Dockerfile", "."]);
    assert_eq!(project.left_behind(), [""; 0]);
}
