//! Compares the servers of a row, and judges its budgets.

use serde::Serialize;

use super::measure::{Sample, WorkSample};
use super::program::{Part, Program};
use super::row::{Budget, Measures, Row};
use crate::rig::interval::{Interval, interval, median};
use crate::rig::verdict::{Judgement, Verdict};

/// A load that is busier than this, with a server that is not, was the bottleneck.
const BUSY: f64 = 0.95;

/// One row.
#[derive(Serialize, Debug)]
pub(super) struct RowReport {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) measures: Measures,
    pub(super) lines: Vec<Line>,
    pub(super) verdicts: Vec<Verdict>,
    /// Messages that one send of wsgate could have taken at best.
    pub(super) window: usize,
}

/// One server in a row.
#[derive(Serialize, Debug)]
pub(super) struct Line {
    pub(super) server: &'static str,
    /// In nanoseconds or bytes, see [`Measures`].
    pub(super) median: f64,
    /// wsgate's figure divided by this one's, pair by pair.
    pub(super) ratio: Option<Interval>,
    /// The load kept the server waiting.
    pub(super) load_was_bottleneck: bool,
    /// CPU of other programs meanwhile, in processors.
    pub(super) others_busy: f64,
    /// One for each round; `null` if the run failed.
    pub(super) samples: Vec<Option<Sample>>,
}

impl RowReport {
    /// Compares the programs of a row; each has one sample, or none, for each round.
    pub(super) fn new(row: &Row, measured: Vec<(&'static Program, Vec<Option<Sample>>)>) -> Self {
        let subject: Vec<_> = measured
            .iter()
            .find(|(program, _)| program.part == Part::Subject)
            .map_or_else(Vec::new, |(_, s)| s.clone());
        let mut parts = Vec::new();
        let mut lines = Vec::new();
        for (program, samples) in measured {
            let values: Vec<f64> = samples.iter().flatten().map(|sample| sample.value).collect();
            let Some(median) = median(&values) else { continue };
            let ratio = if program.part == Part::Subject { None } else { paired_ratio(&subject, &samples) };
            parts.push(program.part);
            let load_was_bottleneck = load_was_bottleneck(&samples);
            let others_busy = median_of(&samples, |work| work.others_busy);
            lines.push(Line { server: program.name, median, ratio, load_was_bottleneck, others_busy, samples });
        }
        let verdicts = row.budgets.iter().map(|budget| judge(*budget, &lines, &parts)).collect();
        let (window, measures) = (row.work.window(), row.work.measures());
        Self { name: row.name, title: row.title, measures, lines, verdicts, window }
    }

    /// Whether this machine counted the servers' instructions.
    pub(super) fn counts_instructions(&self) -> bool {
        let mut samples = self.lines.iter().flat_map(|line| line.samples.iter().flatten());
        samples.any(|sample| sample.work.as_ref().is_some_and(|work| work.user_instructions.is_some()))
    }
}

/// The ratios of the rounds in which both ran.
fn paired_ratio(subject: &[Option<Sample>], other: &[Option<Sample>]) -> Option<Interval> {
    let pairs = subject.iter().zip(other).filter_map(|(a, b)| a.as_ref().zip(b.as_ref()));
    let ratios: Vec<f64> = pairs.map(|(a, b)| a.value / b.value).filter(|ratio| ratio.is_finite()).collect();
    interval(&ratios)
}

fn load_was_bottleneck(samples: &[Option<Sample>]) -> bool {
    let busy = |of: fn(&WorkSample) -> f64| median_of(samples, of);
    busy(|work| work.load_busy) > BUSY && busy(|work| work.server_busy) < BUSY
}

/// The median of something in the samples of a row with messages, 0 elsewhere.
pub(super) fn median_of(samples: &[Option<Sample>], of: fn(&WorkSample) -> f64) -> f64 {
    let values: Vec<f64> = samples.iter().flatten().filter_map(|sample| sample.work.as_ref().map(of)).collect();
    median(&values).unwrap_or_default()
}

fn judge(budget: Budget, lines: &[Line], parts: &[Part]) -> Verdict {
    let of = |part| lines.iter().zip(parts).filter(move |(_, other)| **other == part).map(|(line, _)| line);
    let (target, value, limit) = match budget {
        Budget::OfFloor(limit) => {
            (format!("at most {limit} × floor"), of(Part::Floor).next().and_then(|line| line.ratio), limit)
        }
        Budget::OfBestPeer(limit) => {
            let best = of(Part::Peer).min_by(|a, b| a.median.total_cmp(&b.median));
            let name = best.map_or("none measured", |line| line.server);
            (format!("at most {limit} × best peer ({name})"), best.and_then(|line| line.ratio), limit)
        }
        Budget::Bytes(limit) => {
            let values = of(Part::Subject).flat_map(|line| line.samples.iter().flatten()).map(|sample| sample.value);
            (format!("at most {limit} B"), interval(&values.collect::<Vec<_>>()), limit)
        }
    };
    Verdict { target, result: Judgement::at_most(limit, value) }
}

#[cfg(test)]
mod tests {
    use super::super::program::PROGRAMS;
    use super::super::row::Work;
    use super::*;

