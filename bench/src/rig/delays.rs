//! Delays, each of them kept, and what can be said of all of them.

use std::time::Duration;

use serde::Serialize;

/// Delays in nanoseconds, in no order.
#[derive(Default, Debug)]
pub(crate) struct Delays(Vec<u64>);

/// Where delays lie, in milliseconds.
#[derive(Clone, Copy, PartialEq, Default, Serialize, Debug)]
pub(crate) struct Quantiles {
    /// Half took at most this.
    pub(crate) p50: f64,
    /// 99 % took at most this.
    pub(crate) p99: f64,
    /// The longest.
    pub(crate) max: f64,
}

impl Delays {
    /// Room for as many without growing, so that recording takes the same time each.
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    pub(crate) fn record(&mut self, delay: Duration) {
        self.0.push(delay.as_nanos() as u64);
    }

    /// How many were recorded.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All zero if nothing was recorded.
    pub(crate) fn quantiles(mut self) -> Quantiles {
        self.0.sort_unstable();
        Quantiles { p50: self.at(0.5), p99: self.at(0.99), max: self.at(1.0) }
    }

    /// The least delay that this part of all does not exceed, in milliseconds.
    fn at(&self, part: f64) -> f64 {
        let rank = (self.0.len() as f64 * part).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).map_or(0.0, |&nanos| nanos as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_recorded() {
        let mut delays = Delays::default();
        (1..=200).rev().for_each(|ms| delays.record(Duration::from_millis(ms)));
        assert_eq!(delays.quantiles(), Quantiles { p50: 100.0, p99: 198.0, max: 200.0 });
        assert_eq!(Delays::default().quantiles(), Quantiles::default());
    }
}
