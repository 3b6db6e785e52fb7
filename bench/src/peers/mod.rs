//! `bench peers`: wsgate beside the least that is possible and beside other servers.
//!
//! One thread does everything: it starts a server on one processor, is itself the
//! load on another, and takes one sample. Servers run in turn, round by round, so that
//! what the machine does meanwhile meets all of them; figures are compared within a round.

// The load is a program of its own, with a clock and a thread.
#![allow(clippy::disallowed_methods)]

mod compare;
mod measure;
mod other_shard;
mod program;
mod report;
mod row;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use compare::RowReport;
use measure::Sample;
use program::{PROGRAMS, Part, Program};
use report::{LeftOut, Report};
use row::Row;

use crate::rig::stand::{Stand, write_json};
use crate::rig::workshop::Workshop;

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Rows by name, with * for any text, several with commas between
    #[arg(long, value_name = "GLOB", default_value = "*", value_delimiter = ',')]
    rows: Vec<String>,
    /// Rounds: in each, every server runs once in every row. Fewer than five give no bounds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pairs: u16,
    /// Servers beside wsgate, with commas between; all if not given
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    peers: Option<Vec<String>>,
    /// Seconds that each run is measured
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = crate::rig::stand::seconds)]
    seconds: f64,
    /// Writes everything measured there, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measures this build of wsgate instead of building one
    #[arg(long, value_name = "FILE")]
    wsgate: Option<PathBuf>,
    /// Backends of wsgate
    #[arg(long, value_enum, default_value_t = Io::Epoll)]
    io: Io,
    /// Another build of wsgate to compare with
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
}

/// Backends that run in every row.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Io {
    /// What "auto" means
    Epoll,
    /// That and io_uring, in turn
    Both,
}

/// Measures, prints the table, writes the JSON.
pub(crate) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let rows = row::select(&options.rows)?;
    let programs = select_programs(options)?;
    let stand = Stand::set_up(options.wsgate.as_deref(), options.baseline.as_deref())?;
    let mut left_out = Vec::new();
    let programs: Vec<_> =
        programs.into_iter().filter(|program| is_prepared(program, &stand.workshop, &mut left_out)).collect();

    let bench = Bench { stand, time: Duration::from_secs_f64(options.seconds), rounds: options.pairs.into() };
    let rows = rows.into_iter().map(|row| bench.measure_row(row, &programs, &mut left_out)).collect();
    let subject_failed = left_out.iter().any(|left_out| left_out.server == PROGRAMS[0].name);
    let report = Report {
        machine: bench.stand.machine,
        pairs: bench.rounds,
        seconds: options.seconds,
        servers: programs.iter().map(|program| (program.name, program.about)).collect(),
        rows,
        left_out,
    };
    print!("{}", report.text());
    write_json(options.json.as_deref(), &report)?;
    if subject_failed { Err("wsgate failed in a row, see above".into()) } else { Ok(()) }
}

/// wsgate, and who else is asked for.
fn select_programs(options: &Options) -> Result<Vec<&'static Program>, String> {
    let is_chosen_otherwise = |part| matches!(part, Part::Subject | Part::OtherBackend);
    let others = || PROGRAMS.iter().filter(|program| !is_chosen_otherwise(program.part));
    for name in options.peers.iter().flatten() {
        if !others().any(|program| program.name == name) {
            let names: Vec<_> = others().map(|program| program.name).collect();
            return Err(format!("no server is called {name:?}; there are {}", names.join(", ")));
        }
    }
    let is_wanted = |program: &&Program| match (program.part, &options.peers) {
        (Part::Subject, _) => true,
        (Part::Baseline, _) => options.baseline.is_some(),
        (Part::OtherBackend, _) => options.io == Io::Both,
        (_, None) => true,
        (_, Some(names)) => names.iter().any(|name| name == program.name),
    };
    Ok(PROGRAMS.iter().filter(is_wanted).collect())
}

/// Gets a program ready, or notes why it cannot be.
fn is_prepared(program: &Program, workshop: &Workshop, left_out: &mut Vec<LeftOut>) -> bool {
    let Err(error) = (program.prepare)(workshop) else { return true };
    eprintln!("{} is left out: {error}", program.name);
    left_out.push(LeftOut { server: program.name, row: None, reason: error.to_string() });
    false
}

/// What all runs share.
struct Bench {
    stand: Stand,
    time: Duration,
    rounds: usize,
}

impl Bench {
    fn measure_row(&self, row: &'static Row, programs: &[&'static Program], left_out: &mut Vec<LeftOut>) -> RowReport {
        let mut measured: Vec<(&'static Program, Vec<Option<Sample>>)> =
            programs.iter().filter(|program| (program.does)(&row.work)).map(|&program| (program, Vec::new())).collect();
        for round in 0..self.rounds {
            // There and back again, so that nobody always runs after the same neighbour.
            let mut order: Vec<_> = measured.iter_mut().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for (program, samples) in order {
                if left_out.iter().any(|left_out| left_out.server == program.name && left_out.row == Some(row.name)) {
                    continue;
                }
                let sample = self.measure_once(row, program);
                let progress = format!("{} {}/{} {}", row.name, round + 1, self.rounds, program.name);
                match &sample {
                    Ok(sample) => eprintln!("{progress}: {:.1}", sample.value),
                    Err(error) => {
                        eprintln!("{progress}: {error}");
                        let reason = error.to_string();
                        left_out.push(LeftOut { server: program.name, row: Some(row.name), reason });
                    }
                }
                samples.push(sample.ok());
            }
        }
        RowReport::new(row, measured)
    }

    fn measure_once(&self, row: &Row, program: &Program) -> std::io::Result<Sample> {
        let launch = (program.launch)(&self.stand.workshop, &row.work)?;
        let server = self.stand.start(launch, row.work.shards(), program.name)?;
        measure::measure(&server, program.part, &row.work, &self.stand.workshop.certificates, self.time)
            .map_err(|error| server.error(&error.to_string()))
    }
}
