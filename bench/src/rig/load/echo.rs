//! Connections whose every message comes back to them.

use std::io;
use std::net;

use mio::event::Event;
use mio::{Poll, Token};

use super::Load;
use super::socket::{Counter, Frames, Socket};

/// Who sends when a message has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// The connection that got it: each keeps this many under way.
    Same { in_flight: usize },
    /// Any: this many are under way in all.
    Random { in_flight: usize },
}

/// The load.
#[derive(Debug)]
pub(crate) struct Echo {
    poll: Poll,
    connections: Vec<(Socket, Counter)>,
    next: Next,
    /// Connections with what they are to send at the end of the turn.
    owed: Vec<(usize, usize)>,
    arrived: u64,
    sent: u64,
    random: u64,
}

impl Echo {
    /// A load over open connections that send `sent` and get `returned` for it.
    pub(crate) fn new(streams: Vec<net::TcpStream>, sent: &[u8], returned: &[u8], next: Next) -> io::Result<Self> {
        let poll = Poll::new()?;
        let (Next::Same { in_flight } | Next::Random { in_flight }) = next;
        let (frames, counter) = (Frames::new(sent, in_flight), Counter::new(returned));
        let connections = streams
            .into_iter()
            .enumerate()
            .map(|(index, stream)| {
                Ok((Socket::register(&poll, stream, Token(index), frames.clone())?, counter.clone()))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { poll, connections, next, owed: Vec::new(), arrived: 0, sent: 0, random: 0x9e37_79b9_7f4a_7c15 })
    }

    fn send(&mut self, index: usize, count: usize) -> io::Result<()> {
        self.sent += count as u64;
        self.connections[index].0.send(count)
    }

    /// Xorshift: the same connections in the same order in every run.
    fn draw(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % self.connections.len() as u64) as usize
    }

    fn send_anywhere(&mut self, count: usize) -> io::Result<()> {
        for _ in 0..count {
            let index = self.draw();
            self.send(index, 1)?;
        }
        Ok(())
    }
}

impl Load for Echo {
    fn poll(&mut self) -> &mut Poll {
        &mut self.poll
    }

    fn start(&mut self) -> io::Result<()> {
        self.owed.clear();
        match self.next {
            Next::Same { in_flight } => (0..self.connections.len()).try_for_each(|index| self.send(index, in_flight)),
            Next::Random { in_flight } => self.send_anywhere(in_flight),
        }
    }

    fn take_event(&mut self, event: &Event, buffer: &mut [u8]) -> io::Result<()> {
        let Token(index) = event.token();
        let (socket, counter) = &mut self.connections[index];
        if event.is_writable() {
            socket.flush()?;
        }
        let mut arrived = 0;
        loop {
            let n = socket.read(buffer)?;
            arrived += counter.take(&buffer[..n])?;
            if n < buffer.len() {
                break;
            }
        }
        if arrived > 0 {
            self.arrived += arrived as u64;
            self.owed.push((index, arrived));
        }
        Ok(())
    }

    fn refill(&mut self) -> io::Result<()> {
        let mut owed = std::mem::take(&mut self.owed);
        for (index, count) in owed.drain(..) {
            match self.next {
                Next::Same { .. } => self.send(index, count)?,
                Next::Random { .. } => self.send_anywhere(count)?,
            }
        }
        self.owed = owed;
        Ok(())
    }

    fn arrived(&self) -> u64 {
        self.arrived
    }

    fn under_way(&self) -> u64 {
        self.sent - self.arrived
    }
}
