//! Running out of descriptors or room: accepting pauses, says so, and goes on.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::program::Program;
use rustix::process::Signal;
use wsgate::config::Io;

use common::{RawClient, TestServer, masked, unmasked, wait_until};

const DESCRIPTORS: u32 = 64;
const CLIENTS: usize = 100;

/// One HTTP connection to the admin address, kept open: another one would need a
/// descriptor.
struct Scraper {
    client: RawClient,
}

impl Scraper {
    fn connect(admin: SocketAddr) -> Self {
        let mut scraper = Self { client: RawClient::connect(admin) };
        // Now it is accepted.
        scraper.text();
        scraper
    }

    fn text(&mut self) -> String {
        self.client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let head = self.client.read_head().to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).expect(&head);
        String::from_utf8(self.client.read_bytes(length.parse().expect(length))).expect("metrics are text")
    }

    /// A number, added up over the shards.
    fn sum(&mut self, name: &str) -> u64 {
        let text = self.text();
        let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
        let values: Vec<u64> = values.map(|(_, value)| value.parse().expect(value)).collect();
        assert!(!values.is_empty(), "no {name} in {text}");
        values.iter().sum()
    }
}

/// User and system time of a process, in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    // The name may hold anything; the numbers begin behind it. See proc(5).
    let fields: Vec<&str> = stat.rsplit_once(')').expect(&stat).1.split_whitespace().collect();
    fields[11].parse::<u64>().expect(&stat) + fields[12].parse::<u64>().expect(&stat)
}

/// Waits a while for an answer that must not come.
fn expect_silence(client: &RawClient, patience: Duration) {
    client.0.set_read_timeout(Some(patience)).expect("an option of every socket");
    let error = client.0.peek(&mut [0]).expect_err("no descriptor is left for this client");
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    client.0.set_read_timeout(Some(common::PATIENCE)).expect("an option of every socket");
}

#[test]
fn without_descriptors_accepting_pauses_without_spinning_and_resumes_when_clients_leave() {
    let mut program = Program::start_with_descriptors(
        DESCRIPTORS,
        &["--shards", "1", "--limits-connections-max", "10000", "--timeouts-handshake-ms", "600000"],
    );
    let mut scraper = Scraper::connect(program.admin);
    assert_eq!(scraper.sum("wsgate_accept_paused"), 0);
    // The kernel completes these connections, whether the gateway accepts them or not.
    let mut clients: VecDeque<RawClient> = (0..CLIENTS).map(|_| RawClient::connect(program.clients)).collect();
    let upgrade = format!(
        "GET /echo HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        program.clients
    );
    for client in &mut clients {
        client.send(upgrade.as_bytes());
    }
    let line = program.wait_for_line("accepting pauses");
    // With io_uring, each shard has a table of its own of as many sockets as files.
    let (why, served_expected) = match common::io() {
        Io::Epoll => ("Too many open files", 10..DESCRIPTORS as usize),
        Io::IoUring => ("the limit of open files", DESCRIPTORS as usize..DESCRIPTORS as usize + 1),
    };
    assert!(line.contains("WARN") && line.contains(why), "{line}");
    assert_eq!(scraper.sum("wsgate_accept_paused"), 1);
    assert_eq!(scraper.sum("wsgate_accept_pauses_total"), 1);
    let served = scraper.sum("wsgate_connections") as usize;
    assert!(served_expected.contains(&served), "{served} connections");

    // While it pauses, it turns for its retries and hardly else.
    for client in clients.iter_mut().take(served) {
        assert!(client.read_head().starts_with("HTTP/1.1 101 "));
    }
    let (start, ticks, turns) =
        (Instant::now(), cpu_ticks(program.pid()), scraper.sum("wsgate_loop_turn_seconds_count"));
    expect_silence(&clients[served], Duration::from_millis(1500));
    let turned = scraper.sum("wsgate_loop_turn_seconds_count") - turns;
    let (ticks, elapsed) = (cpu_ticks(program.pid()) - ticks, start.elapsed());
    assert!(turned as f64 <= 20.0 + 20.0 * elapsed.as_secs_f64(), "{turned} turns in {elapsed:?}");
    assert!(ticks as f64 <= 0.2 * 100.0 * elapsed.as_secs_f64(), "{ticks} ticks of CPU time in {elapsed:?}");
    assert_eq!(scraper.sum("wsgate_accept_pauses_total"), 1, "one pause, however often it was tried");

    // Those that are open are served as ever.
    clients[0].send(&masked(0x81, b"still there"));
    clients[0].expect(&unmasked(0x81, b"still there"));

    // Each that leaves makes room for the one that has waited longest.
    for _ in served..CLIENTS {
        clients.pop_front();
        let next = &mut clients[served - 1];
        assert!(next.read_head().starts_with("HTTP/1.1 101 "));
        next.send(&masked(0x81, b"served"));
        next.expect(&unmasked(0x81, b"served"));
    }
    drop(clients);
    let scraper = std::cell::RefCell::new(scraper);
    wait_until("accepting goes on", || scraper.borrow_mut().sum("wsgate_accept_paused") == 0);
    wait_until("all have left", || scraper.borrow_mut().sum("wsgate_connections") == 0);
    program.raw_open("/echo");
    assert!(program.is_running());
}

