//! The admin address: who may use it, publishing over HTTP, health, metrics.
#![allow(missing_docs, clippy::disallowed_methods)]

#[path = "../common/mod.rs"]
mod common;

mod access;
mod metrics;
mod publishing;

use std::net::SocketAddr;

use common::RawClient;

/// What the admin address answers.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    /// Refused with this status, and words that contain `part`.
    #[track_caller]
    fn expect_error(&self, status: u16, part: &str) {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"));
        let words = body["error"].as_str().unwrap_or_default();
        assert!(self.status == status && words.contains(part), "{status} {part:?} expected: {self:?}");
    }
}

/// One request with exactly these headers, and no Host but the one given.
fn ask(admin: SocketAddr, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut client = RawClient::connect(admin);
    client.send(&request(line, headers, body));
    answer(&mut client)
}

fn request(line: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        request += &format!("Content-Length: {}\r\n", body.len());
    }
    [request.as_bytes(), b"\r\n", body].concat()
}

fn answer(client: &mut RawClient) -> Answer {
    let text = String::from_utf8(client.read_to_end()).expect("HTTP answers are text");
    let (head, body) = text.split_once("\r\n\r\n").expect(&text);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect(head);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

const HOST: (&str, &str) = ("Host", "localhost");

fn post(admin: SocketAddr, topic: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    ask(admin, &format!("POST /topics/{topic}"), &[&[HOST], headers].concat(), body)
}

fn get(admin: SocketAddr, path: &str) -> Answer {
    ask(admin, &format!("GET {path}"), &[HOST], b"")
}
