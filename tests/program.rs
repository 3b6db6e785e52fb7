//! The program as an operator meets it: start line, exit codes, signals.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;

use common::program::{Program, run};
use common::{RawClient, wait_until};
use rustix::process::Signal;

/// So long that a test which waits for it fails.
const NEVER: [&str; 4] = ["--drain-deadline-ms", "3600000", "--timeouts-close-ms", "600000"];

#[test]
fn the_start_line_names_what_runs_where() {
    let program = Program::start(&["--shards", "3"]);
    for address in [program.clients, program.admin] {
        assert!(address.port() != 0 && address.ip().is_loopback(), "{}", program.start_line);
    }
    assert_ne!(program.clients, program.admin);
    assert!(program.start_line.contains("INFO") && program.start_line.contains(" shards=3 "), "{}", program.start_line);
    let io = format!("io=\"{}\"", common::io().word());
    assert!(program.start_line.contains(&io), "{}", program.start_line);
    for address in [program.clients, program.admin] {
        let mut client = RawClient::connect(address);
        client.send(format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes());
        assert!(client.read_to_end().starts_with(b"HTTP/1.1 200 "));
    }
}

#[test]
fn a_second_gateway_on_the_same_address_is_refused() {
    let first = Program::start(&[]);
    let (clients, admin) = (first.clients.to_string(), first.admin.to_string());
    let any = "127.0.0.1:0";
    for (listen, admin, key) in [(&*clients, any, "listen"), (any, &*admin, "admin"), (any, &*clients, "admin")] {
        let refused = run(&["--listen", listen, "--admin", admin]);
        let words = stderr(&refused);
        assert_eq!(refused.status.code(), Some(1), "{words}");
        let address = if listen == any { admin } else { listen };
        assert!(words.contains(&format!("cannot listen on {address} ({key}): ")), "{words}");
        assert!(words.contains("in use") && words.contains("choose another port"), "{words}");
    }
    first.raw_open("/echo");
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("output is text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("messages are text")
}

#[test]
fn what_only_prints_exits_with_0() {
    for (arguments, part) in [
        (&["--help"][..], "Usage: wsgate"),
        (&["-h"], "Usage: wsgate"),
        (&["--version"], concat!("wsgate ", env!("CARGO_PKG_VERSION"))),
        (&["config", "check", "--shards", "5"], "shards = 5"),
        (&["config", "example"], "[limits]"),
        (&["config", "reference"], "limits.topics_max"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        assert!(stdout(&output).contains(part), "{arguments:?}: {}", stdout(&output));
        assert_eq!(stderr(&output), "", "{arguments:?}");
    }
}

#[test]
fn what_is_wrong_exits_with_2_and_says_what() {
    for (arguments, part) in [
        (&["--no-such-option"][..], "--no-such-option"),
        (&["no-such-command"], "no-such-command"),
        (&["--shards", "65"], "65"),
        (&["--shards"], "--shards"),
        (&["--listen", "localhost"], "localhost"),
        (&["--config", "no-such-file.toml"], "no-such-file.toml"),
        (&["config", "check", "--io", "kqueue"], "kqueue"),
        (&["--listen", "0.0.0.0:0"], "mode = \"production\""),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(part), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn the_check_of_a_configuration_finds_certificates_that_cannot_be_used() {
    let output = run(&["config", "check", "--tls-certificates", "absent.pem"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("absent.pem"), "what is in force: {}", stdout(&output));
    let words = stderr(&output);
    assert!(
        words.starts_with("wsgate: cannot serve TLS (tls.certificates): cannot read absent.pem: No such file"),
        "{words}"
    );
}

#[test]
fn a_signal_closes_all_clients_with_1001_and_ends_the_program_with_0() {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let mut program = Program::start(&NEVER);
        let mut clients = [program.raw_open("/echo"), program.raw_open("/topics/a"), program.raw_open("/chat")];
        program.signal(signal);
        assert!(program.wait_for_line("closing all connections").contains(name));
        for client in &mut clients {
            client.answer_close(1001);
            client.expect_end();
        }
        assert!(program.is_running(), "the clients' ends are awaited");
        drop(clients);
        let status = program.wait();
        assert_eq!(status.code(), Some(0), "{status}");
    }
}

#[test]
fn a_client_that_does_not_answer_cannot_keep_the_program_from_ending() {
    let mut program = Program::start(&["--drain-deadline-ms", "100", "--timeouts-close-ms", "600000"]);
    let mut client = program.raw_open("/echo");
    program.signal(Signal::TERM);
    assert_eq!(client.read_frame().0, 0x88);
    client.read_to_reset();
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn a_second_signal_stops_at_once() {
    for (first, second, name) in [
        (Signal::TERM, Signal::TERM, "SIGTERM"),
        (Signal::INT, Signal::INT, "SIGINT"),
        (Signal::TERM, Signal::INT, "SIGINT"),
    ] {
        let mut program = Program::start(&NEVER);
        let mut client = program.raw_open("/echo");
        program.signal(first);
        // It reads the Close and does not answer, so the program would wait for an hour.
        assert_eq!(client.read_frame().0, 0x88);
        let status = program.signal_until_the_end(second);
        assert_eq!((status.code(), status.signal()), (Some(1), None), "a decision, not a crash: {status}");
        program.wait_for_line(&format!("stopped by a second {name}"));
        client.expect_gone();
    }
}

#[test]
fn the_port_is_free_again_after_the_end_although_connections_were_open() {
    let mut first = Program::start(&[]);
    let address = first.clients;
    let mut client = first.raw_open("/echo");
    first.signal(Signal::TERM);
    client.answer_close(1001);
    client.expect_end();
    drop(client);
    assert_eq!(first.wait().code(), Some(0));
    wait_until("nobody listens", || TcpStream::connect(address).is_err());
    let second = Program::start_at(address);
    assert_eq!(second.clients, address);
    second.raw_open("/echo");
}

#[test]
fn more_connections_than_one_turn_takes_are_all_served() {
    let program = Program::start(&["--shards", "1"]);
    program.signal(Signal::STOP);
    // The kernel takes them; the program has not seen any.
    let count = 3 * wsgate::limits::ACCEPTS_PER_TURN_MAX;
    let mut clients: Vec<_> = (0..count).map(|_| RawClient::connect(program.clients)).collect();
    program.signal(Signal::CONT);
    for client in &mut clients {
        client.upgrade("/echo", program.clients);
    }
}
