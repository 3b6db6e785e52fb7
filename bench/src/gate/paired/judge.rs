//! When pairs of runs say that a server got slower.
//!
//! A metric is looked at after some numbers of pairs, and no more are run when it has been
//! decided. Each look could be wrong, and each metric; the probability that anything is
//! accused without reason is divided among all of them.

use serde::Serialize;

use super::ranks::{Shift, shift};

/// The probability that identical programs are accused of anything at all.
pub(crate) const FALSE_ALARM_MAX: f64 = 0.01;
/// Numbers of pairs after which they are looked at. Fewer than the first cannot be as
/// certain as is asked for.
pub(crate) const LOOKS: [usize; 4] = [14, 20, 28, 40];
/// The probability at each look that a regression is taken for none, and not measured on.
const CLEARED_WRONGLY_MAX: f64 = 0.005;

/// What is compared in each pair.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Quantity {
    /// CPU of the server for each message.
    Cpu,
    /// Half of all delays are at most this.
    P50,
    /// The same for 99 of 100.
    P99,
}

impl Quantity {
    /// Growth that is not talked about. Delays belong to the machine more than to a server.
    pub(crate) fn tolerated_percent(self) -> f64 {
        match self {
            Self::Cpu => 2.0,
            Self::P50 => 10.0,
            Self::P99 => 30.0,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::P50 => "p50",
            Self::P99 => "p99",
        }
    }
}

/// What the pairs say of a quantity.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Decision {
    /// More pairs may tell.
    Open,
    /// The whole interval is past what is tolerated.
    Regression,
    /// The whole interval is within it.
    Cleared,
}

/// A quantity as far as it has been measured.
#[derive(Clone, Copy, PartialEq, Serialize, Debug)]
pub(crate) struct Finding {
    pub(crate) pairs: usize,
    /// By how many per cent the head takes more, with its bounds.
    pub(crate) percent: f64,
    pub(crate) lower: f64,
    pub(crate) upper: f64,
    pub(crate) decision: Decision,
}

/// How certain a decision must be, where so many quantities are measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Certainty {
    error_each: f64,
}

impl Certainty {
    pub(crate) fn of(quantities: usize) -> Self {
        Self { error_each: FALSE_ALARM_MAX / (quantities.max(1) * LOOKS.len()) as f64 }
    }

    /// Looks at all pairs so far: the logarithms of head to base. `None` if they clear nothing
    /// and are too few to accuse anything, however much it has grown.
    pub(crate) fn look(self, quantity: Quantity, ratios: &[f64]) -> Option<Finding> {
        let Shift { estimate, lower, upper } = shift(ratios, self.error_each, CLEARED_WRONGLY_MAX)?;
        let tolerated = (1.0 + quantity.tolerated_percent() / 100.0).ln();
        let decision = match () {
            () if lower > tolerated => Decision::Regression,
            () if upper < tolerated => Decision::Cleared,
            () if lower.is_infinite() => return None,
            () => Decision::Open,
        };
        let percent = |ratio: f64| (ratio.exp() - 1.0) * 100.0;
        let (percent, lower, upper) = (percent(estimate), percent(lower), percent(upper));
        Some(Finding { pairs: ratios.len(), percent, lower, upper, decision })
    }

