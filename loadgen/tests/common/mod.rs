//! Small WebSocket servers of known behaviour, and loadgen run against them.
//!
//! Each connection has a thread, as servers that nobody optimized do.
#![allow(dead_code, unreachable_pub)] // Every test file has its own copy, and uses a part.
#![allow(clippy::disallowed_methods)] // Servers of tests have threads and a clock.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};
use wsgate::proto::frame::{self, OpCode};

/// What loadgen said: its exit code, its JSON, and its standard error.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub json: Value,
    pub stderr: String,
}

impl Run {
    /// A counter of the report.
    pub fn count(&self, name: &str) -> u64 {
        self.json[name].as_u64().unwrap_or_else(|| panic!("{name} is no counter in {}", self.json))
    }

    /// A percentile of the latency, in milliseconds.
    pub fn latency_ms(&self, name: &str) -> f64 {
        self.json["latency_us"][name].as_f64().unwrap_or_else(|| panic!("no {name} in {}", self.json)) / 1_000.0
    }

    /// By how much loadgen itself was late at most, in seconds: a busy machine stops it at times.
    pub fn lag_seconds(&self) -> f64 {
        self.json["schedule_lag_max_us"].as_f64().unwrap_or_else(|| panic!("no lag in {}", self.json)) / 1e6
    }

    /// For how long it sent: that long, and longer only if its last message, due one interval of
    /// the rate before the end, left behind it.
    #[track_caller]
    pub fn expect_seconds(&self, seconds: f64, rate: f64) {
        let told = self.json["seconds"].as_f64().unwrap();
        let longest = seconds + (self.lag_seconds() - 1.0 / rate).max(0.0);
        assert!((seconds..=longest).contains(&told), "{told} for {seconds} s: {}", self.json);
    }

    /// The counters that must be zero in a faultless run, and only those that are not.
    pub fn faults(&self) -> Vec<(&'static str, u64)> {
        let names = ["lost", "duplicated", "reordered", "corrupted", "misdelivered", "foreign", "errors"];
        names.into_iter().map(|name| (name, self.count(name))).filter(|&(_, count)| count > 0).collect()
    }
}

/// Runs `loadgen SCENARIO ws://ADDRESS/ ARGUMENTS --json --allow-invalid`: a busy
/// machine may hold loadgen up, which is not what these tests are about.
pub fn loadgen(scenario: &str, server: SocketAddr, arguments: &str) -> Run {
    loadgen_with(scenario, server, "/", arguments, &[])
}

/// The same with a path, and with arguments that have spaces of their own.
pub fn loadgen_with(scenario: &str, server: SocketAddr, path: &str, arguments: &str, more: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args([scenario, &format!("ws://{server}{path}"), "--json", "--allow-invalid"])
        .args(arguments.split_whitespace())
        .args(more)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let json = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error} in {stdout:?}, {stderr}"));
    Run { code: output.status.code().unwrap(), json, stderr }
}

/// A server that treats every connection with `serve`, each on a thread of its own.
pub fn tcp_server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (serve, stream) = (serve.clone(), stream.unwrap());
            stream.set_nodelay(true).unwrap();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// The same after the handshake.
pub fn server(serve: impl Fn(WebSocket<TcpStream>) + Send + Sync + 'static) -> SocketAddr {
    tcp_server(move |stream| serve(tungstenite::accept(stream).unwrap()))
}

/// Answers each connection's messages with what `answers` makes of them, given the
/// message's number on its connection. An empty list answers nothing.
pub fn echo_server(answers: impl Fn(usize, Vec<u8>) -> Vec<Vec<u8>> + Send + Sync + 'static) -> SocketAddr {
    server(move |mut socket| {
        let mut number = 0;
        while let Ok(message) = socket.read() {
            if let Message::Text(text) = message {
                for answer in answers(number, text.as_bytes().to_vec()) {
                    let _ = socket.send(Message::text(String::from_utf8(answer).unwrap()));
                }
                number += 1;
            }
        }
    })
}

/// Sends each message to every connection, its sender included, in one order; but
/// not to those with the query `publisher`, so that connection 0 is a subscriber.
/// `deliveries` makes of each what connection `i` gets in place of message `k`.
pub fn topic_server(deliveries: impl Fn(usize, usize, Vec<u8>) -> Vec<Vec<u8>> + Send + Sync + 'static) -> SocketAddr {
    let topic = Mutex::new((Vec::<TcpStream>::new(), 0));
    tcp_server(move |stream| {
        let member = stream.try_clone().unwrap();
        // Before the 101 leaves: who is connected is subscribed.
        #[allow(clippy::result_large_err)] // The type is tungstenite's.
        let subscribe = |request: &Request, response: Response| {
            if request.uri().query() != Some("publisher") {
                topic.lock().unwrap().0.push(member);
            }
            Ok(response)
        };
        let mut socket = tungstenite::accept_hdr(stream, subscribe).unwrap();
        while let Ok(message) = socket.read() {
            let Message::Text(text) = message else { continue };
            let (members, number) = &mut *topic.lock().unwrap();
            for (i, member) in members.iter_mut().enumerate() {
                let mut bytes = Vec::new();
                for delivery in deliveries(i, *number, text.as_bytes().to_vec()) {
                    frame::append_server(&mut bytes, OpCode::Text, &delivery);
                }
                let _ = member.write_all(&bytes);
            }
            *number += 1;
        }
        // The topic's copy of the stream would keep it open.
        let _ = socket.get_ref().shutdown(Shutdown::Both);
    })
}

/// Each path is a topic: what is sent there goes to all who connected to it, but not
/// to those with the query `publisher`.
pub fn topics_server() -> SocketAddr {
    let topics = Mutex::new(Vec::<(String, TcpStream)>::new());
    tcp_server(move |stream| {
        let member = stream.try_clone().unwrap();
        let topic = Mutex::new(String::new());
        #[allow(clippy::result_large_err)] // The type is tungstenite's.
        let subscribe = |request: &Request, response: Response| {
            *topic.lock().unwrap() = request.uri().path().to_owned();
            if request.uri().query() != Some("publisher") {
                topics.lock().unwrap().push((request.uri().path().to_owned(), member));
            }
            Ok(response)
        };
        let mut socket = tungstenite::accept_hdr(stream, subscribe).unwrap();
        let topic = topic.lock().unwrap().clone();
        while let Ok(message) = socket.read() {
            let Message::Text(text) = message else { continue };
            let mut bytes = Vec::new();
            frame::append_server(&mut bytes, OpCode::Text, text.as_bytes());
            for (_, member) in topics.lock().unwrap().iter_mut().filter(|(path, _)| *path == topic) {
                let _ = member.write_all(&bytes);
            }
        }
        topics.lock().unwrap().retain(|(_, member)| member.peer_addr().is_ok());
        let _ = socket.get_ref().shutdown(Shutdown::Both);
    })
}

/// Holds message `held` back until after the next one.
pub fn swapped(held: usize) -> impl Fn(usize, Vec<u8>) -> Vec<Vec<u8>> + Send + Sync + 'static {
    // One per thread: each connection has its own.
    thread_local!(static HELD: std::cell::RefCell<Option<Vec<u8>>> = const { std::cell::RefCell::new(None) });
    move |number, message| {
        if number == held {
            HELD.set(Some(message));
            return vec![];
        }
        [Some(message), HELD.take()].into_iter().flatten().collect()
    }
}

/// Another letter in place of the one at `at`.
pub fn changed(mut message: Vec<u8>, at: usize) -> Vec<u8> {
    message[at] = if message[at] == b'A' { b'B' } else { b'A' };
    message
}
