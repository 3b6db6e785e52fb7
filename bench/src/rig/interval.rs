//! Medians, and how far they can be trusted.
//!
//! The bounds are those of order statistics: half of all pairs lie on either side of
//! the true median, so how many of n pairs lie above it is a coin thrown n times.
//! Nothing is assumed about the distribution, nothing is drawn at random.

use serde::Serialize;

/// How often each bound alone may be wrong.
const ERROR_MAX: f64 = 0.05;

/// A median with its bounds.
#[derive(Clone, Copy, PartialEq, Serialize, Debug)]
pub(crate) struct Interval {
    pub(crate) median: f64,
    /// The true median is at least this, and at most `upper`: each with a confidence of
    /// 95 % by itself. `None` for fewer than five values, which cannot say.
    pub(crate) lower: Option<f64>,
    pub(crate) upper: Option<f64>,
}

/// The median of some values and its bounds; `None` if there are none.
pub(crate) fn interval(values: &[f64]) -> Option<Interval> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = median_of_sorted(&sorted)?;
    let trimmed = trimmed(sorted.len());
    let lower = trimmed.map(|count| sorted[count]);
    let upper = trimmed.map(|count| sorted[sorted.len() - 1 - count]);
    Some(Interval { median, lower, upper })
}

/// The median of some values; `None` if there are none.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    median_of_sorted(&sorted)
}

fn median_of_sorted(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// How many of `count` sorted values may be left out at an end so that the next one
/// still is a bound: the most for which a fair coin shows heads that often or less
/// with a probability of at most [`ERROR_MAX`].
fn trimmed(count: usize) -> Option<usize> {
    let mut probability = 0.5f64.powi(count as i32);
    let mut cumulated = probability;
    let mut best = None;
    for heads in 0..count {
        if cumulated > ERROR_MAX {
            break;
        }
        best = Some(heads);
        probability *= (count - heads) as f64 / (heads + 1) as f64;
        cumulated += probability;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_there() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn fewer_than_five_values_have_no_bounds() {
        for count in 0..5 {
            assert_eq!(trimmed(count), None, "{count}");
        }
        let four = interval(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!((four.lower, four.upper), (None, None));
    }

    #[test]
    fn bounds_are_those_of_the_sign_test() {
        // From tables of the binomial distribution at 5 % on one side.
        for (count, expected) in [(5, 0), (7, 0), (8, 1), (10, 1), (11, 2), (13, 3), (20, 5), (30, 10)] {
            assert_eq!(trimmed(count), Some(expected), "{count}");
        }
        let five = interval(&[1.1, 0.9, 1.0, 1.3, 1.2]).unwrap();
        assert_eq!(five, Interval { median: 1.1, lower: Some(0.9), upper: Some(1.3) });
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!(interval(&ten), Some(Interval { median: 5.5, lower: Some(2.0), upper: Some(9.0) }));
    }
}
