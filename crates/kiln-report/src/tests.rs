use kiln_history::record::{Record, Step};
use pulldown_cmark::{Event, Options, Parser, Tag};

use crate::{Extras, Report, fixture, html, markdown, text};

fn page(records: &[Record], extras: Extras) -> String {
    html::page(&Report::new(records, &records[0].id, extras).unwrap())
}

fn summary(records: &[Record], extras: Extras) -> String {
    markdown::summary(&Report::new(records, &records[0].id, extras).unwrap())
}

/// What is between two texts.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let rest = text.split_once(start).unwrap_or_else(|| panic!("{start} is missing")).1;
    rest.split_once(end).unwrap_or_else(|| panic!("{end} is missing")).0
}

#[test]
fn the_record_is_in_the_page_as_it_is() {
    let records = fixture::history();
    let page = page(&records, fixture::extras("hello"));
    let json = between(&page, "<script type=\"application/json\" id=\"record\">", "</script>");
    assert_eq!(serde_json::from_str::<Record>(json).unwrap(), records[0]);
}

#[test]
fn numbers_are_those_of_the_record() {
    let records = fixture::history();
    let page = page(&records, Extras::default());
    for target in &records[0].targets {
        let row = between(&page, &format!("data-platform=\"{}\"", target.platform), "</tr>");
        let shown = |number: String, shown: String| format!("<data value=\"{number}\">{shown}</data>");
        let ccache = target.ccache.unwrap().percent().unwrap();
        for value in [
            shown(target.seconds.to_string(), text::duration(target.seconds)),
            shown(target.container_seconds.to_string(), text::duration(target.container_seconds)),
            shown(target.cached.to_string(), "3".into()),
            shown((target.cached + target.ran).to_string(), "5".into()),
            shown(ccache.to_string(), "92%".into()),
            shown(target.size().to_string(), text::size(target.size())),
        ] {
            assert!(row.contains(&value), "{value}: {row}");
        }
        assert!(page.contains(target.artifacts[0].sha256.as_ref().unwrap()));
    }
}

#[test]
fn every_part_is_there_and_the_page_is_small() {
    let page = page(&fixture::failed(), fixture::extras("hello"));
    let parts = ["results", "timeline", "caches", "changes", "steps", "modules", "contents", "history", "notices"];
    for part in parts {
        assert!(page.contains(&format!("<section id=\"{part}\">")), "{part}");
    }
    assert!(page.contains("386 failed: ") && page.contains("main.c:1: error"), "the failure");
    assert!(page.len() < 200_000, "{}", page.len());
}

#[test]
fn a_build_of_nothing_is_a_page_too() {
    let record = Record { id: "1".into(), ..Record::default() };
    let page = page(std::slice::from_ref(&record), Extras::default());
    assert!(page.contains("<section id=\"results\">") && !page.contains("<section id=\"timeline\">"));
    assert!(summary(std::slice::from_ref(&record), Extras::default()).starts_with("## build: up to date"));
    assert!(Report::new(&[record], "2", Extras::default()).is_none());
}

#[test]
fn the_page_loads_nothing_and_runs_nothing() {
    let page = page(&fixture::failed(), fixture::extras("hello"));
    let policy = between(&page, "http-equiv=\"Content-Security-Policy\" content=\"", "\"");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    for word in [" src=\"", "<img", "<link", "<iframe", "@import", "url(", "http:", "https:", " style=", "onload"] {
        assert!(!page.contains(word), "{word}");
    }
    assert_eq!(page.matches("<script").count(), 1);
}

