//! By how much pairs differ, with bounds: the signed-rank test turned round.
//!
//! If two programs are the same, which of a pair came out larger is chance, so that the
//! differences lie evenly about zero. That is all that is assumed: noise may have any
//! shape otherwise. The estimate is the median of all means of two differences (Hodges
//! and Lehmann, 1963); its bounds are the means of two that the test of Wilcoxon (1945)
//! just does not rule out.

/// An estimate and its bounds, in the unit of the differences.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Shift {
    pub(crate) estimate: f64,
    /// The true shift is at least this, but for a probability that was asked for; minus
    /// infinity if so few pairs cannot say.
    pub(crate) lower: f64,
    /// The same, the other way round.
    pub(crate) upper: f64,
}

/// The shift of some differences, each bound with a probability of its own to be wrong.
/// `None` if there are no differences.
pub(crate) fn shift(differences: &[f64], lower_error: f64, upper_error: f64) -> Option<Shift> {
    let mut means: Vec<f64> = Vec::with_capacity(differences.len() * (differences.len() + 1) / 2);
    for (index, a) in differences.iter().enumerate() {
        means.extend(differences[index..].iter().map(|b| (a + b) / 2.0));
    }
    means.sort_by(f64::total_cmp);
    let middle = means.len().checked_sub(1)? / 2;
    let estimate = if means.len() % 2 == 1 { means[middle] } else { (means[middle] + means[middle + 1]) / 2.0 };
    let lower = trimmed(differences.len(), lower_error).map_or(f64::NEG_INFINITY, |count| means[count]);
    let upper = trimmed(differences.len(), upper_error).map_or(f64::INFINITY, |count| means[means.len() - 1 - count]);
    Some(Shift { estimate, lower, upper })
}

/// How many of the sorted means lie outside a bound: the most for which the sum of the
/// ranks of the positive differences is that or less with a probability of at most `error`.
fn trimmed(count: usize, error: f64) -> Option<usize> {
    // How many of all choices of signs have which sum of ranks, as parts of all of them.
    let largest = count * (count + 1) / 2;
    let mut parts = vec![0.0; largest + 1];
    parts[0] = 1.0;
    for rank in 1..=count {
        for sum in (0..=largest).rev() {
            let with = if sum >= rank { parts[sum - rank] } else { 0.0 };
            parts[sum] = (parts[sum] + with) / 2.0;
        }
    }
    let mut probability = 0.0;
    let within = parts.iter().take_while(|&part| {
        probability += part;
        probability <= error
    });
    within.count().checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_is_that_of_the_tables_of_wilcoxon() {
        // Critical values of the signed-rank sum, on one side.
        for (count, error, expected) in [
            (5, 0.05, Some(0)),
            (10, 0.05, Some(10)),
            (10, 0.01, Some(5)),
            (20, 0.05, Some(60)),
            (20, 0.01, Some(43)),
            (30, 0.01, Some(120)),
            (4, 0.05, None),
        ] {
            assert_eq!(trimmed(count, error), expected, "{count} {error}");
        }
    }

    #[test]
    fn the_estimate_is_the_median_of_means_of_two() {
        let found = shift(&[1.0, 2.0, 9.0], 0.1, 0.1).unwrap();
        // 1, 1.5, 2, 5, 5.5, 9
        assert_eq!(found.estimate, 3.5);
        assert_eq!((found.lower, found.upper), (f64::NEG_INFINITY, f64::INFINITY));
        assert_eq!(shift(&[], 0.1, 0.1), None);
    }

    #[test]
    fn one_wild_pair_moves_the_bounds_little() {
        let mut differences: Vec<f64> = (0..20).map(|n| f64::from(n) / 1000.0).collect();
        let calm = shift(&differences, 0.01, 0.01).unwrap();
        differences[19] = 5.0;
        let wild = shift(&differences, 0.01, 0.01).unwrap();
        assert!((calm.estimate - wild.estimate).abs() < 0.001, "{calm:?} {wild:?}");
        assert!(wild.upper < 0.03, "{wild:?}");
    }
}
