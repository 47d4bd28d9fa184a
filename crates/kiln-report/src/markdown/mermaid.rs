//! The steps as Mermaid's gantt, which GitHub draws. Pure.
//!
//! Source: the syntax of Mermaid 11, `gantt`. A task is `NAME :TAGS, START, LENGTH`; `:`, `;` and `#` end a name or begin an
//! entity, so names are written with entities (`#35;`), which Mermaid itself turns into characters.

use std::fmt::Write as _;

use kiln_graph::Platform;
use kiln_history::record::{Outcome, Record, Step};

use crate::{critical, text};

/// Tasks per platform: a picture with more is no help. Those that took longest are kept.
const MOST: usize = 25;
/// Characters of a name.
const NAME: usize = 60;
/// Words with which a line is no task; also as they begin others.
const KEYWORDS: [&str; 16] = [
    "acc",
    "axisformat",
    "call",
    "click",
    "dateformat",
    "excludes",
    "gantt",
    "href",
    "includes",
    "inclusive",
    "section",
    "tickinterval",
    "title",
    "todaymarker",
    "topaxis",
    "weekday",
];

/// The block without its fence; nothing if nothing ran.
pub(super) fn gantt(record: &Record, platforms: &[Platform]) -> Option<String> {
    let critical = critical::path(&record.steps);
    // Times are seconds since 1970, shown as such: then no reader's time zone moves them.
    let mut text = "gantt\n    dateFormat x\n    axisFormat %s s\n    todayMarker off\n".to_owned();
    let mut any = false;
    for &platform in platforms {
        let of = record.steps.iter().enumerate().filter(|(_, step)| !step.cached && step.platforms.contains(&platform));
        let mut steps: Vec<(usize, &Step)> = of.collect();
        if steps.is_empty() {
            continue;
        }
        any = true;
        steps.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
        steps.truncate(MOST);
        steps.sort_by(|a, b| a.1.start.total_cmp(&b.1.start).then(a.0.cmp(&b.0)));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    section {}", name(&platform.to_string()));
        for (index, step) in steps {
            let tag = match step.outcome {
                Outcome::Failed => "crit, ",
                _ if critical.contains(&index) => "active, ",
                _ => "",
            };
            let label = format!("{} {}", text::line(&step.name(), 40), text::duration(step.seconds));
            // A task without length is drawn as nothing.
            let (start, length) = (milliseconds(step.start), milliseconds(step.seconds).max(1));
            let _ = writeln!(text, "    {} :{tag}{start}, {length}ms", name(&label));
        }
    }
    any.then_some(text)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is no negative number, and no long time"
)]
fn milliseconds(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1000.0).round() as u64
}

/// A name that is a name and nothing else.
fn name(text: &str) -> String {
    let line = text::line(text, NAME);
    let line = line.trim();
    let lower = line.to_lowercase();
    let prefix = if KEYWORDS.iter().any(|keyword| lower.starts_with(keyword)) { "step " } else { "" };
    let mut name = prefix.to_owned();
    for c in line.chars() {
        match c {
            ' ' | '.' | '/' | '_' | '+' | '-' => name.push(c),
            c if c.is_alphanumeric() => name.push(c),
            c => {
                let _ = write!(name, "#{};", u32::from(c));
            }
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names() {
        assert_eq!(name("compile 2 1m 48s"), "compile 2 1m 48s");
        assert_eq!(name("a:b;c#d\n%%{x}`<"), "a#58;b#59;c#35;d #37;#37;#123;x#125;#96;#60;");
        assert_eq!(name("section 3"), "step section 3");
        assert_eq!(name("Title"), "step Title");
        assert_eq!(name("linux/arm64"), "linux/arm64");
    }
}
