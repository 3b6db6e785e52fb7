//! The `bench` program: whole servers side by side.
//!
//! `cargo run --release -p bench -- peers` measures wsgate, the least that the work
//! takes (the floors) and other servers. See `docs/benchmarking.md`.

mod floor;
mod peers;
mod rig;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures wsgate beside other servers.
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Server CPU and memory of the same work in wsgate, in bare loops and in other servers.
    Peers(peers::Options),
    /// A server that does the least that the work takes. Started by `peers`.
    #[command(hide = true)]
    Floor(floor::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Peers(options) => peers::run(&options),
        Command::Floor(options) => floor::serve(&options).map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
