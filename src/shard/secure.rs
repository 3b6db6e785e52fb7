//! Peers that speak TLS: from what sockets bring to plaintext, and back.
//!
//! The first byte of a connection says whether its peer begins with TLS. Everything
//! behind the transport sees plaintext only.

use std::collections::VecDeque;

use super::{Peer, Shard};
use crate::id::ConnectionId;
use crate::limits::{HASTE, TLS_HANDSHAKE_STEPS_PER_TURN_MAX};
use crate::proto::handshake::HandshakeError;
use crate::stats::CloseReason;
use crate::time::Time;

/// Key exchanges of one turn, and who waits for the next one.
#[derive(Debug)]
pub(super) struct HandshakeTurns {
    steps_left: usize,
    waiting: VecDeque<ConnectionId>,
}

impl Default for HandshakeTurns {
    fn default() -> Self {
        Self { steps_left: TLS_HANDSHAKE_STEPS_PER_TURN_MAX, waiting: Default::default() }
    }
}

impl Peer {
    /// Nothing of its own has come from the client yet, and nothing of a proxy is due.
    pub(super) fn awaits_first_byte(&self) -> bool {
        !self.client.awaits_proxy_header() && self.connection.awaits_first_byte()
    }
}

impl Shard {
    /// A turn begins: TLS handshakes go on, as many as are fair, and fewer while flushes
    /// of the last turn are left. To be called before [`Shard::next_resumed`] where TLS is
    /// spoken.
    pub fn begin_turn(&mut self) {
        let haste = if self.has_flushes() { HASTE as usize } else { 1 };
        self.handshake_turns.steps_left = TLS_HANDSHAKE_STEPS_PER_TURN_MAX / haste;
        let mut resumed = 0;
        while resumed < self.handshake_turns.steps_left
            && let Some(id) = self.handshake_turns.waiting.pop_front()
        {
            // Those that have left make no room for sleep before the others.
            resumed += usize::from(self.table.get(id).is_some());
            self.resume_reading(id);
        }
    }

    /// Whether clients may speak TLS.
    pub fn speaks_tls(&self) -> bool {
        self.settings.tls.is_some()
    }

    /// Whether a peer speaks TLS.
    pub(super) fn is_secured(&self, id: ConnectionId) -> bool {
        // Without certificates nobody is looked up for that.
        self.settings.tls.is_some() && self.table.get(id).is_some_and(|peer| peer.connection.is_secured())
    }

    /// Whether a connection has to wait for the next turn with its TLS handshake; if so,
    /// it is resumed then.
    pub(super) fn defers_handshake(&mut self, id: ConnectionId) -> bool {
        if self.settings.tls.is_none() || self.handshake_turns.steps_left > 0 {
            return false;
        }
        let Some(peer) = self.table.get_mut(id) else { return false };
        let waits = peer.connection.is_securing() || peer.awaits_first_byte();
        if waits && !std::mem::replace(&mut peer.read_pending, true) {
            self.handshake_turns.waiting.push_back(id);
            self.stats.tls_handshakes_deferred.add(1);
        }
        waits
    }

    /// Whether nothing can be said to a peer yet: it has not begun, and may begin with TLS,
    /// or it is in the middle of that handshake.
    pub(super) fn has_no_language(&self, id: ConnectionId) -> bool {
        self.settings.tls.is_some()
            && self.table.get(id).is_some_and(|peer| {
                peer.connection.is_securing() || peer.awaits_first_byte() || peer.client.awaits_proxy_header()
            })
    }

    /// Ends a connection to which nothing can be said.
    pub(super) fn abort_handshake(&mut self, id: ConnectionId, reason: CloseReason) {
        let Some(peer) = self.table.get_mut(id) else { return };
        self.stats.tls_handshakes_failed.add(u64::from(peer.connection.is_securing()));
        peer.connection.abort(reason);
        self.settle(id);
    }

