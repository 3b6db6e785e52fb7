//! Sockets by readiness: epoll, through mio. All of them are read into one buffer.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use wsgate::time::Time;

use super::{Event, Ready, Received, Socket, Sockets, WAKE};
use crate::alarm::Alarm;
use crate::limits::{EVENTS_PER_TURN, RECEIVE_BUFFER_BYTES};

const ALARM: Token = Token(usize::MAX - 1);

/// See the module.
#[derive(Debug)]
pub struct Epoll {
    poll: Poll,
    events: Events,
    /// Those of the last wait that nobody has asked for.
    pending: VecDeque<Event>,
    alarm: Alarm,
    receive_buffer: Box<[u8]>,
}

impl Epoll {
    /// On a queue that may have a waker with the token [`WAKE`].
    pub fn new(poll: Poll) -> io::Result<Self> {
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            pending: VecDeque::with_capacity(EVENTS_PER_TURN),
            alarm,
            receive_buffer: vec![0; RECEIVE_BUFFER_BYTES].into(),
        })
    }
}

impl Sockets for Epoll {
    fn wait(&mut self, until: Option<Time>, now: Time) -> io::Result<()> {
        let is_due = until.is_some_and(|at| at <= now);
        if !is_due {
            self.alarm.set(until, now)?;
        }
        match self.poll.poll(&mut self.events, is_due.then_some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &self.events {
            match event.token() {
                WAKE => self.pending.push_back(Event::Wake),
                ALARM => self.alarm.rang(),
                Token(slot) => {
                    let ended = event.is_read_closed() || event.is_error();
                    let readable = event.is_readable() || ended;
                    self.pending.push_back(Event::Ready(Ready {
                        slot,
                        writable: event.is_writable(),
                        readable,
                        ended,
                    }));
                }
            }
        }
        Ok(())
    }

    fn next_event(&mut self) -> Option<Event> {
        self.pending.pop_front()
    }

    fn open(&mut self, slot: usize, mut stream: TcpStream, _is_paced: bool) -> io::Result<Socket> {
        self.poll.registry().register(&mut stream, Token(slot), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Socket { stream: Some(stream), id: None })
    }

    fn connected(&mut self, _socket: &mut Socket) {}

    fn receive(&mut self, socket: &Socket) -> io::Result<Received<'_>> {
        let buffer = &mut self.receive_buffer;
        loop {
            return match recv(stream(socket), &mut buffer[..], RecvFlags::empty()) {
                Ok((_, 0)) => Ok(Received::End),
                // A read that does not fill the buffer has emptied the socket.
                Ok((_, len)) => Ok(Received::Bytes { is_all: len < buffer.len(), bytes: &mut buffer[..len] }),
                Err(Errno::AGAIN) => Ok(Received::Nothing),
                Err(Errno::INTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }

    /// One call of the system, without the C library's own, which lets other threads cancel
    /// it and costs as much as half a message.
    fn send(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        loop {
            return match send(stream(socket), bytes, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(0),
                result => Ok(result?),
            };
        }
    }

    fn holds_back(&self, _socket: &Socket) -> bool {
        false
    }

    fn submit(&mut self) {}

    fn close(&mut self, socket: Socket) {
        drop(socket);
    }
}

fn stream(socket: &Socket) -> &TcpStream {
    socket.stream.as_ref().expect("sockets of this backend keep their stream")
}
