//! What loadgen says about connections that fail, and how it ends those that do not.
#![allow(clippy::disallowed_methods)] // Servers of tests have threads.

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Mutex, mpsc};

use common::{Run, echo_server, loadgen, server, tcp_server};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};
use wsgate::driver::machine;

fn errors(run: &Run) -> String {
    run.json["errors_by_kind"].to_string()
}

#[test]
fn a_refused_connection_is_named_and_has_its_own_exit_code() {
    // The port was free a moment ago, and is most likely still.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = loadgen("echo", address, "-c 3 -d 1s");
    assert_eq!((run.code, errors(&run).as_str()), (3, "{\"connect refused\":3}"));
    assert!(run.stderr.contains("is the server running"), "{}", run.stderr);
    assert_eq!(run.json["verdict"], "not_connected");
}

#[test]
fn a_refused_handshake_is_named_with_its_status_and_the_servers_words() {
    let address = tcp_server(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nno guests\n");
    });
    let run = loadgen("idle", address, "-c 3 -d 1s");
    assert_eq!((run.code, errors(&run).as_str()), (3, "{\"handshake status 403\":3}"));
    assert!(run.stderr.contains("no guests"), "{}", run.stderr);
}

#[test]
fn a_server_that_ends_the_connection_instead_of_answering_is_named() {
    let run = loadgen("idle", tcp_server(drop), "-c 1 -d 1s");
    assert_eq!(run.code, 3);
    assert!(errors(&run).contains("disconnected") || errors(&run).contains("connection lost"), "{}", errors(&run));
}

