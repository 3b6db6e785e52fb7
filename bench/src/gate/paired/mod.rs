//! Whole servers under load, in pairs.

pub(super) mod judge;
pub(super) mod measure;
mod ranks;
pub(super) mod row;

use std::io;

use serde::Serialize;

use judge::{Certainty, Decision, Finding, LOOKS, Quantity};
use measure::{Pair, Rig, Start};
use row::Row;

/// A row that was measured.
#[derive(Serialize, Debug)]
pub(super) struct Measured {
    pub(super) row: Row,
    pub(super) findings: Vec<(Quantity, Finding)>,
    pub(super) pairs: Vec<Pair>,
}

/// Measures rows, each until all that is asked of it is decided or `pairs_max` are run.
pub(super) fn measure(
    rig: &Rig,
    rows: Vec<Row>,
    base: &Start,
    head: &Start,
    pairs_max: usize,
) -> io::Result<Vec<Measured>> {
    let certainty = Certainty::of(rows.iter().map(|row| row.quantities.len()).sum());
    rows.into_iter()
        .map(|row| {
            let mut measured = Measured { row, findings: Vec::new(), pairs: Vec::new() };
            for index in 0..pairs_max {
                let pair = rig.pair(&measured.row, base, head, index)?;
                measured.pairs.push(pair);
                if LOOKS.contains(&measured.pairs.len()) && measured.look(certainty) {
                    break;
                }
            }
            Ok(measured)
        })
        .collect()
}

impl Measured {
    /// Names of what got worse.
    pub(super) fn regressions(&self) -> impl Iterator<Item = String> {
        let is_one = |(_, finding): &&(Quantity, Finding)| finding.decision == Decision::Regression;
        self.findings.iter().filter(is_one).map(|(quantity, _)| self.name_of(*quantity))
    }

    /// What could not be judged, and why.
    pub(super) fn not_judged(&self) -> Vec<String> {
        let is_judged = |quantity: &Quantity| self.findings.iter().any(|(known, _)| known == quantity);
        let without = self.row.quantities.iter().copied().filter(|quantity| !is_judged(quantity));
        without
            .map(|quantity| {
                let (known, pairs) = (self.ratios(quantity).len(), self.pairs.len());
                format!(
                    "{} was not judged: {known} of {pairs} pairs say something of it, and those are too few; in the \
                     others loadgen was the limit",
                    self.name_of(quantity)
                )
            })
            .collect()
    }

    fn ratios(&self, quantity: Quantity) -> Vec<f64> {
        self.pairs.iter().filter_map(|pair| pair.ratio(quantity)).collect()
    }

    /// As tables and `bench/accepted.toml` name it.
    pub(super) fn name_of(&self, quantity: Quantity) -> String {
        format!("{}/{}", self.row.name, quantity.name())
    }

    /// Looks at all pairs so far; whether everything is decided. What is decided once
    /// stays so.
    fn look(&mut self, certainty: Certainty) -> bool {
        let findings = self.row.quantities.iter().filter_map(|&quantity| {
            let known = self.findings.iter().find(|(known, _)| *known == quantity);
            if let Some(decided) = known.filter(|(_, finding)| finding.decision != Decision::Open) {
                return Some(*decided);
            }
            Some((quantity, certainty.look(quantity, &self.ratios(quantity))?))
        });
        let findings: Vec<_> = findings.collect();
        self.findings = findings;
        let of = |finding: &Finding| {
            let Finding { percent, lower, upper, pairs, .. } = finding;
            format!("{percent:+.1} % ({lower:+.1} to {upper:+.1}) of {pairs} pairs")
        };
        for (quantity, finding) in &self.findings {
            eprintln!("{}: {}", self.name_of(*quantity), of(finding));
        }
        self.findings.len() == self.row.quantities.len()
            && self.findings.iter().all(|(_, finding)| finding.decision != Decision::Open)
    }
}

#[cfg(test)]
mod tests {
    use super::measure::Sample;
    use super::*;

    /// A load with a rate, and pairs of which the first have grown in their median delay.
    fn measured(grown: usize, same: usize) -> Measured {
        let sample = |p50, p99| Sample { cpu: 1.0, p50: Some(p50), p99: Some(p99) };
        // The tail is anything from a half to twice as long.
        let pair = |n: usize| Pair {
            base: sample(100.0, 400.0),
            head: sample(if n < grown { 150.0 } else { 100.0 }, 200.0 + (n * 7 % 11) as f64 * 60.0),
        };
        let row = Row::own("echo-1".to_owned(), "echo ws://{address}/ -R 100");
        Measured { row, findings: Vec::new(), pairs: (0..grown + same).map(pair).collect() }
    }

    #[test]
    fn what_was_decided_once_stays_so_while_more_pairs_are_run() {
        let certainty = Certainty::of(2);
        let Measured { pairs: all, .. } = measured(14, 14);
        let mut growing = measured(14, 0);
        assert!(!growing.look(certainty), "the tail is open");
        growing.pairs = all;
        growing.look(certainty);
        let of = |quantity| growing.findings.iter().find(|(known, _)| *known == quantity).unwrap().1;
        assert_eq!((of(Quantity::P50).decision, of(Quantity::P50).pairs), (Decision::Regression, 14));
        assert_eq!((of(Quantity::P99).decision, of(Quantity::P99).pairs), (Decision::Open, 28));
        assert_eq!(growing.regressions().collect::<Vec<_>>(), ["echo-1/p50"]);

        let mut at_once = measured(14, 14);
        at_once.look(certainty);
        assert_eq!(at_once.regressions().count(), 0, "by all of them it would be none");
    }

    #[test]
    fn what_too_few_pairs_say_something_of_is_not_judged() {
        let mut measured = measured(14, 0);
        for pair in &mut measured.pairs[..6] {
            pair.head.p50 = None;
        }
        assert!(!measured.look(Certainty::of(2)));
        let remarks = measured.not_judged();
        assert_eq!(remarks.len(), 1, "{remarks:?}");
        assert!(remarks[0].contains("echo-1/p50 was not judged: 8 of 14 pairs"), "{remarks:?}");
    }
}
