//! The command line program. Exit codes: see `loadgen --help`.

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use clap::Parser as _;
use loadgen::cli::{Cli, OutputArgs};
use loadgen::html;
use loadgen::interrupt::Interrupt;
use loadgen::origin::Origin;
use loadgen::plan::Plan;
use loadgen::report::{EXIT_INTERNAL, EXIT_USAGE, Report, Verdict};
use loadgen::run::{self, RunError};
use loadgen::watch::Watch;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = cli.output();
    let plan = match cli.into_plan() {
        Ok(plan) => plan,
        Err(error) => error.exit(),
    };
    let origin = Origin::here(std::env::args(), output.label.clone());
    let interrupt = match Interrupt::by_signal() {
        Ok(interrupt) => interrupt,
        Err(error) => {
            eprintln!("loadgen: cannot listen for signals: {error}");
            return ExitCode::from(EXIT_INTERNAL);
        }
    };
    match run::run(plan.clone(), &mut watches(&output), &interrupt) {
        Ok(mut report) => {
            report.origin = origin;
            show(report, &plan, &output)
        }
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::from(match error {
                RunError::Files(_) => EXIT_USAGE,
                RunError::Resolve { .. } => Verdict::NotConnected.exit_code(),
                RunError::Start(_) | RunError::Worker { .. } => EXIT_INTERNAL,
            })
        }
    }
}

/// Who looks at the run while it lasts.
fn watches(output: &OutputArgs) -> Vec<Box<dyn Watch>> {
    output.progress.watch().into_iter().collect()
}

fn write_files(report: &Report, output: &OutputArgs) -> Result<(), String> {
    let Some(path) = &output.html else { return Ok(()) };
    std::fs::write(path, html::report(report)).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn show(mut report: Report, plan: &Plan, output: &OutputArgs) -> ExitCode {
    report.judge(&output.fail_if, output.allow_invalid);
    if report.verdict == Verdict::NotConnected {
        eprintln!("loadgen: {}", report.why_not_connected(plan));
    } else if plan.is_default {
        report.note("Next: loadgen --help, or loadgen echo --connections 1000 --rate 20000".to_owned());
    }
    let text = match report.verdict {
        _ if output.json => report.to_json() + "\n",
        Verdict::NotConnected => String::new(),
        _ => report.to_text(),
    };
    if let Err(error) = write_files(&report, output) {
        eprintln!("loadgen: {error}");
        return ExitCode::from(EXIT_INTERNAL);
    }
    // A reader that has left, such as `head`, is no failure of the run.
    let _ = stdout().write_all(text.as_bytes());
    ExitCode::from(report.verdict.exit_code())
}
