//! `bench gate`: whether a change makes the gateway slower or larger.
//!
//! It builds two revisions and has them do the same. Evidence of two kinds is judged,
//! each by a rule of its own:
//!
//! * counted: instructions, allocations, bytes and calls of the kernel of fixed work,
//!   which do not depend on the machine's mood. A small fixed tolerance, no repetition.
//! * paired: CPU and delays of whole servers under load, which do.

// Servers are waited for, and loads have clocks.
#![allow(clippy::disallowed_methods)]

mod accepted;
pub(crate) mod calibrate;
mod callgrind;
mod calls;
pub(crate) mod history;
mod metric;
mod paired;
mod report;
mod sides;
mod work;

use std::error::Error;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use accepted::Register;
use metric::{Change, Metric};
use paired::Measured;
use paired::judge::LOOKS;
use paired::measure::{Rig, Start};
use paired::row::{self, Row};
use report::{Judged, JudgedPairs, Report};
use sides::{Programs, Repository, Sides};

use crate::rig::machine::Machine;
use crate::rig::pattern::matches;
use crate::rig::stand::write_json;

/// No regression that is not accepted: success. These are the others.
const REGRESSION: u8 = 1;
/// Never taken for either.
const COULD_NOT_MEASURE: u8 = 2;

/// What to compare, and where to write it.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Revision that the working tree is held against, such as main or HEAD~1
    #[arg(long, value_name = "REV", required_unless_present = "base_server")]
    base: Option<String>,
    /// Only what is counted: no servers under load. A few minutes, most of it compiling
    #[arg(long)]
    quick: bool,
    /// Work and loads by name, with * for any text, several with commas between
    #[arg(long, value_name = "GLOB", default_value = "*", value_delimiter = ',')]
    work: Vec<String>,
    /// Pairs of each load at most; they are looked at after 14, 20, 28 and 40
    #[arg(long, value_name = "N", default_value_t = LOOKS[LOOKS.len() - 1], value_parser = pairs)]
    pairs: usize,
    /// Writes the report there as Markdown, for a comment on a pull request
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Writes the report there as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Any server instead of a revision: the shell's command for the one to compare with; {port} is
    /// where it is to listen
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["base", "quick"], requires = "head_server", requires = "load")]
    base_server: Option<String>,
    /// The same for the server that is judged
    #[arg(long, value_name = "COMMAND", requires = "base_server")]
    head_server: Option<String>,
    /// What any server is loaded with: arguments of loadgen, {address} in its URL; may be repeated
    #[arg(long, value_name = "ARGUMENTS", requires = "base_server")]
    load: Vec<String>,
}

const EXAMPLES: &str = "Examples:
  bench gate --base main --quick
      Before a commit: instructions, allocations, bytes and calls.
  bench gate --base main --markdown gate.md
      Before a merge: servers under load, too. 14 to 40 pairs of each load, about 17 s for one of
      each, so 4 to 12 minutes beside the builds.
  bench gate --base-server 'node old.js {port}' --head-server 'node new.js {port}' \\
      --load 'echo ws://{address}/ -c 100 -d 1s --warm-up 300ms'
      Any other server.

Exit codes: 0 no regression that is not accepted, 1 a regression, 2 could not measure.";

fn pairs(text: &str) -> Result<usize, String> {
    let known = LOOKS.map(|pairs| pairs.to_string());
    match text.parse() {
        Ok(pairs) if LOOKS.contains(&pairs) => Ok(pairs),
        _ => Err(format!("takes one of {}", known.join(", "))),
    }
}

/// Compares, prints the table, writes the files.
pub(crate) fn run(options: &Options) -> ExitCode {
    match compare(options) {
        Ok(report) => ExitCode::from(report.code()),
        Err(error) => {
            eprintln!("bench gate: could not measure: {error}");
            ExitCode::from(COULD_NOT_MEASURE)
        }
    }
}

