//! Latency histograms, in nanoseconds with three significant digits.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
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

    /// The value in microseconds that this part of the latencies did not exceed, 0 to 1.
    pub fn at(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1_000.0
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
        Some(Quantiles {
            p50: self.at(0.5),
            p90: self.at(0.9),
            p99: self.at(0.99),
            p999: self.at(0.999),
            p9999: self.at(0.9999),
            max: self.histogram.max() as f64 / 1_000.0,
        })
    }

    /// The compressed V2 format of HdrHistogram, in base64.
    pub fn to_base64(&self) -> String {
        let mut bytes = Vec::new();
        let written = V2DeflateSerializer::new().serialize(&self.histogram, &mut bytes);
        written.expect("memory can be written to, and the bounds fit the format");
        BASE64_STANDARD.encode(bytes)
    }

    fn from_base64(text: &str) -> Result<Self, String> {
        let bytes = BASE64_STANDARD.decode(text).map_err(|error| format!("a histogram is no base64: {error}"))?;
        let read: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| format!("a histogram is damaged: {error}"))?;
        let mut latency = Self::default();
        // Into bounds that all have, so that they can be added.
        latency.histogram.add(&read).map_err(|error| format!("a histogram has other bounds: {error}"))?;
        Ok(latency)
    }
}

impl Serialize for Latency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_base64(&text).map_err(serde::de::Error::custom)
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
    fn the_written_form_is_exact() {
        let mut latency = Latency::default();
        (0..5_000_u64).for_each(|i| latency.record(i * i * 977 + 3));
        let text = serde_json::to_string(&latency).unwrap();
        let read: Latency = serde_json::from_str(&text).unwrap();
        assert_eq!(read.histogram(), latency.histogram());
        assert_eq!(read.quantiles(), latency.quantiles());
        for damaged in ["\"!\"", "\"AAAA\"", &text.replace('S', "T")] {
            assert!(serde_json::from_str::<Latency>(damaged).is_err(), "{damaged}");
        }
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
