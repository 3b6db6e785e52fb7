//! What the gate says: for people at a terminal, for a pull request, for programs.

use serde::Serialize;

use super::accepted::Register;
use super::metric::{Change, Metric};
use super::paired::Measured;
use super::paired::judge::{Decision, Finding, Quantity};
use super::paired::measure::{Pair, Sample};
use super::{COULD_NOT_MEASURE, REGRESSION as REGRESSION_FOUND};
use crate::rig::interval::median;
use crate::rig::machine::Machine;
use crate::rig::markdown::{table_head, table_row};

/// See [`Report::version`].
pub(super) const VERSION: u32 = 1;

/// Everything of one gate.
#[derive(Serialize, Debug)]
pub(super) struct Report {
    /// Of this format; a reader refuses others.
    pub(super) version: u32,
    /// Commits, or commands of servers.
    pub(super) base: String,
    pub(super) head: String,
    /// `None` if nothing was measured that depends on it.
    pub(super) machine: Option<Machine>,
    pub(super) remarks: Vec<String>,
    /// What was to be compared and could not be, and why.
    pub(super) not_judged: Vec<String>,
    pub(super) counted: Vec<Judged>,
    pub(super) paired: Vec<JudgedPairs>,
}

/// A count with its verdict.
#[derive(Serialize, Debug)]
pub(super) struct Judged {
    #[serde(flatten)]
    metric: Metric,
    change: Change,
    /// Why a regression is none to fail for.
    accepted: Option<String>,
}

/// What pairs say of one quantity of a load, with its verdict.
#[derive(Serialize, Debug)]
pub(super) struct JudgedPairs {
    name: String,
    #[serde(flatten)]
    finding: Finding,
    tolerated_percent: f64,
    /// Medians, as they are: they belong to this machine and this hour.
    base: Option<f64>,
    head: Option<f64>,
    unit: &'static str,
    accepted: Option<String>,
}

impl Judged {
    pub(super) fn of_count(metric: Metric, register: &Register) -> Self {
        let change = metric.change();
        let percent = metric.percent().filter(|_| change == Change::More);
        let accepted = percent.and_then(|percent| register.accepts(&metric.name, percent));
        let accepted = accepted.map(|accepted| accepted.reason.clone());
        Self { metric, change, accepted }
    }

    fn is_regression(&self) -> bool {
        self.change == Change::More && self.accepted.is_none()
    }

    fn words(&self) -> &'static str {
        match (self.change, &self.accepted) {
            (Change::More, None) => REGRESSION,
            (Change::More, Some(_)) => "accepted",
            (Change::Less, _) => "less",
            (Change::Same, _) => "same",
            (Change::New, _) => "new",
            (Change::Gone, _) => "gone",
        }
    }

    fn cells(&self) -> [String; 5] {
        let metric = &self.metric;
        let change = match metric.percent() {
            None => "–".to_owned(),
            Some(percent) if percent.is_infinite() => "from 0".to_owned(),
            Some(percent) => format!("{percent:+.1} %"),
        };
        [metric.name.clone(), show(metric.base), show(metric.head), change, self.words().to_owned()]
    }
}

impl JudgedPairs {
    pub(super) fn of(measured: Measured, register: &Register) -> Vec<Self> {
        let judge = |&(quantity, finding): &(Quantity, Finding)| {
            let name = measured.name_of(quantity);
            let is_regression = finding.decision == Decision::Regression;
            let accepted = register.accepts(&name, finding.percent).filter(|_| is_regression);
            let median = |side: fn(&Pair) -> &Sample| {
                median(&measured.pairs.iter().filter_map(|pair| side(pair).of(quantity)).collect::<Vec<_>>())
            };
            Self {
                name,
                finding,
                tolerated_percent: quantity.tolerated_percent(),
                base: median(|pair| &pair.base),
                head: median(|pair| &pair.head),
                unit: "µs",
                accepted: accepted.map(|accepted| accepted.reason.clone()),
            }
        };
        measured.findings.iter().map(judge).collect()
    }

    fn is_regression(&self) -> bool {
        self.finding.decision == Decision::Regression && self.accepted.is_none()
    }

