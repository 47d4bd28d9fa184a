//! `--filter` as `docker buildx prune` and `docker buildx du` have it.

use std::time::Duration;

use kiln_config::parse_duration;

use super::{Record, Type};
use crate::error::{CliError, Result};

/// What must hold for a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Not used for this long.
    until: Option<Duration>,
    /// Part of its id.
    id: Option<String>,
    /// Its type.
    pub(crate) kind: Option<Type>,
    /// Part of its description.
    description: Option<String>,
    /// Whether something holds it.
    in_use: bool,
}

impl Filter {
    /// What was not used for this long, if it is said.
    pub(crate) fn unused_for(until: Option<Duration>) -> Self {
        Self { until, ..Self::default() }
    }

    /// Reads the values of `--filter`; all of them must hold.
    pub(crate) fn parse(texts: &[String]) -> Result<Self> {
        let mut filter = Self::default();
        for text in texts {
            let wrong =
                |hint: String| CliError::Usage { problem: format!("--filter: `{text}` is not understood"), hint };
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            // buildx takes a pattern after `~=`; the part of a text is the pattern that people write.
            let name = name.trim_end_matches('~');
            if value.is_empty() && name != "inuse" {
                return Err(wrong("filters are until=24h, id=ID, type=TYPE, description=TEXT and inuse".to_owned()));
            }
            match name {
                "until" | "unused-for" => {
                    filter.until = Some(parse_duration(value).map_err(|error| wrong(error.to_string()))?);
                }
                "id" => filter.id = Some(value.to_owned()),
                "description" => filter.description = Some(value.to_owned()),
                "type" => {
                    let names = Type::ALL.map(Type::name).join(", ");
                    filter.kind = Some(Type::parse(value).ok_or_else(|| wrong(format!("types are {names}")))?);
                }
                "inuse" => filter.in_use = true,
                _ => return Err(wrong("filters are until, id, type, description and inuse".to_owned())),
            }
        }
        Ok(filter)
    }

    /// Whether a record is meant, `now` being the time in seconds since 1970.
    pub(crate) fn takes(&self, record: &Record, now: Duration) -> bool {
        let holds = |part: &Option<String>, text: &str| part.as_ref().is_none_or(|part| text.contains(part.as_str()));
        let latest = |age: Duration| i64::try_from(now.saturating_sub(age).as_secs()).unwrap_or(i64::MAX);
        self.until.is_none_or(|age| record.used <= latest(age))
            && holds(&self.id, &record.id)
            && holds(&self.description, &record.description)
            && self.kind.is_none_or(|kind| kind == record.kind)
            && (!self.in_use || record.in_use)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    fn filter(texts: &[&str]) -> Result<Filter> {
        Filter::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn filters_hold_together() {
        let now = Duration::from_hours(100);
        let old = record("sha256:abc", Type::Checkpoint, 1, 10 * 3600);
        let new = record("pip", Type::Cache, 1, 99 * 3600);
        let taken = |texts: &[&str]| {
            let filter = filter(texts).expect("a filter");
            [&old, &new].map(|record| filter.takes(record, now))
        };
        assert_eq!(taken(&[]), [true, true]);
        assert_eq!(taken(&["until=24h"]), [true, false]);
        assert_eq!(taken(&["until=0"]), [true, true]);
        assert_eq!(taken(&["id=abc"]), [true, false]);
        assert_eq!(taken(&["id~=pi", "type=exec.cachemount"]), [false, true]);
        assert_eq!(taken(&["type=regular", "unused-for=95h"]), [false, false]);
        assert_eq!(taken(&["description=about p"]), [false, true]);
        assert_eq!(taken(&["inuse"]), [false, false]);
    }

    #[test]
    fn what_is_no_filter_is_named() {
        for (text, words) in [
            ("until", "until=24h"),
            ("until=soon", "a duration"),
            ("type=none", "exec.cachemount"),
            ("parents=x", "filters are"),
            ("=x", "filters are"),
        ] {
            let error = filter(&[text]).expect_err(text);
            let hint = error.hint().unwrap_or_default();
            assert!(error.to_string().contains(text) && hint.contains(words), "{text}: {error} {hint}");
        }
    }
}
