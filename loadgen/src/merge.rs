//! Several machines' reports as one.
//!
//! Each report is of a run of its own: its machine sent and received all of its
//! messages, so every latency was taken with one clock, and clocks that disagree
//! change none. Only where the runs lay in time is by the machines' own clocks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::report::{Invalid, PhaseReport, Report};
use crate::series::Second;

/// How reports were put together.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Merged {
    /// How many, those in reports that were put together before counted one by one.
    pub reports: usize,
    /// The numbers of their runs. Older reports do not say.
    #[serde(default)]
    pub runs: Vec<String>,
    /// Where they were made.
    pub hosts: Vec<String>,
    /// Seconds between the first start and the last, by the machines' own clocks.
    pub starts_apart: f64,
    /// The first start and the last, in seconds since 1970. Older reports do not say.
    #[serde(default)]
    pub starts: Option<(f64, f64)>,
}

impl Merged {
    fn new(reports: &[Report]) -> Self {
        let earlier = || reports.iter().filter_map(|report| report.merged.as_ref());
        let own = reports.iter().filter(|report| report.merged.is_none());
        let mut hosts: Vec<_> = own.clone().map(|report| report.origin.host.clone()).collect();
        hosts.extend(earlier().flat_map(|merged| merged.hosts.iter().cloned()));
        hosts.sort();
        hosts.dedup();
        let starts = reports.iter().map(starts).reduce(|(first, last), of| (first.min(of.0), last.max(of.1)));
        let between = starts.map_or(0.0, |(first, last)| last - first);
        // Not less than an older report says, of which one start alone is known.
        let starts_apart = earlier().map(|merged| merged.starts_apart).fold(between, f64::max);
        let runs = reports.iter().flat_map(runs).map(str::to_owned).collect();
        let count = own.count() + earlier().map(|merged| merged.reports).sum::<usize>();
        Self { reports: count, runs, hosts, starts_apart, starts }
    }

    /// What a reader has to know.
    pub fn text(&self) -> String {
        format!(
            "{} reports as one, from {}; started {:.1} s apart by the machines' own clocks, whose error is in that figure \
             and in no latency: each was taken on one machine",
            self.reports,
            self.hosts.join(", "),
            self.starts_apart
        )
    }
}

/// When the first and the last run of a report started, as far as it says.
fn starts(report: &Report) -> (f64, f64) {
    let started_at = report.origin.started_at;
    report.merged.as_ref().and_then(|merged| merged.starts).unwrap_or((started_at, started_at))
}

/// The numbers of the runs that a report is about.
fn runs(report: &Report) -> impl Iterator<Item = &str> {
    let merged = report.merged.iter().flat_map(|merged| &merged.runs);
    // One that was put together has the first one's origin.
    let own = report.origin.run.iter().filter(|_| report.merged.is_none());
    merged.chain(own).map(String::as_str)
}

/// Whether a run is in both, so that it would count twice. Of older reports, which have no
/// numbers, that is told by machine and time.
pub fn share_a_run(a: &Report, b: &Report) -> bool {
    if runs(a).next().is_some() && runs(b).next().is_some() {
        return runs(a).any(|run| runs(b).any(|other| other == run));
    }
    (&a.origin.host, a.origin.started_at) == (&b.origin.host, b.origin.started_at)
}

/// One report of what all of them found out. An error says which do not fit together.
pub fn merge(reports: &[Report]) -> Result<Report, String> {
    let [first, others @ ..] = reports else { return Err("no reports to merge".to_owned()) };
    for (name, of) in
        [("scenario", (|report| &report.scenario) as fn(&Report) -> &String), ("mode", |report| &report.mode)]
    {
        if let Some(other) = others.iter().find(|other| of(other) != of(first)) {
            return Err(format!("reports of different {name}s: {:?} and {:?}", of(first), of(other)));
        }
    }
    let mut merged = first.clone();
    merged.invalid = reports.iter().flat_map(invalid).collect();
    others.iter().for_each(|other| add(&mut merged, other));
    // Each machine's watch saw what all of them together did to the server.
    merged.server = None;
    merged.series = series(reports);
    merged.phases = phases(reports);
    merged.notes = reports.iter().flat_map(notes).collect();
    merged.populations = populations(reports)?;
    merged.merged = Some(Merged::new(reports));
    merged.refresh_percentiles();
    merged.judge(&[], false);
    Ok(merged)
}