fn compare(options: &Options) -> Result<Report, Box<dyn Error>> {
    let report = match (&options.base, &options.base_server, &options.head_server) {
        (Some(base), ..) => compare_revisions(base, options)?,
        (None, Some(base), Some(head)) => compare_servers(base, head, options)?,
        _ => return Err("nothing to compare with: --base REV, or --base-server and --head-server".into()),
    };
    print!("{}", report.text());
    if let Some(file) = &options.markdown {
        fs::write(file, report.markdown()).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    write_json(options.json.as_deref(), &report)?;
    Ok(report)
}

fn compare_revisions(base: &str, options: &Options) -> Result<Report, Box<dyn Error>> {
    callgrind::find()?;
    let repository = Repository::find()?;
    // Before anything is built: what is written there may be wrong.
    let register = Register::read(&repository, &repository.commit(base)?)?;
    let scripts = calls::names(&options.work);
    let mut rows = if options.quick { Vec::new() } else { row::rows() };
    rows.retain(|row| options.work.iter().any(|pattern| matches(pattern, &row.name)));
    eprintln!("building base and head");
    let programs = Programs { gate_work: true, wsgate: !scripts.is_empty() || !rows.is_empty() };
    let sides = Sides::build(&repository, base, programs)?;
    let works = work::names(&sides, &options.work)?;
    if works.is_empty() && scripts.is_empty() && rows.is_empty() {
        return Err(format!("no work is called {}", options.work.join(",")).into());
    }

    let counted = count(&sides, &works, &scripts)?;
    let (machine, measured) = match (rows.is_empty(), &sides.base.wsgate, &sides.head.wsgate) {
        (false, Some(base), Some(head)) => {
            let rig = rig(&repository)?;
            let [base, head] = [base, head].map(|program| Start::Wsgate(program.clone(), Vec::new()));
            let measured = paired::measure(&rig, rows, &base, &head, options.pairs)?;
            (Some(rig.machine), measured)
        }
        _ => (None, Vec::new()),
    };
    let mut remarks = sides.remarks.clone();
    let regressed = counted.iter().filter(|metric| metric.change() == Change::More).map(|metric| metric.name.clone());
    let regressed: Vec<_> = regressed.chain(measured.iter().flat_map(Measured::regressions)).collect();
    remarks.extend(register.remarks(&regressed));
    Ok(Report {
        version: report::VERSION,
        base: sides.base.revision.clone(),
        head: sides.head.revision.clone(),
        machine,
        remarks,
        not_judged: measured.iter().flat_map(Measured::not_judged).collect(),
        counted: counted.into_iter().map(|metric| Judged::of_count(metric, &register)).collect(),
        paired: measured.into_iter().flat_map(|measured| JudgedPairs::of(measured, &register)).collect(),
    })
}

fn compare_servers(base: &str, head: &str, options: &Options) -> Result<Report, Box<dyn Error>> {
    let rig = rig(&Repository::of_this_program()?)?;
    let name = |index: usize, load: &str| format!("{}-{}", load.split_whitespace().next().unwrap_or("load"), index + 1);
    let rows = options.load.iter().enumerate().map(|(index, load)| Row::own(name(index, load), load)).collect();
    let [start, other] = [base, head].map(|command| Start::Shell(command.to_owned()));
    let measured = paired::measure(&rig, rows, &start, &other, options.pairs)?;
    let register = Register::default();
    Ok(Report {
        version: report::VERSION,
        base: base.to_owned(),
        head: head.to_owned(),
        machine: Some(rig.machine),
        remarks: Vec::new(),
        not_judged: measured.iter().flat_map(Measured::not_judged).collect(),
        counted: Vec::new(),
        paired: measured.into_iter().flat_map(|measured| JudgedPairs::of(measured, &register)).collect(),
    })
}

/// What pairs are measured with: two processors and loadgen of this working tree.
fn rig(repository: &Repository) -> io::Result<Rig> {
    let machine = Machine::look().map_err(io::Error::other)?;
    wsgate::driver::machine::raise_descriptor_limit();
    let directory = repository.directory();
    let loadgen = repository.build(&repository.root, "loadgen", "head")?;
    Ok(Rig { machine, loadgen, directory })
}

/// All that is counted.
fn count(sides: &Sides, works: &[String], scripts: &[String]) -> io::Result<Vec<Metric>> {
    let mut metrics = Vec::new();
    for name in works {
        eprintln!("counting {name}");
        metrics.extend(work::measure(sides, name)?);
    }
    for name in scripts {
        eprintln!("counting {name}");
        metrics.extend(calls::measure(sides, name)?);
    }
    Ok(metrics)
}