    /// Looks at the first byte of a connection: TLS, or HTTP without it. Whether what
    /// came is to be read.
    pub(super) fn choose_transport(&mut self, id: ConnectionId, first: u8, now: Time) -> bool {
        let (Some(tls), Some(peer)) = (&self.settings.tls, self.table.get_mut(id)) else { return true };
        if first.is_ascii_alphabetic() {
            let allowed = tls.allow_plaintext;
            if !allowed {
                self.stats.tls_plaintext_refused.add(1);
                self.refuse(id, &HandshakeError::PlaintextRefused, CloseReason::NotUpgraded, now);
            }
            return allowed;
        }
        // What is neither gets the alert of a TLS server.
        if let Err(error) = peer.connection.secure(tls.config.clone()) {
            tracing::error!(%error, "the TLS configuration is refused");
            peer.connection.abort(CloseReason::TlsError);
            self.settle(id);
            return false;
        }
        true
    }

    /// Decrypts what the socket brought, and receives what it says.
    pub(super) fn receive_ciphertext(&mut self, id: ConnectionId, bytes: &mut [u8], now: Time) {
        let Some(peer) = self.table.get_mut(id) else { return };
        let connection = &mut peer.connection;
        let mut plaintext = std::mem::take(&mut self.plaintext);
        let was_securing = connection.is_securing();
        let max = self.settings.handshake_bytes_max;
        let result = connection.decrypt(bytes, &mut plaintext, max, &mut self.outbound_pool);
        if was_securing {
            if connection.has_ciphertext() {
                self.handshake_turns.steps_left = self.handshake_turns.steps_left.saturating_sub(1);
            }
            match &result {
                Err(_) => self.stats.tls_handshakes_failed.add(1),
                Ok(_) if !connection.is_securing() => self.stats.tls_handshakes.add(1),
                Ok(_) => {}
            }
        }
        if connection.has_ciphertext() {
            self.mark_dirty(id);
        }
        self.count_input(id);
        if !plaintext.is_empty() {
            let replies = self.receive_plaintext(id, &mut plaintext, now);
            if !replies.is_empty() {
                // They have to be encrypted before they leave.
                self.keep_replies(id, &plaintext[replies]);
            }
        }
        plaintext.clear();
        self.plaintext = plaintext;
        match result {
            Ok(false) => {}
            Ok(true) => self.end_of_input(id, now),
            Err(error) => {
                tracing::debug!(%error, "TLS failed");
                self.with_queue_counted(id, |connection, pool| connection.fail_transport(now, pool));
                self.settle(id);
            }
        }
    }

    /// The transport ended: counts what that cuts off.
    pub(super) fn count_cut(&self, id: ConnectionId) {
        let Some(peer) = self.table.get(id) else { return };
        if peer.connection.is_securing() {
            self.stats.tls_handshakes_failed.add(1);
        } else if peer.connection.is_cut_by_end() {
            self.stats.tls_truncated.add(1);
            tracing::debug!("a TLS stream ended without close_notify");
        }
    }

    /// Encrypts what is to leave next, unless the last record has not left yet.
    pub(super) fn encrypt_next(&mut self, id: ConnectionId) {
        let Some(peer) = self.table.get_mut(id) else { return };
        let connection = &mut peer.connection;
        if connection.is_closed() || connection.has_ciphertext() {
            return;
        }
        if let Some(in_hand) = self.in_hand.as_mut().filter(|in_hand| in_hand.connection == id) {
            let rest = in_hand.rest();
            let taken = connection.encrypt(rest, &mut self.outbound_pool);
            in_hand.take(taken);
            if in_hand.rest().is_empty() || taken == 0 {
                self.in_hand = None;
            }
            return;
        }
        let before = connection.queue_bytes();
        connection.encrypt_queue(&mut self.plaintext, &mut self.outbound_pool);
        self.plaintext.clear();
        self.left_queue(id, before);
    }
}
