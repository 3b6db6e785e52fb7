//! The command line program. Exit codes: see `loadgen --help`.

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use clap::Parser as _;
use loadgen::cli::Cli;
use loadgen::progress::Progress;
use loadgen::report::Verdict;
use loadgen::run;

/// Usage, or a machine that cannot do what was asked; the same as clap's own.
const EXIT_USAGE: u8 = 2;
/// loadgen itself failed.
const EXIT_INTERNAL: u8 = 4;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = cli.output();
    let plan = match cli.into_plan() {
        Ok(plan) => plan,
        Err(error) => error.exit(),
    };
    let mut report = match run::run(plan.clone(), &mut Progress::new()) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("loadgen: {error}");
            return ExitCode::from(match error {
                run::RunError::Files(_) => EXIT_USAGE,
                run::RunError::Resolve { .. } => Verdict::NotConnected.exit_code(),
                run::RunError::Start(_) | run::RunError::Worker { .. } => EXIT_INTERNAL,
            });
        }
    };
    if report.verdict == Verdict::NotConnected {
        eprintln!("loadgen: {}", report.why_not_connected(&plan));
    } else if plan.is_default {
        report.note("Next: loadgen --help, or loadgen echo --connections 1000 --rate 20000".to_owned());
    }
    let text = match report.verdict {
        _ if output.json => report.to_json() + "\n",
        Verdict::NotConnected => String::new(),
        _ => report.to_text(&plan),
    };
    // A reader that has left, such as `head`, is no failure of the run.
    let _ = stdout().write_all(text.as_bytes());
    ExitCode::from(report.verdict.exit_code())
}
