//! What lies between a connection and its socket: nothing, or TLS.
//!
//! Owner: the shard's thread. Caller: `shard` only, which passes what the socket brought
//! through here first, and fetches what it is to take.
//!
//! What is to be said waits as plaintext in the queue, where policies may still change
//! it, and is encrypted when the transport is offered it: one record at a time, the next
//! one when the transport has taken it whole.

use std::sync::Arc;

use rustls::ServerConfig;

use super::Connection;
use super::outbound::OutboundPool;
use super::state::State;
use crate::stats::CloseReason;
use crate::time::Time;
use crate::tls::{RECORD_PLAINTEXT_BYTES_MAX, ServerStream, StreamOver};

/// How TLS is spoken.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// Certificates, versions, ALPN.
    pub config: Arc<ServerConfig>,
    /// Whether peers that begin with an HTTP request are served, too.
    pub allow_plaintext: bool,
}

/// Why TLS with a peer ended.
#[derive(Debug, thiserror::Error)]
pub enum TlsFailure {
    /// What rustls found wrong.
    #[error("{0}")]
    Broken(#[from] rustls::Error),
    /// A handshake over the bound.
    #[error("the TLS handshake has more than {limit} bytes")]
    HandshakeTooLong {
        /// The bound in bytes.
        limit: usize,
    },
}

/// Eight bytes in each connection; what TLS needs is apart.
#[derive(Debug)]
pub(super) enum Transport {
    Plain,
    Tls(Box<Tls>),
}

#[derive(Debug)]
pub(super) struct Tls {
    stream: ServerStream,
    /// Bytes received before the handshake was complete.
    handshake_bytes: usize,
}

impl Transport {
    /// Ciphertext that the transport has not taken.
    pub(super) fn unsent(&self) -> &[u8] {
        match self {
            Self::Plain => &[],
            Self::Tls(tls) => tls.stream.unsent(),
        }
    }

    /// Bytes of memory of ciphertext that has arrived in part.
    pub(super) fn partial_memory_bytes(&self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Tls(tls) => tls.stream.held_memory_bytes(),
        }
    }

    /// Gives all buffers back.
    pub(super) fn release(&mut self, pool: &mut OutboundPool) {
        if let Self::Tls(tls) = self {
            pool.count_ciphertext(&mut tls.stream, |stream, buffers| stream.release(buffers));
        }
    }
}

impl Connection {
    /// Whether the peer has not said anything, so that it may still begin with TLS.
    pub fn awaits_first_byte(&self) -> bool {
        let silent = matches!(&self.state, State::Handshake { head, .. } if head.is_empty());
        silent && !self.is_secured()
    }

