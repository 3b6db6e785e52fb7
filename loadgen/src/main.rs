//! The command line program. Exit codes: see `loadgen --help`.

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use clap::Parser as _;
use loadgen::cli::{Cli, OutputArgs};
use loadgen::interrupt::Interrupt;
use loadgen::mix::Mix;
use loadgen::origin::Origin;
use loadgen::outputs::Outputs;
use loadgen::report::{EXIT_INTERNAL, EXIT_USAGE, Report, Verdict};
use loadgen::run::{self, RunError};
use loadgen::tools;

fn main() -> ExitCode {
    let cli = match Cli::parse().into_tool() {
        Ok(tool) => return ExitCode::from(tools::run(tool, &mut stdout())),
        Err(cli) => *cli,
    };
    let output = cli.output();
    let mix = match cli.into_mix() {
        Ok(mix) => mix,
        Err(error) => error.exit(),
    };
    let origin = Origin::here(std::env::args(), output.label.clone());
    let (outputs, mut watches) = match Outputs::open(&output, mix.is_open_loop()) {
        Ok(opened) => opened,
        Err(error) => return fail(&error, EXIT_USAGE),
    };
    let interrupt = match Interrupt::by_signal() {
        Ok(interrupt) => interrupt,
        Err(error) => return fail(&format!("cannot listen for signals: {error}"), EXIT_INTERNAL),
    };
    let mut report = match run::run(&mix, &mut watches, &interrupt) {
        Ok(report) => report,
        Err(error) => {
            let code = match error {
                RunError::Files(_) | RunError::IoUring(_) => EXIT_USAGE,
                RunError::Resolve { .. } => Verdict::NotConnected.exit_code(),
                RunError::Start(_) | RunError::Worker { .. } => EXIT_INTERNAL,
            };
            return fail(&error.to_string(), code);
        }
    };
    report.origin = origin;
    report.judge(&output.fail_if, output.allow_invalid);
    show(&mut report, &mix, &output);
    match outputs.write(&report) {
        Ok(()) => ExitCode::from(report.verdict.exit_code()),
        Err(error) => fail(&error, EXIT_INTERNAL),
    }
}

fn show(report: &mut Report, mix: &Mix, output: &OutputArgs) {
    // Who interrupts a run gets its report, whatever it is.
    let is_refused = report.verdict == Verdict::NotConnected && !report.interrupted;
    if is_refused {
        eprintln!("loadgen: {}", report.why_not_connected(mix));
    } else if mix.plans().any(|plan| plan.is_default) {
        report.note("Next: loadgen --help, or loadgen echo --connections 1000 --rate 20000".to_owned());
    }
    let text = match report.verdict {
        _ if output.json => report.to_json() + "\n",
        _ if is_refused => String::new(),
        _ => report.to_text(),
    };
    // A reader that has left, such as `head`, is no failure of the run.
    let _ = stdout().write_all(text.as_bytes());
}

fn fail(error: &str, code: u8) -> ExitCode {
    eprintln!("loadgen: {error}");
    ExitCode::from(code)
}
