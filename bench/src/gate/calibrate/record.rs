//! Pairs that were measured, kept in a file from one calibration to the next.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::super::paired::judge::Quantity;
use super::super::paired::measure::{Pair, Rig, Start};
use super::super::paired::row::{Row, rows};
use super::super::sides::Repository;
use crate::rig::interval::median;
use crate::rig::workshop::run;

/// What is planted into a copy of the source. It does nothing until it is told how much.
const PATCH: &str = "bench/planted/slowdown.patch";
/// How it is told: the place and thousandths of a step each time.
const VARIABLE: &str = "WSGATE_PLANTED";
/// Pairs by which it is found out what a step costs: roughly by many steps at once, and then
/// by about as many as will be planted, since steps hide behind each other.
const SIZING_PAIRS: [usize; 2] = [5, 20];
/// The slowdown of the second.
const SIZING_PERCENT: f64 = 8.0;

/// Where a slowdown can be, the load in which it is of the size that its name says, and
/// thousandths of a step that are enough to see what one costs.
pub(super) const PLACES: [(&str, &str, u64); 3] =
    [("frame", "echo-100-x16", 40_000), ("fanout", "fanout-1000-x64", 800_000), ("call", "fanout-1000", 6_000)];

/// A line of the file.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(super) struct Recorded {
    pub(super) row: String,
    /// The head's slowdown; `None` for two of the same.
    pub(super) planted: Option<Planted>,
    #[serde(flatten)]
    pub(super) pair: Pair,
}

/// A slowdown of a known size.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub(super) struct Planted {
    pub(super) place: String,
    pub(super) percent: f64,
    /// Thousandths of a step.
    pub(super) amount: u64,
}

/// Reads everything that was recorded so far.
pub(super) fn read(file: &Path) -> io::Result<Vec<Recorded>> {
    let text = fs::read_to_string(file).map_err(|error| {
        io::Error::other(format!("cannot read {}: {error}; --record N makes a record of N pairs", file.display()))
    })?;
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|error| io::Error::other(format!("{} line {}: {error}", file.display(), number + 1)))
    };
    text.lines().enumerate().map(parse).collect()
}

/// The server with places for a slowdown, and what measures it.
pub(super) struct Recorder {
    rig: Rig,
    program: PathBuf,
    rows: Vec<Row>,
}

impl Recorder {
    /// Builds the last commit with the patch in it, unless that was done before.
    pub(super) fn build(repository: &Repository, rig: Rig) -> io::Result<Self> {
        let (commit, patch) = (repository.commit("HEAD")?, repository.root.join(PATCH));
        let (program, built_of) = (rig.directory.join("planted-wsgate"), rig.directory.join("planted.of"));
        let wanted = commit.clone() + &fs::read_to_string(&patch)?;
        if !(program.is_file() && fs::read_to_string(&built_of).is_ok_and(|built| built == wanted)) {
            let source = repository.source();
            repository.export(&commit, &source)?;
            run(Command::new("patch").args(["--strip=1", "--quiet", "--input"]).arg(&patch).current_dir(&source))?;
            repository.build(&source, "wsgate", "planted")?;
            fs::write(built_of, wanted)?;
        }
        Ok(Self { rig, program, rows: rows() })
    }

    /// Measures so many pairs of each load of a server with itself, and so many of each slowdown,
    /// and appends each to the file at once. Kinds take
    /// turns, so that each meets the machine as it is all the while.
    pub(super) fn record(&self, same: usize, slowed: usize, percents: &[f64], file: &Path) -> io::Result<()> {
        let known = read(file).unwrap_or_default();
        let mut kinds: Vec<(&Row, Option<Planted>)> = self.rows.iter().map(|row| (row, None)).collect();
        for &(place, row, step) in PLACES.iter().filter(|_| slowed > 0) {
            let Some(row) = self.rows.iter().find(|known| known.name == row) else { continue };
            // What a step costs does not change from one record to the next.
            let mut recorded = known.iter().filter_map(|known| known.planted.as_ref());
            let thousandths = match recorded.find(|known| known.place == place) {
                Some(known) => known.amount as f64 / known.percent,
                None => self.thousandths(row, place, step)?,
            };
            for &percent in percents {
                let amount = (percent * thousandths).round() as u64;
                eprintln!("{place} {percent} %: {amount} thousandths of a step");
                kinds.push((row, Some(Planted { place: place.to_owned(), percent, amount })));
            }
        }
        let mut out = OpenOptions::new().create(true).append(true).open(file)?;
        for index in 0..same.max(slowed) {
            let is_wanted = |planted: &Option<Planted>| index < if planted.is_some() { slowed } else { same };
            for (row, planted) in kinds.iter().filter(|(_, planted)| is_wanted(planted)) {
                let amount = planted.as_ref().map(|planted| (planted.place.as_str(), planted.amount));
                let pair = self.rig.pair(row, &self.start(None), &self.start(amount), index)?;
                let recorded = Recorded { row: row.name.clone(), planted: planted.clone(), pair };
                writeln!(out, "{}", serde_json::to_string(&recorded)?)?;
            }
            eprintln!("{} of {} pairs", index + 1, same.max(slowed));
        }
        Ok(())
    }

    /// How many thousandths of a step slow a load down by one per cent.
    fn thousandths(&self, row: &Row, place: &str, step: u64) -> io::Result<f64> {
        let roughly = step as f64 / self.cost(row, place, step, SIZING_PAIRS[0])?;
        let nearly = (roughly * SIZING_PERCENT).round() as u64;
        Ok(nearly as f64 / self.cost(row, place, nearly, SIZING_PAIRS[1])?)
    }

    /// By how many per cent so many thousandths of a step slow a load down.
    fn cost(&self, row: &Row, place: &str, amount: u64, pairs: usize) -> io::Result<f64> {
        let pair = |index| self.rig.pair(row, &self.start(None), &self.start(Some((place, amount))), index);
        let ratios = (0..pairs).map(|index| Ok(pair(index)?.ratio(Quantity::Cpu))).collect::<io::Result<Vec<_>>>()?;
        let ratios: Vec<f64> = ratios.into_iter().flatten().collect();
        let percent = (median(&ratios).unwrap_or_default().exp() - 1.0) * 100.0;
        if percent < 1.0 {
            return Err(io::Error::other(format!(
                "{place}: {amount} thousandths of a step cost {percent:.1} %, no more"
            )));
        }
        Ok(percent)
    }

    fn start(&self, planted: Option<(&str, u64)>) -> Start {
        let variable = planted.map(|(place, amount)| (VARIABLE.to_owned(), format!("{place}={amount}")));
        Start::Wsgate(self.program.clone(), variable.into_iter().collect())
    }
}
