//! A server under measurement: a child process on processors of its own.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::secure::Certificates;

/// The longest that a server may take until it listens.
const START_MAX: Duration = Duration::from_secs(20);
/// The longest that it may take to go down.
const STOP_MAX: Duration = Duration::from_secs(30);
/// How often a starting or ending server is looked at.
const START_STEP: Duration = Duration::from_millis(5);
/// Bytes at the end of a server's log that an error quotes.
const LOG_TAIL_BYTES: usize = 600;

/// How to start a server, and how to tell that it listens.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) command: Command,
    pub(crate) ready: Ready,
}

impl Launch {
    /// A build of wsgate on free ports. No pings: what arrives is counted by its bytes.
    pub(crate) fn wsgate(file: &Path, shards: usize) -> Self {
        let mut command = Command::new(file);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--timeouts-ping-interval-ms", "3600000"]);
        command.arg("--shards").arg(shards.to_string());
        Self { command, ready: Ready::Printed }
    }

    /// The same with TLS for those who speak it.
    pub(crate) fn secure(mut self, certificates: &Certificates) -> Self {
        self.command.args(certificates.server_options());
        self
    }
}

/// How to tell that a server listens.
#[derive(Debug)]
pub(crate) enum Ready {
    /// It prints `clients=ADDRESS`, and maybe `admin=ADDRESS`.
    Printed,
    /// It was told to listen here.
    Listens(SocketAddr),
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    /// Where clients connect.
    pub(crate) clients: SocketAddr,
    /// Where metrics are, if it has any.
    pub(crate) admin: Option<SocketAddr>,
}

impl Server {
    /// Starts a server on these processors; what it prints goes to the file `log`.
    pub(crate) fn start(launch: Launch, processors: &[usize], log: &Path) -> io::Result<Self> {
        let Launch { mut command, ready } = launch;
        let output = File::create(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = spawn_on(processors, &mut command)?;
        let mut server = Self { child, log: log.to_owned(), clients: ([127, 0, 0, 1], 0).into(), admin: None };
        let start = Instant::now();
        while !server.is_ready(&ready)? {
            if let Some(status) = server.child.try_wait()? {
                return Err(server.error(&format!("it ended with {status}")));
            }
            if start.elapsed() > START_MAX {
                return Err(server.error(&format!("it does not listen after {START_MAX:?}")));
            }
            std::thread::sleep(START_STEP);
        }
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to go down and waits until it has, for servers that write something then.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM)?;
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > STOP_MAX {
                return Err(self.error(&format!("it has not ended {STOP_MAX:?} after SIGTERM")));
            }
            std::thread::sleep(START_STEP);
        }
        Ok(())
    }

    /// An error that quotes the end of the server's log.
    pub(crate) fn error(&self, what: &str) -> io::Error {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let from = log.ceil_char_boundary(log.len().saturating_sub(LOG_TAIL_BYTES));
        let tail = log[from..].trim();
        io::Error::other(if tail.is_empty() { what.to_owned() } else { format!("{what}; its log ends: {tail}") })
    }

    fn is_ready(&mut self, ready: &Ready) -> io::Result<bool> {
        match *ready {
            Ready::Listens(address) => {
                self.clients = address;
                Ok(TcpStream::connect(address).is_ok())
            }
            Ready::Printed => {
                let log = fs::read_to_string(&self.log)?;
                // Only whole lines: the end may still be on its way.
                let lines = &log[..log.rfind('\n').unwrap_or(0)];
                self.admin = printed(lines, "admin=");
                Ok(printed(lines, "clients=").inspect(|&address| self.clients = address).is_some())
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Only fails if it has ended already; then it is waited for all the same.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Binds the calling thread, and what it starts from now on, to some processors.
pub(crate) fn bind_to(processors: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &processor in processors {
        set.set(processor);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// Starts a child on some processors. It inherits them from a thread made for that.
pub(crate) fn spawn_on(processors: &[usize], command: &mut Command) -> io::Result<Child> {
    std::thread::scope(|scope| {
        let spawner = scope.spawn(|| {
            bind_to(processors)?;
            command.spawn()
        });
        spawner.join().unwrap_or_else(|_| Err(io::Error::other("starting a server panicked")))
    })
}

/// A port that nobody had a moment ago, for servers that cannot choose one themselves.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.local_addr()
}

/// The address behind `key` in what a server printed.
fn printed(log: &str, key: &str) -> Option<SocketAddr> {
    log.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_a_start_line() {
        let log = "2026 INFO wsgate: ready clients=127.0.0.1:8000 admin=127.0.0.1:8001 shards=1\n";
        assert_eq!(printed(log, "clients="), Some(([127, 0, 0, 1], 8000).into()));
        assert_eq!(printed(log, "admin="), Some(([127, 0, 0, 1], 8001).into()));
        assert_eq!(printed("clients=soon", "clients="), None);
    }

    #[test]
    fn a_server_that_ends_at_once_is_an_error_that_quotes_its_log() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such luck; exit 3"]);
        let log = std::env::temp_dir().join(format!("bench-server-{}.log", std::process::id()));
        let processors = wsgate::driver::machine::processors();
        let result = Server::start(Launch { command, ready: Ready::Printed }, &processors[..1], &log);
        let error = result.unwrap_err().to_string();
        fs::remove_file(&log).unwrap();
        assert!(error.contains("exit status: 3") && error.contains("no such luck"), "{error}");
    }
}
