//! What is said of a failed build: the error, the place, the last lines, the log, the causes, the hint. Pure.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use kiln_graph::Origin;
use kiln_solver::SolveError;

use super::text::{Paint, cut, harmless, one_line, short_instruction};

/// Lines of a step's output that are shown; all of them are in the full log.
const TAIL: usize = 20;
/// As many where the step has said what is wrong.
const TAIL_BESIDE_ERRORS: usize = 5;
/// Columns of an instruction in a headline are half of this, where there is no terminal to measure.
const BRIEF: usize = 160;

/// Where and how an error is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailureOptions<'a> {
    /// Columns of the terminal; output lines of a step are never cut, only instructions are.
    pub(crate) width: usize,
    /// Whether to use colours.
    pub(crate) color: bool,
    /// The full log of the platform, if one was written.
    pub(crate) log: Option<&'a Path>,
}

/// Renders the error of a build; the text ends with a line end.
pub(crate) fn render_error(error: &SolveError, options: FailureOptions<'_>) -> String {
    let paint = Paint { color: options.color };
    let mut text = String::new();
    let headline = headline(error, options.width);
    head(&mut text, &headline, paint);
    if let Some(origin) = error.origin() {
        place(&mut text, origin, paint);
        let instruction = short_instruction(&origin.text);
        if !headline.contains(&instruction) {
            let _ = writeln!(text, "  {} {}", paint.faint("|"), cut(&instruction, options.width.saturating_sub(4)));
        }
    }
    causes(&mut text, &headline, error.source(), paint);
    match error {
        SolveError::Step { tail, errors, .. } => {
            for line in errors.iter().skip(1) {
                let _ = writeln!(text, "  {} {}", paint.bad("!"), harmless(line));
            }
            let lines = if errors.is_empty() { TAIL } else { TAIL_BESIDE_ERRORS };
            output(&mut text, tail, lines, paint);
        }
        SolveError::Smoke { tail, .. } => output(&mut text, tail, TAIL, paint),
        _ => {}
    }
    if let Some(log) = options.log {
        let _ = writeln!(text, "  full log: {}", log.display());
    }
    hint(&mut text, error.hint().as_deref(), paint);
    text
}

/// The error in a few lines without decoration, for places that have little room: what, the last output, the hint.
pub(crate) fn brief(error: &SolveError) -> String {
    let mut text = one_line(&headline(error, BRIEF));
    let (tail, errors) = match error {
        SolveError::Step { tail, errors, .. } => (tail.as_slice(), errors.as_slice()),
        SolveError::Smoke { tail, .. } => (tail.as_slice(), [].as_slice()),
        _ => Default::default(),
    };
    for line in errors.iter().skip(1) {
        let _ = write!(text, "\n{}", harmless(line));
    }
    if errors.is_empty() {
        let lines: Vec<&String> = tail.iter().filter(|line| !line.starts_with("kiln: ")).collect();
        for line in lines.get(lines.len().saturating_sub(TAIL_BESIDE_ERRORS)..).unwrap_or_default() {
            let _ = write!(text, "\n| {}", harmless(line));
        }
    }
    if let Some(hint) = error.hint() {
        let _ = write!(text, "\nhint: {}", one_line(&hint));
    }
    text
}

/// Renders any other error in the same form.
pub(crate) fn render_chain(error: &dyn Error, hint_text: Option<&str>, color: bool) -> String {
    let paint = Paint { color };
    let mut text = String::new();
    head(&mut text, &error.to_string(), paint);
    causes(&mut text, &error.to_string(), error.source(), paint);
    hint(&mut text, hint_text, paint);
    text
}

/// The error in a line. Instructions may be long, and the whole of them is in the Dockerfile.
fn headline(error: &SolveError, width: usize) -> String {
    let instruction = |origin: &Origin| cut(&short_instruction(&origin.text), width.max(40) / 2).into_owned();
    match error {
        // What the step itself says is better than that it failed.
        SolveError::Step { platform, no_space: true, .. } => format!("no space left on the daemon's disk ({platform})"),
        SolveError::Step { platform, errors, .. } if !errors.is_empty() => format!("{} ({platform})", errors[0]),
        SolveError::Step { origin, platform, code, oom, .. } => {
            let memory = if *oom { " (out of memory)" } else { "" };
            format!("`{}` failed for {platform} with exit code {code}{memory}", instruction(origin))
        }
        SolveError::StepEngine { origin, platform, .. } => {
            format!("`{}` could not run for {platform}", instruction(origin))
        }
        other => other.to_string(),
    }
}

fn head(text: &mut String, message: &str, paint: Paint) {
    let mut lines = message.lines();
    let _ = writeln!(text, "{} {}", paint.bad("error:"), harmless(lines.next().unwrap_or_default()));
    for line in lines {
        let _ = writeln!(text, "  {}", harmless(line));
    }
}

fn place(text: &mut String, origin: &Origin, paint: Paint) {
    if origin.line == 0 {
        return;
    }
    let _ = write!(text, "  {} {}:{}", paint.faint("-->"), origin.file, origin.line);
    if origin.end_line > origin.line {
        let _ = write!(text, "-{}", origin.end_line);
    }
    if !origin.stage.is_empty() {
        let _ = write!(text, ", stage {}", origin.stage);
    }
    if origin.steps > 0 {
        let _ = write!(text, ", step {}/{}", origin.step, origin.steps);
    }
    text.push('\n');
}

