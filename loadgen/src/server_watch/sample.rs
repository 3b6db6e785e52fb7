//! What a server is at one moment.

use std::collections::BTreeMap;
use std::time::Duration;

/// One reading. What a source does not say is `None`.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Sample {
    /// Processor time that it has used so far, user and system.
    pub(super) cpu: Option<Duration>,
    /// Resident memory in bytes.
    pub(super) rss_bytes: Option<f64>,
    /// Open file descriptors.
    pub(super) files: Option<f64>,
    /// Threads.
    pub(super) threads: Option<f64>,
    /// Its own counters by name, the sum over their labels.
    pub(super) counters: BTreeMap<String, f64>,
}

impl Sample {
    /// Several servers as one. What one of them does not say, the sum does not.
    pub(super) fn sum(samples: &[Self]) -> Self {
        let [first, others @ ..] = samples else { return Self::default() };
        others.iter().fold(first.clone(), Self::plus)
    }

    /// Keeps the greater of each: what was seen at most.
    pub(super) fn raise_to(&mut self, other: &Self) {
        let raise = |most: &mut Option<f64>, seen: Option<f64>| {
            *most = most.iter().copied().chain(seen).reduce(f64::max);
        };
        raise(&mut self.rss_bytes, other.rss_bytes);
        raise(&mut self.files, other.files);
        raise(&mut self.threads, other.threads);
    }

    fn plus(mut self, other: &Self) -> Self {
        let add = |a: Option<f64>, b: Option<f64>| Some(a? + b?);
        for (name, value) in &other.counters {
            *self.counters.entry(name.clone()).or_default() += value;
        }
        Self {
            cpu: self.cpu.zip(other.cpu).map(|(a, b)| a + b),
            rss_bytes: add(self.rss_bytes, other.rss_bytes),
            files: add(self.files, other.files),
            threads: add(self.threads, other.threads),
            counters: self.counters,
        }
    }
}

/// How closely to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// All of it, exactly. The kernel walks the process's memory for that, so not while
    /// messages are measured.
    Close,
    /// What costs next to nothing.
    Quick,
}
