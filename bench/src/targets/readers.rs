//! Subscribers that read, and a publisher that keeps to its schedule.

use std::io;
use std::net;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::rig::delays::Delays;
use crate::rig::load::socket::{Counter, Frames, Socket};
use crate::rig::load::{EVENTS_PER_TURN_MAX, READ_BUFFER_BYTES, STALL_MAX};

const PUBLISHER: Token = Token(usize::MAX);

/// From the call until the first message is due.
const LEAD: Duration = Duration::from_millis(50);

/// The load. A delay counts from when a message was due, so that a publisher that is
/// held up does not make delays look shorter.
#[derive(Debug)]
pub(super) struct Readers {
    poll: Poll,
    publisher: Socket,
    readers: Vec<Reader>,
}

/// What a run found.
#[derive(Debug)]
pub(super) struct Run {
    /// From when a message was due until a reader that is measured had read it.
    pub(super) delays: Delays,
    /// From when a message was due until it was sent: what this side is late by.
    pub(super) late: Delays,
}

#[derive(Debug)]
struct Reader {
    socket: Socket,
    counter: Counter,
    got: u32,
    measured: bool,
}

impl Readers {
    /// A load over open connections; those that are marked are measured.
    pub(super) fn new(
        publisher: net::TcpStream,
        readers: Vec<(net::TcpStream, bool)>,
        sent: &[u8],
        delivered: &[u8],
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let publisher = Socket::register(&poll, publisher, PUBLISHER, Frames::new(sent, 1))?;
        let (nothing, counter) = (Frames::new(&[], 0), Counter::new(delivered));
        let reader = |(index, (stream, measured))| {
            let socket = Socket::register(&poll, stream, Token(index), nothing.clone())?;
            Ok(Reader { socket, counter: counter.clone(), got: 0, measured })
        };
        let readers = readers.into_iter().enumerate().map(reader).collect::<io::Result<_>>()?;
        Ok(Self { poll, publisher, readers })
    }

    /// Publishes so many messages and returns when everybody has all. May be called again.
    pub(super) fn run(&mut self, interval: Duration, count: u32) -> io::Result<Run> {
        self.readers.iter_mut().for_each(|reader| reader.got = 0);
        let measured = self.readers.iter().filter(|reader| reader.measured).count();
        let mut delays = Delays::with_capacity(measured * count as usize);
        let mut late = Delays::with_capacity(count as usize);
        let mut events = Events::with_capacity(EVENTS_PER_TURN_MAX);
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        let start = Instant::now() + LEAD;
        let due = |message: u32| start + interval * message;
        let mut published = 0;
        let mut missing = self.readers.len() as u64 * u64::from(count);
        while missing > 0 {
            let now = Instant::now();
            while published < count && now >= due(published) {
                late.record(now - due(published));
                self.publisher.send(1)?;
                published += 1;
            }
            let until = if published < count { due(published).saturating_duration_since(now) } else { STALL_MAX };
            // The selector knows whole milliseconds alone; what is left is spent turning.
            self.poll.poll(&mut events, Some(Duration::from_millis(until.as_millis() as u64)))?;
            if events.is_empty() && published == count {
                return Err(io::Error::other(format!(
                    "nothing came for {STALL_MAX:?}, {missing} messages are missing"
                )));
            }
            for event in &events {
                if event.token() == PUBLISHER {
                    self.publisher.flush()?;
                    while self.publisher.read(&mut buffer)? == buffer.len() {}
                    continue;
                }
                let reader = &mut self.readers[event.token().0];
                let before = reader.got;
                loop {
                    let n = reader.socket.read(&mut buffer)?;
                    reader.got += reader.counter.take(&buffer[..n])? as u32;
                    if n < buffer.len() {
                        break;
                    }
                }
                let now = Instant::now();
                missing -= u64::from(reader.got - before);
                if reader.measured {
                    (before..reader.got).for_each(|message| delays.record(now - due(message)));
                }
            }
        }
        Ok(Run { delays, late })
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::floor::Floor;
    use crate::rig::client;
    use crate::rig::frames::{client_frame, server_frame};

    #[test]
    fn a_run_ends_when_everybody_has_every_message() {
        let (sent, delivered) = (client_frame(64), server_frame(64));
        let floor = Floor::bind(sent.len(), delivered.len()).unwrap();
        let server = floor.address().unwrap();
        thread::spawn(|| floor.run());
        let publisher = client::open(server, &["/topics/room?subscribe=off".to_owned()]).unwrap().remove(0);
        let readers = client::open(server, &vec!["/topics/room".to_owned(); 20]).unwrap();
        let readers = readers.into_iter().enumerate().map(|(n, stream)| (stream, n % 2 == 0)).collect();
        let mut readers = Readers::new(publisher, readers, &sent, &delivered).unwrap();
        for _ in 0..2 {
            let Run { delays, late } = readers.run(Duration::from_millis(1), 30).unwrap();
            assert_eq!(delays.len(), 10 * 30, "only those that are measured");
            assert_eq!(late.len(), 30);
        }
        assert!(readers.readers.iter().all(|reader| reader.got == 30));
    }
}