    /// Goes through pairs as they were measured, and stops where a gate would have. Those
    /// that say nothing of the quantity count as pairs.
    pub(crate) fn decide(self, quantity: Quantity, ratios: &[Option<f64>]) -> Option<Finding> {
        let looks = LOOKS.iter().filter(|&&pairs| pairs <= ratios.len());
        let mut last = None;
        for &pairs in looks {
            let known: Vec<f64> = ratios[..pairs].iter().flatten().copied().collect();
            last = self.look(quantity, &known);
            if last.is_some_and(|finding| finding.decision != Decision::Open) {
                break;
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Differences of about 1 % either way, evenly.
    fn noise(count: usize) -> impl Iterator<Item = f64> {
        (0..count).map(|n| f64::from((n as u32 * 7 + 3) % 11) / 500.0 - 0.01)
    }

    fn decide(percent: f64, count: usize) -> Finding {
        let ratios: Vec<_> = noise(count).map(|noise| Some(noise + (1.0 + percent / 100.0).ln())).collect();
        Certainty::of(12).decide(Quantity::Cpu, &ratios).unwrap()
    }

    #[test]
    fn what_is_past_the_tolerance_is_found_and_what_is_within_is_cleared() {
        let found = decide(6.0, 40);
        assert_eq!(found.decision, Decision::Regression);
        assert!(found.lower > 2.0 && (5.0..7.0).contains(&found.percent), "{found:?}");
        let cleared = decide(0.0, 40);
        assert_eq!(cleared.decision, Decision::Cleared);
        assert!(cleared.upper < 2.0, "{cleared:?}");
    }

    #[test]
    fn nothing_is_accused_of_what_is_tolerated() {
        for percent in [1.0, 2.0, -6.0] {
            assert_ne!(decide(percent, 40).decision, Decision::Regression, "{percent}");
        }
    }

    #[test]
    fn it_stops_at_the_first_look_that_decides() {
        assert_eq!(decide(10.0, 40).pairs, LOOKS[0]);
        assert_eq!(decide(2.0, 40).pairs, LOOKS[3]);
    }

    #[test]
    fn the_first_look_can_be_certain_enough() {
        let ratios: Vec<f64> = (0..LOOKS[0]).map(|n| 0.1 + n as f64 / 1000.0).collect();
        let finding = Certainty::of(12).look(Quantity::Cpu, &ratios).unwrap();
        assert_eq!(finding.decision, Decision::Regression);
        let ratios: Vec<_> = ratios.into_iter().map(Some).collect();
        assert_eq!(Certainty::of(12).decide(Quantity::Cpu, &ratios[1..]), None, "too few to look at");
    }

    #[test]
    fn pairs_that_are_too_few_to_accuse_may_clear_and_say_nothing_else() {
        let look = |grown: f64, count: usize| {
            let ratios: Vec<f64> = noise(count).map(|noise| noise + grown).collect();
            Certainty::of(12).look(Quantity::Cpu, &ratios).map(|finding| finding.decision)
        };
        assert_eq!((look(0.0, 10), look(0.5, 10)), (Some(Decision::Cleared), None));
        assert_eq!((look(0.0, 7), look(0.5, 14)), (None, Some(Decision::Regression)));
    }

    #[test]
    fn each_quantity_has_a_tolerance_of_its_own() {
        for (quantity, within, past) in
            [(Quantity::Cpu, 1.5, 2.5), (Quantity::P50, 9.5, 10.5), (Quantity::P99, 29.0, 31.0)]
        {
            let decision = |percent: f64| {
                let ratios: Vec<f64> = (0..14).map(|n| (1.0 + percent / 100.0 + f64::from(n) / 1e5).ln()).collect();
                Certainty::of(12).look(quantity, &ratios).unwrap().decision
            };
            assert_eq!(decision(within), Decision::Cleared, "{quantity:?}");
            assert_eq!(decision(past), Decision::Regression, "{quantity:?}");
        }
    }

    /// Logarithms of pairs of which some have grown by one percentage and some by another.
    fn pairs_of(groups: [(usize, f64); 2]) -> Vec<f64> {
        groups.into_iter().flat_map(|(count, percent)| vec![(1.0 + percent / 100.0_f64).ln(); count]).collect()
    }

    #[test]
    fn the_more_is_judged_the_surer_each_accusation_must_be() {
        // Of 14 pairs two that did not grow: a sum of ranks of 3 or less, for which identical
        // programs have a chance of 5 in 16,384. A gate of one quantity may take 0.25 % at each
        // look; one of 12, 0.02 %.
        let mixed = pairs_of([(12, 10.0), (2, 0.0)]);
        let decision = |quantities: usize| Certainty::of(quantities).look(Quantity::Cpu, &mixed).unwrap().decision;
        assert_eq!((decision(1), decision(12)), (Decision::Regression, Decision::Open));
    }

    #[test]
    fn one_pair_that_grew_keeps_the_first_look_from_clearing() {
        // With it, 13 of 105 means are past what is tolerated: 12 may be for a chance of 0.5 %.
        let decision = |groups| Certainty::of(12).look(Quantity::Cpu, &pairs_of(groups)).unwrap().decision;
        assert_eq!(decision([(13, 1.0), (1, 4.0)]), Decision::Open);
        assert_eq!(decision([(13, 1.0), (1, 1.5)]), Decision::Cleared);
    }

    #[test]
    fn pairs_that_say_nothing_count_as_pairs() {
        let some = |every: usize| -> Vec<_> {
            noise(40).enumerate().map(|(n, noise)| (n % every != 0).then_some(noise + 0.1)).collect()
        };
        let finding = Certainty::of(12).decide(Quantity::Cpu, &some(4)).unwrap();
        assert_eq!((finding.pairs, finding.decision), (15, Decision::Regression), "at the second look, of 20 pairs");
    }
}
