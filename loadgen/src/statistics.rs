//! What repeated runs say about a difference.

/// Part of the intervals that contain the true difference.
pub const CONFIDENCE: f64 = 0.95;

/// 97.5th percentile of Student's distribution with 1, 2, 3 ... degrees of freedom.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The mean whose ratios are those of [`change`]: `None` of nothing, and where one is not
/// above 0.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    if values.iter().any(|&value| value <= 0.0) {
        return None;
    }
    match values {
        // Without the error of a logarithm.
        [first, others @ ..] if others.iter().all(|value| value == first) => Some(*first),
        _ => Some(mean(&values.iter().map(|value| value.ln()).collect::<Vec<_>>())?.exp()),
    }
}

/// The variance of what the values were drawn from; `None` of fewer than two.
fn variance(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| squares / (values.len() - 1) as f64)
}

/// By how much `new` is above `base`, as a part of it, and between which bounds that
/// lies with [`CONFIDENCE`]. Welch's interval of the difference of the logarithms: a
/// ratio, whatever the unit, and runs may scatter differently on either side. No
/// bounds with fewer than two values on a side; nothing at all unless all are above 0.
pub fn change(base: &[f64], new: &[f64]) -> Option<(f64, Option<(f64, f64)>)> {
    if base.iter().chain(new).any(|&value| value <= 0.0 || !value.is_finite()) {
        return None;
    }
    let logarithms = |values: &[f64]| values.iter().map(|value| value.ln()).collect::<Vec<_>>();
    let (base, new) = (logarithms(base), logarithms(new));
    let difference = mean(&new)? - mean(&base)?;
    let bounds = variance(&base).zip(variance(&new)).map(|(base_variance, new_variance)| {
        let (base_part, new_part) = (base_variance / base.len() as f64, new_variance / new.len() as f64);
        let error = (base_part + new_part).sqrt();
        let parts = base_part.powi(2) / (base.len() - 1) as f64 + new_part.powi(2) / (new.len() - 1) as f64;
        // Without any scatter the bounds are the difference itself.
        let freedom = if parts > 0.0 { (base_part + new_part).powi(2) / parts } else { 1.0 };
        let reach = student(freedom) * error;
        ((difference - reach).exp() - 1.0, (difference + reach).exp() - 1.0)
    });
    Some((difference.exp() - 1.0, bounds))
}

/// Rounded to the wider side between two whole degrees.
fn student(freedom: f64) -> f64 {
    // A whole number that rounding has made a little smaller is that number.
    let whole = (freedom + 1e-6).floor().max(1.0) as usize;
    STUDENT.get(whole - 1).copied().unwrap_or(STUDENT[STUDENT.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-3
    }

    #[test]
    fn a_change_is_a_ratio_with_its_bounds() {
        // By hand: logarithms differ by ln 2; each side's variance is 0.01, so the error is
        // sqrt(0.02 / 3) and there are 4 degrees of freedom.
        let base = [-0.1_f64, 0.0, 0.1].map(f64::exp);
        let new = [-0.1_f64, 0.0, 0.1].map(|value| 2.0 * value.exp());
        let (change, bounds) = change(&base, &new).unwrap();
        let reach = 2.776 * (0.02_f64 / 3.0).sqrt();
        assert!(close(change, 1.0), "{change}");
        let (low, high) = bounds.unwrap();
        assert!(close(low, 2.0 * (-reach).exp() - 1.0) && close(high, 2.0 * reach.exp() - 1.0), "{low} {high}");
    }

    #[test]
    fn geometric_means_are_in_the_ratio_of_the_change() {
        let (base, new) = ([100.0, 100.0, 100.0], [60.0, 80.0, 175.0]);
        let means = [&base, &new].map(|values| geometric_mean(values).unwrap());
        let (change, _) = change(&base, &new).unwrap();
        assert!(mean(&new).unwrap() > 100.0 && change < 0.0, "{change}");
        assert!(means[0] == 100.0 && close(means[1] / means[0], 1.0 + change), "{means:?}, {change}");
        assert_eq!((geometric_mean(&[]), geometric_mean(&[1.0, 0.0])), (None, None));
    }

    #[test]
    fn runs_that_scatter_show_no_difference_and_one_run_has_no_bounds() {
        let (_, bounds) = change(&[100.0, 130.0, 90.0], &[105.0, 95.0, 135.0]).unwrap();
        assert!(bounds.is_some_and(|(low, high)| low < 0.0 && high > 0.0), "{bounds:?}");
        assert_eq!(change(&[100.0], &[100.0]), Some((0.0, None)));
        assert_eq!(change(&[5.0, 5.0], &[5.0, 5.0]), Some((0.0, Some((0.0, 0.0)))));
    }

    #[test]
    fn what_may_be_zero_has_no_ratio() {
        assert_eq!(change(&[0.0, 1.0], &[1.0, 1.0]), None);
        assert_eq!(change(&[], &[1.0]), None);
    }

    #[test]
    fn few_runs_have_wide_bounds() {
        assert_eq!((student(1.9), student(4.0), student(1e9)), (12.706, 2.776, 2.042));
    }
}
