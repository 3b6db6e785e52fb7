//! The states of a connection and the transitions between them.
//!
//! ```text
//! Handshake ──▶ Accepted ──▶ Open ──▶ Closing ──▶ Finishing ──▶ Closed
//!     │  └────────────────────▲ └────────────────────▲ ▲           ▲
//!     └──────────────── (refused) ─────────────────────┘           │
//!     any state ─────────────── (transport failed) ────────────────┘
//! ```

use super::Connection;
use crate::proto::handshake::{HandshakeError, Upgrade};
use crate::proto::http;
use crate::proto::proxy::{self, ProxyError, ProxyHeader};
use crate::stats::CloseReason;
use crate::time::Time;

use super::outbound::OutboundPool;

/// Where a connection stands. The fields are what only that state needs.
#[derive(Debug)]
pub(super) enum State {
    /// The request head is not complete. It is kept only if a read cut it.
    Handshake { head: Vec<u8>, searched: usize, since: Time },
    /// The request is good; the answer waits until the subscription is confirmed.
    Accepted(Box<Accepted>),
    /// Frames in both directions.
    Open,
    /// We sent Close and wait for the peer's, or for its end.
    Closing { since: Time },
    /// Everything has been said. After the queue is flushed we end our direction and
    /// read until the peer ends its own.
    Finishing { since: Time, end_sent: bool },
    /// The transport can be closed.
    Closed { abort: bool },
}

/// An upgrade that waits for its confirmation.
#[derive(Debug)]
pub struct Accepted {
    /// The answer to come.
    pub upgrade: Upgrade,
    /// What the peer sent behind its request; read as frames after the answer.
    pub early: Vec<u8>,
    since: Time,
}

impl State {
    /// Since when a state with a deadline lasts.
    pub(super) fn since(&self) -> Option<Time> {
        match self {
            Self::Handshake { since, .. } | Self::Closing { since } | Self::Finishing { since, .. } => Some(*since),
            Self::Accepted(accepted) => Some(accepted.since),
            Self::Open | Self::Closed { .. } => None,
        }
    }

    /// Bytes of memory of what the peer has said before the upgrade and nobody has used.
    pub(super) fn input_memory_bytes(&self) -> usize {
        match self {
            Self::Handshake { head, .. } => head.capacity(),
            Self::Accepted(accepted) => accepted.early.capacity(),
            _ => 0,
        }
    }

    fn may_become(&self, next: &State) -> bool {
        match (self, next) {
            // Closed is the end, but may be confirmed by another failure.
            (Self::Closed { .. }, next) => matches!(next, Self::Closed { .. }),
            (_, Self::Closed { .. }) => true,
            // The last word is said once.
            (Self::Finishing { .. }, _) => false,
            (_, Self::Finishing { .. }) => true,
            (Self::Handshake { .. }, Self::Accepted(_) | Self::Open) => true,
            (Self::Accepted(_), Self::Open) => true,
            (Self::Open, Self::Closing { .. }) => true,
            _ => false,
        }
    }
}

impl Connection {
    pub(super) fn enter(&mut self, next: State) {
        self.leave_for(next);
    }

    /// The one place where the state changes. Returns the state that was left.
    fn leave_for(&mut self, next: State) -> State {
        assert!(self.state.may_become(&next), "no transition from {:?} to {next:?}", self.state);
        std::mem::replace(&mut self.state, next)
    }

    /// Takes bytes of the request head. `Some` once it is complete: the buffered head,
    /// which is empty if the head lies whole in `bytes`, and its length.
    ///
    /// `bytes` is advanced past what was buffered; a head that lies whole in it is not.
    pub fn receive_head(
        &mut self,
        bytes: &mut &mut [u8],
        bytes_max: usize,
    ) -> Result<Option<(Vec<u8>, usize)>, HandshakeError> {
        let State::Handshake { head, searched, .. } = &mut self.state else { return Ok(None) };
        if head.is_empty()
            && let Some(len) = http::head_len(bytes, 0).filter(|len| *len <= bytes_max)
        {
            return Ok(Some((Vec::new(), len)));
        }
        let room = bytes_max.saturating_sub(head.len()).min(bytes.len());
        head.extend_from_slice(&bytes[..room]);
        if let Some(len) = http::head_len(head, *searched) {
            // Only what belongs to the head is taken out of the input.
            let taken = room - (head.len() - len);
            head.truncate(len);
            *bytes = &mut std::mem::take(bytes)[taken..];
            return Ok(Some((std::mem::take(head), len)));
        }
        *searched = head.len();
        *bytes = &mut std::mem::take(bytes)[room..];
        http::check_prefix(head, bytes_max)?;
        Ok(None)
    }

    /// Takes bytes of what a proxy says before the request. `Some` once it is complete;
    /// `bytes` is advanced past what belongs to it.
    pub fn receive_proxy_header(
        &mut self,
        bytes: &mut &mut [u8],
        bytes_max: usize,
    ) -> Result<Option<ProxyHeader>, ProxyError> {
        let State::Handshake { head, .. } = &mut self.state else { return Ok(None) };
        let before = head.len();
        let room = bytes_max.saturating_sub(before).min(bytes.len());
        head.extend_from_slice(&bytes[..room]);
        let header = proxy::parse(head, bytes_max)?;
        if header.is_some() {
            *head = Vec::new();
        }
        let taken = header.map_or(room, |header| header.len - before);
        *bytes = &mut std::mem::take(bytes)[taken..];
        Ok(header)
    }

    /// The request is good, but its answer has to wait.
    pub fn accept_later(&mut self, upgrade: Upgrade, early: Vec<u8>, now: Time) {
        self.enter(State::Accepted(Box::new(Accepted { upgrade, early, since: now })));
    }

    /// Whether the request has not been answered yet.
    pub fn awaits_upgrade(&self) -> bool {
        matches!(self.state, State::Handshake { .. } | State::Accepted(_))
    }

    /// The answer can go out now: what had waited, if it still does.
    pub fn confirm(&mut self) -> Option<Accepted> {
        if !matches!(self.state, State::Accepted(_)) {
            return None;
        }
        match self.leave_for(State::Open) {
            State::Accepted(accepted) => Some(*accepted),
            _ => None,
        }
    }

    /// Answers the upgrade; frames may follow.
    pub fn open(&mut self, upgrade: &Upgrade, pool: &mut OutboundPool) {
        self.outbound.append_with(0, pool, |out| upgrade.append_response(out));
        if !self.is_open() {
            self.enter(State::Open);
        }
    }

    /// Answers with a plain HTTP response, which is the last thing said.
    pub fn finish_http(
        &mut self,
        reason: CloseReason,
        now: Time,
        pool: &mut OutboundPool,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.reason.get_or_insert(reason);
        self.outbound.append_with(0, pool, write);
        self.enter(State::Finishing { since: now, end_sent: false });
    }
}
