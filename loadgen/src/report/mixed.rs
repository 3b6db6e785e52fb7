//! The report of several populations: a report for each, and the sum of all.

use std::collections::BTreeSet;

use super::{Invalid, PhaseReport, Report, Verdict};
use crate::merge::add;
use crate::mix::Mix;
use crate::numbers::{grouped, many};
use crate::series::Series;

impl Report {
    /// The report of a mix whose populations found out `parts`; `series` is of all together.
    pub fn mixed(mix: &Mix, parts: Vec<Self>, series: &Series) -> Self {
        let mut whole = parts[0].clone();
        parts[1..].iter().for_each(|part| add(&mut whole, part));
        whole.name = None;
        whole.scenario = mix.scenario().to_owned();
        whole.url = mix.url.clone();
        whole.set_up = set_up(mix);
        whole.mode = mode(&parts);
        whole.target_rate = mix.target_rate();
        whole.payload_bytes = None;
        whole.in_flight = None;
        whole.invalid = parts.iter().flat_map(invalid).collect();
        whole.notes = parts.iter().flat_map(notes).collect();
        let phase = |total| {
            let phase = PhaseReport::new(total);
            PhaseReport { asked: mix.asked_in(&phase.phase), ..phase }
        };
        whole.phases = series.phases().iter().map(phase).collect();
        whole.series = series.seconds().to_vec();
        whole.refresh_percentiles();
        whole.populations = parts;
        whole.judge(&[], false);
        whole
    }

    /// The population of that name.
    pub fn population(&self, name: &str) -> Option<&Self> {
        self.populations.iter().find(|population| population.name.as_deref() == Some(name))
    }

    /// Its name, in a report that is one of a population.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// What went wrong: messages and connections.
    pub fn faults(&self) -> u64 {
        self.lost + self.duplicated + self.reordered + self.corrupted + self.misdelivered + self.errors
    }
}

fn set_up(mix: &Mix) -> String {
    let course = mix.course();
    let phases: Vec<_> =
        course.phases().iter().map(|phase| format!("{} {:.1} s", phase.name, phase.lasts.as_secs_f64())).collect();
    format!(
        "{}: {}, {}, {}; {}",
        mix.file.as_deref().unwrap_or_default(),
        many(mix.populations.len(), "population"),
        many(mix.connections_total(), "connection"),
        super::set_up::threads(mix.threads(), mix.io()),
        phases.join(", ")
    )
}

/// What latency is in all of them, or that it is not the same.
fn mode(parts: &[Report]) -> String {
    let modes: BTreeSet<_> = parts.iter().filter(|part| part.sends()).map(|part| part.mode.as_str()).collect();
    match (modes.len(), modes.first()) {
        (1, Some(mode)) => (*mode).to_owned(),
        (0, _) => parts[0].mode.clone(),
        _ => "several, see populations".to_owned(),
    }
}

fn invalid(part: &Report) -> impl Iterator<Item = Invalid> {
    part.invalid
        .iter()
        .map(|invalid| Invalid { reason: invalid.reason.clone(), text: format!("{}: {}", part.name(), invalid.text) })
}

fn notes(part: &Report) -> impl Iterator<Item = String> {
    let is_away = part.verdict == Verdict::NotConnected;
    let away = is_away.then(|| format!("none of {} connections could be opened", grouped(part.connections as u64)));
    away.into_iter().chain(part.notes.iter().cloned()).map(|note| format!("{}: {note}", part.name()))
}
