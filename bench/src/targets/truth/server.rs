//! An echo server that takes a known time and logs what it took: from when it read a
//! message until it wrote the answer.
//!
//! It never sleeps, so that no timer and no wake-up of its own lies in what it does not
//! log. It needs a processor to itself.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fastrand::Rng;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use wsgate::proto::frame::{FrameHeader, OpCode, append_server};
use wsgate::proto::handshake::accept_key;
use wsgate::proto::mask;

use super::law::{Law, STALL, STALL_PERIOD};
use crate::rig::server::bind_to;

const LISTENER: Token = Token(usize::MAX);
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const KEY: &str = "sec-websocket-key:";

/// A running server, on a thread of its own.
pub(super) struct TrueServer {
    pub(super) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Vec<Duration>>>,
}

impl TrueServer {
    pub(super) fn start(law: Law, seed: u64, processor: usize) -> io::Result<Self> {
        let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let address = listener.local_addr()?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            bind_to(&[processor])?;
            let server = Loop {
                poll,
                listener,
                law,
                rng: Rng::with_seed(seed),
                connections: Vec::new(),
                due: BinaryHeap::new(),
                log: Vec::new(),
            };
            server.run(&stopped)
        });
        Ok(Self { address, stop, thread })
    }

    /// Stops it and takes its log: what each answer took.
    pub(super) fn stop(self) -> io::Result<Vec<Duration>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the server panicked")))
    }
}

struct Loop {
    poll: Poll,
    listener: TcpListener,
    law: Law,
    rng: Rng,
    connections: Vec<Option<Connection>>,
    /// Answers by their time.
    due: BinaryHeap<Reverse<Answer>>,
    log: Vec<Duration>,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    is_open: bool,
    /// An answer never overtakes the one before it.
    last_due: Instant,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Answer {
    at: Instant,
    /// In the order of their arrival where times are the same.
    number: usize,
    connection: usize,
    read_at: Instant,
    frame: Vec<u8>,
}

impl Loop {
    fn run(mut self, stop: &AtomicBool) -> io::Result<Vec<Duration>> {
        let (mut events, begun) = (Events::with_capacity(1024), Instant::now());
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            if self.law == Law::Stalls && is_stalled(begun.elapsed()) {
                continue;
            }
            self.poll.poll(&mut events, Some(Duration::ZERO))?;
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(connection) => self.read(connection, &mut number)?,
                }
            }
            self.answer()?;
        }
        Ok(self.log)
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nodelay(true)?;
                    let token = Token(self.connections.len());
                    self.poll.registry().register(&mut stream, token, Interest::READABLE)?;
                    let (input, last_due) = (Vec::new(), Instant::now());
                    self.connections.push(Some(Connection { stream, input, is_open: false, last_due }));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn read(&mut self, index: usize, number: &mut usize) -> io::Result<()> {
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        let mut bytes = [0; 16 * 1024];
        let ended = loop {
            match connection.stream.read(&mut bytes) {
                Ok(0) => break true,
                Ok(len) => connection.input.extend_from_slice(&bytes[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
                Err(_) => break true,
            }
        };
        let read_at = Instant::now();
        if !connection.is_open && connection.input.ends_with(END_OF_HEAD) {
            let response = upgrade(&connection.input)?;
            connection.stream.write_all(&response)?;
            connection.input.clear();
            connection.is_open = true;
        }
        while connection.is_open
            && let Some((header, payload)) = take_frame(&mut connection.input)?
        {
            let mut frame = Vec::with_capacity(payload.len() + 4);
            append_server(&mut frame, header.opcode, &payload);
            let delay = if header.opcode == OpCode::Close { Duration::ZERO } else { self.law.draw(&mut self.rng) };
            let at = connection.last_due.max(read_at + delay);
            connection.last_due = at;
            *number += 1;
            self.due.push(Reverse(Answer { at, number: *number, connection: index, read_at, frame }));
        }
        if ended {
            self.connections[index] = None;
        }
        Ok(())
    }

    fn answer(&mut self) -> io::Result<()> {
        while self.due.peek().is_some_and(|Reverse(answer)| answer.at <= Instant::now()) {
            let Some(Reverse(answer)) = self.due.pop() else { break };
            let Some(connection) = &mut self.connections[answer.connection] else { continue };
            // Before it is written: over loopback that is also the work of receiving it.
            if !is_close(&answer.frame) {
                self.log.push(answer.read_at.elapsed());
            }
            connection.stream.write_all(&answer.frame)?;
        }
        Ok(())
    }
}

/// Stalls lie at the ends of their periods: connections are opened before the first.
fn is_stalled(since_start: Duration) -> bool {
    let period = STALL_PERIOD.as_nanos();
    since_start.as_nanos() % period >= period - STALL.as_nanos()
}

fn is_close(frame: &[u8]) -> bool {
    frame.first() == Some(&0x88)
}

fn upgrade(head: &[u8]) -> io::Result<Vec<u8>> {
    let head = String::from_utf8_lossy(head);
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(KEY));
    let line = line.ok_or_else(|| io::Error::other(format!("no key in {head:?}")))?;
    let accept = accept_key(line[KEY.len()..].trim());
    let mut response = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n".to_vec();
    response.extend_from_slice(b"Sec-WebSocket-Accept: ");
    response.extend_from_slice(&accept);
    response.extend_from_slice(END_OF_HEAD);
    Ok(response)
}

/// The next frame, unmasked, if it is whole.
fn take_frame(input: &mut Vec<u8>) -> io::Result<Option<(FrameHeader, Vec<u8>)>> {
    let Some((header, header_len)) = FrameHeader::decode(input).map_err(io::Error::other)? else { return Ok(None) };
    let end = header_len + header.payload_len as usize;
    if input.len() < end {
        return Ok(None);
    }
    let mut payload = input[header_len..end].to_vec();
    if let Some(key) = header.mask {
        mask::apply(&mut payload, key, 0);
    }
    input.drain(..end);
    Ok(Some((header, payload)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::client;

    #[test]
    fn answers_are_what_came_and_the_log_is_what_they_took() {
        let law = Law::Fixed(Duration::from_millis(3));
        let processors = wsgate::driver::machine::processors();
        let server = TrueServer::start(law, 1, processors[0]).unwrap();
        let mut stream = client::open(server.address, &["/".to_owned()]).unwrap().remove(0);
        let begun = Instant::now();
        stream.write_all(&bench::client_frames(OpCode::Binary, 5, 2)).unwrap();
        let mut answers = [0; 14];
        stream.read_exact(&mut answers).unwrap();
        let seen = begun.elapsed();
        assert_eq!(answers, *b"\x82\x05aaaaa\x82\x05aaaaa");
        let log = server.stop().unwrap();
        assert_eq!(log.len(), 2);
        assert!(log.iter().all(|&took| Duration::from_millis(3) <= took && took <= seen), "{log:?}, {seen:?}");
    }

    #[test]
    fn a_fifth_of_the_time_is_stalled() {
        let stalled = (0..10_000).filter(|&at| is_stalled(Duration::from_millis(at))).count();
        assert_eq!(stalled, 2_000);
        assert!(!is_stalled(Duration::ZERO), "connections are opened first");
    }
}
