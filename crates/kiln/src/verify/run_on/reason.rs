//! Why a program did not run, in words: from its exit code, from what it or its loader said, and from what the image has.

use super::Status;

/// What is known of a try that did not go well.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    /// Its exit code; none if it did not end in time.
    pub(super) code: Option<i64>,
    /// Whether it started.
    pub(super) started: bool,
    /// What was said.
    pub(super) lines: &'a [String],
    /// The loader that it asks for, and whether the image has it.
    pub(super) loader: Option<(&'a str, bool)>,
    /// The version of glibc in the image.
    pub(super) glibc: Option<&'a str>,
    /// How long it was waited for, in seconds.
    pub(super) seconds: u64,
}

/// What it comes to.
pub(super) fn reason(seen: &Seen<'_>) -> (Status, String) {
    if let Some((loader, false)) = seen.loader {
        let library = if loader.contains("ld-musl-") { "musl" } else { "glibc" };
        return (Status::OtherLibc, format!("it is made for {library}, and the image has no {loader}"));
    }
    let text = said(seen).unwrap_or_else(|| match seen.code {
        None => format!("it did not end within {} s", seen.seconds),
        Some(code) => of_code(code),
    });
    (Status::Fails, text)
}

/// What lines tell.
fn said(seen: &Seen<'_>) -> Option<String> {
    if let Some(needed) = newest_glibc(seen.lines) {
        return Some(match seen.glibc {
            Some(has) => format!("needs glibc {needed}, the image has {has}"),
            None => format!("needs glibc {needed}, which is newer than the image's"),
        });
    }
    seen.lines.iter().find_map(|line| of_line(line, seen.started))
}

fn of_line(line: &str, started: bool) -> Option<String> {
    let between = |start: &str, end: &str| -> Option<String> {
        let (_, rest) = line.split_once(start)?;
        Some(rest.split_once(end).map_or(rest, |(found, _)| found).trim().to_owned())
    };
    // glibc, then musl.
    let library = between("error while loading shared libraries: ", ":")
        .or_else(|| between("Error loading shared library ", ":"))
        .or_else(|| between("ImportError: ", ": cannot open shared object file").filter(|name| name.contains(".so")));
    if let Some(library) = library {
        return Some(format!("needs {library}, which the image does not have"));
    }
    if let Some(version) = between("version `", "' not found") {
        return Some(format!("needs {version}, which is newer than the image's library"));
    }
    if line.contains("Error relocating ") && line.contains(": symbol not found") {
        let symbol = line.rsplit(": ").nth(1).unwrap_or_default();
        return Some(format!("needs the symbol {symbol}, which the image's libraries do not have"));
    }
    if line.contains("exec format error") || line.contains("Exec format error") {
        return Some(
            "exec format error: the image's platform is not the program's, or nothing runs it there".to_owned(),
        );
    }
    if !started && line.to_ascii_lowercase().contains("permission denied") {
        return Some("may not be executed: permission denied".to_owned());
    }
    if !started && line.contains("no such file or directory") {
        return Some("does not start: the image lacks its loader or the interpreter that it names".to_owned());
    }
    (!started).then(|| format!("does not start: {}", line.trim()))
}

fn of_code(code: i64) -> String {
    match code {
        126 => "exit code 126: it may not be executed".to_owned(),
        127 => "exit code 127: a program that it calls is not there".to_owned(),
        132 => "it uses an instruction that the processor does not have (SIGILL)".to_owned(),
        134 => "it gave up (SIGABRT)".to_owned(),
        135 | 138 => "it crashed (SIGBUS)".to_owned(),
        137 => "it was killed (SIGKILL), perhaps for lack of memory".to_owned(),
        139 => "it crashed (SIGSEGV)".to_owned(),
        code => format!("exit code {code}"),
    }
}

/// The newest version of glibc that was missed: ``/lib/libc.so.6: version `GLIBC_2.34' not found``.
fn newest_glibc(lines: &[String]) -> Option<kiln_artifact::elf::GlibcVersion> {
    let versions = lines.iter().filter_map(|line| {
        let (_, rest) = line.split_once("version `GLIBC_")?;
        let (version, rest) = rest.split_once('\'')?;
        rest.starts_with(" not found").then(|| version.parse().ok()).flatten()
    });
    versions.max()
}

/// The path of the library whose version was too old, as the loader says it.
pub(super) fn libc_path(lines: &[String]) -> Option<&str> {
    lines.iter().find_map(|line| {
        let (before, _) = line.split_once(": version `GLIBC_")?;
        before.rsplit(": ").next().filter(|path| path.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: i64, started: bool, lines: &[&str]) -> (Status, String) {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        reason(&Seen { code: Some(code), started, lines: &lines, loader: None, glibc: Some("2.31"), seconds: 20 })
    }

    #[test]
    fn what_loaders_say_is_understood() {
        let cases: [(i64, bool, &[&str], &str); 11] = [
            (
                1,
                true,
                &[
                    "/k/hello: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by /k/hello)",
                    "/k/hello: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.36' not found (required by /k/hello)",
                ],
                "needs glibc 2.36, the image has 2.31",
            ),
            (
                127,
                true,
                &["./a: error while loading shared libraries: libz.so.1: cannot open shared object file: No such file"],
                "needs libz.so.1, which the image does not have",
            ),
            (
                127,
                true,
                &["Error loading shared library libfoo.so: No such file or directory (needed by /k/a)"],
                "needs libfoo.so, which the image does not have",
            ),
            (
                127,
                true,
                &["Error relocating /k/a: __res_init: symbol not found"],
                "needs the symbol __res_init, which the image's libraries do not have",
            ),
            (
                1,
                true,
                &["a: /usr/lib/libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by a)"],
                "needs GLIBCXX_3.4.30, which is newer than the image's library",
            ),
            (
                127,
                false,
                &["exec /k/a: exec format error"],
                "exec format error: the image's platform is not the program's, or nothing runs it there",
            ),
            (127, false, &["exec: \"/k/a\": permission denied"], "may not be executed: permission denied"),
            (
                127,
                false,
                &["no such file or directory"],
                "does not start: the image lacks its loader or the interpreter that it names",
            ),
            (127, false, &["something new"], "does not start: something new"),
            (139, true, &["text"], "it crashed (SIGSEGV)"),
            (3, true, &[], "exit code 3"),
        ];
        for (code, started, lines, expected) in cases {
            assert_eq!(of(code, started, lines), (Status::Fails, expected.to_owned()));
        }
    }

    #[test]
    fn another_c_library_is_no_failure_of_the_program() {
        let seen = Seen {
            code: Some(127),
            started: false,
            lines: &["no such file or directory".to_owned()],
            loader: Some(("/lib/ld-musl-x86_64.so.1", false)),
            glibc: None,
            seconds: 20,
        };
        let expected = "it is made for musl, and the image has no /lib/ld-musl-x86_64.so.1";
        assert_eq!(reason(&seen), (Status::OtherLibc, expected.to_owned()));
        let seen =
            Seen { loader: Some(("/lib/ld-musl-x86_64.so.1", true)), code: None, lines: &[], started: true, ..seen };
        assert_eq!(reason(&seen), (Status::Fails, "it did not end within 20 s".to_owned()));
    }

    #[test]
    fn the_librarys_path_is_found_in_what_the_loader_says() {
        let lines = ["/k/a: /lib/libc.so.6: version `GLIBC_2.34' not found (required by /k/a)".to_owned()];
        assert_eq!(libc_path(&lines), Some("/lib/libc.so.6"));
        assert_eq!(libc_path(&["version `GLIBC_2".to_owned()]), None);
    }
}
