//! The real program in a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, Signal, kill_process};

use super::{IO_VARIABLE, PATIENCE, RawClient, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_wsgate");
/// Free ports, whatever else runs.
const FREE_PORTS: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

/// A running gateway; killed when dropped, so that a failed test leaves nothing behind.
pub struct Program {
    child: Child,
    log: Receiver<String>,
    /// The line that said that it is ready.
    pub start_line: String,
    /// The first address of TCP, if there is one.
    pub clients: SocketAddr,
    pub admin: SocketAddr,
}

impl Program {
    /// On free ports, with these further arguments.
    pub fn start(arguments: &[&str]) -> Self {
        Self::spawn(command(PROGRAM).args(FREE_PORTS).args(arguments))
    }

    /// Where clients have connected to another before.
    pub fn start_at(clients: SocketAddr) -> Self {
        Self::spawn(command(PROGRAM).args(["--admin", "127.0.0.1:0", "--listen", &clients.to_string()]))
    }

    /// With so few descriptors that it cannot raise the limit either.
    pub fn start_with_descriptors(descriptors: u32, arguments: &[&str]) -> Self {
        // The shell becomes the program, so the process id is the same.
        let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        Self::spawn(command("sh").args(["-c", &script, PROGRAM]).args(FREE_PORTS).args(arguments))
    }

    /// With exactly these arguments, and what else the test changes.
    pub fn start_as(arguments: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let mut command = command(PROGRAM);
        command.args(arguments);
        change(&mut command);
        Self::spawn(&mut command)
    }

    /// As systemd starts it: with these descriptors from 3 on, and their names.
    pub fn start_with_sockets(sockets: Vec<(OwnedFd, &str)>, arguments: &[&str]) -> Self {
        Self::spawn(&mut command_with_sockets(sockets, arguments))
    }

    /// With both outputs where `output` says, so that nobody sees its log: the addresses
    /// are those of the arguments. Does not wait until it is ready.
    pub fn start_unseen(arguments: &[&str], output: impl Fn() -> Stdio) -> Self {
        let child = command(PROGRAM).args(arguments).stdout(output()).stderr(output()).spawn();
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let child = child.expect("the program was built");
        Self { child, log: mpsc::channel().1, start_line: String::new(), clients: any, admin: any }
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program was built");
        let stderr = child.stderr.take().expect("it is piped");
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // The test may be over.
                let _ = sender.send(line);
            }
        });
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut program = Self { child, log, start_line: String::new(), clients: any, admin: any };
        program.start_line = program.wait_for_line(" ready ");
        let clients = field(&program.start_line, "clients=").split(',').find_map(|one| one.parse().ok());
        program.clients = clients.unwrap_or(any);
        program.admin = field(&program.start_line, "admin=").parse().expect("an address");
        program
    }

    /// The next line of the log that contains `part`.
    pub fn wait_for_line(&self, part: &str) -> String {
        loop {
            let line = self.log.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("no line with {part:?}: {error}"));
            if line.contains(part) {
                return line;
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Signals until it has ended: what comes right behind the first signal counts as the
    /// same.
    pub fn signal_until_the_end(&mut self, signal: Signal) -> ExitStatus {
        let program = std::cell::RefCell::new(&mut *self);
        wait_until("the end of the program", || {
            let mut program = program.borrow_mut();
            let running = program.is_running();
            if running {
                program.signal(signal);
            }
            !running
        });
        self.wait()
    }

    /// Waits for the end, in time.
    pub fn wait(&mut self) -> ExitStatus {
        let child = std::cell::RefCell::new(&mut self.child);
        let status = || child.borrow_mut().try_wait().expect("it is our child");
        wait_until("the end of the program", || status().is_some());
        status().expect("it has ended")
    }

    /// A client with a completed upgrade.
    pub fn raw_open(&self, path: &str) -> RawClient {
        let mut client = RawClient::connect(self.clients);
        client.upgrade(path, self.clients);
        client
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails if it has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command_with_sockets(sockets: Vec<(OwnedFd, &str)>, arguments: &[&str]) -> Command {
    // The shell becomes the program, so the process id is the same.
    let mut command = command("sh");
    command.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\"", PROGRAM]).args(arguments);
    let names: Vec<_> = sockets.iter().map(|(_, name)| *name).collect();
    command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    let mappings = sockets.into_iter().zip(3..);
    let mappings = mappings.map(|((parent_fd, _), child_fd)| FdMapping { parent_fd, child_fd }).collect();
    command.fd_mappings(mappings).expect("each number once");
    command
}

/// As [`run`], as systemd would.
pub fn run_with_sockets(sockets: Vec<(OwnedFd, &str)>, arguments: &[&str]) -> Output {
    run_command(&mut command_with_sockets(sockets, arguments), arguments)
}

/// Runs the program to its end, which must come by itself.
pub fn run(arguments: &[&str]) -> Output {
    run_command(command(PROGRAM).args(arguments), arguments)
}

fn run_command(command: &mut Command, arguments: &[&str]) -> Output {
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the program was built");
    let start = std::time::Instant::now();
    while child.try_wait().expect("it is our child").is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().expect("it is our child");
            panic!("wsgate {arguments:?} has not ended after {PATIENCE:?}");
        }
        std::thread::yield_now();
    }
    child.wait_with_output().expect("its output is text for a pipe")
}

/// Nothing of the surroundings reaches the program, no file and no variable, but the backend
/// that is tested.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(Path::new(env!("CARGO_TARGET_TMPDIR"))).stdin(Stdio::null()).stdout(Stdio::piped());
    const OURS: [&str; 4] = ["WSGATE_", "LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_"];
    for (name, _) in std::env::vars_os() {
        if name != IO_VARIABLE && OURS.iter().any(|ours| name.as_encoded_bytes().starts_with(ours.as_bytes())) {
            command.env_remove(name);
        }
    }
    command
}

/// What stands behind `name` in a line of the log.
pub fn field<'a>(line: &'a str, name: &str) -> &'a str {
    line.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {line}"))
}
