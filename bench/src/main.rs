//! The `bench` program: whole servers under load.
//!
//! `cargo run --release -p bench -- peers` measures wsgate, the least that the work
//! takes (the floors) and other servers; `cliff`, `slices`, `stalled`, `attack`
//! and `shards` measure wsgate alone, each against a target; `truth` and `client` measure loadgen;
//! `gate` compares a change with what was before it, `calibrate` and `history` stand
//! beside that. See `docs/benchmarking.md` and `docs/gate.md`.

mod floor;
mod gate;
mod peers;
mod rig;
mod secure_floor;
mod targets;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use targets::Target;

/// Measures wsgate, alone and beside other servers.
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
    /// What a delivery costs by how many messages are published at once.
    Cliff(targets::Options),
    /// What a fan-out to 15,000 adds to the delay of an unrelated echo.
    Slices(targets::Options),
    /// What 100 of 1,000 subscribers that do not read add to the delay of the others.
    Stalled(targets::Options),
    /// What each of many attacks adds to the time from publish to flush for 1,000 honest subscribers.
    Attack(targets::Options),
    /// A fan-out by one shard and by two.
    Shards(targets::Options),
    /// What loadgen says of servers of known behaviour, beside what they say of themselves.
    Truth(targets::Options),
    /// What loadgen itself takes for an echo, beside a client that does the least.
    Client(targets::Options),
    /// Whether a change makes wsgate slower or larger. Exits with 1 if so, with 2 if it could not tell
    Gate(gate::Options),
    /// How often the gate is wrong, by its own measure.
    Calibrate(gate::calibrate::Options),
    /// What revisions took, one after the other, as a plot and a table. Nothing is judged by it.
    History(gate::history::Options),
    /// A server that does the least that the work takes. Started by `peers`.
    #[command(hide = true)]
    Floor(floor::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Peers(options) => peers::run(&options),
        Command::Cliff(options) => targets::run(Target::Cliff, &options),
        Command::Slices(options) => targets::run(Target::Slices, &options),
        Command::Stalled(options) => targets::run(Target::Stalled, &options),
        Command::Attack(options) => targets::run(Target::Attack, &options),
        Command::Shards(options) => targets::run(Target::Shards, &options),
        Command::Truth(options) => targets::run(Target::Truth, &options),
        Command::Client(options) => targets::run(Target::Client, &options),
        Command::Gate(options) => return gate::run(&options),
        Command::Calibrate(options) => return gate::calibrate::run(&options),
        Command::History(options) => return gate::history::run(&options),
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