    const BUDGETS: &[Budget] = &[Budget::OfFloor(1.2), Budget::OfBestPeer(1.0)];

    fn sample(value: f64) -> Option<Sample> {
        Some(Sample { value, work: None })
    }

    fn program(name: &str) -> &'static Program {
        PROGRAMS.iter().find(|program| program.name == name).unwrap()
    }

    fn report(budgets: &'static [Budget], measured: &[(&str, &[Option<Sample>])]) -> RowReport {
        let work = Work::Echo { connections: 1, bytes: 1, in_flight: 1 };
        let row = Row { name: "row", title: "a row", work, budgets };
        RowReport::new(&row, measured.iter().map(|(name, samples)| (program(name), samples.to_vec())).collect())
    }

    fn results(report: &RowReport) -> Vec<Judgement> {
        report.verdicts.iter().map(|verdict| verdict.result).collect()
    }

    #[test]
    fn ratios_are_of_samples_of_the_same_round() {
        // The machine was ten times slower in one round, and the floor failed in another.
        let wsgate = [sample(20.0), sample(200.0), sample(30.0)];
        let floor = [sample(10.0), sample(100.0), None];
        let report = report(&[], &[("wsgate", &wsgate), ("floor", &floor)]);
        assert_eq!(report.lines[1].ratio.unwrap().median, 2.0);
        assert_eq!(report.lines[0].ratio, None);
    }

    #[test]
    fn budgets_are_met_or_missed_only_when_the_bounds_say_so() {
        let wsgate = [12.0, 12.1, 12.2, 12.3, 12.4].map(sample);
        let floors = [([11.0; 5], Judgement::Met), ([10.2; 5], Judgement::Open), ([9.0; 5], Judgement::Missed)];
        for (floor, expected) in floors {
            let report = report(BUDGETS, &[("wsgate", &wsgate), ("floor", &floor.map(sample))]);
            assert_eq!(results(&report), [expected, Judgement::NotJudged], "{floor:?}");
        }
        let four = report(BUDGETS, &[("wsgate", &wsgate[..4]), ("floor", &[11.0; 4].map(sample))]);
        assert_eq!(results(&four)[0], Judgement::NotJudged);
    }

    #[test]
    fn the_best_peer_is_the_one_with_the_least_median() {
        let (wsgate, bun, ws) = ([10.0; 5].map(sample), [9.0; 5].map(sample), [20.0; 5].map(sample));
        let report = report(BUDGETS, &[("wsgate", &wsgate), ("ws", &ws), ("bun", &bun)]);
        assert_eq!(results(&report), [Judgement::NotJudged, Judgement::Missed]);
        assert!(report.verdicts[1].target.contains("bun"), "{}", report.verdicts[1].target);
    }

    #[test]
    fn bytes_are_judged_by_the_samples_of_wsgate() {
        const BYTES: &[Budget] = &[Budget::Bytes(256.0)];
        for (bytes, expected) in [(200.0, Judgement::Met), (300.0, Judgement::Missed)] {
            assert_eq!(results(&report(BYTES, &[("wsgate", &[bytes; 5].map(sample))])), [expected]);
        }
    }

    #[test]
    fn the_load_is_a_bottleneck_only_if_it_alone_is_busy() {
        for (load_busy, server_busy, expected) in [(0.99, 0.7, true), (0.99, 0.99, false), (0.5, 0.5, false)] {
            let work = WorkSample {
                seconds: 1.0,
                messages: 1,
                user_share: 0.1,
                server_busy,
                load_busy,
                others_busy: 0.0,
                user_instructions: None,
                sends: None,
            };
            let report = report(&[], &[("wsgate", &[Some(Sample { value: 1.0, work: Some(work) })])]);
            assert_eq!(report.lines[0].load_was_bottleneck, expected);
        }
    }
}
