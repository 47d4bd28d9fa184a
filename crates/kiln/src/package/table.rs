//! The table of what was made. Pure.

use super::{LeftOut, Other, Packed};
use crate::report::table::lines;
use crate::report::text::{Paint, cut, size};

const HEAD: [&str; 5] = ["platform", "format", "file", "size", "sha256"];
/// What is not made and why, a line for each reason.
pub(crate) fn left_out(left_out: &[LeftOut]) -> Vec<String> {
    let unique = |words: Vec<String>| {
        let mut unique: Vec<String> = Vec::new();
        for word in words {
            if !unique.contains(&word) {
                unique.push(word);
            }
        }
        unique
    };
    let reasons = unique(left_out.iter().map(|one| one.reason.clone()).collect());
    let line = |reason: String| {
        let of_it = || left_out.iter().filter(|one| one.reason == reason);
        let formats = unique(of_it().map(|one| one.format.to_string()).collect()).join(", ");
        let platforms = unique(of_it().map(|one| one.platform.to_string()).collect()).join(", ");
        format!("no {formats} for {platforms}: {reason}")
    };
    reasons.into_iter().map(line).collect()
}

/// One row for each package, then one for each file beside them.
pub(crate) fn render(packed: &[Packed], others: &[Other], width: usize, color: bool) -> String {
    let paint = Paint { color };
    let mut rows: Vec<[String; 5]> = packed
        .iter()
        .map(|packed| {
            let Packed { platform, format, file, .. } = packed;
            [platform.to_string(), format.to_string(), file.clone(), size(packed.size), packed.sha256.short()]
        })
        .collect();
    rows.extend(
        others
            .iter()
            .map(|other| [String::new(), String::new(), other.file.clone(), size(other.size), other.sha256.short()]),
    );
    rows.insert(0, HEAD.map(str::to_owned));
    let lines = lines(&rows);
    let cut = |line: &String| cut(line, width).into_owned();
    let head = lines.iter().take(1).map(|line| paint.faint(&cut(line)));
    head.chain(lines.iter().skip(1).map(cut)).map(|line| line + "\n").collect()
}
