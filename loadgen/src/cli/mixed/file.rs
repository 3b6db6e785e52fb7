//! The file of a mixed run: from text to phases and tables of populations, with their lines.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::{Spanned, Value};

use super::super::values;
use crate::course::{Course, Phase};
use crate::threshold::{is_population_name, reserved_names};
use crate::timeline::{CONNECT, DRAIN};

/// How long a file without phases runs.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// What is wrong, and where.
#[derive(Debug)]
pub(super) struct Problem {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) text: String,
}

/// The file, read and checked as far as it says so itself.
#[derive(Debug)]
pub(super) struct File {
    phases: Vec<PhaseTable>,
    pub(super) populations: Vec<PopulationTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    phase: Vec<Spanned<PhaseTable>>,
    #[serde(default)]
    population: Vec<Spanned<BTreeMap<Spanned<String>, Spanned<Value>>>>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct PhaseTable {
    #[serde(deserialize_with = "phase_name")]
    name: String,
    #[serde(deserialize_with = "duration")]
    duration: Duration,
    #[serde(default = "yes")]
    measured: bool,
    #[serde(default)]
    load: Load,
    /// Of populations for which `load` does not hold.
    #[serde(default)]
    loads: BTreeMap<Spanned<String>, Load>,
}

fn yes() -> bool {
    true
}

/// Parts of the full load at a phase's beginning and end.
#[derive(Clone, Copy, Deserialize, Debug)]
#[serde(try_from = "LoadValue")]
struct Load(f64, f64);

impl Default for Load {
    fn default() -> Self {
        Self(1.0, 1.0)
    }
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a load is a part of the rate from 0 to 1, such as 0.5, or from one to another: [0.1, 1]"
)]
enum LoadValue {
    Steady(f64),
    Ramp([f64; 2]),
}

impl TryFrom<LoadValue> for Load {
    type Error = String;

    fn try_from(value: LoadValue) -> Result<Self, String> {
        let (from, to) = match value {
            LoadValue::Steady(part) => (part, part),
            LoadValue::Ramp([from, to]) => (from, to),
        };
        match [from, to].into_iter().find(|part| !(0.0..=1.0).contains(part)) {
            None => Ok(Self(from, to)),
            Some(part) => {
                Err(format!("a load of {part} is not a part from 0 to 1; raise the population's rate instead"))
            }
        }
    }
}

fn phase_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    match name.as_str() {
        CONNECT | DRAIN => Err(D::Error::custom(format!("every run has a phase {name:?}; call this one otherwise"))),
        text if text.trim().is_empty() || text.contains(char::is_control) => {
            Err(D::Error::custom(format!("{name:?} is no name for a phase")))
        }
        _ => Ok(name),
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    values::duration(&text).map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
}

/// A `[[population]]`, which is read with the flags of its scenario.
#[derive(Debug)]
pub(super) struct PopulationTable {
    pub(super) name: String,
    line: usize,
    pub(super) entries: Vec<Entry>,
}

/// A line of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: Value,
    line: usize,
}

impl PopulationTable {
    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The text of a key.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, Problem> {
        let text = |entry: &Entry| match entry.value.as_str() {
            Some(_) => Ok(()),
            None => Err(entry.problem(format!("{key} = {} is no text; write it in quotes", entry.value))),
        };
        let Some(entry) = self.get(key) else { return Ok(None) };
        text(entry).map(|()| entry.value.as_str())
    }

    /// A problem that the line of a key has, if there is one.
    pub(super) fn problem_with(&self, key: &str, text: String) -> Problem {
        Problem { line: self.get(key).map_or(self.line, |entry| entry.line), text }
    }

    /// A problem that no single line of it has.
    pub(super) fn problem(&self, text: impl Into<String>) -> Problem {
        Problem { line: self.line, text: text.into() }
    }
}

impl Entry {
    pub(super) fn problem(&self, text: impl Into<String>) -> Problem {
        Problem { line: self.line, text: text.into() }
    }
}

impl File {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let line = |span: Range<usize>| 1 + text[..span.start.min(text.len())].matches('\n').count();
        let document: Document = toml::from_str(text).map_err(|error| Problem {
            line: line(error.span().unwrap_or_default()),
            text: error.message().to_owned(),
        })?;
        let mut populations = Vec::<PopulationTable>::new();
        for table in document.population {
            let table_line = line(table.span());
            let entries = table.into_inner().into_iter().map(|(key, value)| Entry {
                line: line(key.span()),
                key: key.into_inner(),
                value: value.into_inner(),
            });
            let mut table = PopulationTable { name: String::new(), line: table_line, entries: entries.collect() };
            table.name =
                match table.text("name")? {
                    Some(name) if is_population_name(name) => name.to_owned(),
                    Some(name) => {
                        return Err(table.problem_with("name", format!(
                        "{name:?} is no name for a population: letters, digits, - and _, the first one a letter, \
                         and none of {}, which are figures in conditions",
                        reserved_names().collect::<Vec<_>>().join(", ")
                    )));
                    }
                    None => return Err(table.problem("a population needs a name, such as: name = \"chat\"")),
                };
            if populations.iter().any(|other| other.name == table.name) {
                return Err(table.problem_with("name", format!("there is a population {:?} already", table.name)));
            }
            populations.push(table);
        }
        if populations.is_empty() {
            return Err(Problem { line: 1, text: "no [[population]]: nobody would do anything".to_owned() });
        }
        let mut phases = Vec::<PhaseTable>::new();
        for phase in document.phase {
            let problem = |text| Problem { line: line(phase.span()), text };
            let table = phase.get_ref();
            if phases.iter().any(|other| other.name == table.name) {
                return Err(problem(format!("there is a phase {:?} already", table.name)));
            }
            if let Some(name) = table.loads.keys().find(|name| populations.iter().all(|p| p.name != *name.get_ref())) {
                let names: Vec<_> = populations.iter().map(|population| population.name.as_str()).collect();
                let text = format!("there is no population {:?}, only {}", name.get_ref(), names.join(", "));
                return Err(Problem { line: line(name.span()), text });
            }
            let measured_ended = phases.iter().is_sorted_by(|a, b| a.measured <= b.measured).then_some(());
            if measured_ended.is_none() && table.measured {
                let text = format!(
                    "phase {:?} is measured, the one before is not, and earlier ones are: the figures are of one time \
                     without a gap; only the first and the last phases can have measured = false",
                    table.name
                );
                return Err(problem(text));
            }
            phases.push(phase.into_inner());
        }
        if !phases.is_empty() && !phases.iter().any(|phase| phase.measured) {
            return Err(Problem { line: 1, text: "no phase is measured: there would be no figures".to_owned() });
        }
        Ok(Self { phases, populations })
    }

    /// The course of a population; the whole of it lasts `total`, if that is said.
    pub(super) fn course(&self, population: &str, total: Option<Duration>) -> Result<Course, Problem> {
        if self.phases.is_empty() {
            return Ok(Course::steady(total.unwrap_or(DURATION_DEFAULT)));
        }
        let given: Duration = self.phases.iter().map(|phase| phase.duration).sum();
        let stretch = total.map_or(1.0, |total| total.div_duration_f64(given));
        let phase = |table: &PhaseTable| {
            let own = table.loads.iter().find(|(name, _)| name.get_ref() == population);
            let Load(from, to) = own.map_or(table.load, |(_, load)| *load);
            Phase {
                name: table.name.as_str().into(),
                lasts: table.duration.mul_f64(stretch),
                measured: table.measured,
                load: (from, to),
            }
        };
        Ok(Course::new(self.phases.iter().map(phase).collect()))
    }
}
