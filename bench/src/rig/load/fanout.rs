//! One connection that publishes, and many that get each message.

use std::io;
use std::net;

use mio::event::Event;
use mio::{Poll, Token};

use super::Load;
use super::socket::{Counter, Frames, Socket};
use crate::rig::secure::SecureStream;

const PUBLISHER: Token = Token(usize::MAX);

/// When the next message goes out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    /// As soon as fewer than so many are under way.
    InFlight(usize),
    /// So many at once, in one write as far as the socket takes it; the next ones when
    /// everybody has them all.
    Bursts(usize),
}

/// The load.
#[derive(Debug)]
pub(crate) struct FanOut {
    poll: Poll,
    publisher: Socket,
    subscribers: Vec<Subscriber>,
    pace: Pace,
    /// How many subscribers have yet to get each message that is under way, by its
    /// number modulo the length.
    missing: Vec<usize>,
    published: u64,
    /// Messages that everybody has.
    complete: u64,
    arrived: u64,
}

#[derive(Debug)]
struct Subscriber {
    socket: Socket,
    counter: Counter,
    /// Messages it got.
    got: u64,
}

impl FanOut {
    /// A load over an open connection that publishes `sent`, and open connections that
    /// get `delivered` for it.
    pub(crate) fn new(
        publisher: net::TcpStream,
        subscribers: Vec<net::TcpStream>,
        sent: &[u8],
        delivered: &[u8],
        pace: Pace,
    ) -> io::Result<Self> {
        let nothing = Frames::new(&[], 0);
        let register = |poll: &Poll, stream, token| Socket::register(poll, stream, token, nothing.clone());
        Self::with(publisher, subscribers, register, sent, delivered, pace)
    }

    /// The same with subscribers that speak TLS.
    pub(crate) fn secure(
        publisher: net::TcpStream,
        subscribers: Vec<SecureStream>,
        sent: &[u8],
        delivered: &[u8],
        pace: Pace,
    ) -> io::Result<Self> {
        Self::with(publisher, subscribers, Socket::register_secure, sent, delivered, pace)
    }

    fn with<T>(
        publisher: net::TcpStream,
        subscribers: Vec<T>,
        register: impl Fn(&Poll, T, Token) -> io::Result<Socket>,
        sent: &[u8],
        delivered: &[u8],
        pace: Pace,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let (Pace::InFlight(in_flight) | Pace::Bursts(in_flight)) = pace;
        let publisher = Socket::register(&poll, publisher, PUBLISHER, Frames::new(sent, in_flight))?;
        let counter = Counter::new(delivered);
        let subscribers = subscribers
            .into_iter()
            .enumerate()
            .map(|(index, stream)| {
                let socket = register(&poll, stream, Token(index))?;
                Ok(Subscriber { socket, counter: counter.clone(), got: 0 })
            })
            .collect::<io::Result<_>>()?;
        let missing = vec![0; in_flight];
        Ok(Self { poll, publisher, subscribers, pace, missing, published: 0, complete: 0, arrived: 0 })
    }

    fn slot(&self, message: u64) -> usize {
        (message % self.missing.len() as u64) as usize
    }
}

impl Load for FanOut {
    fn poll(&mut self) -> &mut Poll {
        &mut self.poll
    }

    fn start(&mut self) -> io::Result<()> {
        self.refill()
    }

    fn take_event(&mut self, event: &Event, buffer: &mut [u8]) -> io::Result<()> {
        if event.token() == PUBLISHER {
            if event.is_writable() {
                self.publisher.flush()?;
            }
            // Some servers answer each publication; it is not a delivery.
            while self.publisher.read(buffer)? == buffer.len() {}
            return Ok(());
        }
        let subscriber = &mut self.subscribers[event.token().0];
        let before = subscriber.got;
        loop {
            let n = subscriber.socket.read(buffer)?;
            subscriber.got += subscriber.counter.take(&buffer[..n])? as u64;
            if n < buffer.len() {
                break;
            }
        }
        let got = subscriber.got;
        if got > self.published {
            return Err(io::Error::other(format!("a subscriber got {got} messages of {}", self.published)));
        }
        self.arrived += got - before;
        for message in before..got {
            let slot = self.slot(message);
            self.missing[slot] -= 1;
        }
        while self.complete < self.published && self.missing[self.slot(self.complete)] == 0 {
            self.complete += 1;
        }
        Ok(())
    }

    fn refill(&mut self) -> io::Result<()> {
        let under_way = (self.published - self.complete) as usize;
        let room = match self.pace {
            Pace::Bursts(_) if under_way > 0 => 0,
            Pace::InFlight(count) | Pace::Bursts(count) => count - under_way,
        };
        for _ in 0..room {
            let slot = self.slot(self.published);
            self.missing[slot] = self.subscribers.len();
            self.published += 1;
        }
        self.publisher.send(room)
    }

    fn arrived(&self) -> u64 {
        self.arrived
    }

    fn under_way(&self) -> u64 {
        (self.published - self.complete) * self.subscribers.len() as u64
    }
}
