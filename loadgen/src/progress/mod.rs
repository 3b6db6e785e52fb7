//! How far the run is, on standard error while it lasts.
//!
//! `live` redraws a few lines in place, `plain` adds a line each second for logs.
//! What they show is put together in `State`, without a terminal.

use std::collections::VecDeque;
use std::io::{IsTerminal as _, stderr};

use clap::ValueEnum;

use crate::failure::FailureCounts;
use crate::series::Second;
use crate::tally::Outcome;
use crate::watch::Watch;

mod live;
mod plain;
mod sparkline;

pub use live::Live;
pub use plain::Plain;

/// Seconds that the sparkline shows.
const SPARKLINE_SECONDS: usize = 60;

/// What to show.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, ValueEnum)]
pub enum Mode {
    /// Live on a terminal, else nothing
    #[default]
    Auto,
    /// Some lines that are drawn over and over; gone at the end
    Live,
    /// A line each second
    Plain,
    /// Nothing
    None,
}

impl Mode {
    /// Who shows it; `None` if nobody does.
    pub fn watch(self) -> Option<Box<dyn Watch>> {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        match self {
            Self::Auto if !stderr().is_terminal() => None,
            Self::Auto if is_dumb => Some(Box::new(Plain::new(stderr()))),
            Self::Auto | Self::Live => Some(Box::new(Live::new(stderr(), live::terminal_size))),
            Self::Plain => Some(Box::new(Plain::new(stderr()))),
            Self::None => None,
        }
    }
}

/// What the seconds so far add up to.
#[derive(Default, Debug)]
struct State {
    last: Option<Second>,
    /// 99th percentiles of the last seconds in which anything arrived, in microseconds.
    p99_us: VecDeque<f64>,
    failures: FailureCounts,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    corrupted: u64,
    misdelivered: u64,
}

impl State {
    fn add(&mut self, second: &Second, outcome: &Outcome) {
        self.failures.merge(&outcome.connections.failures);
        self.lost += second.lost;
        self.duplicated += second.duplicated;
        self.reordered += second.reordered;
        self.corrupted += second.corrupted;
        self.misdelivered += second.misdelivered;
        if let Some(latency) = second.latency_us {
            self.p99_us.push_back(latency.p99);
            self.p99_us.drain(..self.p99_us.len().saturating_sub(SPARKLINE_SECONDS));
        }
        self.last = Some(second.clone());
    }

    /// What went wrong so far, the messages first.
    fn faults(&self) -> Vec<(&str, u64)> {
        let messages = [
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("reordered", self.reordered),
            ("corrupted", self.corrupted),
            ("misdelivered", self.misdelivered),
        ];
        let connections = self.failures.iter().map(|(kind, failure)| (kind, failure.count));
        messages.into_iter().chain(connections).filter(|&(_, count)| count > 0).collect()
    }
}

/// As many characters as fit, the last one a sign that there are more.
fn fit(line: &str, columns: usize) -> String {
    match line.chars().count() > columns {
        true => line.chars().take(columns.saturating_sub(1)).chain(['\u{2026}']).collect(),
        false => line.to_owned(),
    }
}

#[cfg(test)]
mod tests;
