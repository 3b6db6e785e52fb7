//! Several machines' reports as one.

use serde::{Deserialize, Serialize};

/// How reports were put together.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Merged {
    /// How many.
    pub reports: usize,
    /// Where they were made.
    pub hosts: Vec<String>,
    /// Seconds between the first start and the last, by the machines' own clocks.
    pub starts_apart: f64,
}

impl Merged {
    /// What a reader has to know.
    pub fn text(&self) -> String {
        format!(
            "{} reports as one, from {}; started within {:.1} s of each other by their own clocks",
            self.reports,
            self.hosts.join(", "),
            self.starts_apart
        )
    }
}
