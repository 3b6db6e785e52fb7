//! The `wsgate` program: parse, start, await a signal.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write as _};
use std::process::ExitCode;
use std::thread::Builder;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};
use wsgate::address::ListenAddress;
use wsgate::config::cli::{Command, Surroundings};
use wsgate::config::{Config, LogLevel, Mode, Reading};
use wsgate::driver::{descriptors, machine};
use wsgate::server::Server;

/// Some programs signal both the process and its group: what comes so soon after the
/// first signal is the same request.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    machine::raise_descriptor_limit();
    let mut surroundings = Surroundings::here();
    surroundings.machine.files_of_each_shard = descriptors::can_unshare();
    let mut reading = Reading::new(std::env::args_os(), surroundings);
    match reading.start() {
        Ok(Command::Serve(config)) => match serve(&config, reading) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(error),
        },
        // What is in force helps to find what is wrong, so it comes first.
        Ok(Command::Check(config, text)) => match (print(&text), Server::check_files(&config)) {
            (Err(error), _) => fail(error),
            (_, Err(error)) => fail(error),
            _ => ExitCode::SUCCESS,
        },
        Ok(Command::Print(text)) => print(&text).map_or_else(fail, |()| ExitCode::SUCCESS),
        Err(error) => error.exit(),
    }
}

fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // Who reads no further has what it wanted.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Says why, if anybody can hear it: the disk under standard error may be full.
fn fail(error: impl Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "wsgate: {error}");
    ExitCode::FAILURE
}

fn serve(config: &Config, mut reading: Reading) -> Result<(), Box<dyn std::error::Error>> {
    let log = init_log(config.log);
    // Signals are caught before anything is served, so that none is missed.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt, mut hangup) = {
        let _context = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?)
    };
    let server = Server::start_alone(config)?;
    tracing::info!(
        clients = %addresses(&server),
        admin = %server.admin_address(),
        shards = config.shards,
        io = config.io.word(),
        "ready"
    );
    tell_service_manager(&[NotifyState::Ready]);
    if config.mode == Mode::Development && std::io::stderr().is_terminal() {
        print_hints(&server, if config.tls.certificates.is_empty() { "ws" } else { "wss" });
    }
    let (ended, mut all_ended) = oneshot::channel();
    runtime.block_on(async {
        let signal = loop {
            tokio::select! {
                _ = terminate.recv() => break "SIGTERM",
                _ = interrupt.recv() => break "SIGINT",
                _ = hangup.recv() => {
                    tell_service_manager(&reloading());
                    follow_changes(&mut reading, &server, &log);
                    tell_service_manager(&[NotifyState::Ready]);
                }
            }
        };
        tracing::info!(signal, "closing all connections; a second signal stops at once");
        tell_service_manager(&[NotifyState::Stopping]);
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

/// All addresses of clients, commas between them.
fn addresses(server: &Server) -> String {
    server.clients_addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Tells systemd, or whatever else set NOTIFY_SOCKET, how far the program is (sd_notify(3)).
fn tell_service_manager(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told (NOTIFY_SOCKET)");
    }
}

/// That the configuration is being read again, and since when: a service of the type
/// notify-reload is not reloaded before it says so (systemd.service(5)).
fn reloading() -> Vec<NotifyState<'static>> {
    [Some(NotifyState::Reloading), NotifyState::monotonic_usec_now().ok()].into_iter().flatten().collect()
}

/// Reads the configuration again and follows it where that needs no restart. If anything
/// is wrong in it, nothing changes.
fn follow_changes(reading: &mut Reading, server: &Server, log: &LogHandle) {
    let reloaded = match reading.again() {
        Ok(reloaded) => reloaded,
        Err(error) => {
            server.reload_refused();
            tracing::error!(%error, "the configuration is refused; nothing has changed");
            return;
        }
    };
    if let Err(error) = server.reload(&reloaded.config) {
        server.reload_refused();
        tracing::error!(%error, "a certificate is refused; nothing has changed");
        return;
    }
    // Fails only if the log were gone, and with it whom to tell.
    let _ = log.modify(|filter| *filter = filter_of(reloaded.config.log));
    for option in &reloaded.changed {
        tracing::info!(%option, "changed");
    }
    for option in &reloaded.waiting {
        tracing::warn!(%option, "needs a restart to take effect");
    }
    tracing::info!(changed = reloaded.changed.len(), waiting = reloaded.waiting.len(), "configuration read again");
    reading.follow(reloaded);
}

/// What a newcomer can try; for people, so not in the log.
fn print_hints(server: &Server, scheme: &str) {
    let admin = server.admin_address();
    let Some(clients) = server.clients_addresses().iter().find_map(ListenAddress::tcp) else { return };
    let _ = writeln!(
        io::stderr(),
        "\nSubscribe with a WebSocket client to  {scheme}://{clients}/topics/room\n\
         Publish from a back end               curl http://{admin}/topics/room -d hello\n\
         Look at it                            curl http://{admin}/metrics\n\
         Put load on it                        cargo run --release -p loadgen -- fanout {scheme}://{clients}/topics/room\n"
    );
}

/// Changes what is logged.
type LogHandle = reload::Handle<LevelFilter, Registry>;

fn init_log(level: LogLevel) -> LogHandle {
    let (filter, handle) = reload::Layer::new(filter_of(level));
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // A line that cannot be written is lost. By default the layer would complain on
        // standard error, which is where writing has just failed, and panic then.
        .log_internal_errors(false);
    tracing_subscriber::registry().with(filter).with(lines).init();
    handle
}

fn filter_of(level: LogLevel) -> LevelFilter {
    level.word().parse().unwrap_or(LevelFilter::INFO)
}