fn causes(text: &mut String, headline: &str, mut cause: Option<&dyn Error>, paint: Paint) {
    let mut last = headline.to_owned();
    while let Some(error) = cause {
        let message = one_line(&error.to_string());
        // Wrappers often repeat what they wrap.
        if !message.is_empty() && !last.ends_with(&message) {
            let _ = writeln!(text, "  {} {message}", paint.strong("caused by:"));
        }
        last = message;
        cause = error.source();
    }
}

fn output(text: &mut String, tail: &[String], count: usize, paint: Paint) {
    let lines: Vec<&String> = tail.iter().filter(|line| !line.starts_with("kiln: ")).collect();
    let lines = lines.get(lines.len().saturating_sub(count)..).unwrap_or_default();
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "  last lines of its output:");
    for line in lines {
        let line = format!("{} {}", paint.faint("  |"), harmless(line));
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

fn hint(text: &mut String, hint: Option<&str>, paint: Paint) {
    if let Some(hint) = hint {
        let _ = writeln!(text, "{} {}", paint.hint("hint:"), one_line(hint));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use kiln_docker::EngineError;
    use kiln_solver::Searched;

    use super::*;
    use crate::report::script;

    const PLAIN: FailureOptions<'static> = FailureOptions { width: 80, color: false, log: None };

    fn step(errors: &[&str], hints: &[&str], oom: bool) -> SolveError {
        let mut tail: Vec<String> = (0..25).map(|n| format!("line {n}")).collect();
        tail.push("\u{1b}[31mERROR: No matching distribution found for cryptography>=40\u{1b}[0m".to_owned());
        tail.extend(errors.iter().map(|e| format!("kiln: error: {e}")));
        SolveError::Step {
            origin: Box::new(script::origin(2)),
            platform: script::I386,
            container: kiln_docker::ContainerId("c1".to_owned()),
            code: if oom { 137 } else { 1 },
            oom,
            tail,
            errors: errors.iter().map(ToString::to_string).collect(),
            certain: true,
            no_space: false,
            hints: hints.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_failed_step() {
        let error = step(
            &["no distribution fits the requirement cryptography>=40"],
            &["check its name and version, and that it supports this platform and Python"],
            false,
        );
        let options = FailureOptions { log: Some(Path::new(".kiln/logs/linux_386.log")), ..PLAIN };
        insta::assert_snapshot!("failure_step", render_error(&error, options));
    }

    #[test]
    fn an_error_in_a_few_lines() {
        let said = step(&["no distribution fits", "second"], &["check its name"], false);
        assert_eq!(brief(&said), "no distribution fits (linux/386)\nsecond\nhint: check its name");
        let silent = step(&[], &[], false);
        let text = brief(&silent);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "`RUN pip install -r requirements.txt` failed for linux/386 with exit code 1");
        assert_eq!(lines[5], "| ERROR: No matching distribution found for cryptography>=40");
        assert!(lines[1..6].iter().all(|line| line.starts_with("| ")), "{text}");
    }

    #[test]
    fn a_step_out_of_memory() {
        let mut error = step(&[], &[], true);
        if let SolveError::Step { tail, origin, .. } = &mut error {
            tail.clear();
            origin.text = format!("RUN --mount=type=cache,target=/x {}", "very long command ".repeat(20));
            origin.end_line = 17;
        }
        insta::assert_snapshot!("failure_memory", render_error(&error, PLAIN));
    }

    #[test]
    fn a_chain_of_causes() {
        let source = EngineError::Unreachable {
            host: "unix:///var/run/docker.sock".into(),
            source: Box::new(io::Error::from(io::ErrorKind::NotFound)),
        };
        let error = SolveError::StepEngine { origin: Box::new(script::origin(3)), platform: script::ARM64, source };
        insta::assert_snapshot!("failure_chain", render_error(&error, PLAIN));
    }

    #[test]
    fn a_missing_file() {
        let error = SolveError::CopyMissing {
            origin: Box::new(Origin { text: "COPY requirments.txt /src/".into(), ..script::origin(2) }),
            pattern: "requirments.txt".into(),
            place: Searched::Context { title: "the build context /project".into(), hidden_by: None },
        };
        insta::assert_snapshot!("failure_copy", render_error(&error, PLAIN));
    }

    #[test]
    fn a_smoke_run_and_others() {
        let smoke = SolveError::Smoke {
            command: "hello --version".into(),
            platform: script::ARM64,
            image: "debian:bookworm".into(),
            problem: "exit code 1".into(),
            tail: vec!["Traceback (most recent call last):".into(), String::new(), "ImportError: no json".into()],
        };
        let io = SolveError::Io {
            action: "write",
            path: PathBuf::from("dist/hello"),
            source: io::ErrorKind::StorageFull.into(),
        };
        let chain = render_chain(&io, Some("buy a\nlarger disk"), false);
        let text = [render_error(&smoke, PLAIN), render_error(&io, PLAIN), chain].join("\n");
        insta::assert_snapshot!("failure_others", text);
    }

    #[test]
    fn colours_change_no_text() {
        let error = step(&["x"], &["y"], false);
        let colored = render_error(&error, FailureOptions { color: true, ..PLAIN });
        assert!(colored.contains('\u{1b}'));
        assert_eq!(console::strip_ansi_codes(&colored), render_error(&error, PLAIN));
    }
}
