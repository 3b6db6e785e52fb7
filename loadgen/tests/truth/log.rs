//! Servers that draw what they do to each message, and keep count of it.

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use fastrand::Rng;
use tungstenite::{Message, WebSocket};

use crate::common::{Run, changed, tcp_server};

/// What a server did to the messages of a run, or of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Log {
    pub(crate) taken: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) corrupted: u64,
}

impl Log {
    fn plus(self, other: Self) -> Self {
        Self {
            taken: self.taken + other.taken,
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
            corrupted: self.corrupted + other.corrupted,
        }
    }

    /// The same as loadgen saw it.
    pub(crate) fn of(run: &Run) -> Self {
        Self {
            taken: run.count("sent"),
            lost: run.count("lost"),
            duplicated: run.count("duplicated"),
            reordered: run.count("reordered"),
            corrupted: run.count("corrupted"),
        }
    }
}

/// What may be done to a message; the chance of each is one in `chance`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Deed {
    Lose,
    Repeat,
    /// Send it behind the next one that arrives well.
    Hold,
    Change,
}

/// An echo server that does these deeds now and then, as a seed has it.
pub(crate) struct Mischief {
    pub(crate) address: SocketAddr,
    logs: Receiver<Log>,
}

impl Mischief {
    pub(crate) fn start(seed: u64, chance: usize, deeds: &'static [Deed]) -> Self {
        let (sender, logs) = mpsc::channel();
        let connections = std::sync::atomic::AtomicU64::new(0);
        let address = tcp_server(move |stream| {
            let number = connections.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let rng = Rng::with_seed(seed.wrapping_mul(1_000).wrapping_add(number));
            let log = serve(tungstenite::accept(stream).unwrap(), rng, chance, deeds);
            let _ = sender.send(log);
        });
        Self { address, logs }
    }

    /// What was done on so many connections, all of which have ended.
    pub(crate) fn log(&self, connections: usize) -> Log {
        let next = |_| self.logs.recv_timeout(Duration::from_secs(20)).unwrap();
        (0..connections).map(next).fold(Log::default(), Log::plus)
    }
}

fn serve(mut socket: WebSocket<TcpStream>, mut rng: Rng, chance: usize, deeds: &[Deed]) -> Log {
    let mut log = Log::default();
    let mut held: Option<Vec<u8>> = None;
    while let Ok(message) = socket.read() {
        let Message::Text(text) = message else { continue };
        let bytes = text.as_bytes().to_vec();
        log.taken += 1;
        let deed = deeds.get(rng.usize(..deeds.len() * chance)).copied();
        let answers = match deed {
            Some(Deed::Lose) => {
                log.lost += 1;
                vec![]
            }
            Some(Deed::Repeat) => {
                log.duplicated += 1;
                vec![bytes.clone(), bytes]
            }
            Some(Deed::Hold) if held.is_none() => {
                held = Some(bytes);
                vec![]
            }
            Some(Deed::Change) => {
                log.corrupted += 1;
                let last = bytes.len() - 1;
                vec![changed(bytes, last)]
            }
            Some(Deed::Hold) | None => {
                log.reordered += u64::from(held.is_some());
                [Some(bytes), held.take()].into_iter().flatten().collect()
            }
        };
        for answer in answers {
            let _ = socket.send(Message::text(String::from_utf8(answer).unwrap()));
        }
    }
    // Nothing came that it could have been sent behind.
    log.lost += u64::from(held.is_some());
    log
}
