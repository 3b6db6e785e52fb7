//! Servers that speak otherwise than wsgate: what is sent to subscribe, words around
//! payloads, values of each client.
#![allow(clippy::disallowed_methods)] // Servers of tests have threads.

mod common;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, mpsc};

use common::{echo_server, loadgen_with, server};
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};
use wsgate::proto::frame::{self, OpCode};

/// Speaks the part of NATS' protocol that a fan-out needs, over WebSocket: asks for
/// CONNECT, confirms with PONG, and delivers two messages in one frame where it can.
fn nats() -> SocketAddr {
    let topics = Mutex::new(Vec::<(String, TcpStream)>::new());
    let held = Mutex::new(None::<Vec<u8>>);
    server(move |mut socket| {
        let _ = socket.send(Message::text("INFO {\"server\":\"test\"}\r\n"));
        let mut connected = false;
        while let Ok(message) = socket.read() {
            let Message::Text(text) = message else { continue };
            let words: Vec<_> = text.split_whitespace().collect();
            match words[0] {
                "CONNECT" => connected = true,
                _ if !connected => return,
                "SUB" => topics.lock().unwrap().push((words[1].to_owned(), socket.get_ref().try_clone().unwrap())),
                "PING" => drop(socket.send(Message::text("PONG\r\n"))),
                "PUB" => {
                    assert_eq!(words[2], words[3].len().to_string());
                    let delivery = format!("MSG {} 1 {}\r\n{}\r\n", words[1], words[2], words[3]).into_bytes();
                    // Every second one brings the one before along.
                    let mut held = held.lock().unwrap();
                    let Some(mut both) = held.take() else {
                        *held = Some(delivery);
                        continue;
                    };
                    both.extend_from_slice(&delivery);
                    let mut bytes = Vec::new();
                    frame::append_server(&mut bytes, OpCode::Binary, &both);
                    for (topic, stream) in topics.lock().unwrap().iter_mut() {
                        if topic == words[1] {
                            let _ = stream.write_all(&bytes);
                        }
                    }
                }
                other => panic!("{other}"),
            }
        }
    })
}

const CONNECT: [&str; 2] = ["--first", "CONNECT {\"verbose\":false}\r\n"];
const SUBSCRIBE: [&str; 4] = ["--subscribe", "SUB bench 1\r\n", "--subscribe", "PING\r\n"];

#[test]
fn a_server_with_its_own_protocol_is_subscribed_and_its_deliveries_are_understood() {
    let message = ["--subscribed", "PONG", "--message", "PUB bench 64\r\n{payload}\r\n"];
    let arguments = [&CONNECT[..], &SUBSCRIBE, &message].concat();
    let run = loadgen_with("fanout", nats(), "/", "-c 4 -R 100 -d 400ms --grace 1s", &arguments);
    assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
    assert_eq!((run.count("sent"), run.count("received")), (40, 160));
}

#[test]
fn a_subscription_that_is_not_confirmed_is_named() {
    let arguments = [&CONNECT[..], &SUBSCRIBE, &["--subscribed", "WELCOME"]].concat();
    let run = loadgen_with("fanout", nats(), "/", "-c 2 -R 10 -d 100ms --timeout 200ms", &arguments);
    assert_eq!(run.json["errors_by_kind"].to_string(), "{\"subscribe timeout\":2}");
    assert!(run.json["error_examples"].to_string().contains("WELCOME"), "{}", run.json);
}

#[test]
fn an_envelope_goes_around_the_payload_and_comes_back() {
    let server = echo_server(|_, message| {
        let text = String::from_utf8(message).unwrap();
        assert!(text.starts_with("{\"from\":") && text.ends_with("\"}"), "{text}");
        vec![format!("{{\"reply\":{text}}}").into_bytes()]
    });
    for load in ["-R 100 -c 2", "-c 2 --in-flight 3"] {
        let message = ["--message", "{\"from\":{client},\"text\":\"{payload}\"}"];
        let run = loadgen_with("echo", server, "/", &format!("{load} -d 300ms"), &message);
        assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
        assert!(run.count("received") > 10 && run.count("received") == run.count("sent"));
    }
}

#[test]
fn a_text_of_the_server_is_answered() {
    let (sender, answered) = mpsc::channel();
    let server = server(move |mut socket: WebSocket<TcpStream>| {
        let _ = socket.send(Message::text("2probe"));
        while let Ok(message) = socket.read() {
            if let Message::Text(text) = message {
                sender.send(text.to_string()).unwrap();
            }
        }
    });
    loadgen_with("idle", server, "/", "-c 1 -d 200ms", &["--answer", "2probe", "3probe"]);
    assert_eq!(answered.try_iter().collect::<Vec<_>>(), ["3probe"]);
}

#[test]
fn each_client_has_its_own_path_header_and_row() {
    let (sender, seen) = mpsc::channel();
    let server = common::tcp_server(move |stream| {
        #[allow(clippy::result_large_err)] // The type is tungstenite's.
        let look = |request: &Request, response: Response| {
            let token = request.headers()["x-token"].to_str().unwrap();
            sender.send(format!("{} {token}", request.uri())).unwrap();
            Ok(response)
        };
        let mut socket = tungstenite::accept_hdr(stream, look).unwrap();
        while socket.read().is_ok() {}
    });
    let file = std::env::temp_dir().join(format!("loadgen-{}.csv", std::process::id()));
    std::fs::write(&file, "user, token\nann,t1\nbob,\"t,2\"\n").unwrap();
    let arguments = ["--csv", file.to_str().unwrap(), "--header", "X-Token: {csv.token}"];
    let run = loadgen_with("idle", server, "/{client}?user={csv.user}", "-c 3 -d 100ms -t 2", &arguments);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(run.code, 0, "{}", run.stderr);
    let mut seen: Vec<_> = seen.try_iter().collect();
    seen.sort();
    assert_eq!(seen, ["/0?user=ann t1", "/1?user=bob t,2", "/2?user=ann t1"]);
}
