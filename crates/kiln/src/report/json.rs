//! Events as lines of JSON, for programs.

use std::io::{self, Write};
use std::time::Duration;

use kiln_solver::BuildEvent;
use serde::Serialize;

/// One line of the stream: the event, and when it happened.
#[derive(Serialize)]
struct Line<'a> {
    /// Seconds since the start of the build.
    at: f64,
    #[serde(flatten)]
    event: &'a BuildEvent,
}

/// Writes an event as one line, and flushes: a reader must not wait for the next event.
pub(super) fn write(out: &mut dyn Write, at: Duration, event: &BuildEvent) -> io::Result<()> {
    let at = (at.as_secs_f64() * 1000.0).round() / 1000.0;
    let mut line = serde_json::to_vec(&Line { at, event })?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::script;

    #[test]
    fn every_event_is_one_line_with_a_time_and_a_kind() {
        for (at, event) in script::failing() {
            let mut out = Vec::new();
            write(&mut out, at, &event).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.matches('\n').count(), 1);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!(value["at"].is_f64() && value["event"].is_string(), "{text}");
        }
    }

    #[test]
    fn the_form_of_a_line() {
        let lines: Vec<String> = script::failing()
            .into_iter()
            .take(5)
            .map(|(at, event)| {
                let mut out = Vec::new();
                write(&mut out, at, &event).unwrap();
                String::from_utf8(out).unwrap()
            })
            .collect();
        insta::assert_snapshot!("json", lines.concat());
    }
}
