//! SIGHUP: a running gateway reads its configuration again, and nobody is closed.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::program::Program;
use common::{RawClient, Response, masked, unmasked};
use rustix::process::Signal;

const KEY: &str = "the-first-key-of-all";
const OTHER_KEY: &str = "another-key-altogether";

/// A gateway with a file of its own.
struct Gateway {
    program: Program,
    file: PathBuf,
}

impl Gateway {
    fn start(text: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("reload-{}-{}.toml", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&file, text).expect("the directory is there");
        let program = Program::start(&["--shards", "2", "--config", file.to_str().expect("the path is text")]);
        Self { program, file }
    }

    /// Writes the file anew, has it read, and waits for the line of the log with `part`.
    fn reload(&self, text: &str, part: &str) -> String {
        fs::write(&self.file, text).expect("the directory is there");
        self.program.signal(Signal::HUP);
        self.program.wait_for_line(part)
    }

    fn publish(&self, key: &str, body: &str) -> u16 {
        let head = format!("POST /topics/a HTTP/1.1\r\nX-API-Key: {key}\r\nContent-Length: {}", body.len());
        ask(self.program.admin, &head, body).status
    }

    /// A line of the metrics.
    fn metric(&self, key: &str, name: &str) -> u64 {
        let text = ask(self.program.admin, &format!("GET /metrics HTTP/1.1\r\nX-API-Key: {key}"), "").body;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a whole number")
    }

