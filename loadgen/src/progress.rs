//! The live line on a terminal: written over itself, gone at the end.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::Duration;

use wsgate::time::Time;

use crate::plan::Plan;
use crate::report::grouped;
use crate::schedule::Window;
use crate::shared::Counts;

/// Columns of the line: fits any terminal.
const COLUMNS_MAX: usize = 79;

/// Writes the line to standard error, if that is a terminal.
#[derive(Debug)]
pub struct Progress {
    visible: bool,
    last: (Time, Counts),
}

impl Progress {
    /// A line that is visible on a terminal only.
    pub fn new() -> Self {
        Self { visible: stderr().is_terminal(), last: (Time::ZERO, Counts::default()) }
    }

    /// Shows how far the run is; `window` once messages may be sent.
    pub fn show(&mut self, plan: &Plan, window: Option<Window>, now: Time, counts: Counts) {
        if self.visible {
            let text = line(plan, window, self.last, now, counts);
            // A terminal that is gone is no reason to end the run.
            let _ = write!(stderr(), "\r\x1b[K{text}");
        }
        self.last = (now, counts);
    }

    /// Removes the line.
    pub fn clear(&mut self) {
        if self.visible {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

fn line(plan: &Plan, window: Option<Window>, last: (Time, Counts), now: Time, counts: Counts) -> String {
    let errors = if counts.failed == 0 { String::new() } else { format!("  {} failed", grouped(counts.failed)) };
    let Some(window) = window else {
        let total = plan.connections_total() as u64;
        return format!("connecting  {} of {}{errors}", grouped(counts.opened), grouped(total));
    };
    let passed = now.since(last.0).as_secs_f64().max(0.001);
    let rate = counts.received.saturating_sub(last.1.received) as f64 / passed;
    let elapsed = now.since(window.start).min(plan.sending());
    let messages = match plan.pace {
        None => format!("holding {} connections", grouped(counts.opened)),
        Some(_) => format!(
            "sent {}  received {} ({}/s)",
            grouped(counts.sent),
            grouped(counts.received),
            grouped(rate.round() as u64)
        ),
    };
    let mut text = format!("{} of {}  {messages}{errors}", seconds(elapsed), seconds(plan.sending()));
    text.truncate(COLUMNS_MAX);
    text
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
