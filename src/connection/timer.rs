//! When a connection runs out of patience.
//!
//! Each connection has one deadline in the shard's timer wheel. Activity does not
//! move it: when it comes, [`Connection::expire`] looks whether there was any, and
//! says when to look again. A busy connection costs one look per ping interval.

use std::time::Duration;

use super::Connection;
use super::outbound::OutboundPool;
use super::state::State;
use crate::proto::frame::OpCode;
use crate::stats::CloseReason;
use crate::time::Time;

/// A ping has a payload, since some clients mishandle an empty one.
const PING_PAYLOAD: &[u8] = b"wsgate";

/// How long a connection may take for what.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From the accepted transport to the answered upgrade.
    pub handshake: Duration,
    /// Silence of the peer after which it is pinged.
    pub ping_interval: Duration,
    /// Silence after the ping after which the peer is taken for gone.
    pub pong_timeout: Duration,
    /// From our Close, or from the end of what we say, to the peer's end.
    pub close: Duration,
}

/// What a look at the deadline showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expired {
    /// Look again then.
    Again(Time),
    /// The request did not arrive in time and is to be answered so.
    Handshake,
    /// The connection is over.
    Closed,
}

/// Signs of life.
#[derive(Debug)]
pub(super) struct Keepalive {
    heard: Time,
    pinged: Option<Time>,
}

impl Keepalive {
    pub(super) fn new(now: Time) -> Self {
        Self { heard: now, pinged: None }
    }

    pub(super) fn heard(&mut self, now: Time) {
        self.heard = now;
        self.pinged = None;
    }
}

impl Connection {
    /// When [`Connection::expire`] is to be called at the earliest.
    pub fn deadline(&self, deadlines: &Deadlines) -> Time {
        match (&self.state, self.keepalive.pinged) {
            (State::Handshake { since, .. }, _) => *since + deadlines.handshake,
            (State::Open, Some(pinged)) => pinged + deadlines.pong_timeout,
            (State::Open, None) => self.keepalive.heard + deadlines.ping_interval,
            (State::Closed { .. }, _) => Time::ZERO,
            (State::Accepted(_), _) => self.state.since().unwrap_or_default() + deadlines.handshake,
            (State::Closing { since } | State::Finishing { since, .. }, _) => *since + deadlines.close,
        }
    }

    /// Looks at the deadline: pings, gives up, or names a later one.
    pub fn expire(&mut self, now: Time, deadlines: &Deadlines, pool: &mut OutboundPool) -> Expired {
        let due = self.deadline(deadlines);
        if now < due {
            return Expired::Again(self.next_look(due, now, deadlines));
        }
        match self.state {
            State::Handshake { .. } | State::Accepted(_) => Expired::Handshake,
            State::Open if self.keepalive.pinged.is_none() => {
                self.outbound.append_frame(OpCode::Ping, PING_PAYLOAD, pool);
                self.keepalive.pinged = Some(now);
                Expired::Again(self.next_look(now + deadlines.pong_timeout, now, deadlines))
            }
            State::Open => {
                self.abort(CloseReason::PongTimeout);
                Expired::Closed
            }
            State::Closing { .. } | State::Finishing { .. } | State::Closed { .. } => {
                self.abort(CloseReason::PeerVanished);
                Expired::Closed
            }
        }
    }
    /// A pong does not move the deadline that waits for it, so the next ping may be due
    /// before that one.
    fn next_look(&self, due: Time, now: Time, deadlines: &Deadlines) -> Time {
        match self.state {
            State::Open => due.min(now + deadlines.ping_interval),
            _ => due,
        }
    }
}
