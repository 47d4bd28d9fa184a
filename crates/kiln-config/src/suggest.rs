//! "Did you mean": the known word that a misspelled one most resembles.

use kiln_graph::edits;

/// The candidate nearest to `given`, if it is near enough to be a slip of the finger: one edit for short words, a third of
/// the length for long ones, three at most.
pub(crate) fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_ascii_lowercase().replace('_', "-");
    let limit = (given.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (edits(&given, &candidate.to_ascii_lowercase().replace('_', "-")), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_does_not() {
        let known = ["lto", "jobs", "static-libpython", "extra-args", "mode"];
        for (given, expected) in [
            ("lot", Some("lto")),
            ("job", Some("jobs")),
            ("static_libpython", Some("static-libpython")),
            ("static-lib-python", Some("static-libpython")),
            ("Mode", Some("mode")),
            ("optimise", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, known), expected, "{given}");
        }
    }
}