/// Each population of all machines as one.
fn populations(reports: &[Report]) -> Result<Vec<Report>, String> {
    let names = |report: &Report| report.populations.iter().map(|part| part.name().to_owned()).collect::<Vec<_>>();
    let of_first = names(&reports[0]);
    if let Some(other) = reports.iter().map(names).find(|other| *other != of_first) {
        return Err(format!("reports of different populations: {} and {}", of_first.join(", "), other.join(", ")));
    }
    let parts = |at: usize| reports.iter().map(|report| report.populations[at].clone()).collect::<Vec<_>>();
    (0..of_first.len()).map(|at| merge(&parts(at))).collect()
}

fn notes(report: &Report) -> impl Iterator<Item = String> {
    report.notes.iter().map(|note| format!("{}: {note}", report.origin.host))
}

fn invalid(report: &Report) -> impl Iterator<Item = Invalid> {
    let named = |reason: &Invalid| Invalid {
        reason: reason.reason.clone(),
        text: format!("{}: {}", report.origin.host, reason.text),
    };
    report.invalid.iter().map(named)
}

/// Adds counts, rates and histograms; percentiles are to be read again afterwards.
pub(crate) fn add(sum: &mut Report, other: &Report) {
    sum.connections += other.connections;
    sum.publishers += other.publishers;
    sum.threads += other.threads;
    sum.opened += other.opened;
    sum.dropped += other.dropped;
    sum.sent += other.sent;
    sum.received += other.received;
    sum.lost += other.lost;
    sum.duplicated += other.duplicated;
    sum.reordered += other.reordered;
    sum.corrupted += other.corrupted;
    sum.misdelivered += other.misdelivered;
    sum.foreign += other.foreign;
    sum.errors += other.errors;
    sum.close_unanswered += other.close_unanswered;
    sum.recovery_seconds.extend_from_slice(&other.recovery_seconds);
    sum.stalled += other.stalled;
    for (kind, count) in &other.stalled_by_end {
        *sum.stalled_by_end.entry(kind.clone()).or_default() += count;
    }
    sum.rate += other.rate;
    sum.received_rate += other.received_rate;
    sum.target_rate = sum.target_rate.zip(other.target_rate).map(|(a, b)| a + b);
    sum.seconds = sum.seconds.max(other.seconds);
    for (kind, count) in &other.errors_by_kind {
        *sum.errors_by_kind.entry(kind.clone()).or_default() += count;
    }
    for (kind, example) in &other.error_examples {
        sum.error_examples.entry(kind.clone()).or_insert_with(|| example.clone());
    }
    sum.workers.extend_from_slice(&other.workers);
    let (histograms, others) = (&mut sum.histograms, &other.histograms);
    histograms.latency.merge(&others.latency);
    histograms.service.merge(&others.service);
    histograms.handshake.merge(&others.handshake);
    histograms.schedule_lag.merge(&others.schedule_lag);
}

/// Seconds with the same distance from their run's first message, added up. Their
/// percentiles cannot be.
fn series(reports: &[Report]) -> Vec<Second> {
    let mut seconds = BTreeMap::<i64, Second>::new();
    for second in reports.iter().flat_map(|report| &report.series) {
        let millis = (second.at * 1e3).round() as i64;
        let sum = seconds.entry(millis).or_insert_with(|| second.empty());
        sum.add(second);
    }
    seconds.into_values().collect()
}

