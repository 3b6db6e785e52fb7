//! Latency histograms, in nanoseconds with three significant digits.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest latency that is told apart, one hour; longer ones count as this.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Any two recorded values that differ by more than 0.1 % stay apart.
const SIGNIFICANT_DIGITS: u8 = 3;

/// A histogram of latencies. Recording allocates nothing.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram<u64>,
}

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS);
        Self { histogram: histogram.expect("constant bounds are valid") }
    }
}

impl Latency {
    /// Records one latency in nanoseconds.
    pub fn record(&mut self, nanos: u64) {
        self.histogram.saturating_record(nanos.max(1));
    }

    /// Adds what another thread recorded.
    pub fn merge(&mut self, other: &Self) {
        if !other.histogram.is_empty() {
            self.histogram.add(&other.histogram).expect("all histograms have the same bounds");
        }
    }

    /// Forgets everything; keeps the memory.
    pub fn reset(&mut self) {
        if !self.histogram.is_empty() {
            self.histogram.reset();
        }
    }

    /// The histogram, of nanoseconds.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// How many latencies were recorded.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The percentiles of the report; `None` if nothing was recorded.
    pub fn quantiles(&self) -> Option<Quantiles> {
        if self.histogram.is_empty() {
            return None;
        }
        let micros = |nanos: u64| nanos as f64 / 1_000.0;
        let at = |quantile: f64| micros(self.histogram.value_at_quantile(quantile));
        Some(Quantiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: micros(self.histogram.max()),
        })
    }
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half were at most this.
    pub p50: f64,
    /// 90 % were at most this.
    pub p90: f64,
    /// 99 %
    pub p99: f64,
    /// 99.9 %
    pub p999: f64,
    /// 99.99 %
    pub p9999: f64,
    /// The longest of all.
    pub max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_known_distribution() {
        let mut latency = Latency::default();
        for micros in 1..=10_000 {
            latency.record(micros * 1_000);
        }
        let q = latency.quantiles().unwrap();
        let expected = [5_000.0, 9_000.0, 9_900.0, 9_990.0, 9_999.0, 10_000.0];
        for (got, wanted) in [q.p50, q.p90, q.p99, q.p999, q.p9999, q.max].into_iter().zip(expected) {
            assert!((got - wanted).abs() / wanted <= 0.001, "{got} for {wanted}");
        }
    }

    #[test]
    fn merging_is_recording_in_one() {
        let (mut a, mut b, mut both) = (Latency::default(), Latency::default(), Latency::default());
        for nanos in 1..1000 {
            if nanos % 3 == 0 { &mut a } else { &mut b }.record(nanos * 977);
            both.record(nanos * 977);
        }
        a.merge(&b);
        assert_eq!(a.quantiles(), both.quantiles());
        assert_eq!(a.count(), 999);
    }

    #[test]
    fn nothing_recorded_has_no_percentiles_and_zero_counts_as_one() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantiles(), None);
        latency.record(0);
        latency.record(u64::MAX);
        assert_eq!(latency.count(), 2);
        assert!(latency.quantiles().unwrap().max >= 3_600_000_000.0);
    }
}
