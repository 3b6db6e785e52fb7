//! Fixed work of the sans-IO core, for `bench gate` to count: no clock, no socket, no
//! chance, so that two runs of one build count the same.
//!
//! `gate-work NAME` does one piece of work and prints what it allocated, as a line of
//! JSON; run under callgrind, what `counted::collect` executes is its instructions.
//! `gate-work` alone prints the names.
//!
//! `bench gate` puts this package as it is into an older revision, to do the same work
//! there. So it uses the library's public face alone.

mod compression;
mod counted;
mod frames;
mod gateway;
mod keepalive;
mod shard;

use std::process::ExitCode;

use counted::Counted;

/// A piece of work: its name, what it is counted by, and how it is done.
type Work = (&'static str, &'static str, fn() -> Counted);

const WORKS: &[Work] = &[
    ("decode-20", "message", || frames::decode(20, 1000)),
    ("decode-64k-text", "message", || frames::decode_text(65_536, 10)),
    ("decode-pieces", "message", || frames::decode_pieces(1024, 7, 50)),
    ("encode-20", "message", || frames::encode(20, 1000)),
    ("encode-64k", "message", || frames::encode(65_536, 20)),
    ("unmask-64k", "message", || frames::unmask(65_536, 20)),
    ("utf8-64k", "message", || frames::validate(65_536, 20)),
    ("handshake", "request", || frames::handshake(200)),
    ("connect", "connection", || shard::connect("/echo", 1024)),
    ("connect-topic", "connection", || shard::connect("/topics/room", 1024)),
    ("connect-own-topic", "connection", || shard::connect_own_topics(1024)),
    ("leave-topic", "connection", || shard::leave(4096)),
    ("greeting", "connection", || shard::connect("/chat", 128)),
    ("echo-20", "message", || shard::echo(20, 1, 400)),
    ("echo-20-x16", "message", || shard::echo(20, 16, 100)),
    ("echo-64k", "message", || shard::echo(65_536, 1, 20)),
    ("publish-1", "delivery", || shard::publish(1, 64, 1, 400)),
    ("publish-100", "delivery", || shard::publish(100, 64, 1, 40)),
    ("publish-100-1k-x16", "delivery", || shard::publish(100, 1024, 16, 10)),
    ("publish-10000", "delivery", || shard::publish(10_000, 64, 1, 3)),
    ("publish-10000-x16", "delivery", || shard::publish(10_000, 64, 16, 2)),
    ("ping", "connection", || keepalive::ping(4096)),
    ("deflate-100", "delivery", || compression::publish(100, 512, 20)),
    ("inflate", "message", || compression::receive(512, 100)),
];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [name] = &arguments[..] else {
        WORKS.iter().for_each(|(name, ..)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let Some((_, unit, work)) = WORKS.iter().find(|(known, ..)| known == name) else {
        eprintln!("gate-work: no work is called {name:?}; without an argument it lists them");
        return ExitCode::FAILURE;
    };
    println!("{}", work().to_json(unit));
    ExitCode::SUCCESS
}
