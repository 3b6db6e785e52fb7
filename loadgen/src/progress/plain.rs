//! A line each second, for logs and for terminals that cannot be drawn on.

use std::io::Write;

use super::{State, fit};
use crate::numbers::{decimal, duration, grouped};
use crate::series::Second;
use crate::tally::Outcome;
use crate::watch::Watch;

/// Longest line, in characters.
const COLUMNS: usize = 200;

/// Writes a line when a second is complete.
#[derive(Debug)]
pub struct Plain<W> {
    out: W,
    state: State,
}

impl<W: Write> Plain<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, state: State::default() }
    }
}

impl<W: Write> Watch for Plain<W> {
    fn second(&mut self, second: &Second, outcome: &Outcome) {
        self.state.add(second, outcome);
        // A log that is gone is no reason to end the run.
        let _ = writeln!(self.out, "{}", fit(&line(&self.state, second), COLUMNS));
    }
}

fn line(state: &State, second: &Second) -> String {
    let per_second = |count: u64| decimal(count as f64 / second.seconds.max(0.001));
    let mut line = format!("{:+.1} s {}:", second.at, second.phase);
    if second.opened > 0 {
        line += &format!(" opened {},", grouped(second.opened));
    }
    line += &format!(" sent {}/s, received {}/s", per_second(second.sent), per_second(second.received));
    if let Some(latency) = second.latency_us {
        let [p50, p99, max] = [latency.p50, latency.p99, latency.max].map(duration);
        line += &format!(", p50 {p50}, p99 {p99}, max {max}");
    }
    for (kind, count) in state.faults() {
        line += &format!(", {kind} {}", grouped(count));
    }
    line
}
