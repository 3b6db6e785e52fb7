//! Sockets by completion: io_uring, on wsgate's driver. Sockets that are connected have no
//! descriptors, and messages leave together with those that are sent in the same turn.

use std::io;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Poll};
use wsgate::driver::uring::{StreamEvent, StreamId, StreamInput, Streams};
use wsgate::time::Time;

use super::{Event, Ready, Received, Socket, Sockets};

/// See the module.
#[derive(Debug)]
pub struct Uring<'s, 'r> {
    streams: &'s mut Streams<'r>,
    /// Has the worker's waker.
    poll: Poll,
    events: Events,
}

impl<'s, 'r> Uring<'s, 'r> {
    /// On a queue that has nothing but a waker.
    pub fn new(streams: &'s mut Streams<'r>, poll: Poll) -> Self {
        streams.watch(poll.as_raw_fd());
        Self { streams, poll, events: Events::with_capacity(1) }
    }
}

impl Sockets for Uring<'_, '_> {
    fn wait(&mut self, until: Option<Time>, now: Time) -> io::Result<()> {
        self.streams.wait(until.map(|until| until.since(now)))
    }

    fn next_event(&mut self) -> Option<Event> {
        let ready = Ready { slot: 0, writable: false, readable: false, ended: false };
        Some(match self.streams.next_event()? {
            StreamEvent::Watched => {
                // Takes note of it, so that the next wake is reported again.
                let _ = self.poll.poll(&mut self.events, Some(Duration::ZERO));
                Event::Wake
            }
            StreamEvent::Writable(slot) => Event::Ready(Ready { slot, writable: true, ..ready }),
            StreamEvent::Input(slot) => Event::Ready(Ready { slot, readable: true, ..ready }),
        })
    }

    fn open(&mut self, slot: usize, stream: TcpStream, is_paced: bool) -> io::Result<Socket> {
        let id = self.streams.open(slot, stream.as_raw_fd(), is_paced)?;
        Ok(Socket { stream: Some(stream), id: Some(id) })
    }

    fn connected(&mut self, socket: &mut Socket) {
        socket.stream = None;
        self.streams.begin(id(socket));
    }

    fn receive(&mut self, socket: &Socket) -> io::Result<Received<'_>> {
        Ok(match self.streams.receive(id(socket))? {
            StreamInput::Bytes(bytes) => Received::Bytes { bytes, is_all: false },
            StreamInput::Nothing => Received::Nothing,
            StreamInput::End => Received::End,
        })
    }

    fn send(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        self.streams.send(id(socket), bytes)
    }

    fn holds_back(&self, socket: &Socket) -> bool {
        self.streams.holds_back(id(socket))
    }

    fn submit(&mut self) {
        self.streams.submit();
    }

    fn close(&mut self, socket: Socket) {
        self.streams.close(id(&socket));
    }
}

fn id(socket: &Socket) -> StreamId {
    socket.id.expect("sockets of this backend have a number")
}
