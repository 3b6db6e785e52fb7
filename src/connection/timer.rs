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
    /// From the peer's last message, or from its arrival, to its end; nothing is never.
    pub idle: Option<Duration>,
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
    /// The peer has said nothing for too long and is to be told so.
    Idle,
    /// The connection is over.
    Closed,
}

/// Signs of life.
#[derive(Debug)]
pub(super) struct Keepalive {
    heard: Time,
    /// The last ping; answered if the peer has been heard since.
    pinged: Time,
    /// When the last whole message came.
    spoke: Time,
}

impl Keepalive {
    pub(super) fn new(now: Time) -> Self {
        Self { heard: now, pinged: Time::ZERO, spoke: now }
    }

    pub(super) fn heard(&mut self, now: Time) {
        self.heard = now;
    }

    /// When the ping was sent that waits for a sign of life.
    fn pinged(&self) -> Option<Time> {
        Some(self.pinged).filter(|pinged| *pinged > self.heard)
    }

    pub(super) fn spoke(&mut self, now: Time) {
        self.spoke = now;
    }

    /// When the peer has said nothing for too long.
    fn idle_at(&self, deadlines: &Deadlines) -> Option<Time> {
        deadlines.idle.map(|idle| self.spoke + idle)
    }
}

impl Connection {
    /// When [`Connection::expire`] is to be called at the earliest.
    pub fn deadline(&self, deadlines: &Deadlines) -> Time {
        match &self.state {
            State::Handshake { since, .. } => *since + deadlines.handshake,
            State::Open => {
                let alive = match self.keepalive.pinged() {
                    Some(pinged) => pinged + deadlines.pong_timeout,
                    None => self.keepalive.heard + deadlines.ping_interval,
                };
                self.keepalive.idle_at(deadlines).map_or(alive, |idle| idle.min(alive))
            }
            State::Closed { .. } => Time::ZERO,
            State::Accepted(_) => self.state.since().unwrap_or_default() + deadlines.handshake,
            State::Closing { since } | State::Finishing { since, .. } => *since + deadlines.close,
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
            State::Open if self.keepalive.idle_at(deadlines).is_some_and(|idle| now >= idle) => Expired::Idle,
            State::Open if self.keepalive.pinged().is_none() => {
                self.outbound.append_frame(OpCode::Ping, PING_PAYLOAD, pool);
                self.keepalive.pinged = now;
                Expired::Again(self.next_look(self.deadline(deadlines), now, deadlines))
            }
            State::Open => {
                self.abort(CloseReason::PongTimeout);
                Expired::Closed
            }
            // It ends already, in the way that was decided.
            State::Closed { .. } => Expired::Closed,
            State::Closing { .. } | State::Finishing { .. } => {
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
