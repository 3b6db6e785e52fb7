//! permessage-deflate, against a server that speaks it or does not.
#![allow(clippy::disallowed_methods)] // Servers of tests have threads.

mod common;

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::mpsc;

use common::{echo_server, loadgen, tcp_server};
use tungstenite::handshake::server::{Request, Response};
use wsgate::proto::Role;
use wsgate::proto::deflate::Deflater;
use wsgate::proto::frame::{self, OpCode};
use wsgate::proto::inflate::Inflater;
use wsgate::proto::message::{AssemblyPool, Compressible, Event, MessageReader, ReaderRules};

/// Echoes compressed messages compressed, answers the offer with `answer`, and tells
/// how many bytes each message had on its way here.
fn deflating_echo(answer: &'static str) -> (SocketAddr, mpsc::Receiver<usize>) {
    let (sender, sizes) = mpsc::channel();
    let address = tcp_server(move |stream| {
        #[allow(clippy::result_large_err)] // The type is tungstenite's.
        let agree = |request: &Request, mut response: Response| {
            let offer = request.headers()["sec-websocket-extensions"].to_str().unwrap();
            assert!(offer.starts_with("permessage-deflate"), "{offer}");
            response.headers_mut().insert("sec-websocket-extensions", answer.parse().unwrap());
            Ok(response)
        };
        let Ok(socket) = tungstenite::accept_hdr(stream, agree) else { return };
        let mut stream = socket.get_ref().try_clone().unwrap();
        let rules = ReaderRules { compressible: Compressible::Messages, ..ReaderRules::new(Role::Server, 1 << 20) };
        let (mut reader, mut pool) = (MessageReader::default(), AssemblyPool::default());
        let (mut inflater, mut deflater) = (Inflater::default(), Deflater::new(6, 15));
        let (mut text, mut deflated) = (Vec::new(), Vec::new());
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            let mut input = &mut buffer[..len];
            let mut out = Vec::new();
            while let Some(event) = reader.next(&mut input, &rules, &mut pool).unwrap() {
                match event {
                    Event::Compressed { payload, .. } => {
                        let _ = sender.send(payload.len());
                        inflater.inflate(payload, 1 << 20, &mut text).unwrap();
                        deflater.deflate_alone(&text, &mut deflated);
                        let start = out.len();
                        frame::append_server(&mut out, OpCode::Text, &deflated);
                        out[start] |= frame::COMPRESSED << 4;
                    }
                    Event::Close(_) => frame::append_server(&mut out, OpCode::Close, &1000u16.to_be_bytes()),
                    other => panic!("not compressed: {other:?}"),
                }
            }
            let _ = stream.write_all(&out);
        }
    });
    (address, sizes)
}

#[test]
fn messages_are_compressed_in_both_directions_where_the_server_agrees() {
    let (address, sizes) = deflating_echo("permessage-deflate; server_no_context_takeover; client_no_context_takeover");
    for more in ["-R 100", "--in-flight 3"] {
        let run = loadgen("echo", address, &format!("-c 2 -d 300ms -s 1000 --compression {more}"));
        assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
        assert!(run.count("received") > 5 && run.count("received") == run.count("sent"));
    }
    // Six bits of each byte say something.
    assert!(sizes.try_iter().all(|size| (700..850).contains(&size)));
}

#[test]
fn a_server_without_compression_is_spoken_to_without() {
    let run = loadgen("echo", echo_server(|_, message| vec![message]), "-c 2 -d 200ms -R 100 --compression");
    assert_eq!((run.code, run.faults(), run.count("received")), (0, vec![], 20), "{}", run.json);
}

#[test]
fn an_answer_that_was_not_offered_is_refused() {
    let (address, _sizes) = deflating_echo("permessage-deflate");
    let run = loadgen("echo", address, "-c 1 -d 100ms -R 10 --compression");
    assert_eq!(run.code, 3);
    assert!(run.json["error_examples"].to_string().contains("server_no_context_takeover"), "{}", run.json);
}
