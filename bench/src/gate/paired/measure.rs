//! One pair: both servers under the same load, one after the other.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::judge::Quantity;
use super::row::{ADDRESS, Row};
use crate::rig::machine::Machine;
use crate::rig::server::{Launch, Ready, Server, free_address, spawn_on};

/// With this, a run in which loadgen itself was the limit ends as it would have otherwise, so
/// that it does not hide that messages were lost. The report says so all the same.
const ALLOW_INVALID: &str = "--allow-invalid";

/// How long each of two that take turns has the machine: long beside what it takes to fill
/// the caches, short beside what the machine's other guests do.
const TURN: Duration = Duration::from_millis(50);

/// What one run found.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, Debug)]
pub(crate) struct Sample {
    /// CPU of the server in microseconds for each message.
    pub(crate) cpu: f64,
    /// Delays in microseconds; `None` if loadgen itself was the limit.
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
}

/// What two runs found.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, Debug)]
pub(crate) struct Pair {
    pub(crate) base: Sample,
    pub(crate) head: Sample,
}

impl Sample {
    /// A quantity of the run, if it says something of it.
    pub(crate) fn of(&self, quantity: Quantity) -> Option<f64> {
        match quantity {
            Quantity::Cpu => Some(self.cpu),
            Quantity::P50 => self.p50,
            Quantity::P99 => self.p99,
        }
    }
}

impl Pair {
    /// The logarithm of head to base.
    pub(crate) fn ratio(&self, quantity: Quantity) -> Option<f64> {
        let (base, head) = self.base.of(quantity).zip(self.head.of(quantity))?;
        Some((head / base).ln()).filter(|ratio| ratio.is_finite())
    }
}

/// How a server is started. A new one for each run: where a process lies in memory makes
/// it a little faster or slower for as long as it lives.
#[derive(Clone, Debug)]
pub(crate) enum Start {
    /// A build of wsgate, with environment variables for it.
    Wsgate(PathBuf, Vec<(String, String)>),
    /// A shell's command in which `{port}` stands for the port to listen on.
    Shell(String),
}

impl Start {
    fn launch(&self) -> io::Result<Launch> {
        match self {
            Self::Wsgate(program, environment) => {
                let mut launch = Launch::wsgate(program, 1);
                launch.command.envs(environment.iter().map(|(name, value)| (name, value)));
                Ok(launch)
            }
            Self::Shell(line) => {
                let address = free_address()?;
                let mut command = Command::new("sh");
                // `exec`, so that what is started and measured is the server and no shell.
                let line = line.replace("{port}", &address.port().to_string());
                command.arg("-c").arg(format!("exec {line}"));
                Ok(Launch { command, ready: Ready::Listens(address) })
            }
        }
    }
}

/// A run of loadgen. Killed when dropped, since one that stands still would stay for ever.
#[derive(Debug)]
struct Load(Child);

impl Drop for Load {
    fn drop(&mut self) {
        // Only fails if it has ended already; then it is waited for all the same.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What pairs are measured with.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) machine: Machine,
    pub(crate) loadgen: PathBuf,
    pub(crate) directory: PathBuf,
}

impl Rig {
    /// Runs both, the base first in every other pair. Where only CPU is asked for they run at
    /// the same time, in turns.
    pub(crate) fn pair(&self, row: &Row, base: &Start, head: &Start, index: usize) -> io::Result<Pair> {
        let base_is_first = index.is_multiple_of(2);
        let (first, second) = if base_is_first { (base, head) } else { (head, base) };
        let [first, second] = if row.takes_turns() {
            self.in_turns(row, [first, second])?
        } else {
            [self.sample(row, first)?, self.sample(row, second)?]
        };
        let (base, head) = if base_is_first { (first, second) } else { (second, first) };
        Ok(Pair { base, head })
    }

    /// Runs one.
    pub(crate) fn sample(&self, row: &Row, start: &Start) -> io::Result<Sample> {
        let server = self.start(start, "one")?;
        let mut load = self.load(row, &server, "one")?;
        let status = load.0.wait()?;
        self.read(row, status, "one").map_err(|error| server.error(&error.to_string()))
    }

    /// Runs two, of which each stands still while the other has its turn: what the machine does
    /// meanwhile from one second to the next meets both.
    fn in_turns(&self, row: &Row, starts: [&Start; 2]) -> io::Result<[Sample; 2]> {
        const NAMES: [&str; 2] = ["first", "second"];
        let servers = [self.start(starts[0], NAMES[0])?, self.start(starts[1], NAMES[1])?];
        let mut loads = [self.load(row, &servers[0], NAMES[0])?, self.load(row, &servers[1], NAMES[1])?];
        let pids = loads.each_ref().map(|load| Pid::from_child(&load.0));
        let mut ended = [None, None];
        let mut turn = 0;
        while ended.iter().any(Option::is_none) {
            // One that has ended and was not waited for still takes signals.
            for (index, pid) in pids.iter().enumerate().filter(|(index, _)| ended[*index].is_none()) {
                let is_its_turn = index == turn || ended[1 - index].is_some();
                kill_process(*pid, if is_its_turn { Signal::CONT } else { Signal::STOP })?;
            }
            std::thread::sleep(TURN);
            for (load, ended) in loads.iter_mut().zip(&mut ended) {
                if ended.is_none() {
                    *ended = load.0.try_wait()?;
                }
            }
            turn = 1 - turn;
        }
        let read = |index: usize| {
            let status = ended[index].ok_or_else(|| io::Error::other("a load has not ended"))?;
            self.read(row, status, NAMES[index]).map_err(|error| servers[index].error(&error.to_string()))
        };
        Ok([read(0)?, read(1)?])
    }