    fn words(&self) -> &'static str {
        match (self.finding.decision, &self.accepted) {
            (Decision::Regression, None) => REGRESSION,
            (Decision::Regression, Some(_)) => "accepted",
            (Decision::Cleared, _) => "cleared",
            (Decision::Open, _) => "open",
        }
    }

    fn cells(&self) -> [String; 5] {
        let Finding { percent, lower, upper, pairs, .. } = self.finding;
        [
            self.name.clone(),
            format!("{percent:+.1} % ({} to {})", bound(lower), bound(upper)),
            format!("{} %", self.tolerated_percent),
            pairs.to_string(),
            self.words().to_owned(),
        ]
    }
}

const COUNTED: [&str; 5] = ["counted", "base", "head", "change", "verdict"];
const PAIRED: [&str; 5] = ["paired", "head takes more, certainly", "tolerated", "pairs", "verdict"];
const REGRESSION: &str = "REGRESSION";

impl Report {
    /// Regressions that were not accepted.
    pub(super) fn regressions(&self) -> usize {
        self.counted.iter().filter(|judged| judged.is_regression()).count()
            + self.paired.iter().filter(|judged| judged.is_regression()).count()
    }

    /// How the program ends: what was not judged is never taken for no regression.
    pub(super) fn code(&self) -> u8 {
        match (self.regressions(), self.not_judged.is_empty()) {
            (0, true) => 0,
            (0, false) => COULD_NOT_MEASURE,
            _ => REGRESSION_FOUND,
        }
    }

    /// For a terminal: what changed, and why.
    pub(super) fn text(&self) -> String {
        let mut text = format!("base {}, head {}\n", short(&self.base), short(&self.head));
        text.extend(self.machine.iter().map(|machine| format!("{machine}\n")));
        text.extend(self.notes().map(|note| format!("note: {note}\n")));
        let line = |[a, b, c, d, e]: [&str; 5]| format!("{a:<34} {b:>11} {c:>11} {d:>8}  {e}\n");
        let mut changed = self.changed().peekable();
        if changed.peek().is_some() {
            text += "\n";
            text += &line(COUNTED);
        }
        for judged in changed {
            text += &line(judged.cells().each_ref().map(String::as_str));
            text.extend(judged.accepted.iter().map(|reason| format!("    because: {reason}\n")));
            text.extend(judged.places().map(|place| format!("    {place}\n")));
        }
        if !self.paired.is_empty() {
            let line = |[a, b, c, d, e]: [&str; 5]| format!("{a:<22} {b:>27} {c:>9} {d:>5}  {e}\n");
            text += "\n";
            text += &line(PAIRED);
            text.extend(self.paired.iter().map(|judged| line(judged.cells().each_ref().map(String::as_str))));
        }
        text + "\n" + &self.summary() + "\n"
    }

    /// For a comment on a pull request.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!("### Performance gate: {}\n\n", self.summary());
        text += &format!("Base `{}`, head `{}`.\n\n", short(&self.base), short(&self.head));
        text.extend(self.machine.iter().map(|machine| format!("{machine}.\n\n")));
        text.extend(self.notes().map(|note| format!("* {note}\n")));
        if self.changed().next().is_some() {
            text += "\n";
            text += &table_head(&COUNTED);
            text.extend(self.changed().map(|judged| table_row(&judged.cells())));
            text += "\n";
        }
        for judged in self.changed().filter(|judged| judged.change == Change::More) {
            text += &format!("* `{}`", judged.metric.name);
            text.extend(judged.accepted.iter().map(|reason| format!(", accepted: {reason}")));
            text += "\n";
            text.extend(judged.places().map(|place| format!("  * `{place}`\n")));
        }
        if !self.paired.is_empty() {
            text += "\n";
            text += &table_head(&PAIRED);
            text.extend(self.paired.iter().map(|judged| table_row(&judged.cells())));
        }
        if !self.counted.is_empty() {
            text += "\n<details><summary>All that was counted</summary>\n\n";
            text += &table_head(&COUNTED);
            text.extend(self.counted.iter().map(|judged| table_row(&judged.cells())));
            text += "\n</details>\n";
        }
        text
    }

    fn notes(&self) -> impl Iterator<Item = &String> {
        self.remarks.iter().chain(&self.not_judged)
    }

    fn changed(&self) -> impl Iterator<Item = &Judged> {
        self.counted.iter().filter(|judged| judged.change != Change::Same)
    }

    fn summary(&self) -> String {
        let words: Vec<_> =
            self.counted.iter().map(Judged::words).chain(self.paired.iter().map(JudgedPairs::words)).collect();
        let count = |wanted| words.iter().filter(|word| **word == wanted).count();
        let parts: Vec<_> = ["same", "cleared", "less", "open", "accepted", "new", "gone"]
            .into_iter()
            .map(|words| (words, count(words)))
            .filter(|(_, count)| *count > 0)
            .map(|(words, count)| format!("{count} {words}"))
            .collect();
        let verdict = match self.regressions() {
            0 if self.not_judged.is_empty() => "no regression".to_owned(),
            0 => "not everything could be measured".to_owned(),
            1 => "1 regression".to_owned(),
            many => format!("{many} regressions"),
        };
        format!("{verdict}; of {} metrics {}", words.len(), parts.join(", "))
    }
}