#[test]
fn hostile_names_stay_text() {
    let page = page(&fixture::hostile(), fixture::extras(fixture::HOSTILE));
    assert_eq!(page.matches("</script").count(), 1);
    assert_eq!(page.matches("</title").count() - page.matches("<title").count(), 0);
    assert!(!page.contains("<img") && page.contains("&lt;img"));
    assert!(!page.contains('\u{202e}') && !page.contains('\u{1b}'));
    // No attribute begins where a text tries to end one; in JSON a quote is escaped in its own way.
    let shown = page.split_once("<script").unwrap().0;
    assert!(!shown.contains("\"'`") && shown.contains("&quot;'`"));
    let json = between(&page, "id=\"record\">", "</script>");
    assert_eq!(serde_json::from_str::<Record>(json).unwrap(), fixture::hostile()[0]);
}

#[test]
fn many_steps_and_builds_stay_below_a_megabyte() {
    let mut records: Vec<Record> = (0..200).rev().map(|number| fixture::warm(number, 30.0)).collect();
    let steps: Vec<Step> = records[0].steps.clone();
    records[0].steps = steps.iter().cycle().take(3000).cloned().collect();
    let long = "x".repeat(5000);
    for step in &mut records[0].steps {
        (step.reason, step.text) = (long.clone(), long.clone());
    }
    let page = page(&records, fixture::extras("hello"));
    assert!(page.len() < 1_000_000, "{}", page.len());
    let summary = summary(&records, fixture::extras("hello"));
    assert!(summary.len() < 100_000, "{}", summary.len());
}

#[test]
fn a_summary_never_exceeds_what_the_service_takes() {
    let mut records = fixture::history();
    let artifact = records[0].targets[0].artifacts[0].clone();
    records[0].targets[0].artifacts = vec![artifact; 20_000];
    let summary = summary(&records, Extras::default());
    assert!(summary.len() < markdown::LARGEST, "{}", summary.len());
    assert!(summary.contains("would be too large for this page"));
}

#[test]
fn summaries() {
    insta::assert_snapshot!("summary", summary(&fixture::history(), Extras::default()));
    insta::assert_snapshot!("summary_failed", summary(&fixture::failed(), fixture::extras("hello")));
    let mut slow = fixture::history();
    slow.insert(0, fixture::warm(12, 60.0));
    insta::assert_snapshot!("summary_slow", summary(&slow, Extras::default()));
}

/// What Markdown makes of a summary: raw HTML, links and images, and cells per row.
fn parsed(summary: &str) -> (Vec<String>, usize, Vec<usize>) {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_GFM;
    let (mut html, mut links, mut cells) = (Vec::new(), 0, Vec::new());
    for event in Parser::new_ext(summary, options) {
        match event {
            Event::Html(text) | Event::InlineHtml(text) => html.push(text.trim().to_owned()),
            Event::Start(Tag::Link { .. } | Tag::Image { .. }) => links += 1,
            Event::Start(Tag::TableRow | Tag::TableHead) => cells.push(0),
            Event::Start(Tag::TableCell) => *cells.last_mut().unwrap() += 1,
            _ => {}
        }
    }
    (html, links, cells)
}

#[test]
fn hostile_names_mean_nothing_to_markdown() {
    for summary in [
        summary(&fixture::hostile(), fixture::extras(fixture::HOSTILE)),
        summary(&fixture::failed(), fixture::extras("hello")),
    ] {
        let (html, links, cells) = parsed(&summary);
        let own = ["<details>", "<summary>Files with their whole digests</summary>", "</details>"];
        assert_eq!(html, own, "{summary}");
        assert_eq!(links, 0);
        assert_eq!(cells[..4], [7; 4]);
        assert!(cells.len() > 5 && cells[4..].iter().all(|cells| *cells == 5), "{cells:?}");
        // The picture's block ends where it shall.
        let gantt = between(&summary, "```mermaid\n", "```\n");
        assert!(gantt.starts_with("gantt\n") && gantt.lines().all(|line| !line.contains('`')), "{gantt}");
        let tasks: Vec<&str> = gantt.lines().filter(|line| line.contains(" :")).collect();
        assert!(!tasks.is_empty());
        for task in tasks {
            assert_eq!(task.matches(':').count(), 1, "{task}");
        }
    }
}
