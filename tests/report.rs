//! `kiln report`: the page in a real browser, and the job summary.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use kiln_e2e::{Project, needed};
use serde_json::Value;

use crate::fresh;

const THREE: [&str; 6] = ["-f", "Dockerfile", "-o", "out", "--platform=linux/amd64,linux/386,linux/arm64", "."];

/// Its instructions try to be more than text.
fn project() -> Option<Project> {
    let body = "RUN echo '</script><img src=x onerror=alert(1)>|`' && uname -m > /machine\nCOPY note.txt /\n\
                RUN cat /machine /note.txt > /result && ! grep bad /note.txt\nFROM scratch\nCOPY --from=0 /result /\n";
    Project::new(&[("Dockerfile", &fresh(body)), ("note.txt", "one\n")])
}

/// The page as a browser has it after it was loaded, and what it wrote to its console.
fn browse(browser: &str, page: &Path) -> (String, Vec<String>) {
    let profile = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"]);
    // No name leads anywhere: what the page would load from elsewhere fails, and failing is said on the console.
    command.args(["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-dev-shm-usage", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    let ran = command.arg(format!("file://{}", page.display())).stdin(Stdio::null()).output().expect("it starts");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{said}");
    let console = said.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect();
    (String::from_utf8_lossy(&ran.stdout).into_owned(), console)
}

/// What is between two texts.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let rest = text.split_once(start).unwrap_or_else(|| panic!("{start} is missing: {text}")).1;
    rest.split_once(end).unwrap_or_else(|| panic!("{end} is missing")).0
}

/// The numbers of a part of the page, each with the text that people see.
fn shown(part: &str) -> Vec<(f64, &str)> {
    let values = part.split("<data value=\"").skip(1);
    values.map(|value| (between(value, "", "\"").parse().expect("a number"), between(value, ">", "</data>"))).collect()
}

/// Whether `2m 05s`, `0.25 s` are a time in seconds, as exactly as they say it.
fn is_time(text: &str, seconds: f64) -> bool {
    let number = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
    let (said, exact) = match text.split_once("m ") {
        Some((minutes, rest)) => (60.0 * number(minutes) + number(rest.trim_end_matches('s')), 0.51),
        None if seconds < 1.0 => (number(text.trim_end_matches(" s")), 0.0051),
        None => (number(text.trim_end_matches(" s")), 0.051),
    };
    (said - seconds).abs() < exact
}

fn record(project: &Project, build: &str) -> Value {
    let ran = project.kiln(&["history", "show", build, "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).expect("JSON")
}

#[test]
fn a_browser_shows_the_numbers_of_the_record_and_loads_nothing() {
    let (Some(project), Some(browser)) = (project(), needed("KILN_TEST_CHROMIUM")) else { return };
    project.build(&THREE);
    project.write("note.txt", "two\n");
    project.build(&THREE);
    let ran = project.kiln(&["report"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains(".kiln/report.html") && ran.stdout.is_empty(), "{}", ran.stderr);
    let file = project.path().join(".kiln/report.html");
    assert!(fs::metadata(&file).expect("it was written").len() < 1_000_000);

    let (page, console) = browse(&browser, &file);
    assert_eq!(console, [""; 0], "nothing is wrong with the page");
    assert!(!page.contains("<img"), "an instruction became more than text");
    for word in [" src=\"", "<link", "<iframe", "http:", "https:"] {
        assert!(!page.contains(word), "{word}");
    }
    // A page that does load something is noticed.
    let bad = project.path().join("bad.html");
    let text = fs::read_to_string(&file).expect("text");
    fs::write(&bad, text.replace("</main>", "<img src=\"http://elsewhere.invalid/x.png\"></main>")).expect("a file");
    assert_ne!(browse(&browser, &bad).1, [""; 0], "the page's own policy forbids it");

    let record = record(&project, "last");
    let own: Value =
        serde_json::from_str(between(&page, "type=\"application/json\" id=\"record\">", "</script>")).expect("JSON");
    assert_eq!(own, record);
    let targets = record["targets"].as_array().expect("a list");
    assert_eq!(targets.len(), 3);
    for target in targets {
        let platform = target["platform"].as_str().expect("text");
        let values = shown(between(&page, &format!("data-platform=\"{platform}\""), "</tr>"));
        let number = |key: &str| target[key].as_f64().expect("a number");
        let size: f64 = target["artifacts"].as_array().expect("a list").iter().filter_map(|a| a["size"].as_f64()).sum();
        let expected =
            [number("seconds"), number("container_seconds"), number("cached"), number("cached") + number("ran"), size];
        let numbers: Vec<f64> = values.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, expected, "{platform}");
        for (seconds, text) in &values[..2] {
            assert!(is_time(text, *seconds), "{text} for {seconds} s");
        }
        for (count, text) in &values[2..4] {
            assert_eq!(text.parse(), Ok(*count), "{platform}");
        }
        assert_eq!(values[4].1, format!("{size} B"), "{platform}");
        let sum = target["artifacts"][0]["sha256"].as_str().expect("a digest");
        assert!(page.contains(sum), "{sum}");
    }
    let steps = shown(between(&page, "<section id=\"steps\">", "</section>"));
    let ran: Vec<&Value> =
        record["steps"].as_array().expect("a list").iter().filter(|step| step["cached"] == false).collect();
    let expected: Vec<f64> = ran.iter().flat_map(|s| [s["start"].as_f64(), s["seconds"].as_f64()]).flatten().collect();
    assert_eq!(steps.iter().map(|(number, _)| *number).collect::<Vec<_>>(), expected);
    let seconds = record["seconds"].as_f64().expect("a number");
    assert!(is_time(shown(between(&page, "<header>", "</header>"))[0].1, seconds), "{seconds}");
}

#[test]
fn a_summary_says_what_failed_and_where() {
    let Some(project) = project() else { return };
    let none = project.kiln(&["report"]);
    assert_eq!(none.code, Some(2), "{}", none.stderr);
    assert!(none.stderr.contains("no build"), "{}", none.stderr);
    let build = ["-f", "Dockerfile", "-o", "out", "--platform=linux/amd64", "."];
    project.build(&build);
    project.write("note.txt", "bad\n");
    assert_eq!(project.kiln(&[&["build"], &build[..]].concat()).code, Some(1));
    let ran = project.kiln(&["report", "--markdown"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for words in
        ["failed\n", "**linux/amd64 failed**", "`Dockerfile:5`", "bad\n```", "| linux/amd64 | native | failed |"]
    {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    // The build before it, into a file.
    let ran = project.kiln(&["report", "last~1", "--markdown", "out/summary.md"]);
    assert!(ran.code == Some(0) && ran.stdout.is_empty(), "{}", ran.stderr);
    let text = project.read("out/summary.md");
    assert!(text.contains("```mermaid\ngantt\n") && !text.contains("<img") && !text.contains("failed"), "{text}");
    let record = record(&project, "last~1");
    let sum = record["targets"][0]["artifacts"][0]["sha256"].as_str().expect("a digest");
    assert!(text.contains(sum), "{text}");
}

#[test]
fn a_page_is_shown_if_that_is_wanted() {
    let Some(project) = project() else { return };
    project.build(&["-f", "Dockerfile", "-o", "out", "--platform=linux/amd64", "."]);
    // What opens files on a desktop, by its name.
    project.write("bin/xdg-open", "#!/bin/sh\necho \"$1\" > opened\n");
    fs::set_permissions(project.path().join("bin/xdg-open"), fs::Permissions::from_mode(0o755)).expect("it is there");
    let path = format!("{}/bin:{}", project.path().display(), std::env::var("PATH").unwrap_or_default());
    let run = |arguments: &[&str]| {
        let ran = project.command(arguments).env("PATH", &path).output().expect("it starts");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    };
    run(&["report", "--html", "page.html"]);
    assert!(!project.path().join("opened").exists());
    run(&["report", "--html", "page.html", "--open"]);
    assert!(project.read("opened").trim_end().ends_with("page.html"));
}
