//! What people are told while a release is published.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kiln_publish::{Event, Events};

use crate::report::size;
use crate::ui::Ui;

/// How often it is told how far an upload is.
const EVERY: Duration = Duration::from_secs(10);

/// Turns events into lines.
pub(crate) struct Progress {
    ui: Ui,
    /// When something was told of each upload last.
    told: Mutex<BTreeMap<String, Instant>>,
}

impl Progress {
    pub(crate) fn new(ui: Ui) -> Self {
        Self { ui, told: Mutex::default() }
    }

    /// Who is told.
    pub(crate) fn events(self) -> Events {
        let progress = Arc::new(self);
        Arc::new(move |event| {
            if let Some(line) = progress.line(event, Instant::now()) {
                progress.ui.say(&line);
            }
        })
    }

    fn line(&self, event: Event, now: Instant) -> Option<String> {
        Some(match event {
            Event::Created { url } => format!("draft: {url}"),
            Event::Resumed { url } => format!("completing what is there: {url}"),
            Event::Kept { name } => format!("  there already  {name}"),
            Event::Removed { name, why } => format!("  removed        {name}, which {why}"),
            Event::Stranger { name } => format!("  not of this    {name} is in the draft, too, and stays"),
            Event::Sending { name, sent, size: all } => return self.how_far(&name, (sent, all), now),
            Event::Sent { name, size: bytes } => format!("  sent           {name} ({})", size(bytes)),
            Event::Again { action, reason, wait } => {
                format!("  again in {} s: {action}: {reason}", tenths(wait))
            }
            Event::Left { what } => format!("{what} stays; the next `kiln release` completes it"),
        })
    }

    /// Something now and then of an upload that takes long.
    fn how_far(&self, name: &str, (sent, all): (u64, u64), now: Instant) -> Option<String> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let last = *told.entry(name.to_owned()).or_insert(now);
        if now.duration_since(last) < EVERY || all == 0 {
            return None;
        }
        told.insert(name.to_owned(), now);
        Some(format!("  sending {:>3} %  {name} of {}", sent.min(all) * 100 / all, size(all)))
    }
}

fn tenths(time: Duration) -> String {
    let tenths = time.as_millis() / 100;
    if tenths.is_multiple_of(10) { (tenths / 10).to_string() } else { format!("{}.{}", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Color;
    use crate::environment::Environment;

    #[test]
    fn long_uploads_are_told_of_now_and_then() {
        let progress = Progress::new(Ui::new(Color::Never, &Environment::read()));
        let start = Instant::now();
        let sending = |sent: u64, seconds: u64| {
            let event = Event::Sending { name: "app".to_owned(), sent, size: 80_000_000 };
            progress.line(event, start + Duration::from_secs(seconds))
        };
        assert_eq!((sending(0, 0), sending(1_000, 5)), (None, None));
        assert_eq!(sending(20_000_000, 11).as_deref(), Some("  sending  25 %  app of 80.0 MB"));
        assert_eq!(sending(40_000_000, 15), None);
        assert_eq!((tenths(Duration::from_millis(1500)), tenths(Duration::from_secs(4))), ("1.5".into(), "4".into()));
    }
}
