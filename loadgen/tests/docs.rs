//! Every command of `docs/loadgen.md` is run as it stands there: each of those in a
//! block that is marked `sh`, in a shell, one after the other in one directory, in which
//! `loadgen/` is that of the repository.
//!
//! What is put in the place of something else:
//! 1. Addresses: of `127.0.0.1:8000` and `:8001` those of a wsgate and its admin side, of
//!    `127.0.0.1:8080` that of a server that speaks NATS over WebSocket.
//! 2. Times (`-d`, `--warm-up`) are 300 ms, and connections (`-c`) at most 50.
//! 3. `cargo` does nothing, and `pgrep` finds the process that wsgate runs in here.
//!
//! A busy machine may break a condition of `--fail-if` or make a run invalid, so these two
//! exit codes are as good as 0. All others are a wrong command.
#![allow(clippy::disallowed_methods)] // Servers of tests have threads.

mod common;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use common::server;
use tungstenite::Message;
use wsgate::config::Config;
use wsgate::proto::frame::{self, OpCode};
use wsgate::server::Server;

const DOCUMENT: &str = include_str!("../../docs/loadgen.md");
const CONNECTIONS_MAX: usize = 50;

/// The commands of all `sh` blocks, lines that end with a backslash joined with the next.
fn commands(document: &str) -> Vec<String> {
    let blocks = document.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let joined = blocks.flat_map(|block| {
        let block = block.replace("\\\n", " ");
        block.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    joined.filter(|line| !line.trim().is_empty() && !line.starts_with('#')).collect()
}

/// The second and the first rule.
fn substituted(command: &str, addresses: &[(&str, SocketAddr)]) -> String {
    let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
    for i in 1..words.len() {
        match words[i - 1].as_str() {
            "-d" | "--warm-up" => words[i] = "300ms".to_owned(),
            "-c" => words[i] = words[i].parse::<usize>().unwrap().min(CONNECTIONS_MAX).to_string(),
            _ => {}
        }
    }
    let text = words.join(" ");
    addresses.iter().fold(text, |text, (written, address)| text.replace(written, &address.to_string()))
}

/// The part of NATS' protocol that the document uses.
fn nats() -> SocketAddr {
    let topics = Mutex::new(Vec::<(String, TcpStream)>::new());
    server(move |mut socket| {
        let _ = socket.send(Message::binary(b"INFO {\"server\":\"test\"}\r\n".as_slice()));
        while let Ok(message) = socket.read() {
            let Message::Binary(bytes) = message else { continue };
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            let words: Vec<_> = text.split_whitespace().collect();
            match words[..] {
                ["CONNECT", ..] => {}
                ["SUB", topic, _] => {
                    topics.lock().unwrap().push((topic.to_owned(), socket.get_ref().try_clone().unwrap()));
                }
                ["PING"] => drop(socket.send(Message::binary(b"PONG\r\n".as_slice()))),
                ["PUB", topic, len, payload] => {
                    let delivery = format!("MSG {topic} 1 {len}\r\n{payload}\r\n");
                    let mut bytes = Vec::new();
                    frame::append_server(&mut bytes, OpCode::Binary, delivery.as_bytes());
                    for (_, stream) in topics.lock().unwrap().iter_mut().filter(|(name, _)| name == topic) {
                        let _ = std::io::Write::write_all(stream, &bytes);
                    }
                }
                _ => panic!("{text}"),
            }
        }
        // The topic's copy of the stream would keep it open.
        let _ = socket.get_ref().shutdown(std::net::Shutdown::Both);
    })
}

/// A directory with the programs of the third rule, and loadgen.
fn programs(directory: &Path) -> PathBuf {
    let programs = directory.join("bin");
    fs::create_dir_all(&programs).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_loadgen"), programs.join("loadgen")).unwrap();
    for (name, script) in [("cargo", "true".to_owned()), ("pgrep", format!("echo {}", std::process::id()))] {
        let file = programs.join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    programs
}

#[test]
fn every_command_of_the_document_runs() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config { listen: vec![any.into()], admin: any, shards: 1, ..Config::default() };
    let wsgate = Server::start(&config).unwrap();
    let clients = wsgate.clients_addresses()[0].to_string().parse().unwrap();
    let addresses =
        [("127.0.0.1:8000", clients), ("127.0.0.1:8001", wsgate.admin_address()), ("127.0.0.1:8080", nats())];

    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docs");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_MANIFEST_DIR"), directory.join("loadgen")).unwrap();
    let path = format!("{}:{}", programs(&directory).display(), std::env::var("PATH").unwrap());
    let commands = commands(DOCUMENT);
    assert!(commands.len() >= 8, "{commands:?}");
    for command in &commands {
        let run = substituted(command, &addresses);
        let output =
            Command::new("bash").args(["-c", &run]).env("PATH", &path).current_dir(&directory).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0 | 5 | 6)), "{command}\nas {run}\n{}: {said}", output.status);
    }
    // What they leave is what the document says.
    for file in ["report.html", "run.json", "before1.json", "after3.json"] {
        assert!(fs::metadata(directory.join(file)).is_ok_and(|file| file.len() > 1_000), "{file}");
    }
}

#[test]
fn the_rules_change_what_they_say_and_nothing_else() {
    let document =
        "```sh\n# a remark\nloadgen echo ws://127.0.0.1:8000/ -c 1000 \\\n  -d 10s -R 5\n```\n```json\n{}\n```\n";
    let commands = commands(document);
    assert_eq!(commands, ["loadgen echo ws://127.0.0.1:8000/ -c 1000    -d 10s -R 5"]);
    let run = substituted(&commands[0], &[("127.0.0.1:8000", ([127, 0, 0, 1], 9).into())]);
    assert_eq!(run, "loadgen echo ws://127.0.0.1:9/ -c 50    -d 300ms -R 5");
}
