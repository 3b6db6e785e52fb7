//! Taking connections in: from which listener, how many, and when not.

use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::event_loop::LoopCore;
use super::listener::{Listener, Stream};
use crate::admission::AddressBound;
use crate::id::ConnectionId;
use crate::limits::{ACCEPT_RETRY_MS, ACCEPTS_PER_TURN_MAX, SHARED_ACCEPT_LEAD, SHARED_ACCEPT_WAIT_MS};
use crate::proto::handshake::HandshakeError;
use crate::shard::NotAccepted;
use crate::time::Time;

/// Listeners have this token and those below. No connection has: generations come round to
/// it only after 2³² tenants of a slot that no table has.
const FIRST_LISTENER: Token = Token(usize::MAX - 1);

/// The loop's listeners, and whether connections are taken from them.
pub(super) struct Acceptor {
    listeners: Vec<Listening>,
    /// The listener that is next.
    turn: usize,
    /// Descriptors or slots ran out: tried again then, or when a connection leaves.
    paused_until: Option<Time>,
    /// What a client is answered whose address has reached a bound, by [`AddressBound`].
    refusals: [Vec<u8>; AddressBound::ALL.len()],
}

struct Listening {
    listener: Listener,
    /// There may be connections now. If not, the kernel will say when there are.
    ready: bool,
    /// Others go first until then.
    waits_until: Option<Time>,
}

impl Acceptor {
    pub(super) fn new(listeners: Vec<Listener>) -> Self {
        let listening = |listener| Listening { listener, ready: true, waits_until: None };
        let refusals = AddressBound::ALL.map(|bound| {
            let mut response = Vec::new();
            HandshakeError::AddressBound(bound.label()).append_response(&mut response);
            response
        });
        Self { listeners: listeners.into_iter().map(listening).collect(), turn: 0, paused_until: None, refusals }
    }

    /// Has the kernel say when a listener has connections.
    pub(super) fn register(&self, registry: &Registry) -> io::Result<()> {
        for (n, listening) in self.listeners.iter().enumerate() {
            let token = Token(FIRST_LISTENER.0 - n);
            registry.register(&mut SourceFd(&listening.listener.as_raw_fd()), token, Interest::READABLE)?;
        }
        Ok(())
    }

    /// The kernel says that there are connections; whether the token is a listener's.
    pub(super) fn take_event(&mut self, token: Token) -> bool {
        let Some(n) = FIRST_LISTENER.0.checked_sub(token.0) else { return false };
        match self.listeners.get_mut(n) {
            Some(listening) => {
                listening.ready = true;
                true
            }
            None => false,
        }
    }

    /// Whether there may be connections to take in now.
    pub(super) fn is_ready(&self) -> bool {
        self.paused_until.is_none() && self.listeners.iter().any(|l| l.ready && l.waits_until.is_none())
    }

    /// When to try again without any event.
    pub(super) fn retry_at(&self) -> Option<Time> {
        let waits = self.listeners.iter().filter(|l| l.ready).filter_map(|l| l.waits_until).min();
        self.paused_until.or(waits)
    }

    /// A connection has left, so there is room again.
    pub(super) fn resume(&mut self) {
        self.paused_until = None;
    }

    /// How many listeners there are.
    pub(super) fn len(&self) -> u64 {
        self.listeners.len() as u64
    }

    /// Whether a listener may have more, as far as is known, and nothing has run out.
    pub(super) fn may_have_more(&self) -> bool {
        self.paused_until.is_none() && self.listeners.iter().any(|listening| listening.ready)
    }

    /// All listeners are asked again at once, whatever was known of them, and nobody is let
    /// go first.
    pub(super) fn hurry(&mut self) {
        self.paused_until = None;
        for listening in &mut self.listeners {
            (listening.ready, listening.waits_until) = (true, Some(Time::default()));
        }
    }

    /// The next listener that may have connections, in turn.
    fn next(&mut self, now: Time) -> Option<usize> {
        let count = self.listeners.len();
        let mut order = (0..count).map(|n| (self.turn + n) % count);
        let found = order.find(|n| {
            let listening = &self.listeners[*n];
            listening.ready && listening.waits_until.is_none_or(|until| now >= until)
        })?;
        self.turn = (found + 1) % count;
        Some(found)
    }
}

