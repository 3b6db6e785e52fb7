//! The `wsgate` program: parse, start, await a signal.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::thread::Builder;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::filter::LevelFilter;
use wsgate::config::cli::{self, Command};
use wsgate::config::{Config, LogLevel};
use wsgate::driver::machine;
use wsgate::server::Server;

fn main() -> ExitCode {
    machine::raise_descriptor_limit();
    match cli::parse(std::env::args_os(), std::env::vars_os()) {
        Ok(Command::Serve(config)) => match serve(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("wsgate: {error}");
                ExitCode::FAILURE
            }
        },
        Ok(Command::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => error.exit(),
    }
}

fn serve(config: &Config) -> Result<(), Box<dyn std::error::Error>> {
    init_log(config.log);
    // Signals are caught before anything is served, so that none is missed.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut terminate, mut interrupt) = {
        let _context = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let server = Server::start(config)?;
    tracing::info!(
        clients = %server.clients_address(),
        admin = %server.admin_address(),
        shards = config.shards,
        io = config.io.word(),
        "ready"
    );
    let (ended, mut all_ended) = oneshot::channel();
    runtime.block_on(async {
        let signal = tokio::select! { _ = terminate.recv() => "SIGTERM", _ = interrupt.recv() => "SIGINT" };
        tracing::info!(signal, "closing all connections; a second signal stops at once");
        server.drain();
        // Waiting blocks, so it has a thread; it ends with the process if that is told to
        // stop at once.
        Builder::new().name("drain".to_owned()).spawn(move || ended.send(server.wait()))?;
        tokio::select! {
            result = &mut all_ended => Ok(result??),
            _ = terminate.recv() => Err("stopped by a second SIGTERM before all connections were closed".into()),
            _ = interrupt.recv() => Err("stopped by a second SIGINT before all connections were closed".into()),
        }
    })
}

fn init_log(level: LogLevel) {
    let level = level.word().parse().unwrap_or(LevelFilter::INFO);
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
