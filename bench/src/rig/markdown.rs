//! Figures and tables as a reader wants them, in Markdown.

use super::interval::Interval;

/// One row of a table.
pub(crate) fn table_row<S: AsRef<str>>(cells: &[S]) -> String {
    let mut row = String::from("|");
    for cell in cells {
        row += &format!(" {} |", cell.as_ref());
    }
    row + "\n"
}

/// The first two rows of a table.
pub(crate) fn table_head<S: AsRef<str>>(cells: &[S]) -> String {
    table_row(cells) + &table_row(&vec!["---"; cells.len()])
}

/// Nanoseconds.
pub(crate) fn show_time(ns: f64) -> String {
    match ns {
        ns if ns >= 10_000.0 => format!("{:.1} µs", ns / 1000.0),
        ns if ns >= 1000.0 => format!("{:.2} µs", ns / 1000.0),
        ns if ns >= 100.0 => format!("{ns:.0} ns"),
        ns => format!("{ns:.1} ns"),
    }
}

/// A ratio with its bounds, if it has any.
pub(crate) fn show_ratio(ratio: Interval) -> String {
    let bounds = ratio.lower.zip(ratio.upper).map(|(lower, upper)| format!(" ({lower:.2}–{upper:.2})"));
    format!("{:.2}{}", ratio.median, bounds.unwrap_or_default())
}
