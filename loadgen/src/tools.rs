//! Tools that put no load on anybody: compare, merge, manual page, completions.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

use crate::cli::{Cli, CompareArgs, MergeArgs, Tool};
use crate::compare::{Comparison, Group};
use crate::fold::printable;
use crate::html;
use crate::merge::{merge, share_a_run};
use crate::report::{EXIT_USAGE, Report};

/// Runs it; text goes to `out`, what went wrong to standard error. The exit code.
pub fn run(tool: Tool, out: &mut impl Write) -> u8 {
    let result = match tool {
        Tool::Compare(arguments) => compare(&arguments, out).map(|()| 0),
        Tool::Merge(arguments) => merge_files(&arguments, out),
        Tool::Man => manual(out).map(|()| 0).map_err(|error| error.to_string()),
        Tool::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "loadgen", &mut text);
            // A reader that has left is no failure.
            let _ = out.write_all(&text);
            Ok(0)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("loadgen: {error}");
        EXIT_USAGE
    })
}

fn compare(arguments: &CompareArgs, out: &mut impl Write) -> Result<(), String> {
    let mut reports = read_all(&[&arguments.files[..], &arguments.base, &arguments.new].concat())?;
    let (base, new) = match &arguments.files[..] {
        [] => {
            let new = reports.split_off(arguments.base.len());
            (group("base", reports), group("new", new))
        }
        [base, new] => {
            let last = reports.split_off(1);
            (group(&name(base), reports), group(&name(new), last))
        }
        _ => by_label(reports)?,
    };
    let comparison = Comparison::new(base, new);
    if let Some(path) = &arguments.html {
        write(path, &html::comparison(&comparison))?;
    }
    let text = if arguments.json { comparison.to_json() + "\n" } else { comparison.to_text() };
    let _ = out.write_all(text.as_bytes());
    Ok(())
}

/// Two groups, the first report's label the base.
fn by_label(reports: Vec<Report>) -> Result<(Group, Group), String> {
    let mut groups = Vec::<Group>::new();
    for report in reports {
        let name =
            report.origin.label.clone().ok_or("three files or more need a --label in each, or --base and --new")?;
        match groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group.reports.push(report),
            None => groups.push(Group { name, reports: vec![report] }),
        }
    }
    match <[Group; 2]>::try_from(groups) {
        Ok([base, new]) => Ok((base, new)),
        Err(groups) => {
            let names: Vec<_> = groups.iter().map(|group| printable(&group.name)).collect();
            Err(format!("the reports have {} labels ({}); two are compared", names.len(), names.join(", ")))
        }
    }
}

fn group(name: &str, reports: Vec<Report>) -> Group {
    // What people called it says more than "base".
    let label = reports[0].origin.label.clone();
    let is_shared = reports.iter().all(|report| report.origin.label == label);
    let name = label.filter(|_| is_shared).unwrap_or_else(|| name.to_owned());
    Group { name, reports }
}

fn merge_files(arguments: &MergeArgs, out: &mut impl Write) -> Result<u8, String> {
    let reports = read_all(&arguments.files)?;
    let mut report = merge(&reports)?;
    report.judge(&arguments.fail_if, arguments.allow_invalid);
    if let Some(path) = &arguments.html {
        write(path, &html::report(&report))?;
    }
    let text = if arguments.json { report.to_json() + "\n" } else { report.to_text() };
    let _ = out.write_all(text.as_bytes());
    Ok(report.verdict.exit_code())
}

/// A run that is there twice would count as two, or as a repetition that it is not.
fn refuse_repeated(paths: &[PathBuf], reports: &[Report]) -> Result<(), String> {
    for (i, (path, report)) in paths.iter().zip(reports).enumerate() {
        let same = paths.iter().zip(reports).take(i).find(|(_, earlier)| share_a_run(earlier, report));
        if let Some((earlier, _)) = same {
            let (earlier, path) = (earlier.display(), path.display());
            return Err(format!(
                "{earlier} and {path} are reports of the same run, which would count twice: leave one out"
            ));
        }
    }
    Ok(())
}

/// All pages, one after the other: of loadgen, then of its subcommands.
fn manual(out: &mut impl Write) -> io::Result<()> {
    let mut command = Cli::command();
    command.build();
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    for subcommand in command.get_subcommands() {
        clap_mangen::Man::new(subcommand.clone()).render(&mut text)?;
    }
    let _ = out.write_all(&text);
    Ok(())
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Report>, String> {
    let reports: Vec<_> = paths.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
    refuse_repeated(paths, &reports)?;
    Ok(reports)
}

fn read(path: &Path) -> Result<Report, String> {
    let json = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Report::from_json(&json).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn name(path: &Path) -> String {
    path.file_stem().map_or_else(|| path.display().to_string(), |stem| stem.to_string_lossy().into_owned())
}