    /// The peer begins with TLS.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub fn secure(&mut self, config: Arc<ServerConfig>) -> Result<(), rustls::Error> {
        debug_assert!(self.awaits_first_byte());
        let stream = ServerStream::server(config)?;
        self.transport = Transport::Tls(Box::new(Tls { stream, handshake_bytes: 0 }));
        Ok(())
    }

    /// Whether the peer speaks TLS.
    pub fn is_secured(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }

    /// Whether a TLS handshake is under way.
    pub fn is_securing(&self) -> bool {
        matches!(&self.transport, Transport::Tls(tls) if tls.stream.is_handshaking() && !tls.stream.has_failed())
    }

    /// Whether an end of the transport now would cut off what the peer says: it has not
    /// ended its direction of the TLS connection, nor the WebSocket.
    pub fn is_cut_by_end(&self) -> bool {
        match &self.transport {
            Transport::Plain => false,
            Transport::Tls(tls) => !tls.stream.is_handshaking() && !tls.stream.peer_ended() && !self.is_ending(),
        }
    }

    /// Whether TLS has something to send that does not come from the queue.
    pub fn has_ciphertext(&self) -> bool {
        !self.transport.unsent().is_empty()
    }

    /// Decrypts what the socket brought and appends it to `plaintext`. Whether the peer
    /// has ended its direction.
    ///
    /// # Errors
    /// TLS has failed; what was decrypted before that is in `plaintext`. To be followed
    /// by [`Connection::fail_transport`].
    pub fn decrypt(
        &mut self,
        ciphertext: &mut [u8],
        plaintext: &mut Vec<u8>,
        handshake_bytes_max: usize,
        pool: &mut OutboundPool,
    ) -> Result<bool, TlsFailure> {
        let Transport::Tls(tls) = &mut self.transport else { return Ok(false) };
        let Tls { stream, handshake_bytes } = &mut **tls;
        let was_ended = stream.peer_ended();
        let len = ciphertext.len();
        pool.count_ciphertext(stream, |stream, buffers| stream.receive(ciphertext, plaintext, buffers))?;
        if stream.is_handshaking() {
            *handshake_bytes += len;
            if *handshake_bytes > handshake_bytes_max {
                self.transport.release(pool);
                return Err(TlsFailure::HandshakeTooLong { limit: handshake_bytes_max });
            }
        }
        Ok(stream.peer_ended() && !was_ended)
    }

    /// TLS has failed: nothing can be said any more but the alert that is waiting.
    pub fn fail_transport(&mut self, now: Time, pool: &mut OutboundPool) {
        self.reason.get_or_insert(CloseReason::TlsError);
        self.outbound.clear(pool);
        if !matches!(self.state, State::Finishing { .. } | State::Closed { .. }) {
            self.enter(State::Finishing { since: now, end_sent: false });
        }
    }

    /// Encrypts published bytes that do not wait in the queue; how many, 0 if nothing can
    /// be encrypted now.
    pub fn encrypt(&mut self, bytes: &[u8], pool: &mut OutboundPool) -> usize {
        let Transport::Tls(tls) = &mut self.transport else { return 0 };
        let part = &bytes[..bytes.len().min(RECORD_PLAINTEXT_BYTES_MAX)];
        let result = pool.count_ciphertext(&mut tls.stream, |stream, buffers| stream.encrypt(part, buffers));
        self.after_encryption(result, part.len())
    }

    /// Encrypts the front of the queue, as much as one record takes, or our end behind
    /// the last byte of it. `scratch` gathers what lies in several places.
    pub fn encrypt_queue(&mut self, scratch: &mut Vec<u8>, pool: &mut OutboundPool) {
        let Transport::Tls(tls) = &mut self.transport else { return };
        if self.outbound.bytes() == 0 {
            if matches!(self.state, State::Finishing { end_sent: false, .. }) {
                pool.count_ciphertext(&mut tls.stream, |stream, buffers| stream.finish(buffers));
            }
            return;
        }
        if !tls.stream.can_encrypt() {
            return;
        }
        let front = match self.outbound.single() {
            Some(bytes) => &bytes[..bytes.len().min(RECORD_PLAINTEXT_BYTES_MAX)],
            None => {
                self.outbound.gather(RECORD_PLAINTEXT_BYTES_MAX, scratch);
                scratch
            }
        };
        let len = front.len();
        let result = pool.count_ciphertext(&mut tls.stream, |stream, buffers| stream.encrypt(front, buffers));
        let len = self.after_encryption(result, len);
        self.outbound.sent(len, pool);
    }

    fn after_encryption(&mut self, result: Result<(), StreamOver>, len: usize) -> usize {
        match result {
            Ok(()) => len,
            Err(StreamOver) => {
                // Keys that are used up, or a call too much: nothing can be said any more.
                self.reason.get_or_insert(CloseReason::TlsError);
                self.enter(State::Closed { abort: true });
                0
            }
        }
    }

    /// The transport took `n` bytes of ciphertext.
    pub fn sent_ciphertext(&mut self, n: usize, pool: &mut OutboundPool) {
        if let Transport::Tls(tls) = &mut self.transport {
            pool.count_ciphertext(&mut tls.stream, |stream, buffers| stream.sent(n, buffers));
        }
    }

    /// The transport did not take ciphertext after all of which it was said that it had.
    pub fn give_back_ciphertext(&mut self, bytes: &[u8], pool: &mut OutboundPool) {
        if let Transport::Tls(tls) = &mut self.transport {
            pool.count_ciphertext(&mut tls.stream, |stream, buffers| stream.give_back(bytes, buffers));
        }
    }
}