#[test]
fn each_shard_has_as_many_descriptors_as_the_process_may_open() {
    const OF_EACH: u32 = 128;
    const CLIENTS: usize = 150;
    let mut arguments = vec!["--shards", "2", "--limits-connections-max", "10000"];
    arguments.extend(["--drain-grace-ms", "0", "--timeouts-close-ms", "60000"]);
    let mut program = Program::start_with_descriptors(OF_EACH, &arguments);
    // The kernel deals them out about evenly.
    let mut clients: Vec<RawClient> = (0..CLIENTS).map(|_| program.raw_open("/echo")).collect();
    let mut scraper = Scraper::connect(program.admin);
    let text = scraper.text();
    let read = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).expect(&text);
        line.parse().expect(line)
    };
    let (open, max) = (read("process_open_fds"), read("process_max_fds"));
    let of_sockets = if common::io() == Io::Epoll { CLIENTS as u64 } else { 0 };
    assert!((of_sockets..of_sockets + u64::from(OF_EACH)).contains(&open), "{open} open");
    assert_eq!(max, 3 * u64::from(OF_EACH), "of both shards and of the rest");

    // No other table keeps a listener open when its shard has closed it.
    drop(scraper);
    program.signal(Signal::TERM);
    for client in &mut clients {
        client.expect_close(1001);
    }
    wait_until("nobody listens", || {
        TcpStream::connect(program.clients).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    assert!(program.is_running(), "the listeners were closed before the clients, who have not answered yet");
    drop(clients);
    assert!(program.wait().success());
}

#[test]
fn a_full_table_pauses_accepting_until_one_leaves() {
    const CONNECTIONS_MAX: usize = 3;
    let server = TestServer::with(|config| config.limits.connections_max = CONNECTIONS_MAX);
    let mut open: Vec<RawClient> = (0..CONNECTIONS_MAX).map(|_| server.raw_open("/echo")).collect();
    let mut waiting = server.raw();
    let upgrade = "GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    waiting.send(upgrade.as_bytes());
    server.wait_until("accepting pauses", |server| server.sum(|stats| &stats.accept_paused) > 0);
    expect_silence(&waiting, Duration::from_millis(300));
    assert_eq!(server.sum(|stats| &stats.connections), CONNECTIONS_MAX as u64);
    // Whichever shard it waits at, and whichever the other one left.
    open.pop();
    assert!(waiting.read_head().starts_with("HTTP/1.1 101 "));
    for client in open.iter_mut().chain([&mut waiting]) {
        client.send(&masked(0x81, b"hello"));
        client.expect(&unmasked(0x81, b"hello"));
    }
    drop((open, waiting));
    server.wait_until("accepting goes on", |server| server.sum(|stats| &stats.accept_paused) == 0);
    server.raw_open("/echo");
}
