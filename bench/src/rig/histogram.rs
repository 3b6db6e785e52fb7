//! Histograms of the server's own metrics, between two scrapes.

use std::io;

use super::metrics::Scrape;

/// Counts by upper bounds in milliseconds, each with all that lie below, too.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Histogram(Vec<(f64, u64)>);

impl Histogram {
    /// What has been added to a histogram, all shards together.
    pub(crate) fn between(before: &Scrape, after: &Scrape, name: &str) -> io::Result<Self> {
        let bucket = format!("{name}_bucket");
        let (before, after) = (before.by_label(&bucket, "le"), after.by_label(&bucket, "le"));
        let grown = |(bound, count): (&String, &u64)| {
            let seconds: f64 = bound.parse().map_err(io::Error::other)?;
            Ok((seconds * 1000.0, count - before.get(bound).copied().unwrap_or_default()))
        };
        let mut buckets = after.iter().map(grown).collect::<io::Result<Vec<(f64, u64)>>>()?;
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(Self(buckets))
    }

    /// Everything counted.
    pub(crate) fn count(&self) -> u64 {
        self.0.last().map_or(0, |bucket| bucket.1)
    }

    /// The value in milliseconds that this part of all does not exceed, taken as if what
    /// is in a bucket was spread evenly over it. 0 if nothing was counted; the greatest
    /// bound for what lies beyond it.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let rank = self.count() as f64 * part;
        let (mut lower, mut below) = (0.0, 0);
        for &(bound, count) in &self.0 {
            if bound.is_infinite() {
                break;
            }
            if count > below && count as f64 >= rank {
                return lower + (bound - lower) * (rank - below as f64) / (count - below) as f64;
            }
            (lower, below) = (bound, count);
        }
        if self.count() == 0 { 0.0 } else { lower }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_within_their_buckets() {
        let histogram = Histogram(vec![(1.0, 0), (2.0, 50), (4.0, 90), (8.0, 98), (f64::INFINITY, 100)]);
        let quantiles = [0.25, 0.5, 0.7, 0.94, 0.99].map(|part| histogram.quantile(part));
        assert_eq!(quantiles, [1.5, 2.0, 3.0, 6.0, 8.0]);
        assert_eq!(Histogram(vec![(1.0, 0), (f64::INFINITY, 0)]).quantile(0.5), 0.0);
    }
}
