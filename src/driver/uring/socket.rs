//! What is under way for one connection.
//!
//! Owner: the loop.

use super::parked::Parked;
use crate::id::ConnectionId;

/// Whether the kernel receives for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Receiving {
    /// It does not: what comes stays in the socket.
    No,
    /// What comes next, in one piece.
    Once,
    /// Whatever comes.
    All,
    /// The same, until it has taken notice that it is to stop.
    Stopping,
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) id: ConnectionId,
    pub(super) receiving: Receiving,
    /// The kernel will say when it takes bytes: it did not, when it was last sent to.
    pub(super) awaits_writable: bool,
    /// Its handshake is not complete.
    pub(super) is_newcomer: bool,
    /// It has brought much at once, and may again.
    pub(super) brings_much: bool,
    /// Nothing more comes.
    pub(super) ended: bool,
    /// It is closed as soon as nothing is under way for it any more.
    pub(super) closing: bool,
    /// What it has brought and is not wanted yet.
    pub(super) parked: Option<Box<Parked>>,
    /// The last submission with a send to it.
    pub(super) submission: Option<u32>,
    /// The last turn in which it was sent to.
    pub(super) sent_in: u32,
}

impl Socket {
    pub(super) fn new(id: ConnectionId, turn: u32) -> Self {
        Self {
            id,
            receiving: Receiving::No,
            awaits_writable: false,
            is_newcomer: true,
            brings_much: false,
            ended: false,
            closing: false,
            parked: None,
            submission: None,
            sent_in: turn,
        }
    }

    /// Whether the kernel has something to do for it that will be reported.
    pub(super) fn has_operations(&self) -> bool {
        self.receiving != Receiving::No || self.awaits_writable
    }
}

/// By connection slot.
#[derive(Default, Debug)]
pub(super) struct Sockets(Vec<Option<Socket>>);

impl Sockets {
    pub(super) fn insert(&mut self, socket: Socket) {
        let slot = socket.id.slot as usize;
        if slot >= self.0.len() {
            self.0.resize_with(slot + 1, || None);
        }
        self.0[slot] = Some(socket);
    }

    /// Nothing, if the slot has another tenant by now.
    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Socket> {
        self.0.get_mut(id.slot as usize)?.as_mut().filter(|socket| socket.id == id)
    }

    /// Slots that have ever been in use; the tenants of the others are to come.
    pub(super) fn slots(&self) -> usize {
        self.0.len()
    }

    /// Who has a slot.
    pub(super) fn tenant(&self, slot: usize) -> Option<ConnectionId> {
        self.0.get(slot)?.as_ref().map(|socket| socket.id)
    }

    pub(super) fn remove(&mut self, id: ConnectionId) {
        if self.get_mut(id).is_some() {
            self.0[id.slot as usize] = None;
        }
    }
}