impl LoopCore {
    /// Takes nothing in any more. What the kernel has queued for the listeners is reset by
    /// this, unless a socket is open elsewhere too.
    pub(super) fn close_listeners(&mut self, registry: &Registry) {
        for listening in self.acceptor.listeners.drain(..) {
            // A shared socket stays open elsewhere and would go on reporting. If this fails,
            // its events belong to nobody.
            let _ = registry.deregister(&mut SourceFd(&listening.listener.as_raw_fd()));
        }
        self.acceptor.paused_until = None;
        self.shard.stats().accept_paused.set(0);
    }

    /// How many connections may be taken in this turn; nothing while accepting pauses.
    pub(super) fn may_accept(&mut self, now: Time) -> Option<u64> {
        if self.acceptor.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.acceptor.paused_until = None;
        Some(ACCEPTS_PER_TURN_MAX / self.haste())
    }

    /// The next connection, if there is one and `left` of this turn is not used up.
    pub(super) fn accept_next(&mut self, left: &mut u64, now: Time) -> Option<(ConnectionId, Stream)> {
        while *left > 0
            && let Some(n) = self.acceptor.next(now)
        {
            *left -= 1;
            if !self.has_room() {
                self.pause_accepting(now, "the connection table is full (limits.connections_max; with io_uring also the limit of open files, for each shard)");
                return None;
            }
            if self.lets_others_go_first(n, now) {
                continue;
            }
            match self.acceptor.listeners[n].listener.accept() {
                Ok((stream, peer)) => match self.shard.accept_from(peer, now) {
                    Ok(id) => return Some((id, stream)),
                    Err(NotAccepted::NoRoom) => {}
                    Err(NotAccepted::Refused(bound)) => self.refuse(stream, bound),
                },
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => {
                        let listening = &mut self.acceptor.listeners[n];
                        (listening.ready, listening.waits_until) = (false, None);
                    }
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => {
                        self.pause_accepting(now, &error.to_string());
                        return None;
                    }
                },
            }
        }
        self.shard.stats().accept_paused.set(0);
        None
    }

    /// Each connection at a shared listener wakes all loops, and whoever wakes first would
    /// take it: mostly the same one. So a loop that holds clearly more connections than
    /// another waits a moment, in which the other one can take them; then it takes what is
    /// still there.
    fn lets_others_go_first(&mut self, n: usize, now: Time) -> bool {
        let listening = &mut self.acceptor.listeners[n];
        if !listening.listener.is_shared() || listening.waits_until.is_some() {
            return false;
        }
        let fewest = self.process.iter().map(|stats| stats.connections.get()).min().unwrap_or_default();
        let leads = self.shard.connections_len() as u64 > fewest + SHARED_ACCEPT_LEAD;
        if leads {
            listening.waits_until = Some(now + Duration::from_millis(SHARED_ACCEPT_WAIT_MS));
        }
        leads
    }

    /// Shards that accept at the same moment may pass the process's limit by one each.
    fn has_room(&self) -> bool {
        self.shard.has_room() && self.sum_of_process(|stats| &stats.connections) < self.settings.connections_max
    }

    /// The listeners stay as they are: what the kernel has queued waits there, without
    /// waking us again, until there is room.
    fn pause_accepting(&mut self, now: Time, why: &str) {
        self.acceptor.paused_until = Some(now + Duration::from_millis(ACCEPT_RETRY_MS));
        let stats = self.shard.stats();
        if stats.accept_paused.get() == 0 {
            stats.accept_paused.set(1);
            stats.accept_pauses.add(1);
            tracing::warn!(why, connections = self.shard.connections_len(), "accepting pauses");
        }
    }

    /// A flood must cost next to nothing: one send of a finished answer, which a socket that
    /// is new always has room for, and a reset, which leaves nothing behind in the kernel.
    /// The price is that the reset may overtake the answer at a client that is slow to read.
    fn refuse(&self, mut stream: Stream, bound: AddressBound) {
        // Who speaks TLS would not understand it.
        if !self.shard.speaks_tls() {
            // Who does not get the answer is refused all the same.
            let _ = stream.write(&self.acceptor.refusals[bound as usize]);
        }
        let _ = stream.set_linger(Some(Duration::ZERO));
    }
}
