//! Which instruction made which layer.
//!
//! kiln commits where it pays: file operations ride along with the command after them, so one layer may hold what several
//! instructions did. The last of them is said to have made it; the others are noted as empty, so that the history counts
//! as many layers as there are. Commits carry the text of the instruction that ended them, which is how they are found
//! again when a checkpoint of an earlier build is used.

use kiln_docker::PastStep;
use kiln_graph::{HistoryEntry, VertexId};

use super::config::Past;
use crate::tidy;

/// Characters of an instruction's text that a commit keeps.
pub(crate) const COMMENT_LENGTH: usize = 200;

/// A commit above the base image.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) comment: String,
    /// Seconds since 1970.
    pub(crate) created: i64,
    /// Whether it changed any file.
    pub(crate) has_layer: bool,
}

/// The history of the instructions, given the commits that hold their results.
pub(crate) fn own(entries: &[HistoryEntry], text: impl Fn(VertexId) -> String, commits: &[Commit]) -> Vec<Past> {
    let mut past: Vec<Past> =
        entries.iter().map(|entry| Past { created_by: entry.created_by.clone(), layer: None }).collect();
    let with_files: Vec<(usize, String)> = entries
        .iter()
        .enumerate()
        .filter_map(|(index, entry)| Some((index, text(entry.vertex?))))
        .map(|(index, text)| (index, text.chars().take(COMMENT_LENGTH).collect()))
        .collect();
    let mut end = with_files.len();
    let mut before = Vec::new();
    // A commit that only removes mount points belongs to no instruction, and comes after that of the commit below.
    let (mut tidy, mut tidied) = (None, Vec::new());
    let instructions = commits.iter().filter(|commit| commit.comment != tidy::COMMENT).count();
    let mut below = instructions;
    for commit in commits.iter().rev() {
        if commit.comment == tidy::COMMENT {
            tidy = commit.has_layer.then_some(commit.created);
            continue;
        }
        below -= 1;
        // As many must be left as there are commits below, or some of those would have none.
        let candidates = with_files.get(below.min(end)..end).unwrap_or_default();
        let found = candidates.iter().rposition(|(_, text)| *text == commit.comment).map(|at| at + below.min(end));
        match found.or(end.checked_sub(1)) {
            Some(at) => {
                let index = with_files[at].0;
                past[index].layer = commit.has_layer.then_some(commit.created);
                tidied.extend(tidy.take().map(|created| (index + 1, created)));
                end = at;
            }
            // More commits than instructions: a named context that is a base, for one.
            None if commit.has_layer => {
                before.push(Past { created_by: commit.comment.clone(), layer: Some(commit.created) });
            }
            None => {}
        }
    }
    before.reverse();
    for (index, created) in tidied.into_iter().chain(tidy.map(|created| (0, created))) {
        past.insert(index, Past { created_by: tidy::COMMENT.to_owned(), layer: Some(created) });
    }
    before.append(&mut past);
    before
}

/// Guesses which of the steps made a layer, knowing how many did: those that added bytes, then the latest.
pub(crate) fn guess(steps: &[PastStep], layers: usize) -> Vec<bool> {
    let mut has: Vec<bool> = steps.iter().map(|step| step.size > 0).collect();
    let mut count = has.iter().filter(|has| **has).count();
    for at in (0..has.len()).rev() {
        if count < layers && !has[at] {
            has[at] = true;
            count += 1;
        }
    }
    for has in &mut has {
        if count > layers && *has {
            *has = false;
            count -= 1;
        }
    }
    has
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(texts: &[(&str, Option<usize>)]) -> Vec<HistoryEntry> {
        texts
            .iter()
            .map(|(text, vertex)| HistoryEntry { created_by: (*text).to_owned(), vertex: vertex.map(VertexId) })
            .collect()
    }

    fn commit(comment: &str, created: i64, has_layer: bool) -> Commit {
        Commit { comment: comment.to_owned(), created, has_layer }
    }

    fn layers(past: &[Past]) -> Vec<Option<i64>> {
        past.iter().map(|past| past.layer).collect()
    }

    #[test]
    fn riders_are_empty_and_commits_find_their_instruction() {
        let entries =
            entries(&[("ENV", None), ("COPY", Some(0)), ("RUN a", Some(1)), ("RUN a", Some(2)), ("CMD", None)]);
        let text = |id: VertexId| ["COPY", "RUN a", "RUN a"][id.0].to_owned();
        let past = own(&entries, text, &[commit("RUN a", 5, true), commit("RUN a", 7, true)]);
        assert_eq!(layers(&past), [None, None, Some(5), Some(7), None]);
        let past = own(&entries, text, &[commit("COPY", 1, true), commit("RUN a", 5, false), commit("RUN a", 7, true)]);
        assert_eq!(layers(&past), [None, Some(1), None, Some(7), None]);
        // A checkpoint of a Dockerfile that was written in other words.
        let past = own(&entries, text, &[commit("RUN  a", 5, true), commit("?", 7, true)]);
        assert_eq!(layers(&past), [None, None, Some(5), Some(7), None]);
        assert_eq!(layers(&own(&entries, text, &[])), [None; 5]);
    }

    #[test]
    fn a_layer_that_removes_mount_points_is_one_of_its_own() {
        let entries = entries(&[("RUN a", Some(0)), ("USER u", None), ("RUN b", Some(1)), ("CMD", None)]);
        let text = |id: VertexId| ["RUN a", "RUN b"][id.0].to_owned();
        let commits = [
            commit("RUN a", 1, true),
            commit(tidy::COMMENT, 2, true),
            commit("RUN b", 3, true),
            commit(tidy::COMMENT, 4, true),
        ];
        let past = own(&entries, text, &commits);
        let said: Vec<_> = past.iter().map(|past| (past.created_by.as_str(), past.layer)).collect();
        let expected = [
            ("RUN a", Some(1)),
            (tidy::COMMENT, Some(2)),
            ("USER u", None),
            ("RUN b", Some(3)),
            (tidy::COMMENT, Some(4)),
            ("CMD", None),
        ];
        assert_eq!(said, expected);
        let nothing = [commit("RUN a", 1, true), commit(tidy::COMMENT, 2, false)];
        assert_eq!(layers(&own(&entries, text, &nothing)), [Some(1), None, None, None]);
    }

    #[test]
    fn a_commit_too_many_is_still_a_layer() {
        let entries = entries(&[("RUN a", Some(0))]);
        let past = own(&entries, |_| "RUN a".to_owned(), &[commit("FROM folder", 1, true), commit("RUN a", 2, true)]);
        assert_eq!(layers(&past), [Some(1), Some(2)]);
        assert_eq!(past[0].created_by, "FROM folder");
    }

    #[test]
    fn guesses_have_the_right_number() {
        let step = |size| PastStep { id: None, created: 0, created_by: String::new(), comment: String::new(), size };
        let steps = [step(0), step(5), step(0), step(0)];
        assert_eq!(guess(&steps, 1), [false, true, false, false]);
        assert_eq!(guess(&steps, 2), [false, true, false, true]);
        assert_eq!(guess(&steps, 0), [false; 4]);
        assert_eq!(guess(&steps, 9), [true; 4]);
    }
}
