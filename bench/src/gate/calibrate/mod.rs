//! `bench calibrate`: how often the gate is wrong, by its own measure.
//!
//! Pairs of a server with itself, and with itself slowed down by a known amount, are
//! recorded into a file, which grows. Verdicts are then drawn from the record: a gate
//! takes minutes, and hundreds are needed to say how often one in a hundred errs.

mod record;
mod verdicts;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::COULD_NOT_MEASURE;
use super::paired::judge::Quantity;
use super::paired::row::rows;
use super::sides::Repository;
use crate::rig::interval::interval;
use crate::rig::markdown::{table_head, table_row};
use crate::rig::stand::write_json;
use record::{PLACES, Recorded, Recorder};
use verdicts::{PAIRS, Pool, accused, bounds};

/// What to record, and how much to draw from it.
#[derive(Args)]
pub(crate) struct Options {
    /// Records so many pairs more of a server with itself, first of all. One of each load takes 17 s
    #[arg(long, value_name = "N", default_value_t = 0)]
    record: usize,
    /// The same with a slowdown. One of each takes 3 s
    #[arg(long, value_name = "N", default_value_t = 0)]
    record_slowed: usize,
    /// Slowdowns to record, in per cent
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "2,5,10")]
    percents: Vec<f64>,
    /// The record, a line for each pair
    #[arg(long, value_name = "FILE", default_value = "bench/calibration.jsonl")]
    file: PathBuf,
    /// Gates of a server with itself
    #[arg(long, value_name = "N", default_value_t = 2000)]
    verdicts: usize,
    /// Gates of each slowdown and number of pairs
    #[arg(long, value_name = "N", default_value_t = 500)]
    planted: usize,
    /// The same number draws the same
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Writes everything there, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How often a gate accused.
#[derive(Serialize, Debug)]
struct Rate {
    /// `none` for a server with itself.
    place: String,
    percent: f64,
    /// The slowdown as the recorded pairs have it, with its bounds.
    measured_percent: Option<(f64, f64, f64)>,
    recorded: usize,
    pairs: usize,
    accused: usize,
    verdicts: usize,
    /// Of the true rate, with a confidence of 95 %, if the record is like what will come.
    lower: f64,
    upper: f64,
}

/// Records if asked to, draws, prints.
pub(crate) fn run(options: &Options) -> ExitCode {
    match calibrate(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench calibrate: {error}");
            ExitCode::from(COULD_NOT_MEASURE)
        }
    }
}

fn calibrate(options: &Options) -> Result<(), Box<dyn Error>> {
    let Options { record, record_slowed, percents, .. } = options;
    if record + record_slowed > 0 {
        let repository = Repository::find()?;
        let rig = super::rig(&repository)?;
        Recorder::build(&repository, rig)?.record(*record, *record_slowed, percents, &options.file)?;
    }
    let rates = rates(&record::read(&options.file)?, options)?;
    print!("{}", text(&rates));
    write_json(options.json.as_deref(), &rates)
}

