//! What io_uring alone has: sockets that are no open files, buffers that all share, and
//! machines that refuse it.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::io::ErrorKind;
use std::net::Shutdown;
use std::time::Duration;

use common::program::{Program, run};
use common::{RawClient, TestServer, masked, unmasked};
use rustix::process::Signal;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use wsgate::config::{Config, Io};

/// A gateway with one ring, unless the machine has none.
fn server(change: impl FnOnce(&mut Config)) -> Option<TestServer> {
    has_io_uring().then(|| {
        TestServer::with(|config| {
            (config.io, config.shards) = (Io::IoUring, 1);
            change(config);
        })
    })
}

fn has_io_uring() -> bool {
    common::backends().contains(&Io::IoUring)
}

#[test]
fn connections_are_no_open_files() {
    const DESCRIPTORS: u32 = 64;
    const CLIENTS: usize = 90;
    if !has_io_uring() {
        return;
    }
    let arguments = ["--shards", "2", "--io", "io_uring"];
    let program = Program::start_with_descriptors(DESCRIPTORS, &arguments);
    let mut clients: Vec<RawClient> = (0..CLIENTS).map(|_| program.raw_open("/topics/many")).collect();
    clients[0].send(&masked(0x81, b"to all"));
    for client in &mut clients {
        client.expect(&unmasked(0x81, b"to all"));
    }
    let files = std::fs::read_dir(format!("/proc/{}/fd", program.pid())).expect("a system with /proc").count();
    assert!(files < CLIENTS, "{files} open files");
}

#[test]
fn more_than_all_buffers_hold_is_received_once_they_are_free_again() {
    const CLIENTS: usize = 40;
    const LONG: usize = 1_000_000;
    let Some(server) = server(|_| ()) else { return };
    let mut clients: Vec<RawClient> = (0..CLIENTS).map(|_| server.raw_open("/echo")).collect();
    let (sent, expected) = (masked(0x82, &[7; LONG]), unmasked(0x82, &[7; LONG]));
    std::thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| {
                client.send(&sent);
                client.expect(&expected);
            });
        }
    });
    assert!(server.sum(|stats| &stats.receives_starved) > 0, "there were buffers for all of them");
    server.wait_until("all buffers are home", |server| server.sum(|stats| &stats.receive_chunks) == 0);
    // Those who were not served then are now.
    for client in &mut clients {
        client.send(&masked(0x81, b"short"));
        client.expect(&unmasked(0x81, b"short"));
    }
}

#[test]
fn who_does_not_read_the_replies_holds_no_buffer_and_loses_nothing() {
    const MESSAGES: usize = 400;
    const LONG: usize = 20_000;
    let Some(server) = server(|config| config.limits.kernel_send_bytes = Some(16 * 1024)) else { return };
    let mut client = server.raw_small("/echo");
    let message = masked(0x82, &[7; LONG]);
    let mut sender = RawClient::new(client.0.try_clone().expect("a descriptor"));
    let sending = std::thread::spawn(move || (0..MESSAGES).for_each(|_| sender.send(&message)));
    server.wait_until("reading pauses", |server| server.sum(|stats| &stats.reading_pauses) > 0);
    server.wait_until("nothing pins a buffer", |server| server.sum(|stats| &stats.receive_chunks) == 0);
    // What had been received by then is kept, and counted.
    let kept = server.sum(|stats| &stats.input_memory_bytes);
    assert!(kept <= 512 * 1024, "{kept} bytes are kept for one connection");
    let mut other = server.raw_open("/echo");
    other.send(&masked(0x81, b"others notice nothing"));
    other.expect(&unmasked(0x81, b"others notice nothing"));
    let reply = unmasked(0x82, &[7; LONG]);
    (0..MESSAGES).for_each(|_| client.expect(&reply));
    sending.join().expect("all was sent");
    server.wait_until("nothing is kept", |server| server.sum(|stats| &stats.input_memory_bytes) == 0);
}

#[test]
fn what_is_received_and_not_wanted_is_bounded_for_all_connections_together() {
    const CLIENTS: usize = 200;
    const MESSAGES: usize = 100;
    const LONG: usize = 3_000;
    // PARKED_BYTES_MAX, and what the buffers hold.
    const KEPT_MAX: u64 = (4 + 2) * 1024 * 1024;
    let Some(server) = server(|config| {
        config.limits.kernel_send_bytes = Some(16 * 1024);
        config.limits.reply_bytes_watermark = 1;
    }) else {
        return;
    };
    let mut clients: Vec<RawClient> = (0..CLIENTS).map(|_| server.raw_small("/echo")).collect();
    let message = masked(0x82, &[7; LONG]);
    let reply = unmasked(0x82, &[7; LONG]);
    std::thread::scope(|scope| {
        for client in &clients {
            let mut sender = RawClient::new(client.0.try_clone().expect("a descriptor"));
            let message = &message;
            scope.spawn(move || (0..MESSAGES).for_each(|_| sender.send(message)));
        }
        server.wait_until("nobody is read", |server| {
            server.sum(|stats| &stats.reading_pauses) >= CLIENTS as u64
                && server.sum(|stats| &stats.receive_chunks) == 0
        });
        let kept = server.sum(|stats| &stats.input_memory_bytes);
        assert!(kept <= KEPT_MAX, "{kept} bytes are kept");
        assert!(server.sum(|stats| &stats.receives_narrowed) > 0, "the bound was not reached: {kept} bytes are kept");
        // Who reads is served all the same.
        let mut other = server.raw_open("/echo");
        for _ in 0..MESSAGES {
            other.send(&message);
            other.expect(&reply);
        }
        for client in &mut clients {
            (0..MESSAGES).for_each(|_| client.expect(&reply));
        }
    });
    server.wait_until("nothing is kept", |server| server.sum(|stats| &stats.input_memory_bytes) == 0);
}

