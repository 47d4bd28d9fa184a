//! What CI services read in a log: folds, annotations of files, and words that must not be taken for either. Pure.
//!
//! Sources: docs.github.com, "Workflow commands for GitHub Actions"; docs.gitlab.com, "Custom collapsible sections".

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

/// A CI service whose logs are more than text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// GitHub Actions, and what is compatible with it.
    Github,
    /// GitLab CI.
    Gitlab,
}

impl Service {
    /// The service that runs this process; `variable` gives the value of a variable that is set and not empty.
    pub(crate) fn of<'a>(variable: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let is_true = |name: &str| variable(name) == Some("true");
        if is_true("GITHUB_ACTIONS") {
            return Some(Self::Github);
        }
        is_true("GITLAB_CI").then_some(Self::Gitlab)
    }
}

/// How grave an annotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// It made the build fail.
    Error,
    /// It did not.
    Warning,
}

/// The lines of a file that an annotation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    /// The file, relative to the checkout.
    pub(crate) file: String,
    /// First and last line, counted from 1.
    pub(crate) lines: Option<(u32, u32)>,
}

/// An annotation as GitHub's workflow command.
pub(crate) fn annotation(level: Level, spot: Option<&Spot>, title: &str, message: &str) -> String {
    let mut properties = String::new();
    if let Some(Spot { file, lines }) = spot {
        let _ = write!(properties, "file={},", property(file));
        if let Some((first, last)) = lines {
            let _ = write!(properties, "line={first},endLine={last},");
        }
    }
    let level = match level {
        Level::Error => "error",
        Level::Warning => "warning",
    };
    format!("::{level} {properties}title={}::{}", property(title), data(message))
}

/// The text of a workflow command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a property of a workflow command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Text that GitHub takes for no command: one is a line that begins with `::`, or has `##[` anywhere.
pub(crate) fn defused(text: &str) -> Cow<'_, str> {
    let is_command = |line: &str| line.trim_start().starts_with("::");
    if !text.contains("##[") && !text.lines().any(is_command) {
        return Cow::Borrowed(text);
    }
    let line = |line: &str| {
        let line = line.replace("##[", "## [");
        if is_command(&line) { line.replacen("::", ": :", 1) } else { line }
    };
    Cow::Owned(text.split('\n').map(line).collect::<Vec<_>>().join("\n"))
}

/// Lines that belong together become folds, which neither nest nor interleave: each is written at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Folds {
    /// Who reads them.
    pub(crate) service: Service,
    /// When the build began, since 1970.
    pub(crate) began: Duration,
}

impl Folds {
    /// Writes a fold. `span` is from when to when, since the start of the build; `number` is one of its own.
    pub(super) fn write(
        self,
        out: &mut impl Write,
        title: &str,
        number: usize,
        (from, to): (Duration, Duration),
        lines: &[String],
    ) -> io::Result<()> {
        let second = |at: Duration| (self.began + at).as_secs();
        match self.service {
            Service::Github => writeln!(out, "::group::{}", data(title))?,
            Service::Gitlab => {
                let start = second(from);
                writeln!(out, "\x1b[0Ksection_start:{start}:kiln_{number}[collapsed=true]\r\x1b[0K{title}")?;
            }
        }
        for line in lines {
            writeln!(out, "{}", self.plain(line))?;
        }
        match self.service {
            Service::Github => writeln!(out, "::endgroup::"),
            Service::Gitlab => writeln!(out, "\x1b[0Ksection_end:{}:kiln_{number}\r\x1b[0K", second(to)),
        }
    }

    /// A line of others, harmless already.
    pub(super) fn plain(self, line: &str) -> Cow<'_, str> {
        match self.service {
            Service::Github => defused(line),
            // Without control characters there are no sections.
            Service::Gitlab => Cow::Borrowed(line),
        }
    }
}

/// Lines on their way to a log of GitHub's, in which `##[` would be a command wherever it stands: in an instruction, say.
pub(super) struct Guarded<W> {
    out: W,
    /// The line that is not whole yet.
    line: Vec<u8>,
}

impl<W: Write> Guarded<W> {
    /// Lines that go to `out`.
    pub(super) fn new(out: W) -> Self {
        Self { out, line: Vec::new() }
    }
}

impl<W: Write> Write for Guarded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.out.write_all(String::from_utf8_lossy(&line).replace("##[", "## [").as_bytes())?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_told_by_their_variables() {
        let of = |name: &'static str, value: &'static str| Service::of(move |n| (n == name).then_some(value));
        assert_eq!(of("GITHUB_ACTIONS", "true"), Some(Service::Github));
        assert_eq!(of("GITLAB_CI", "true"), Some(Service::Gitlab));
        assert_eq!(of("GITHUB_ACTIONS", "false"), None);
        assert_eq!(of("CI", "true"), None);
    }

    #[test]
    fn annotations_are_escaped() {
        let spot = Spot { file: "a,b:c%".to_owned(), lines: Some((3, 4)) };
        assert_eq!(
            annotation(Level::Error, Some(&spot), "RUN a::b", "1\n2\r%"),
            "::error file=a%2Cb%3Ac%25,line=3,endLine=4,title=RUN a%3A%3Ab::1%0A2%0D%25"
        );
        assert_eq!(annotation(Level::Warning, None, "kiln", "x"), "::warning title=kiln::x");
    }

    #[test]
    fn nothing_that_a_step_says_is_a_command() {
        let cases = [
            ("harmless :: text # [", "harmless :: text # ["),
            ("::set-output name=a::b", ": :set-output name=a::b"),
            (" \u{a0}::add-mask::a", " \u{a0}: :add-mask::a"),
            ("x ##[error]y ##[set-output name=digest;]z", "x ## [error]y ## [set-output name=digest;]z"),
            ("one\n  ::error::two\nthree\n", "one\n  : :error::two\nthree\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(defused(text), expected);
        }
    }

    #[test]
    fn no_command_gets_through_in_parts() {
        let mut out = Guarded::new(Vec::new());
        for part in ["a #", "#[set-output", "] b\n::group::"] {
            write!(out, "{part}").unwrap();
        }
        assert_eq!(String::from_utf8_lossy(&out.out), "a ## [set-output] b\n");
        writeln!(out, "c").unwrap();
        assert_eq!(String::from_utf8_lossy(&out.out), "a ## [set-output] b\n::group::c\n");
    }

    #[test]
    fn folds_are_those_of_the_service() {
        let written = |service| {
            let mut out = Vec::new();
            let span = (Duration::from_secs(2), Duration::from_millis(5_500));
            let folds = Folds { service, began: Duration::from_secs(1000) };
            folds.write(&mut out, "a 100%", 7, span, &["::x".to_owned(), "y".to_owned()]).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(Service::Github), "::group::a 100%25\n: :x\ny\n::endgroup::\n");
        let expected = "\x1b[0Ksection_start:1002:kiln_7[collapsed=true]\r\x1b[0Ka 100%\n::x\ny\n\
            \x1b[0Ksection_end:1005:kiln_7\r\x1b[0K\n";
        assert_eq!(written(Service::Gitlab), expected);
    }
}
