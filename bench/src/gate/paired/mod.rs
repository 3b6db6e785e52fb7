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
    /// Pairs in which loadgen was the limit, so that their delays say nothing.
    pub(super) spoiled: usize,
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
            let mut measured = Measured { row, findings: Vec::new(), spoiled: 0, pairs: Vec::new() };
            for index in 0..pairs_max {
                let pair = rig.pair(&measured.row, base, head, index)?;
                measured.pairs.push(pair);
                if LOOKS.contains(&measured.pairs.len()) && measured.look(certainty) {
                    break;
                }
            }
            if measured.findings.is_empty() {
                measured.look(certainty);
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
    pub(super) fn remarks(&self) -> Vec<String> {
        let (pairs, spoiled) = (self.pairs.len(), self.spoiled);
        let is_judged = |quantity: &Quantity| self.findings.iter().any(|(known, _)| known == quantity);
        let open = self.row.quantities.iter().filter(|quantity| !is_judged(quantity));
        open.map(|quantity| {
            format!("{} was not judged: in {spoiled} of {pairs} pairs loadgen was the limit", self.name_of(*quantity))
        })
        .collect()
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
            let ratios: Vec<f64> = self.pairs.iter().filter_map(|pair| pair.ratio(quantity)).collect();
            Some((quantity, certainty.look(quantity, &ratios)?))
        });
        let findings: Vec<_> = findings.collect();
        self.findings = findings;
        self.spoiled = self.pairs.iter().filter(|pair| pair.ratio(Quantity::P50).is_none()).count();
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