/// A client that has sent echoes and what `leave` does, all while the gateway stood still: so
/// everything comes at once, and most of it before the answers have left.
fn leave_with_parked_input(program: &Program, leave: impl FnOnce(RawClient) -> Option<RawClient>) -> Option<RawClient> {
    const ECHOES: usize = 62;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    // Before connecting, since the window is agreed on then.
    socket.set_recv_buffer_size(4096).expect("an option of every socket");
    socket.connect(&program.clients.into()).expect("the gateway accepts");
    let mut client = RawClient::new(socket.into());
    client.upgrade("/echo", program.clients);
    program.signal(Signal::STOP);
    let state = format!("/proc/{}/stat", program.pid());
    common::wait_until("the gateway stands still", || {
        std::fs::read_to_string(&state).is_ok_and(|stat| stat.contains(") T "))
    });
    (0..ECHOES).for_each(|_| client.send(&masked(0x82, &[5; 1000])));
    let client = leave(client);
    program.signal(Signal::CONT);
    client
}

fn program_that_parks() -> Option<Program> {
    let arguments = ["--shards", "1", "--io", "io_uring", "--limits-reply-bytes-watermark", "4096"];
    let kernel = ["--limits-kernel-send-bytes", "2048"];
    has_io_uring().then(|| Program::start(&[&arguments[..], &kernel].concat()))
}

fn gauge(program: &Program, name: &str) -> u64 {
    let mut client = RawClient::connect(program.admin);
    client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let page = String::from_utf8(client.read_to_end()).expect("metrics are text");
    let line = page.lines().find(|line| line.starts_with(&format!("{name}{{"))).expect("a gauge of each shard");
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a whole number")
}

#[test]
fn an_end_that_came_behind_parked_input_is_told_when_that_is_read() {
    let Some(program) = program_that_parks() else { return };
    let client = leave_with_parked_input(&program, |client| {
        client.0.shutdown(Shutdown::Write).expect("it is open");
        Some(client)
    });
    let echoed = client.expect("it has not left").read_to_end();
    assert_eq!(echoed.len() % (1000 + 4), 0, "whole messages");
    assert!(!echoed.is_empty());
    common::wait_until("it is gone", || gauge(&program, "wsgate_sockets") == 0);
}

#[test]
fn who_leaves_with_parked_input_leaves_none_of_it_behind() {
    let Some(program) = program_that_parks() else { return };
    for _ in 0..3 {
        leave_with_parked_input(&program, |client| {
            client.reset();
            None
        });
    }
    common::wait_until("all are gone", || gauge(&program, "wsgate_sockets") == 0);
    assert_eq!(gauge(&program, "wsgate_input_memory_bytes"), 0);
    assert_eq!(gauge(&program, "wsgate_receive_chunks"), 0);
}

#[test]
fn a_loop_with_nothing_to_do_does_not_turn() {
    let Some(server) = server(|_| ()) else { return };
    let mut client = server.raw_open("/echo");
    client.send(&masked(0x81, b"hello"));
    client.expect(&unmasked(0x81, b"hello"));
    let turns = || server.stats()[0].turns.count();
    let before = turns();
    client.0.set_read_timeout(Some(Duration::from_millis(500))).expect("an option of every socket");
    let error = client.0.peek(&mut [0]).expect_err("nothing is sent");
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    assert!(turns() - before < 10, "{} turns in half a second", turns() - before);
}

/// Forbids the calls of io_uring to this thread and what it starts, as containers do.
fn refuse_io_uring(errno: i32) {
    const CALLS: [i64; 3] = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let rules = CALLS.into_iter().map(|call| (call, Vec::new())).collect();
    let arch = std::env::consts::ARCH.try_into().expect("an architecture that has filters");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch);
    let program: BpfProgram = filter.and_then(TryInto::try_into).expect("a filter");
    seccompiler::apply_filter(&program).expect("who gives up rights needs none");
}

#[test]
fn where_io_uring_is_refused_the_program_says_what_to_do() {
    // Where the system's own rule refuses it, too, that is what has to be changed first.
    let rule = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let forbidden = if ["1", "2"].contains(&rule.trim()) { "kernel.io_uring_disabled" } else { "seccomp" };
    for (errno, words) in [(libc::EPERM, forbidden), (libc::ENOSYS, "CONFIG_IO_URING"), (libc::EINVAL, "Linux 6.12")] {
        let output = std::thread::spawn(move || {
            refuse_io_uring(errno);
            let started = run(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--io", "io_uring"]);
            let others = Program::start(&["--io", "auto"]);
            assert!(others.start_line.contains("epoll"), "{}", others.start_line);
            started
        });
        let output = output.join().expect("the others need no io_uring");
        assert!(!output.status.success());
        let said = String::from_utf8(output.stderr).expect("messages are text");
        assert!(said.contains("io_uring") && said.contains(words) && said.contains("--io epoll"), "{said}");
    }
}
