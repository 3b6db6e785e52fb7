//! What was found, as text and as JSON.

use serde::Serialize;
use serde_json::Value;

use crate::rig::interval::{Interval, interval, median};
use crate::rig::machine::Machine;
use crate::rig::markdown::{table_head, table_row};
use crate::rig::verdict::Verdict;
use crate::rig::window::OTHERS_BUSY_MAX;

/// Everything that was measured.
#[derive(Serialize, Debug)]
pub(super) struct Report {
    pub(super) machine: Machine,
    /// How often everything was measured.
    pub(super) rounds: usize,
    /// Time of each run.
    pub(super) seconds: f64,
    #[serde(flatten)]
    pub(super) findings: Findings,
}

/// What a measurement found.
#[derive(Serialize, Debug)]
pub(super) struct Findings {
    /// For readers; `samples` has the figures.
    #[serde(skip)]
    pub(super) tables: Vec<Table>,
    pub(super) verdicts: Vec<Verdict>,
    /// What a reader should know of how the figures came about.
    pub(super) remarks: Vec<String>,
    /// The most CPU of other programs in any run, in processors.
    pub(super) others_busy_max: f64,
    /// One for each run, in order.
    pub(super) samples: Value,
}

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Report {
    /// The tables, in Markdown.
    pub(super) fn text(&self) -> String {
        let Findings { tables, verdicts, remarks, others_busy_max, .. } = &self.findings;
        let mut text = format!("{}. {} rounds, {} s each.\n", self.machine, self.rounds, self.seconds);
        for Table { title, head, rows } in tables {
            text += &format!("\n**{title}**\n\n{}", table_head(head));
            text.extend(rows.iter().map(|row| table_row(row)));
        }
        text += "\n";
        text.extend(verdicts.iter().map(|verdict| format!("* {verdict}\n")));
        text.extend(remarks.iter().map(|remark| format!("* {remark}\n")));
        if *others_busy_max > OTHERS_BUSY_MAX {
            let percent = others_busy_max * 100.0;
            text += &format!("* other programs took up to {percent:.0} % of a processor in a run: measure again\n");
        }
        text
    }
}

/// Something of each sample.
pub(super) fn each<T>(samples: &[T], figure: impl Fn(&T) -> f64) -> Vec<f64> {
    samples.iter().map(figure).collect()
}

/// The median of something of all samples, 0 if there are none.
pub(super) fn median_of<T>(samples: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    median(&each(samples, figure)).unwrap_or_default()
}

/// The greatest of something of all samples.
pub(super) fn max_of<T>(samples: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    each(samples, figure).into_iter().fold(0.0, f64::max)
}

/// A median with the least and the greatest value.
pub(super) fn show_spread(values: &[f64], show: impl Fn(f64) -> String) -> String {
    let (least, greatest) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), &value| (a.min(value), b.max(value)));
    median(values).map_or_else(String::new, |median| format!("{} ({}–{})", show(median), show(least), show(greatest)))
}

/// Bytes.
pub(super) fn mib(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / (1024.0 * 1024.0))
}

/// The ratios of values of the same rounds.
pub(super) fn paired_ratio(values: &[f64], of: &[f64]) -> Option<Interval> {
    interval(&values.iter().zip(of).map(|(a, b)| a / b).filter(|ratio| ratio.is_finite()).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_and_the_ends() {
        assert_eq!(show_spread(&[2.0, 1.0, 7.0], |value| format!("{value:.0}")), "2 (1–7)");
        assert_eq!(show_spread(&[], |_| unreachable!()), "");
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        assert_eq!(paired_ratio(&[2.0, 20.0, 3.0], &[1.0, 10.0, 0.0]).unwrap().median, 2.0);
    }
}
