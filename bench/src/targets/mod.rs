//! Measurements of wsgate alone, each with a target of its own.
//!
//! * [`cliff`]: a larger burst of messages costs no more per delivery than a smaller one.
//! * [`slices`]: a large fan-out holds nobody else up.
//! * [`stalled`]: subscribers that do not read cost the others nothing.
//! * [`attack`]: hostile peers do not hold up honest ones.
//! * [`client`]: what loadgen itself takes.
//! * [`truth`]: loadgen's figures are those that a server has of itself.
//! * [`shards`]: what a second shard adds to a fan-out. It has no target.

// The loads have clocks, and threads beside them.
#![allow(clippy::disallowed_methods)]

mod attack;
mod client;
mod cliff;
mod readers;
mod report;
mod shards;
mod slices;
mod stalled;
mod truth;
mod watch;

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::rig::server::Server;
use crate::rig::stand::{Stand, seconds, write_json};
use report::{Findings, Report};

/// How to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Rounds: in each, everything is measured once. Fewer than five are not judged, but
    /// for attacks
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Seconds that each run is measured, if not the usual ones
    #[arg(long, value_name = "S", value_parser = seconds)]
    seconds: Option<f64>,
    /// Writes everything measured there, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Attacks by name, several with commas between; all of them if not given
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    attacks: Vec<String>,
    /// Measures this build of wsgate instead of building one
    #[arg(long, value_name = "FILE")]
    wsgate: Option<PathBuf>,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    Cliff,
    Slices,
    Stalled,
    Attack,
    Shards,
    Truth,
    Client,
}

/// What a measurement has to do with.
#[derive(Debug)]
struct Bench {
    stand: Stand,
    rounds: usize,
    /// How long each run is measured.
    time: Duration,
    /// Names of attacks; none for all.
    attacks: Vec<String>,
}

impl Target {
    /// Enough for figures of one run to differ by a few per cent.
    fn usual_seconds(self) -> f64 {
        match self {
            Self::Cliff => 1.0,
            Self::Slices => 4.0,
            Self::Stalled => 10.0,
            Self::Attack => 5.0,
            Self::Shards => 2.0,
            // Whole periods of stalls.
            Self::Truth => 4.0,
            Self::Client => 2.0,
        }
    }

    fn measure(self, bench: &Bench) -> io::Result<Findings> {
        match self {
            Self::Cliff => cliff::measure(bench),
            Self::Slices => slices::measure(bench),
            Self::Stalled => stalled::measure(bench),
            Self::Attack => attack::measure(bench),
            Self::Shards => shards::measure(bench),
            Self::Truth => truth::measure(bench),
            Self::Client => client::measure(bench),
        }
    }
}

/// Measures, prints the table, writes the JSON.
pub(crate) fn run(target: Target, options: &Options) -> Result<(), Box<dyn Error>> {
    let seconds = options.seconds.unwrap_or(target.usual_seconds());
    let stand = Stand::set_up(options.wsgate.as_deref(), None)?;
    let bench = Bench {
        stand,
        rounds: options.rounds.into(),
        time: Duration::from_secs_f64(seconds),
        attacks: options.attacks.clone(),
    };
    let findings = target.measure(&bench)?;
    let report = Report { machine: bench.stand.machine, rounds: bench.rounds, seconds, findings };
    print!("{}", report.text());
    write_json(options.json.as_deref(), &report)
}

impl Bench {
    /// Starts wsgate for one run; an error in it quotes the end of wsgate's log.
    fn with_wsgate<T>(
        &self,
        shards: usize,
        options: &[&str],
        run: impl FnOnce(&Server) -> io::Result<T>,
    ) -> io::Result<T> {
        let server = self.stand.start_wsgate(shards, options)?;
        run(&server).map_err(|error| server.error(&error.to_string()))
    }
}
