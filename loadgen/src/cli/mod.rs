//! The command line: what may be said, and its translation into a [`Plan`].
//!
//! A file per scenario; `load` has the flags of those that send, `client` those of
//! connections, `output` those of the report, `values` how values are read.
//! Parse first, validate second: every bound is checked in here, so that a run that
//! starts can be carried out.

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};

use self::churn::Churn;
use self::echo::Echo;
use self::fanout::Fanout;
use self::idle::Idle;
use self::mixed::Mixed;
use self::slow::Slow;
use self::storm::Storm;
use crate::mix::Mix;
use crate::plan::Plan;

mod churn;
mod client;
mod echo;
mod fanout;
mod idle;
mod load;
mod mixed;
mod output;
mod plan;
mod slow;
mod storm;
mod tools;
mod values;

pub use self::output::OutputArgs;
pub use self::tools::{CompareArgs, MergeArgs, Tool};

const EXAMPLES: &str = "\
Examples:
  loadgen
      a short fan-out against wsgate's defaults on this machine
  loadgen echo ws://127.0.0.1:8000/echo -c 100 -d 10s
      100 connections, each sends when its last message came back
  loadgen echo ws://127.0.0.1:8000/echo -c 1000 -R 20000
      20,000 messages per second in all, whatever the server does
  loadgen fanout ws://127.0.0.1:8000/topics/room -c 10000 -R 50
      50 messages per second to each of 10,000 subscribers
  loadgen idle ws://127.0.0.1:8000/topics/room -c 15000 -d 60s
      open and hold 15,000 connections for a minute
  loadgen mixed loadgen/examples/chat.toml
      several kinds of clients at the same time, as a file says
  loadgen compare before.json after.json
      what changed between two runs with --json
  loadgen fanout --help
      all options of a scenario, with more examples

Open and closed loop:
  With --rate, every message has a time at which it is meant to leave, and its
  latency counts from there, even if the server or loadgen was late.
  Without it, the next message waits for an answer, so a server that stalls is
  asked less meanwhile: the figure is labelled service time.

Exit codes:
  0  every message arrived once, in order, unchanged; no connection failed
  1  messages were lost, duplicated, reordered or corrupted, or connections
     failed
  2  wrong usage, or more connections than this process may open
  3  not one connection could be opened
  4  loadgen itself failed
  5  a condition of --fail-if was met, or could not be judged
  6  INVALID: loadgen itself was the limit, so the figures say little about
     the server
  When several apply: 3 before 6 before 1 before 5.";

/// Opens thousands of WebSocket clients against any server and reports latency,
/// throughput, and what was lost, duplicated or out of order.
///
/// Without arguments: a short fan-out against wsgate on this machine.
#[derive(Parser, Debug)]
#[command(name = "loadgen", version, after_help = EXAMPLES, disable_help_subcommand = true,
          override_usage = "loadgen [SCENARIO [URL] [OPTIONS]]", subcommand_help_heading = "Scenarios and tools")]
pub struct Cli {
    #[command(subcommand)]
    scenario: Option<Scenario>,
}

#[derive(Subcommand, Debug)]
enum Scenario {
    /// Every connection sends messages and expects each of them back
    #[command(after_help = echo::EXAMPLES)]
    Echo(Echo),
    /// Publishers send to a topic, every subscriber expects every message
    #[command(after_help = fanout::EXAMPLES)]
    Fanout(Fanout),
    /// Open connections and hold them; pings are answered
    #[command(after_help = idle::EXAMPLES)]
    Idle(Idle),
    /// Clients connect at a rate and leave; latency is that of handshakes
    #[command(after_help = churn::EXAMPLES)]
    Churn(Churn),
    /// All connections drop at once and come back: how long until all are served?
    #[command(after_help = storm::EXAMPLES)]
    Storm(Storm),
    /// A fan-out in which some subscribers stop reading
    #[command(after_help = slow::EXAMPLES)]
    Slow(Slow),
    /// Several of these at the same time, in phases, as a file says
    #[command(after_help = mixed::EXAMPLES)]
    Mixed(Mixed),
    #[command(flatten)]
    Tool(Tool),
}

impl Cli {
    /// What is to be made of the results.
    pub fn output(&self) -> OutputArgs {
        match &self.scenario {
            None => OutputArgs::default(),
            Some(Scenario::Echo(echo)) => echo.common.output.clone(),
            Some(Scenario::Fanout(fanout)) => fanout.common.output.clone(),
            Some(Scenario::Idle(idle)) => idle.common.output.clone(),
            Some(Scenario::Churn(churn)) => churn.common.output.clone(),
            Some(Scenario::Storm(storm)) => storm.common.output.clone(),
            Some(Scenario::Slow(slow)) => slow.fanout.common.output.clone(),
            Some(Scenario::Mixed(mixed)) => mixed.output.clone(),
            Some(Scenario::Tool(_)) => OutputArgs::default(),
        }
    }

    /// The tool that was asked for; else it is a run, the command line of which comes back.
    pub fn into_tool(self) -> Result<Tool, Box<Self>> {
        match self.scenario {
            Some(Scenario::Tool(tool)) => Ok(tool),
            scenario => Err(Box::new(Self { scenario })),
        }
    }

    /// The run that was asked for. An error carries the text for the user.
    pub fn into_mix(self) -> Result<Mix, clap::Error> {
        let output = self.output();
        let mix = match self.scenario {
            // Usage does not help who has to look into a file.
            Some(Scenario::Mixed(mixed)) => {
                mixed.into_mix().map_err(|text| clap::Error::raw(ErrorKind::ValueValidation, text))?
            }
            scenario => Self { scenario }.into_plan()?.into(),
        };
        output.check(&mix).map_err(refused)?;
        Ok(mix)
    }

    /// The scenario that was asked for, if it is one of its own.
    pub fn into_plan(self) -> Result<Plan, clap::Error> {
        let plan = match self.scenario {
            None => Ok(fanout::default_plan()),
            Some(Scenario::Echo(echo)) => echo.into_plan(),
            Some(Scenario::Fanout(fanout)) => fanout.into_plan(),
            Some(Scenario::Idle(idle)) => idle.into_plan(),
            Some(Scenario::Churn(churn)) => churn.into_plan(),
            Some(Scenario::Storm(storm)) => storm.into_plan(),
            Some(Scenario::Slow(slow)) => slow.into_plan(),
            Some(Scenario::Mixed(_)) => Err("several scenarios are none of their own\n".to_owned()),
            Some(Scenario::Tool(_)) => Err("no run was asked for\n".to_owned()),
        };
        plan.and_then(|plan| plan::check(&plan).map(|()| plan)).map_err(refused)
    }
}

fn refused(text: String) -> clap::Error {
    Cli::command().error(ErrorKind::ValueValidation, text)
}

#[cfg(test)]
mod tests;
