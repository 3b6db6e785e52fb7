//! What a run does: which member sends which message when, and what is made of
//! the messages that arrive. Sans-IO; one instance per worker.
//!
//! Owner: `worker`, which calls [`Scenario`] in the order of its methods. A member
//! is one connection of this worker, numbered from 0.

use wsgate::time::Time;

use crate::failure::Failure;
use crate::payload::Stamp;
use crate::schedule::Window;
use crate::tally::Tally;

pub mod churn;
pub mod echo;
pub mod fanout;
pub mod idle;
mod places;
pub mod storm;

/// How fast messages are sent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// At a fixed rate, whatever the server does. Latency counts from the time at
    /// which a message was meant to leave.
    Open {
        /// Messages per second over all senders.
        rate: f64,
    },
    /// The next message when an earlier one was answered. Latency is service time:
    /// a server that stalls is asked less while it does.
    Closed {
        /// Unanswered messages per sender.
        in_flight: u32,
    },
}

impl Pace {
    /// Whether messages have times at which they are meant to leave.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }
}

/// How a connection ends that is to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leave {
    /// By the closing handshake.
    Close,
    /// At once and without a word, as when a network fails.
    Cut,
}

/// One kind of load.
pub trait Scenario: Send {
    /// The member's handshake is complete.
    fn opened(&mut self, member: usize, now: Time);

    /// The member's connection is over. Comes once after each `opened`.
    fn gone(&mut self, member: usize, now: Time);

    /// The member's connection could not be opened.
    fn failed(&mut self, _member: usize, _now: Time) {}

    /// The member's connection ended otherwise than it should have. Whether that is what
    /// the scenario is about, and no error; if so, the scenario counts it.
    fn expects_end(&mut self, _member: usize, _failure: &Failure) -> bool {
        false
    }

    /// Messages may be sent in that window.
    fn start(&mut self, window: Window);

    /// Send nothing more: the run is to end now.
    fn stop(&mut self, now: Time);

    /// A message arrived on the member's connection. Whether the member sends its next one
    /// for it, by [`Scenario::next_of`], when the worker has read what there is to read.
    fn message(&mut self, member: usize, payload: &[u8], now: Time) -> bool;

    /// The message that the member sends for one that arrived; it leaves now.
    fn next_of(&mut self, _member: usize, _now: Time) -> Option<Stamp> {
        None
    }

    /// The turn's messages have been handed in. `wake` wakes the worker of that number.
    fn turn_done(&mut self, _wake: &mut dyn FnMut(usize)) {}

    /// The next message that is due, and the member that sends it. Asked until `None`.
    fn next_send(&mut self, now: Time) -> Option<(usize, Stamp)>;

    /// A member that is to connect now, beside those that do before the run. Asked until
    /// `None`, while handshakes may begin.
    fn next_connect(&mut self, _now: Time) -> Option<usize> {
        None
    }

    /// No handshake may begin now, since as many as may wait for the server do. That lasts
    /// until one of them ends: in [`Scenario::opened`] or in [`Scenario::failed`].
    fn held_up(&mut self, _now: Time) {}

    /// A member whose connection is to end now. Asked until `None`.
    fn next_leave(&mut self, _now: Time) -> Option<(usize, Leave)> {
        None
    }

    /// Whether the member reads what arrives. One that does not is read when all messages
    /// are sent.
    fn reads(&self, _member: usize) -> bool {
        true
    }

    /// When [`Scenario::next_send`] is to be asked again, unless something arrives before.
    fn wake_at(&self) -> Option<Time>;

    /// Nothing more will be sent.
    fn sending_done(&self, now: Time) -> bool;

    /// Nothing more is expected to arrive. Asked when all workers are done sending.
    fn drained(&self) -> bool;

    /// What was counted since the worker took it last: an empty one takes its place
    /// about each second.
    fn tally(&mut self) -> &mut Tally;

    /// The rest. Members that are still open are accounted for as well.
    fn finish(self: Box<Self>) -> Tally;
}