    /// The status of an upgrade that a page of this origin asks for.
    fn upgrade_from(&self, origin: &str, path: &str) -> String {
        let mut client = RawClient::connect(self.program.clients);
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nOrigin: {origin}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.program.clients
        );
        client.send(head.as_bytes());
        client.read_head().split(' ').nth(1).expect("a status").to_owned()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

fn ask(address: SocketAddr, head: &str, body: &str) -> Response {
    let mut client = RawClient::connect(address);
    client.send(format!("{head}\r\nHost: {address}\r\nConnection: close\r\n\r\n{body}").as_bytes());
    let bytes = client.read_to_end();
    let text = String::from_utf8(bytes).expect("answers are text");
    let (head, body) = text.split_once("\r\n\r\n").expect(&text);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect(head);
    Response { status, headers: Vec::new(), body: body.to_owned() }
}

fn with_key(key: &str, rest: &str) -> String {
    format!("{rest}\n[admin_api]\nkey = \"{key}\"\n")
}

#[test]
fn key_origins_and_rights_change_and_who_is_connected_stays() {
    let gateway = Gateway::start(&with_key(KEY, ""));
    let mut clients: Vec<RawClient> = (0..8).map(|_| gateway.program.raw_open("/topics/a")).collect();
    assert_eq!((gateway.publish(KEY, "first"), gateway.publish(OTHER_KEY, "")), (200, 401));
    assert_eq!(gateway.upgrade_from("https://page.example", "/echo"), "403");

    let text = "[security]\nallowed_origins = [\"page.example\"]\nanonymous = [\"subscribe\"]\n";
    fs::write(&gateway.file, with_key(OTHER_KEY, text)).expect("the directory is there");
    gateway.program.signal(Signal::HUP);
    for option in ["security.anonymous = ", "security.allowed_origins = ", "admin_api.key = "] {
        let line = gateway.program.wait_for_line(option);
        assert!(line.contains("INFO") && line.contains("changed") && !line.contains(OTHER_KEY), "{line}");
    }
    gateway.program.wait_for_line("configuration read again");
    assert_eq!((gateway.publish(KEY, ""), gateway.publish(OTHER_KEY, "second")), (401, 200));
    assert_eq!(gateway.upgrade_from("https://page.example", "/echo"), "101");
    assert_eq!(gateway.upgrade_from("https://page.example", "/topics/a?subscribe=off"), "403");
    // Who had the right to publish keeps it.
    clients[0].send(&masked(0x81, b"third"));
    for client in &mut clients {
        for words in ["first", "second", "third"] {
            client.expect(&unmasked(0x81, words.as_bytes()));
        }
        client.expect_nothing_yet();
    }
    assert_eq!(gateway.metric(OTHER_KEY, "wsgate_reloads_total{result=\"taken\"}"), 1);
    assert_eq!(gateway.metric(OTHER_KEY, "wsgate_reloads_total{result=\"refused\"}"), 0);
}

#[test]
fn an_option_that_needs_a_restart_is_named_and_stays_as_it_was() {
    let gateway = Gateway::start(&with_key(KEY, ""));
    let text = with_key(OTHER_KEY, "[limits]\nhandshake_bytes_max = 9000\nplain_message_bytes_max = 10\n");
    let line = gateway.reload(&text, "limits.handshake_bytes_max = 9000");
    assert!(line.contains("WARN") && line.contains("restart") && line.contains(" line 2)"), "{line}");
    let line = gateway.program.wait_for_line("limits.plain_message_bytes_max = 10");
    assert!(line.contains("WARN") && line.contains("restart"), "{line}");
    let line = gateway.program.wait_for_line("configuration read again");
    assert!(line.contains("changed=1 ") && line.contains("waiting=2"), "{line}");
    let mut client = gateway.program.raw_open("/topics/a");
    client.send(&masked(0x81, b"more than ten bytes"));
    client.expect(&unmasked(0x81, b"more than ten bytes"));
    // Named again as long as it waits; what has been taken over is not.
    let line = gateway.reload(&text, "configuration read again");
    assert!(line.contains("changed=0 ") && line.contains("waiting=2"), "{line}");
    assert_eq!(gateway.publish(OTHER_KEY, "m"), 200);
}

#[test]
fn a_broken_file_changes_nothing_and_is_logged_with_key_and_value() {
    let gateway = Gateway::start(&with_key(KEY, ""));
    let mut client = gateway.program.raw_open("/topics/a");
    for (n, (rest, parts)) in [
        ("[topics]\nslow_consumers = [\"a = fast\"]\n", ["topics.slow_consumers = ", "a = fast"]),
        ("shards = 65\n", ["shards = 65", "from 1 to 64"]),
        ("[security]\nallowed_origin = []\n", ["security.allowed_origin ", "did you mean security.allowed_origins?"]),
        ("mode = [\n", [" line ", "not TOML"]),
        ("mode = \"production\"\n", ["lacks decisions", "plaintext = true"]),
    ]
    .into_iter()
    .enumerate()
    {
        let line = gateway.reload(&with_key(OTHER_KEY, rest), "the configuration is refused");
        // An undecided production is told in several lines.
        let line = if n == 4 { line + &gateway.program.wait_for_line("plaintext = ") } else { line };
        assert!(line.contains("ERROR") && parts.iter().all(|part| line.contains(part)), "{line}");
        assert_eq!((gateway.publish(KEY, ""), gateway.publish(OTHER_KEY, "")), (200, 401), "{rest}");
        assert_eq!(gateway.metric(KEY, "wsgate_reloads_total{result=\"refused\"}"), n as u64 + 1);
        client.expect(&unmasked(0x81, b""));
    }
    fs::remove_file(&gateway.file).expect("it is there");
    gateway.program.signal(Signal::HUP);
    assert!(gateway.program.wait_for_line("the configuration is refused").contains("cannot read"));
    assert_eq!(gateway.publish(KEY, ""), 200);
    gateway.reload(&with_key(OTHER_KEY, ""), "configuration read again");
    assert_eq!(gateway.publish(OTHER_KEY, ""), 200);
}

#[test]
fn the_log_follows_too() {
    let gateway = Gateway::start("");
    gateway.reload("log = \"debug\"\n", "configuration read again");
    let mut client = RawClient::connect(gateway.program.clients);
    client.send(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(gateway.program.wait_for_line("handshake refused").contains("DEBUG"));
}