fn phases(reports: &[Report]) -> Vec<PhaseReport> {
    let mut phases = Vec::<PhaseReport>::new();
    for phase in reports.iter().flat_map(|report| &report.phases) {
        match phases.iter_mut().find(|sum| sum.phase == phase.phase) {
            Some(sum) => {
                sum.seconds = sum.seconds.max(phase.seconds);
                sum.asked = sum.asked.zip(phase.asked).map(|(a, b)| (a.0 + b.0, a.1 + b.1));
                sum.sent += phase.sent;
                sum.received += phase.received;
                sum.faults += phase.faults;
            }
            None => phases.push(PhaseReport { latency_us: None, service_us: None, ..phase.clone() }),
        }
    }
    phases
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;
    use crate::failure::Failure;
    use crate::report::Verdict;
    use crate::tally::{Limit, Outcome};

    /// A run whose `count` messages took `millis` each.
    fn report(host: &str, millis: u64, count: u64) -> Report {
        let plan = Cli::parse_from(["loadgen", "echo", "-c", "1", "-R", "50"]).into_plan().unwrap();
        let mut outcome = Outcome::default();
        outcome.connections.opened = 1;
        (outcome.tally.sent, outcome.tally.received) = (count, count);
        (0..count).for_each(|_| outcome.tally.latency.record(millis * 1_000_000));
        let mut report = Report::new(&plan, &outcome, 2.0);
        report.origin.host = host.to_owned();
        report
    }

    #[test]
    fn counts_and_histograms_are_added() {
        let (mut a, b) = (report("a", 1, 90), report("b", 100, 10));
        a.origin.started_at = 3.5;
        let both = merge(&[a, b]).unwrap();
        assert_eq!((both.sent, both.received, both.opened, both.connections), (100, 100, 2, 2));
        assert_eq!((both.rate, both.target_rate, both.seconds), (50.0, Some(100.0), 2.0));
        let latency = both.latency_us.unwrap();
        assert!((999.0..1_002.0).contains(&latency.p90), "{latency:?}");
        assert!((99_900.0..100_100.0).contains(&latency.p99), "no mean of percentiles: {latency:?}");
        let hosts = vec!["a".into(), "b".into()];
        let starts = Some((0.0, 3.5));
        assert_eq!(both.merged, Some(Merged { reports: 2, runs: Vec::new(), hosts, starts_apart: 3.5, starts }));
        assert!(both.to_text().contains("2 reports as one, from a, b; started 3.5 s apart"), "{}", both.to_text());
        assert_eq!(both.verdict, Verdict::Ok);
        let all = merge(&[report("c", 1, 10), both]).unwrap().merged.unwrap();
        let hosts = ["a", "b", "c"].map(str::to_owned).to_vec();
        let expected = Merged { reports: 3, runs: Vec::new(), hosts, starts_apart: 3.5, starts };
        assert_eq!(all, expected, "one of one and one of two");
    }

    #[test]
    fn starts_are_as_far_apart_as_those_of_the_runs_however_they_are_put_together() {
        let at = |started_at: f64| {
            let mut report = report("a", 1, 10);
            report.origin.started_at = started_at;
            report
        };
        let [early, late] = [[100.0, 90.0], [112.0, 130.0]].map(|starts| merge(&starts.map(at)).unwrap());
        let apart = |reports: &[Report]| merge(reports).unwrap().merged.unwrap().starts_apart;
        assert_eq!((apart(&[early.clone(), late.clone()]), apart(&[late, early.clone(), at(91.0)])), (40.0, 40.0));
        let mut older = early;
        older.merged.as_mut().unwrap().starts = None;
        assert_eq!((apart(&[older.clone(), at(95.0)]), apart(&[older, at(85.0)])), (10.0, 15.0), "as far as it says");
    }

    #[test]
    fn one_bad_run_is_a_bad_sum() {
        let good = report("a", 1, 10);
        let mut lossy = report("b", 1, 10);
        lossy.lost = 1;
        assert_eq!(merge(&[good.clone(), lossy]).unwrap().verdict, Verdict::Faults);
        let plan = Cli::parse_from(["loadgen", "echo", "-c", "1", "-R", "50"]).into_plan().unwrap();
        let mut outcome = Outcome::default();
        outcome.connections.opened = 1;
        outcome.connections.failures.add(&Failure::Disconnected);
        outcome.limits.push(Limit::Cpu { worker: 0, busiest: 1.0, windows: 2 });
        let mut limited = Report::new(&plan, &outcome, 1.0);
        limited.origin.host = "slow".to_owned();
        let both = merge(&[good, limited]).unwrap();
        assert_eq!((both.verdict, both.errors), (Verdict::Invalid, 1));
        assert!(both.invalid[0].text.starts_with("slow: worker 0"), "{:?}", both.invalid);
        assert_eq!(both.errors_by_kind["disconnected"], 1);
    }

    #[test]
    fn a_run_is_known_by_its_number_or_by_machine_and_time() {
        let numbered = |host: &str, run: &str| {
            let mut report = report(host, 1, 10);
            report.origin.run = Some(run.to_owned());
            report
        };
        let (a, b, c) = (numbered("x", "1"), numbered("x", "2"), numbered("x", "3"));
        assert!(share_a_run(&a, &a) && !share_a_run(&a, &b), "two of one moment and machine");
        let both = merge(&[a.clone(), b.clone()]).unwrap();
        assert!(share_a_run(&both, &a) && share_a_run(&b, &both) && !share_a_run(&both, &c));
        let all = merge(&[both, c.clone()]).unwrap();
        assert!([a, b, c].iter().all(|one| share_a_run(&all, one)), "{:?}", all.merged);
        let (old, mut later) = (report("x", 1, 10), report("x", 1, 10));
        later.origin.started_at += 0.001;
        assert!(share_a_run(&old, &old) && !share_a_run(&old, &later) && !share_a_run(&old, &report("y", 1, 10)));
    }

    #[test]
    fn runs_of_different_kinds_are_refused() {
        let a = report("a", 1, 10);
        let mut b = a.clone();
        b.scenario = "fanout".to_owned();
        assert!(merge(&[a, b]).unwrap_err().contains("different scenarios: \"echo\" and \"fanout\""));
        assert!(merge(&[]).is_err());
    }
}