/// What would have become of gates whose pairs are drawn from the record.
fn rates(records: &[Recorded], options: &Options) -> Result<Vec<Rate>, Box<dyn Error>> {
    let rows = rows();
    let usual: Vec<Pool<'_>> = rows
        .iter()
        .map(|row| Pool::new(row, records.iter().filter(|known| known.row == row.name && known.planted.is_none())))
        .collect();
    if let Some((row, _)) = rows.iter().zip(&usual).find(|(_, pool)| pool.len() < PAIRS[0]) {
        return Err(format!("{} has fewer than {} pairs of {}", options.file.display(), PAIRS[0], row.name).into());
    }

    let mut random = fastrand::Rng::with_seed(options.seed);
    let mut rates = Vec::new();
    let mut rate = |planted: Option<&Pool<'_>>, place: &str, percent: f64, pairs: usize, verdicts: usize| {
        let is_right = |found: &[(String, Quantity)]| match PLACES.iter().find(|(known, ..)| *known == place) {
            Some((_, row, _)) => found.iter().any(|(accused, _)| accused == row),
            None => !found.is_empty(),
        };
        let accused = (0..verdicts).filter(|_| is_right(&accused(&usual, planted, pairs, &mut random))).count();
        let (lower, upper) = bounds(accused, verdicts);
        let recorded = planted.map_or_else(|| usual.iter().map(Pool::len).min().unwrap_or(0), Pool::len);
        let measured_percent = planted.and_then(|pool| {
            let percents: Vec<_> = pool.ratios(Quantity::Cpu).iter().map(|ratio| (ratio.exp() - 1.0) * 100.0).collect();
            let found = interval(&percents)?;
            Some((found.median, found.lower?, found.upper?))
        });
        let place = place.to_owned();
        rates.push(Rate { place, percent, measured_percent, recorded, pairs, accused, verdicts, lower, upper });
    };
    rate(None, "none", 0.0, PAIRS[PAIRS.len() - 1], options.verdicts);
    for (place, row, _) in PLACES {
        let Some(row) = rows.iter().find(|known| known.name == row) else { continue };
        let mut percents: Vec<f64> = records
            .iter()
            .filter_map(|known| known.planted.as_ref())
            .filter(|known| known.place == place)
            .map(|known| known.percent)
            .collect();
        percents.sort_by(f64::total_cmp);
        percents.dedup();
        for percent in percents {
            let is_of = |known: &&Recorded| {
                known.planted.as_ref().is_some_and(|planted| planted.place == place && planted.percent == percent)
            };
            let pool = Pool::new(row, records.iter().filter(is_of));
            for pairs in PAIRS {
                rate(Some(&pool), place, percent, pairs, options.planted);
            }
        }
    }
    Ok(rates)
}

fn text(rates: &[Rate]) -> String {
    let mut text = table_head(&["slowdown", "as measured", "recorded pairs", "pairs at most", "accused", "of", "rate"]);
    for rate in rates {
        let slowdown = match rate.percent {
            0.0 => "none".to_owned(),
            percent => format!("{percent} % in {}", rate.place),
        };
        let measured = rate
            .measured_percent
            .map_or_else(|| "–".to_owned(), |(median, lower, upper)| format!("{median:.1} % ({lower:.1}–{upper:.1})"));
        let part = |part: f64| part * 100.0;
        let of_all = part(rate.accused as f64 / rate.verdicts.max(1) as f64);
        text += &table_row(&[
            slowdown,
            measured,
            rate.recorded.to_string(),
            rate.pairs.to_string(),
            rate.accused.to_string(),
            rate.verdicts.to_string(),
            format!("{of_all:.1} % ({:.1}–{:.1})", part(rate.lower), part(rate.upper)),
        ]);
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn by_its_record_the_gate_errs_as_seldom_as_it_claims() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/calibration.jsonl");
        let line = ["calibrate", "--file", file, "--verdicts", "500", "--planted", "200"];
        let Line { options } = Line::parse_from(line);
        let mut records = record::read(&options.file).unwrap();
        records.retain(|known| known.planted.as_ref().is_none_or(|planted| planted.percent == 5.0));
        let rates = rates(&records, &options).unwrap();
        let most = PAIRS[PAIRS.len() - 1];
        let none = rates.iter().find(|rate| rate.percent == 0.0).unwrap();
        assert!(none.accused * 100 <= none.verdicts, "{} of {}", none.accused, none.verdicts);
        let found: Vec<_> = rates.iter().filter(|rate| (rate.percent, rate.pairs) == (5.0, most)).collect();
        assert_eq!(found.len(), PLACES.len());
        for rate in found {
            assert!(rate.accused * 100 >= rate.verdicts * 95, "{}: {} of {}", rate.place, rate.accused, rate.verdicts);
        }
    }
}
