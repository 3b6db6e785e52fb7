//! `bench history`: what revisions took, one after the other. For people: absolute figures
//! belong to a machine and an hour, so nothing is judged by them.

mod plot;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::paired::judge::Quantity;
use super::paired::measure::{Rig, Start};
use super::paired::row;
use super::sides::{Repository, Side};
use super::{COULD_NOT_MEASURE, work};
use crate::rig::interval::median;
use crate::rig::markdown::{table_head, table_row};

/// Where the table stands in a document: between these two lines.
const TABLE: [&str; 2] = ["<!-- history -->", "<!-- end of history -->"];

/// Work of which the instructions are kept.
const WORKS: [&str; 5] = ["handshake", "echo-20", "publish-100", "publish-100-1k-x16", "leave-topic"];

/// What to measure, and where it is kept and shown.
#[derive(Args)]
pub(crate) struct Options {
    /// Revisions to measure, several with commas between; all tags if not given. Those that the
    /// history has already are not measured again
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    revisions: Option<Vec<String>>,
    /// Runs of each load; the median is kept
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// The history, a line for each revision
    #[arg(long, value_name = "FILE", default_value = "bench/history.jsonl")]
    file: PathBuf,
    /// Where it is drawn
    #[arg(long, value_name = "FILE", default_value = "docs/history.svg")]
    plot: PathBuf,
    /// The document with the table
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarking.md")]
    table: PathBuf,
}

/// A line of the history.
#[derive(Clone, Serialize, Deserialize, Debug)]
struct Entry {
    revision: String,
    /// A tag, or the revision as it was asked for.
    name: String,
    /// Of the commit, as year-month-day.
    date: String,
    processor: String,
    /// By metric: microseconds of CPU, or instructions.
    figures: BTreeMap<String, f64>,
}

/// Measures what is missing, draws all.
pub(crate) fn run(options: &Options) -> ExitCode {
    match record(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench history: {error}");
            ExitCode::from(COULD_NOT_MEASURE)
        }
    }
}

fn record(options: &Options) -> Result<(), Box<dyn Error>> {
    super::callgrind::find()?;
    let repository = Repository::find()?;
    let names = match &options.revisions {
        Some(names) => names.clone(),
        None => repository.tags()?,
    };
    let mut entries = read(&options.file)?;
    let rig = super::rig(&repository)?;
    for name in names {
        let revision = repository.commit(&name)?;
        if entries.iter().any(|entry| entry.revision == revision && entry.processor == rig.machine.processor) {
            continue;
        }
        eprintln!("measuring {name}");
        let entry = measure(&repository, &rig, name, revision, options.rounds)?;
        let mut file = OpenOptions::new().create(true).append(true).open(&options.file)?;
        writeln!(file, "{}", serde_json::to_string(&entry)?)?;
        entries.push(entry);
    }
    if entries.is_empty() {
        return Err("there is no tag, and no history: name --revisions".into());
    }
    entries.sort_by(|a, b| a.date.cmp(&b.date));
    fs::write(&options.plot, plot::svg(&entries))?;
    write_table(&options.table, &entries)
}

fn read(file: &Path) -> io::Result<Vec<Entry>> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let parse =
        |line| serde_json::from_str(line).map_err(|error| io::Error::other(format!("{}: {error}", file.display())));
    text.lines().map(parse).collect()
}

fn measure(repository: &Repository, rig: &Rig, name: String, revision: String, rounds: usize) -> io::Result<Entry> {
    let mut figures = BTreeMap::new();
    let side = repository.build_past(&revision)?;
    if let Some(program) = &side.wsgate {
        let start = Start::Wsgate(program.clone(), Vec::new());
        for row in row::rows().into_iter().filter(|row| row.quantities.contains(&Quantity::Cpu)) {
            let samples = (0..rounds).map(|_| Ok(rig.sample(&row, &start)?.cpu)).collect::<io::Result<Vec<_>>>()?;
            figures.extend(median(&samples).map(|median| (format!("{}/cpu", row.name), median)));
        }
    }
    figures.extend(instructions(&side, repository)?);
    let date = repository.date(&revision)?;
    Ok(Entry { revision, name, date, processor: rig.machine.processor.clone(), figures })
}

/// Those of the works that this revision can do.
fn instructions(side: &Side, repository: &Repository) -> io::Result<Vec<(String, f64)>> {
    let count = |name: &str| {
        let count = work::instructions(side, name, &repository.directory(), &repository.source())?;
        Ok(count.map(|count| (format!("{name}/instructions"), count)))
    };
    WORKS.iter().filter_map(|name| count(name).transpose()).collect()
}

/// A row for each metric, a column for each revision.
fn table(entries: &[Entry]) -> String {
    let mut head = vec!["metric".to_owned()];
    head.extend(entries.iter().map(|entry| format!("{} ({})", entry.name, entry.date)));
    let mut text = table_head(&head);
    for metric in plot::metrics(entries) {
        let mut row = vec![metric.clone()];
        row.extend(entries.iter().map(|entry| match entry.figures.get(&metric) {
            None => "–".to_owned(),
            Some(figure) => show(*figure),
        }));
        text += &table_row(&row);
    }
    text
}

fn show(figure: f64) -> String {
    match figure {
        figure if figure >= 100.0 => format!("{figure:.0}"),
        figure if figure >= 1.0 => format!("{figure:.2}"),
        figure => format!("{figure:.4}"),
    }
}

fn write_table(document: &Path, entries: &[Entry]) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(document)?;
    let replaced = replace_table(&text, &table(entries))
        .ok_or_else(|| format!("{} has no lines {} and {}", document.display(), TABLE[0], TABLE[1]))?;
    Ok(fs::write(document, replaced)?)
}

fn replace_table(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(TABLE[0])?;
    let (_, after) = rest.split_once(TABLE[1])?;
    Some(format!("{before}{}\n\n{table}\n{}{after}", TABLE[0], TABLE[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn entry(name: &str, date: &str, figures: &[(&str, f64)]) -> Entry {
        Entry {
            revision: name.to_owned(),
            name: name.to_owned(),
            date: date.to_owned(),
            processor: "a processor".to_owned(),
            figures: figures.iter().map(|(metric, figure)| ((*metric).to_owned(), *figure)).collect(),
        }
    }

    #[test]
    fn the_table_is_put_between_its_two_lines_and_nothing_else_changes() {
        let entries = [
            entry("v1", "2026-01-02", &[("echo/cpu", 3.25)]),
            entry("v2", "2026-02-03", &[("echo/cpu", 0.0456), ("publish/instructions", 415.7)]),
        ];
        let text = "before\n<!-- history -->\nold\n<!-- end of history -->\nafter\n";
        let replaced = replace_table(text, &table(&entries)).unwrap();
        assert!(
            replaced.starts_with("before\n<!-- history -->\n")
                && replaced.ends_with("<!-- end of history -->\nafter\n")
        );
        assert!(replaced.contains("| metric | v1 (2026-01-02) | v2 (2026-02-03) |"), "{replaced}");
        assert!(replaced.contains("| echo/cpu | 3.25 | 0.0456 |"), "{replaced}");
        assert!(replaced.contains("| publish/instructions | – | 416 |"), "{replaced}");
        assert!(!replaced.contains("old"));
        assert_eq!(replace_table("no such lines", ""), None);
    }
}