    fn start(&self, start: &Start, name: &str) -> io::Result<Server> {
        let log = self.directory.join(format!("paired-{name}.log"));
        Server::start(start.launch()?, &[self.machine.server_on], &log)
    }

    fn load(&self, row: &Row, server: &Server, name: &str) -> io::Result<Load> {
        let address = server.clients.to_string();
        let mut command = Command::new(&self.loadgen);
        command.args(row.load.iter().map(|argument| argument.replace(ADDRESS, &address)));
        command.args(["--json", "--pid", &server.pid().to_string()]);
        command.args(Some(ALLOW_INVALID).filter(|option| !row.load.iter().any(|argument| argument == option)));
        command.stdin(Stdio::null());
        command.stdout(File::create(self.report(name))?).stderr(File::create(self.said(name))?);
        Ok(Load(spawn_on(&[self.machine.load_on], &mut command)?))
    }

    /// What a load has reported.
    fn read(&self, row: &Row, status: ExitStatus, name: &str) -> io::Result<Sample> {
        if !status.success() {
            let said = fs::read_to_string(self.said(name)).unwrap_or_default();
            // What it found is in the report alone.
            let report: serde_json::Value = fs::read(self.report(name))
                .ok()
                .and_then(|json| serde_json::from_slice(&json).ok())
                .unwrap_or_default();
            let verdict = report["verdict"].as_str().map(|verdict| format!(" ({verdict})")).unwrap_or_default();
            return Err(io::Error::other(format!(
                "{}: loadgen ended with {status}{verdict}: {}",
                row.name,
                said.trim()
            )));
        }
        read(&fs::read(self.report(name))?).ok_or_else(|| {
            io::Error::other(format!(
                "{}: loadgen's report has no CPU of the server; a load must last half a second at least (-d)",
                row.name
            ))
        })
    }

    fn report(&self, name: &str) -> PathBuf {
        self.directory.join(format!("paired-{name}.json"))
    }

    fn said(&self, name: &str) -> PathBuf {
        self.directory.join(format!("paired-{name}-load.log"))
    }
}

/// What is read of loadgen's report.
fn read(report: &[u8]) -> Option<Sample> {
    let report: serde_json::Value = serde_json::from_slice(report).ok()?;
    let is_valid = report["invalid"].as_array()?.is_empty();
    let delay = |quantile: &str| report["latency_us"][quantile].as_f64().filter(|_| is_valid);
    Some(Sample { cpu: report["server"]["cpu_us_per_message"].as_f64()?, p50: delay("p50"), p99: delay("p99") })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn delays_of_a_run_in_which_loadgen_was_the_limit_are_not_used() {
        let report = |invalid: &str| {
            format!(
                r#"{{"invalid":[{invalid}],"latency_us":{{"p50":10.5,"p99":99.0}},"server":{{"cpu_us_per_message":2.5}}}}"#
            )
        };
        assert_eq!(read(report("").as_bytes()), Some(Sample { cpu: 2.5, p50: Some(10.5), p99: Some(99.0) }));
        assert_eq!(read(report(r#""a busy thread""#).as_bytes()), Some(Sample { cpu: 2.5, p50: None, p99: None }));
        assert_eq!(read(br#"{"invalid":[],"server":null}"#), None);
        assert_eq!(read(br#"{"server":{"cpu_us_per_message":2.5}}"#), None, "no report of loadgen");
    }

    #[test]
    fn a_run_that_did_not_end_well_is_no_measurement_whatever_it_reports() {
        let directory = std::env::temp_dir().join(format!("wsgate-paired-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let machine = Machine {
            processor: String::new(),
            processors: 2,
            kernel: String::new(),
            congestion_control: String::new(),
            server_on: 0,
            load_on: 1,
        };
        let rig = Rig { machine, loadgen: PathBuf::new(), directory: directory.clone() };
        let report = r#"{"verdict":"faults","invalid":[],"server":{"cpu_us_per_message":2.5}}"#;
        fs::write(rig.report("one"), report).unwrap();
        fs::write(rig.said("one"), "3 messages lost").unwrap();
        let row = Row::own("echo-1".to_owned(), "echo ws://{address}/");
        // As the kernel tells them: an exit code in the upper byte, or a signal.
        let read = |raw: i32| rig.read(&row, ExitStatus::from_raw(raw), "one");
        let (well, others) = (read(0), [1 << 8, 3 << 8, 5 << 8, 9].map(read));
        fs::remove_dir_all(directory).unwrap();
        assert_eq!(well.unwrap().cpu, 2.5);
        for other in others {
            assert!(other.unwrap_err().to_string().contains("(faults): 3 messages lost"));
        }
    }

    #[test]
    fn a_pair_compares_by_the_logarithm() {
        let sample = |cpu| Sample { cpu, p50: None, p99: Some(cpu) };
        let pair = Pair { base: sample(2.0), head: sample(4.0) };
        assert_eq!(pair.ratio(Quantity::Cpu), Some(2f64.ln()));
        assert_eq!(pair.ratio(Quantity::P50), None);
        assert_eq!(Pair { base: sample(0.0), ..pair }.ratio(Quantity::P99), None);
    }
}
