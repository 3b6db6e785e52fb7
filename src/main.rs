//! The `wsgate` program: parse, start, await a signal.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::thread::Builder;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::filter::LevelFilter;
use wsgate::config::cli::{self, Command};
use wsgate::config::{Config, LogLevel, Mode};
use wsgate::driver::machine;
use wsgate::server::Server;

/// Some programs signal both the process and its group: what comes so soon after the
/// first signal is the same request.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
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
    if config.mode == Mode::Development && std::io::stderr().is_terminal() {
        print_hints(&server, if config.tls.certificates.is_empty() { "ws" } else { "wss" });
    }
    let (ended, mut all_ended) = oneshot::channel();
    runtime.block_on(async {
        let signal = tokio::select! { _ = terminate.recv() => "SIGTERM", _ = interrupt.recv() => "SIGINT" };
        tracing::info!(signal, "closing all connections; a second signal stops at once");
        server.drain();
        let asked = tokio::time::Instant::now();
        let again = async |signal: &mut Signal| {
            while signal.recv().await.is_some() && asked.elapsed() < SAME_SIGNAL {}
        };
        // Waiting blocks, so it has a thread; it ends with the process if that is told to
        // stop at once.
        Builder::new().name("drain".to_owned()).spawn(move || ended.send(server.wait()))?;
        tokio::select! {
            result = &mut all_ended => Ok(result??),
            () = again(&mut terminate) => Err("stopped by a second SIGTERM before all connections were closed".into()),
            () = again(&mut interrupt) => Err("stopped by a second SIGINT before all connections were closed".into()),
        }
    })
}

/// What a newcomer can try; for people, so not in the log.
fn print_hints(server: &Server, scheme: &str) {
    let (clients, admin) = (server.clients_address(), server.admin_address());
    eprintln!(
        "\nSubscribe with a WebSocket client to  {scheme}://{clients}/topics/room\n\
         Publish from a back end               curl http://{admin}/topics/room -d hello\n\
         Look at it                            curl http://{admin}/metrics\n\
         Put load on it                        cargo run --release -p loadgen -- fanout {scheme}://{clients}/topics/room\n"
    );
}

fn init_log(level: LogLevel) {
    let level = level.word().parse().unwrap_or(LevelFilter::INFO);
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
