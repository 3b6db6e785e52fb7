//! A population of a mixed run: its keys are the flags of its scenario, and are read as
//! those are.

use std::time::Duration;

use clap::{Args as _, Parser as _};
use toml::Value;

use super::super::output::OutputArgs;
use super::super::{Cli, values};
use super::file::{Entry, PopulationTable, Problem};
use crate::plan::{Kind, Plan};
use crate::scenario::Pace;
use crate::target::Target;

const SCENARIOS: [&str; 6] = ["echo", "fanout", "idle", "churn", "storm", "slow"];
/// Keys that are no flags of the scenario.
const OWN_KEYS: [&str; 5] = ["name", "scenario", "path", "url", "think"];
/// Flags that say how long something lasts.
const PHASE_KEYS: [&str; 3] = ["duration", "warm-up", "cool-down"];
/// Flags of the whole run, beside those of its output.
const RUN_KEYS: [&str; 4] = ["ramp", "grace", "pin", "io"];

/// Whether phases can give it a part of its load: of its rate, or of its connections.
pub(super) fn follows_load(plan: &Plan) -> bool {
    matches!(plan.pace, Some(Pace::Open { .. })) || plan.kind == Kind::Idle
}

/// What the table asks for, by a scenario of its own. `flags` are said to it as well;
/// times are those of the scenario's defaults.
pub(super) fn plan(table: &PopulationTable, base: &Target, threads: usize, flags: &[String]) -> Result<Plan, Problem> {
    let scenario = match table.text("scenario")? {
        Some(name) if SCENARIOS.contains(&name) => name,
        Some(name) => {
            return Err(table.problem_with("scenario", format!("{name:?} is none of {}", SCENARIOS.join(", "))));
        }
        None => return Err(table.problem(format!("scenario is missing: one of {}", SCENARIOS.join(", ")))),
    };
    let think = think(table, scenario)?;
    let mut words = vec!["loadgen".to_owned(), scenario.to_owned(), url(table, base)?];
    words.extend_from_slice(flags);
    if table.get("threads").is_none() {
        words.push(format!("--threads={threads}"));
    }
    if think.is_some() {
        // The rate follows from the number of senders, which is known when the flags are read.
        words.push("--rate=1".to_owned());
        // People and devices that think know nothing of each other.
        words.extend(table.get("arrivals").is_none().then(|| "--arrivals=poisson".to_owned()));
    }
    for entry in table.entries.iter().filter(|entry| !OWN_KEYS.contains(&entry.key.as_str())) {
        words.extend(flag(entry)?);
    }
    let plan = Cli::try_parse_from(words).and_then(Cli::into_plan).map_err(|error| explain(table, &error))?;
    let senders = if plan.publishers() > 0 { plan.publishers() } else { plan.connections };
    let pace = match think {
        Some(think) => Some(Pace::Open { rate: senders as f64 / think.as_secs_f64() }),
        None => plan.pace,
    };
    Ok(Plan { pace, ..plan })
}

/// The URL of the command line with the population's path, or one of its own.
fn url(table: &PopulationTable, base: &Target) -> Result<String, Problem> {
    match (table.text("url")?, table.text("path")?) {
        (Some(_), Some(_)) => Err(table.problem_with("path", "a url has a path already".to_owned())),
        (Some(url), None) => match url.parse::<Target>() {
            Ok(target) => Ok(target.to_string()),
            Err(error) => Err(table.problem_with("url", error.to_string())),
        },
        (None, None) => Ok(base.to_string()),
        (None, Some(path)) => match base.with_path(path) {
            Ok(target) => Ok(target.to_string()),
            Err(error) => Err(table.problem_with("path", error.to_string())),
        },
    }
}

/// Each sender's mean pause between two messages.
fn think(table: &PopulationTable, scenario: &str) -> Result<Option<Duration>, Problem> {
    let Some(text) = table.text("think")? else { return Ok(None) };
    if !["echo", "fanout", "slow"].contains(&scenario) {
        return Err(table.problem_with("think", format!("{scenario} sends no messages; churn has a rate of connects")));
    }
    if let Some(other) = ["rate", "in-flight"].into_iter().find_map(|key| table.get(key)) {
        return Err(other.problem(format!("think = {text:?} says how fast messages are sent; leave out {}", other.key)));
    }
    values::duration(text).map(Some).map_err(|error| table.problem_with("think", format!("think = {text:?}: {error}")))
}

/// The words of a command line that say the same.
fn flag(entry: &Entry) -> Result<Vec<String>, Problem> {
    let Entry { key, value, .. } = entry;
    if PHASE_KEYS.contains(&key.as_str()) {
        return Err(entry.problem(format!("{key} is a matter of the whole run: see [[phase]]")));
    }
    let output = OutputArgs::augment_args(clap::Command::new("output"));
    let is_output = output.get_arguments().any(|flag| flag.get_long() == Some(key));
    if RUN_KEYS.contains(&key.as_str()) || is_output {
        return Err(entry.problem(format!("{key} is a matter of the whole run: give --{key} to loadgen mixed")));
    }
    if key == "help" {
        return Err(entry.problem("help is no key".to_owned()));
    }
    let flag = format!("--{key}");
    let word = |value: &Value| scalar(value).map(|text| format!("{flag}={text}"));
    let words = match value {
        Value::Boolean(true) => Some(vec![flag.clone()]),
        Value::Boolean(false) => Some(Vec::new()),
        Value::Array(items) => items
            .iter()
            .map(|item| match item {
                // A flag with several values.
                Value::Array(values) => Some([flag.clone()].into_iter().chain(texts(values)?).collect()),
                item => Some(vec![word(item)?]),
            })
            .collect::<Option<Vec<Vec<_>>>>()
            .map(|words| words.concat()),
        value => word(value).map(|word| vec![word]),
    };
    words.ok_or_else(|| entry.problem(format!("{key} = {value} is neither text, number, true or false, nor a list")))
}

fn texts(values: &[Value]) -> Option<Vec<String>> {
    values.iter().map(scalar).collect()
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What the command line says about a population, at the line of the key that it is about.
fn explain(table: &PopulationTable, error: &clap::Error) -> Problem {
    let said = error.to_string();
    let said = said.strip_prefix("error: ").unwrap_or(&said);
    // Below stand the usage and where help is found, which is that of another command.
    let lines = said.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let lines: Vec<_> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
    let text = format!("population {:?}: {}", table.name, lines.join("; "));
    let names = |entry: &&Entry| {
        let flag = format!("--{}", entry.key);
        text.match_indices(&flag)
            .any(|(at, _)| !text[at + flag.len()..].starts_with(|c: char| c == '-' || c.is_alphanumeric()))
    };
    match table.entries.iter().find(names) {
        Some(entry) => entry.problem(text),
        None => table.problem(text),
    }
}
