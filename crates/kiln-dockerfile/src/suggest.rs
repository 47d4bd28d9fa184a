//! "Did you mean" for names.

use kiln_graph::edits;

/// The candidate that `word` most resembles, if it is near enough to be a slip of the finger. Case does not count.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // No name is that long, and the distance takes time and room in proportion.
    if word.len() > 100 {
        return None;
    }
    let word = word.to_lowercase();
    let allowed = match word.chars().count() {
        0..=2 => 1,
        3..=7 => 2,
        _ => 3,
    };
    candidates
        .into_iter()
        .map(|candidate| (edits(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["RUN", "COPY", "WORKDIR", "ENTRYPOINT"];
        for (word, expected) in [
            ("RNU", Some("RUN")),
            ("copi", Some("COPY")),
            ("WORKIDR", Some("WORKDIR")),
            ("ENTRYPIONT", Some("ENTRYPOINT")),
            ("FETCH", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known).as_deref(), expected, "{word}");
        }
    }
}