#[test]
fn a_server_that_never_answers_the_upgrade_is_named() {
    let (sender, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let address = tcp_server(move |_stream| {
        let _ = released.lock().unwrap().recv(); // Until the test is over.
    });
    let run = loadgen("idle", address, "-c 2 -d 1s --timeout 100ms");
    assert_eq!((run.code, errors(&run).as_str()), (3, "{\"handshake timeout\":2}"));
    drop(sender);
}

#[test]
fn some_connections_refused_are_errors_of_a_run_that_goes_on() {
    let seats = Mutex::new(2);
    let address = tcp_server(move |mut stream| {
        let seat = std::mem::replace(&mut *seats.lock().unwrap(), 0);
        if seat == 0 {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
            return;
        }
        echo(tungstenite::accept(stream).unwrap(), usize::MAX);
    });
    let run = loadgen("echo", address, "-c 3 -R 100 -d 300ms -t 1");
    assert_eq!((run.code, errors(&run).as_str()), (1, "{\"handshake status 503\":2}"));
    assert_eq!((run.count("opened"), run.count("sent"), run.count("received")), (1, 30, 30));
}

/// Echoes that many messages.
fn echo(mut socket: WebSocket<std::net::TcpStream>, mut messages: usize) -> WebSocket<std::net::TcpStream> {
    while messages > 0
        && let Ok(message) = socket.read()
    {
        if message.is_text() {
            let _ = socket.send(message);
            messages -= 1;
        }
    }
    socket
}

#[test]
fn a_close_in_the_middle_is_named_with_its_code() {
    let address = server(|socket| {
        let mut socket = echo(socket, 5);
        let _ = socket.close(Some(CloseFrame { code: CloseCode::Away, reason: "going home".into() }));
        while socket.read().is_ok() {}
    });
    let run = loadgen("echo", address, "-c 2 -d 20s");
    assert_eq!((run.code, errors(&run).as_str()), (1, "{\"closed by server 1001\":2}"));
    assert!(run.json["error_examples"].to_string().contains("going home"), "{}", run.json);
    assert_eq!((run.count("dropped"), run.count("received")), (2, 10));
    assert_eq!(run.count("sent"), run.count("received") + run.count("lost"));
}

#[test]
fn an_end_without_close_frame_is_named() {
    let address = server(|socket| {
        let socket = echo(socket, 5);
        let _ = socket.get_ref().shutdown(std::net::Shutdown::Write);
        let _ = socket.get_ref().read_to_end(&mut Vec::new());
    });
    let run = loadgen("echo", address, "-c 2 -d 20s");
    assert_eq!((run.code, errors(&run).as_str()), (1, "{\"disconnected\":2}"));
}

#[test]
fn a_server_that_breaks_the_protocol_is_named() {
    let address = server(|socket| {
        let socket = echo(socket, 5);
        let _ = socket.get_ref().write_all(b"\x83\x00"); // Opcode 3 is not defined.
        let _ = socket.get_ref().read_to_end(&mut Vec::new());
    });
    let run = loadgen("echo", address, "-c 1 -d 20s");
    assert_eq!((run.code, errors(&run).as_str()), (1, "{\"protocol error\":1}"));
    assert!(run.json["error_examples"].to_string().contains("opcode 0x3"), "{}", run.json);
}

#[test]
fn pings_are_answered_and_connections_closed_with_1000() {
    let (sender, seen) = mpsc::channel();
    let address = server(move |mut socket| {
        socket.send(Message::Ping("are you there".into())).unwrap();
        while let Ok(message) = socket.read() {
            match message {
                Message::Pong(payload) => sender.send(format!("pong {payload:?}")).unwrap(),
                Message::Close(frame) => sender.send(format!("close {}", u16::from(frame.unwrap().code))).unwrap(),
                other => sender.send(format!("{other:?}")).unwrap(),
            }
        }
    });
    let run = loadgen("idle", address, "-c 1 -d 200ms");
    assert_eq!((run.code, run.faults()), (0, vec![]));
    assert_eq!(run.count("close_unanswered"), 0);
    assert_eq!(seen.iter().take(2).collect::<Vec<_>>(), ["pong b\"are you there\"", "close 1000"]);
    assert_eq!(run.json["mode"], "connections held, no messages");
}

#[test]
fn connections_come_from_the_given_sources_in_turn() {
    let (sender, seen) = mpsc::channel();
    let address = server(move |socket| {
        sender.send(socket.get_ref().peer_addr().unwrap().ip().to_string()).unwrap();
        echo(socket, usize::MAX);
    });
    let run = loadgen("idle", address, "-c 4 -d 100ms --source 127.0.0.2-127.0.0.3");
    assert_eq!(run.code, 0);
    let mut sources: Vec<_> = seen.iter().take(4).collect();
    sources.sort();
    assert_eq!(sources, ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"]);
}

#[test]
fn headers_and_subprotocol_reach_the_server() {
    let (sender, seen) = mpsc::channel();
    let address = tcp_server(move |mut stream| {
        let mut head = vec![0; 4096];
        let len = stream.read(&mut head).unwrap();
        sender.send(String::from_utf8_lossy(&head[..len]).into_owned()).unwrap();
    });
    loadgen("idle", address, "-c 1 -d 100ms --header Authorization:abc --subprotocol mqtt");
    let head = seen.recv().unwrap();
    assert!(head.contains("\r\nAuthorization: abc\r\n") && head.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"));
}

#[test]
fn large_messages_pass_in_pieces() {
    let server = echo_server(|_, message| vec![message]);
    let run = loadgen("echo", server, "-c 2 -s 1000000 --in-flight 3 -d 300ms");
    assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
    assert!(run.count("received") >= 6);
}

#[test]
fn a_server_that_does_not_read_is_named() {
    let (sender, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let address = server(move |_socket| {
        let _ = released.lock().unwrap().recv(); // Until the test is over.
    });
    // 10 MB and more are over what the kernel and loadgen hold for one connection.
    let run = loadgen("echo", address, "-c 1 -s 100000 -R 1000 -d 1s --grace 100ms");
    assert_eq!((run.code, errors(&run).as_str()), (1, "{\"server not reading\":1}"));
    drop(sender);
}

#[test]
fn each_thread_holds_as_many_connections_as_the_process_may_open_files() {
    machine::raise_descriptor_limit(); // The server's part is in this process.
    let address = echo_server(|_, message| vec![message]);
    let script =
        format!("ulimit -n 300 && exec \"$0\" idle ws://{address}/ -c 500 -t 2 -d 100ms --json --allow-invalid");
    let output = Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_loadgen")]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{stderr}"));
    assert_eq!((json["opened"].as_u64(), output.status.code()), (Some(500), Some(0)), "{json}");
}
