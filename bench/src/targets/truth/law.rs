//! How long a server takes to answer: distributions that are known.

use std::time::Duration;

use fastrand::Rng;

/// No delay is longer: a run has to end.
const DELAY_MAX: Duration = Duration::from_secs(1);

/// Stalls begin this often...
pub(super) const STALL_PERIOD: Duration = Duration::from_secs(1);
/// ... and last so long.
pub(super) const STALL: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Law {
    Fixed(Duration),
    /// The logarithm is normal, with this standard deviation around the median's.
    LogNormal {
        median: Duration,
        sigma: f64,
    },
    /// `P(delay > x) = (least / x) ^ shape`.
    Pareto {
        least: Duration,
        shape: f64,
    },
    /// At once, but now and then nothing is read for a while.
    Stalls,
}

/// Those that are measured, the path first.
pub(super) const LAWS: [Law; 5] = [
    // Just long enough for both sides to fall asleep.
    Law::Fixed(Duration::from_micros(300)),
    // No multiple of the time between two messages: answers would meet the next ones.
    Law::Fixed(Duration::from_micros(5_300)),
    Law::LogNormal { median: Duration::from_millis(2), sigma: 1.0 },
    Law::Pareto { least: Duration::from_millis(1), shape: 1.5 },
    Law::Stalls,
];

impl Law {
    pub(super) fn name(self) -> String {
        match self {
            Self::Fixed(delay) => format!("{delay:?} each"),
            Self::LogNormal { median, sigma } => format!("lognormal, median {median:?}, sigma {sigma}"),
            Self::Pareto { least, shape } => format!("Pareto from {least:?}, shape {shape}"),
            Self::Stalls => format!("stalls of {STALL:?} every {STALL_PERIOD:?}"),
        }
    }

    /// How long the next answer is to take.
    pub(super) fn draw(self, rng: &mut Rng) -> Duration {
        // Above 0 and at most 1.
        let mut uniform = || 1.0 - rng.f64();
        let factor_of = |delay: Duration, factor: f64| {
            Duration::try_from_secs_f64(delay.as_secs_f64() * factor).unwrap_or(DELAY_MAX)
        };
        let delay = match self {
            Self::Stalls => Duration::ZERO,
            Self::Fixed(delay) => delay,
            Self::LogNormal { median, sigma } => {
                let normal = (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
                factor_of(median, (sigma * normal).exp())
            }
            Self::Pareto { least, shape } => factor_of(least, uniform().powf(-1.0 / shape)),
        };
        delay.min(DELAY_MAX)
    }

    /// What follows from arithmetic alone, where the server's log cannot know: how long
    /// messages of a constant rate wait for the end of a stall. A fifth of them does, each
    /// for an equal part of its length.
    pub(super) fn closed_form(self, part: f64) -> Option<Duration> {
        let stalled = STALL.as_secs_f64() / STALL_PERIOD.as_secs_f64();
        (self == Self::Stalls).then(|| STALL.mul_f64(((part - 1.0 + stalled) / stalled).max(0.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_have_the_quantiles_of_their_law() {
        // By the inverse of each distribution function, to 3 % with 100,000 draws.
        for (law, p50, p99) in [(LAWS[1], 5_300.0, 5_300.0), (LAWS[2], 2_000.0, 20_479.0), (LAWS[3], 1_587.4, 21_544.0)]
        {
            let mut rng = Rng::with_seed(1);
            let mut micros: Vec<f64> = (0..100_000).map(|_| law.draw(&mut rng).as_secs_f64() * 1e6).collect();
            micros.sort_by(f64::total_cmp);
            for (at, expected) in [(50_000, p50), (99_000, p99)] {
                assert!((micros[at] / expected - 1.0).abs() < 0.03, "{law:?}: {} of {expected}", micros[at]);
            }
        }
    }

    #[test]
    fn a_fifth_of_all_messages_waits_for_the_end_of_a_stall() {
        for (part, millis) in [(0.5, 0), (0.8, 0), (0.9, 100), (0.99, 190), (1.0, 200)] {
            let expected = Duration::from_millis(millis);
            assert!(LAWS[4].closed_form(part).unwrap().abs_diff(expected) < Duration::from_micros(1), "{part}");
        }
        assert_eq!(LAWS[0].closed_form(0.5), None);
    }
}
