//! The memory of builds: a record of each, kept in one SQLite file per project, and what can be learned of them.
//!
//! [`Record`] is what is remembered, [`History`] the file. Everything else is pure: [`stats`] makes figures per platform
//! and finds regressions, [`compare`] tells two builds apart, [`export`] writes figures for other programs. Losing the file
//! costs nothing but the past.

pub mod compare;
mod error;
pub mod export;
pub mod record;
pub mod stats;
mod store;

pub use error::HistoryError;
pub use record::Record;
pub use store::{History, Keep, Log};

/// The middle of a list of numbers; the mean of the two in the middle where there are two. Nothing for none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// The arithmetic mean; nothing for none.
#[expect(clippy::cast_precision_loss, reason = "counts of builds are far below 2^52")]
pub(crate) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests;