impl Judged {
    /// Where it grew.
    fn places(&self) -> impl Iterator<Item = String> {
        let places = if self.change == Change::More { &self.metric.places[..] } else { &[] };
        places.iter().map(|place| format!("per {}: {place}", self.metric.per))
    }
}

fn bound(percent: f64) -> String {
    if percent.is_finite() && percent > -100.0 { format!("{percent:+.1}") } else { "?".to_owned() }
}

/// The beginning of a commit's name. Commands are shown whole: they differ behind it.
fn short(revision: &str) -> &str {
    let is_commit = revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    revision.get(..12).filter(|_| is_commit).unwrap_or(revision)
}

fn show(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value == value.trunc() => format!("{value}"),
        Some(value) if value.abs() >= 1000.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::paired::row::Row;
    use super::*;

    /// Of servers, with what their pairs say of one load.
    fn report(decision: Decision) -> Report {
        let finding = Finding { pairs: 14, percent: 6.0, lower: 4.5, upper: 7.5, decision };
        let row = Row::own("echo-1".to_owned(), "echo ws://{address}/");
        let measured = Measured { row, findings: vec![(Quantity::Cpu, finding)], pairs: Vec::new() };
        Report {
            version: VERSION,
            base: "node releases/1.0/server.js".to_owned(),
            head: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            machine: None,
            remarks: Vec::new(),
            not_judged: Vec::new(),
            counted: Vec::new(),
            paired: JudgedPairs::of(measured, &Register::default()),
        }
    }

    #[test]
    fn pairs_that_regressed_fail_the_gate_and_are_named() {
        let report = report(Decision::Regression);
        assert_eq!(report.code(), 1);
        for text in [report.text(), report.markdown()] {
            for part in ["1 regression;", "echo-1/cpu", "+6.0 % (+4.5 to +7.5)", "REGRESSION"] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
    }

    #[test]
    fn what_was_not_judged_is_said_and_is_not_taken_for_no_regression() {
        for decision in [Decision::Cleared, Decision::Open] {
            let judged = report(decision);
            assert_eq!(judged.code(), 0);
            assert!(judged.markdown().contains("no regression"), "{judged:?}");
            let report = Report { not_judged: vec!["echo-2/p50 was not judged".to_owned()], ..judged };
            assert_eq!(report.code(), 2);
            for text in [report.text(), report.markdown()] {
                assert!(text.contains("echo-2/p50 was not judged") && !text.contains("no regression"), "{text}");
            }
        }
        let regressed = report(Decision::Regression);
        assert_eq!(Report { not_judged: vec!["more".to_owned()], ..regressed }.code(), 1);
    }

    #[test]
    fn commits_are_shortened_and_commands_are_not() {
        let text = report(Decision::Cleared).text();
        assert!(text.starts_with("base node releases/1.0/server.js, head 0123456789ab\n"), "{text}");
    }
}
