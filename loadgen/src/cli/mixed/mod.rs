//! `loadgen mixed`: several populations at the same time, as a file says.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use self::file::{File, Problem};
use super::output::OutputArgs;
use super::plan::check;
use super::values::{IoArg, duration, rate};
use crate::limits::{RAMP_DEFAULT, THREADS_DEFAULT_MAX, THREADS_MAX};
use crate::mix::{Mix, Population};
use crate::plan::Plan;
use crate::target::Target;

mod file;
mod population;
#[cfg(test)]
mod tests;

pub(super) const EXAMPLES: &str = "\
Examples:
  loadgen mixed loadgen/examples/chat.toml
      rooms, readers and visitors against wsgate on this machine
  loadgen mixed iot.toml ws://host:8000 -d 5m --html report.html
      the file's phases stretched to five minutes, and a page with plots
  loadgen mixed chat.toml --fail-if 'rooms.p99 > 5ms' --fail-if 'lost > 0'
      a figure of one population, and one of all together
  loadgen mixed chat.toml wss://host -- --insecure --header 'Authorization: Bearer abc'
      the flags after -- are said to every population

The file:
  [[phase]]                    # one after the other; none: 10 s under full load
  name = \"morning\"
  duration = \"10s\"
  load = [0.1, 1]              # part of all rates, from and to; or one number
  loads = { readers = 1 }      # of these populations another one
  measured = true              # false: in no figure

  [[population]]               # all at the same time
  name = \"rooms\"
  scenario = \"fanout\"          # echo, fanout, idle, churn, storm or slow
  path = \"/topics/{topic}\"     # added to URL
  connections = 1000           # any flag of the scenario, without its dashes
  think = \"20s\"                # each sender's mean pause, in place of a rate

  [[population]]
  name = \"readers\"
  scenario = \"idle\"
  connections = 500";

#[derive(Args, Debug)]
pub(super) struct Mixed {
    /// Populations and phases, in TOML
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// The server; each population adds its path
    #[arg(value_name = "URL", default_value = "ws://127.0.0.1:8000")]
    pub(super) url: Target,
    /// How long in all; the phases keep their proportions [default: as long as they are]
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    pub(super) duration: Option<Duration>,
    /// Connects per second of all populations together, before messages are sent; never exceeded
    #[arg(long, value_name = "PER_SECOND", default_value_t = RAMP_DEFAULT, value_parser = rate)]
    pub(super) ramp: f64,
    /// How long to wait for missing messages at the end
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub(super) grace: Duration,
    /// Bind each worker thread to a processor
    #[arg(long)]
    pub(super) pin: bool,
    /// How workers wait for their sockets; auto is epoll
    #[arg(long, env = "LOADGEN_IO", value_name = "KIND", value_enum, default_value_t = IoArg::Auto)]
    pub(super) io: IoArg,
    /// Flags for every population, such as: -- --timeout 5s
    #[arg(last = true, value_name = "FLAGS")]
    pub(super) flags: Vec<String>,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

impl Mixed {
    pub(super) fn into_mix(self) -> Result<Mix, String> {
        let path = self.file.display().to_string();
        let text = std::fs::read_to_string(&self.file).map_err(|error| format!("cannot read {path}: {error}\n"))?;
        let populations = self.populations(&text);
        let populations = populations.map_err(|Problem { line, text }| format!("{path}:{line}: {text}\n"))?;
        let mix = Mix { file: Some(path), url: self.url.to_string(), populations, ramp: self.ramp };
        match mix.threads() {
            ..=THREADS_MAX => Ok(mix),
            threads => Err(format!("{threads} threads are over the limit of {THREADS_MAX}\n")),
        }
    }

    fn populations(&self, text: &str) -> Result<Vec<Population>, Problem> {
        let file = File::parse(text)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_DEFAULT_MAX);
        let threads = (cores / file.populations.len()).max(1);
        let population = |table: &file::PopulationTable| {
            let plan = population::plan(table, &self.url, threads, &self.flags)?;
            let course = file.course(&table.name, self.duration)?;
            if !course.is_steady() && !population::follows_load(&plan) {
                return Err(table.problem(format!(
                    "population {0:?} has no rate that the load of phases could be a part of; give it rate or think, \
                     or write loads = {{ {0} = 1 }} into each phase",
                    table.name
                )));
            }
            let Self { ramp, grace, pin, io, .. } = *self;
            let plan = Plan { course, ramp, grace, pin, io: io.into(), ..plan };
            check(&plan).map_err(|text| table.problem(text))?;
            Ok(Population { name: table.name.clone(), plan: Arc::new(plan) })
        };
        file.populations.iter().map(population).collect()
    }
}
