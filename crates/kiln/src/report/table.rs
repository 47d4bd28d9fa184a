//! Cells under each other: how every table is laid out.

use super::text::{pad, width};

/// Spaces between columns.
const GAP: &str = "  ";

/// A line for each row. Columns are as wide as their widest cell, and no line ends with blanks.
pub(crate) fn lines<R: AsRef<[String]>>(rows: &[R]) -> Vec<String> {
    let count = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or_default();
    let widest = |column: usize| rows.iter().filter_map(|row| row.as_ref().get(column)).map(|cell| width(cell)).max();
    let widths: Vec<usize> = (0..count).filter_map(widest).collect();
    let line = |row: &R| {
        let cells: Vec<String> = row.as_ref().iter().zip(&widths).map(|(cell, width)| pad(cell, *width)).collect();
        cells.join(GAP).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_have_to_be() {
        let rows = [vec!["a", "bb", ""], vec!["日本", "c"], vec![]];
        let rows = rows.map(|row| row.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(lines(&rows), ["a     bb", "日本  c", ""]);
        assert_eq!(lines::<[String; 1]>(&[]), [""; 0]);
    }
}
