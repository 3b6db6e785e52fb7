//! What lies between the two: sends, receives and wake-ups, which are in loadgen's
//! figures and not in the server's log.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde_json::Value;

/// Quantiles of the path that stand for all of it: enough for sums to be smooth.
const STEPS: usize = 200;

/// What the path adds, in microseconds: as many values as stand for its distribution.
#[derive(Clone, Debug)]
pub(super) struct Path(Vec<f64>);

impl Path {
    /// From a histogram of loadgen's report, of a server that takes so long each time.
    pub(super) fn of(histogram: &Value, server: Duration) -> io::Result<Self> {
        let text = histogram.as_str().ok_or_else(|| io::Error::other("the report has no histogram"))?;
        let bytes = STANDARD.decode(text).map_err(io::Error::other)?;
        let decoded = Deserializer::new().deserialize(&mut bytes.as_slice());
        let histogram: Histogram<u64> = decoded.map_err(|error| io::Error::other(error.to_string()))?;
        let at = |step: usize| histogram.value_at_quantile((step as f64 + 0.5) / STEPS as f64) as f64 / 1e3;
        Ok(Self((0..STEPS).map(|step| at(step) - server.as_secs_f64() * 1e6).collect()))
    }

    /// The quantiles of what the server takes and the path together, each by itself: in
    /// which of all sums of the two such a part lies below.
    pub(super) fn beside(&self, known_us: &[f64], parts: &[f64]) -> Vec<f64> {
        let mut sums: Vec<f64> =
            known_us.iter().flat_map(|known| self.0.iter().map(move |path| known + path)).collect();
        sums.sort_by(f64::total_cmp);
        let rank = |part: f64| (sums.len() as f64 * part).ceil() as usize;
        parts.iter().map(|&part| sums[rank(part).clamp(1, sums.len()) - 1]).collect()
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};

    use super::*;

    #[test]
    fn the_path_is_what_a_known_server_leaves() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        (1..=1_000).for_each(|micros| histogram.record((300 + micros) * 1_000).unwrap());
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&histogram, &mut bytes).unwrap();
        let path = Path::of(&Value::from(STANDARD.encode(bytes)), Duration::from_micros(300)).unwrap();
        assert!((path.beside(&[0.0], &[0.5])[0] - 500.0).abs() < 10.0);
        // Beside a fixed time the quantiles are the path's, beside a long tail hardly so.
        assert!((path.beside(&[5_000.0], &[0.99])[0] - 5_990.0).abs() < 10.0);
        let tail: Vec<f64> = (0..1_000).map(|i| f64::from(i) * 1_000.0).collect();
        assert!((path.beside(&tail, &[0.5])[0] - 500_000.0).abs() < 1_000.0);
        assert!(Path::of(&Value::Null, Duration::ZERO).is_err());
    }
}
