//! What happens to others when clients are killed, come and go in storms, or the disk
//! under the log is full: nothing.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::fs::OpenOptions;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::program::Program;
use common::{PATIENCE, RawClient, TestServer, masked, unmasked, wait_until};
use rustix::process::Signal;
use wsgate::stats::CloseReason;

/// Subscribers that see everything, and who publishes to them.
struct Honest {
    subscribers: Vec<RawClient>,
    publisher: RawClient,
    published: usize,
}

impl Honest {
    fn join(server: &TestServer) -> Self {
        let subscribers = (0..4).map(|_| server.raw_open("/topics/a")).collect();
        Self { subscribers, publisher: server.raw_open("/topics/a?subscribe=off"), published: 0 }
    }

    fn count(&self) -> u64 {
        self.subscribers.len() as u64 + 1
    }

    /// Publishes one message, which arrives at all, and nothing but that.
    fn exchange(&mut self) {
        let words = self.published.to_string();
        self.publisher.send(&masked(0x81, words.as_bytes()));
        for subscriber in &mut self.subscribers {
            subscriber.expect(&unmasked(0x81, words.as_bytes()));
        }
        self.published += 1;
    }
}

/// A process that has these connections and nothing else to do. We have them no more, so
/// they end as the system ends them when it is killed.
fn process_with(connections: [RawClient; 3]) -> Child {
    let [stdin, stdout, stderr] = connections.map(|client| Stdio::from(OwnedFd::from(client.0)));
    let mut command = Command::new("sleep");
    command.arg("600").stdin(stdin).stdout(stdout).stderr(stderr).spawn().expect("sleep is everywhere")
}

#[test]
fn clients_that_are_killed_in_any_state_leave_nothing_behind() {
    const PROCESSES: usize = 20;
    let server = TestServer::start();
    let mut honest = Honest::join(&server);
    let mut processes: Vec<Child> = (0..PROCESSES)
        .map(|n| {
            let subscriber = server.raw_open("/topics/a");
            let mut talker = server.raw_open("/echo");
            // In the middle of a frame; and every other one with an answer that it never
            // reads, which makes its end a reset.
            if n % 2 == 0 {
                talker.send(&masked(0x81, b"echo"));
            }
            talker.send(&masked(0x82, &[7; 1000])[..500]);
            let mut asking = server.raw();
            asking.send(b"GET /topics/a HTTP/1.1\r\nHost: ");
            process_with([subscriber, talker, asking])
        })
        .collect();
    let all = honest.count() + 3 * PROCESSES as u64;
    server.wait_until("all are connected", |server| server.sum(|stats| &stats.connections) == all);
    // Messages that they have not read are on their way when they die.
    for process in &mut processes {
        honest.exchange();
        process.kill().expect("it is our child");
    }
    for process in &mut processes {
        process.wait().expect("it is our child");
        honest.exchange();
    }
    let left = honest.count();
    server.wait_until("only the others are left", |server| server.sum(|stats| &stats.connections) == left);
    assert_eq!(server.closes(CloseReason::PeerVanished), 3 * PROCESSES as u64);
    assert_eq!(server.sum(|stats| &stats.subscriptions), left - 1);
    server.wait_until("nothing waits for the dead", |server| server.sum(|stats| &stats.queue_bytes) == 0);
    honest.exchange();
}

#[test]
fn a_storm_of_connections_that_are_reset_costs_time_and_nothing_else() {
    const THREADS: usize = 4;
    const EACH: usize = 1000;
    let server = TestServer::start();
    let mut honest = Honest::join(&server);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let storms: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    for n in 0..EACH {
                        let mut client = match n % 4 {
                            3 => server.raw_open("/topics/a"),
                            _ => server.raw(),
                        };
                        match n % 4 {
                            0 => {}
                            1 => client.send(b"GET /topics/a HTTP/1.1\r\nHo"),
                            2 => client.send(b"\x16\x03\x01\x02\x00\x01"),
                            _ => client.send(&masked(0x81, b"gone before it is told")[..10]),
                        }
                        client.reset();
                    }
                })
            })
            .collect();
        while storms.iter().any(|storm| !storm.is_finished()) {
            honest.exchange();
        }
    });
    let left = honest.count();
    server.wait_until("only the others are left", |server| server.sum(|stats| &stats.connections) == left);
    assert!(start.elapsed() < 3 * PATIENCE, "{:?}", start.elapsed());
    assert!(honest.published > 0);
    assert_eq!(server.sum(|stats| &stats.accepted), left + (THREADS * EACH) as u64, "none is dropped unseen");
    assert_eq!(server.sum(|stats| &stats.subscriptions), left - 1);
    assert_eq!(server.sum(|stats| &stats.queue_bytes), 0);
    assert_eq!(server.sum(|stats| &stats.accept_pauses), 0);
    honest.exchange();
}

/// Two addresses that are free at this moment.
fn free_addresses() -> [SocketAddr; 2] {
    // Both are held until both are known.
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").expect("a port is free"));
    listeners.map(|listener| listener.local_addr().expect("it is bound"))
}

fn full_disk() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").expect("Linux has it").into()
}

#[test]
fn a_log_on_a_full_disk_is_lost_and_the_gateway_serves_on() {
    let [clients, admin] = free_addresses();
    let text = [clients.to_string(), admin.to_string()];
    let arguments = ["--listen", &text[0], "--admin", &text[1], "--shards", "2", "--log", "debug"];
    let mut program = Program::start_unseen(&[&arguments, &["--limits-connections-max", "3"][..]].concat(), full_disk);
    wait_until("it listens", || std::net::TcpStream::connect(clients).is_ok());
    let open = || {
        let mut client = RawClient::connect(clients);
        client.upgrade("/topics/a", clients);
        client
    };
    // Each of these writes a line, on the threads of the shards.
    for _ in 0..20 {
        let mut refused = RawClient::connect(clients);
        refused.send(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(refused.read_response().status, 404);
    }
    let mut members = [open(), open(), open()];
    // And so does a table without room.
    let waiting = RawClient::connect(clients);
    program.signal(Signal::HUP);
    for _ in 0..20 {
        members[0].send(&masked(0x81, b"as ever"));
        for member in &mut members {
            member.expect(&unmasked(0x81, b"as ever"));
        }
    }
    drop(waiting);
    program.signal(Signal::TERM);
    for member in &mut members {
        member.answer_close(1001);
        member.expect_end();
    }
    drop(members);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn without_a_place_for_its_words_the_program_still_ends_with_the_right_status() {
    let status = |arguments: &[&str]| Program::start_unseen(arguments, full_disk).wait().code();
    assert_eq!(status(&["--shards", "65"]), Some(2));
    assert_eq!(status(&["--no-such-option"]), Some(2));
    assert_eq!(status(&["config", "example"]), Some(1), "what was asked for could not be written");
    let held = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = held.local_addr().expect("it is bound").to_string();
    assert_eq!(status(&["--listen", &address, "--admin", "127.0.0.1:0"]), Some(1));

    let [clients, admin] = free_addresses().map(|address| address.to_string());
    let never =
        ["--listen", &clients, "--admin", &admin, "--drain-deadline-ms", "3600000", "--drain-grace-ms", "3000000"];
    let mut program = Program::start_unseen(&never, full_disk);
    wait_until("it listens", || std::net::TcpStream::connect(&*clients).is_ok());
    program.signal(Signal::TERM);
    assert_eq!(program.signal_until_the_end(Signal::TERM).code(), Some(1));
}
