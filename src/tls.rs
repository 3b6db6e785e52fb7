//! TLS without a socket: ciphertext in, plaintext out, and the other way round.
//!
//! Callers: `connection` on the server's side, the load generator and the benchmarks on
//! the client's. On the unbuffered interface of rustls, so that records are decrypted
//! where the caller received them, and a stream that is idle holds the state of rustls
//! and nothing else: buffers come from the caller's pool and go back to it. Never blocks
//! and knows no socket; rustls draws its random numbers itself.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, CommonState, Error, ServerConfig};

use crate::buffer::BufferPool;

/// Plaintext bytes of one record at most (RFC 8446, section 5.1).
pub const RECORD_PLAINTEXT_BYTES_MAX: usize = 16 * 1024;
/// What encryption adds to a record: header, content type and tag with TLS 1.3, header,
/// nonce and tag with 1.2. A guess from above; rustls says if it is not enough.
const RECORD_OVERHEAD_BYTES: usize = 64;
/// The header of a record.
const HEADER_BYTES: usize = 5;
/// Longest record behind its header that any version allows (RFC 5246, section 6.2.3).
const RECORD_BYTES_MAX: usize = RECORD_PLAINTEXT_BYTES_MAX + 2048;
/// Room for handshake messages, before rustls says how much they take.
const HANDSHAKE_ROOM_BYTES: usize = 2048;

/// One end of a TLS connection, as rustls keeps it.
pub trait Session {
    /// What rustls keeps for that end alone.
    type Side;

    /// Passes ciphertext to rustls.
    fn process<'c, 'i>(&'c mut self, ciphertext: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Side>;

    /// What both ends have in common.
    fn common(&self) -> &CommonState;
}

impl Session for UnbufferedServerConnection {
    type Side = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, ciphertext: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Side> {
        self.process_tls_records(ciphertext)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

impl Session for UnbufferedClientConnection {
    type Side = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, ciphertext: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Side> {
        self.process_tls_records(ciphertext)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

/// The server's end.
pub type ServerStream = TlsStream<UnbufferedServerConnection>;
/// The client's end.
pub type ClientStream = TlsStream<UnbufferedClientConnection>;

/// One end of a TLS connection.
pub struct TlsStream<S> {
    session: S,
    /// Ciphertext that rustls wants to see again: a record that a read cut, or a
    /// handshake message that lies in several records.
    held: Vec<u8>,
    /// Ciphertext that is to be sent; the first `sent` bytes of it are.
    outgoing: Vec<u8>,
    sent: usize,
    end: End,
}

/// How far a stream has come to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// Both directions are open, or only the peer's has ended.
    Open { peer_ended: bool },
    /// Our direction has ended, too: nothing is encrypted any more.
    Ended { peer_ended: bool },
    /// Broken; what is left to send is the alert that says so.
    Failed,
}

impl ServerStream {
    /// A server that waits for a ClientHello.
    ///
    /// # Errors
    /// What rustls finds wrong with the configuration.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        UnbufferedServerConnection::new(config).map(Self::new)
    }
}

impl ClientStream {
    /// A client whose ClientHello is made by [`TlsStream::begin`].
    ///
    /// # Errors
    /// What rustls finds wrong with the configuration or the name.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        UnbufferedClientConnection::new(config, name).map(Self::new)
    }
}

impl<S: Session> TlsStream<S> {
    fn new(session: S) -> Self {
        let end = End::Open { peer_ended: false };
        Self { session, held: Vec::new(), outgoing: Vec::new(), sent: 0, end }
    }

    /// Makes what a client says first.
    ///
    /// # Errors
    /// As [`TlsStream::receive`].
    pub fn begin(&mut self, pool: &mut BufferPool) -> Result<(), Error> {
        self.process(&mut [], &mut Vec::new(), pool).map(|_| ())
    }

    /// Whether the handshake is not complete: nothing can be encrypted yet.
    pub fn is_handshaking(&self) -> bool {
        self.session.common().is_handshaking()
    }

    /// What rustls knows of the connection: version, ALPN.
    pub fn common(&self) -> &CommonState {
        self.session.common()
    }

    /// Whether the peer has said that it sends no more (close_notify). An end of the
    /// transport without it is a truncation (RFC 8446, section 6.1).
    pub fn peer_ended(&self) -> bool {
        matches!(self.end, End::Open { peer_ended: true } | End::Ended { peer_ended: true })
    }

    /// Whether it is broken, or was given up.
    pub fn has_failed(&self) -> bool {
        self.end == End::Failed
    }

    /// Whether plaintext can be encrypted now.
    pub fn can_encrypt(&self) -> bool {
        matches!(self.end, End::Open { .. }) && !self.is_handshaking()
    }

    /// Bytes of a handshake message or of a record that is not complete.
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Bytes of memory that they take.
    pub fn held_memory_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Takes ciphertext, whose memory is scratch, and appends what it says to
    /// `plaintext`. Answers of the protocol itself are added to what is to be sent.
    ///
    /// # Errors
    /// The peer broke the protocol, or was refused; an alert is among what is to be
    /// sent, and nothing else will be. `plaintext` has what came before.
    pub fn receive(
        &mut self,
        ciphertext: &mut [u8],
        plaintext: &mut Vec<u8>,
        pool: &mut BufferPool,
    ) -> Result<(), Error> {
        let mut input = ciphertext;
        if self.end == End::Failed {
            return Ok(());
        }
        while !self.held.is_empty() && !input.is_empty() {
            // Not more than completes the record: what follows is decrypted where it lies.
            let missing = match missing_bytes(&self.held) {
                0 => HEADER_BYTES,
                missing => missing,
            };
            let (part, rest) = input.split_at_mut(missing.min(input.len()));
            self.held.extend_from_slice(part);
            input = rest;
            if missing_bytes(&self.held) == 0 {
                let mut held = std::mem::take(&mut self.held);
                let used = self.process(&mut held, plaintext, pool);
                held.drain(..*used.as_ref().unwrap_or(&0));
                if held.is_empty() {
                    pool.put(held);
                } else {
                    self.held = held;
                }
                used?;
            }
        }
        if !input.is_empty() {
            let used = self.process(input, plaintext, pool)?;
            if used < input.len() {
                self.held = pool.take(input.len() - used);
                self.held.extend_from_slice(&input[used..]);
            }
        }
        Ok(())
    }

    /// Passes ciphertext to rustls until it has no use for more of it; how many bytes it
    /// does not want to see again.
    fn process(
        &mut self,
        ciphertext: &mut [u8],
        plaintext: &mut Vec<u8>,
        pool: &mut BufferPool,
    ) -> Result<usize, Error> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state, .. } = self.session.process(&mut ciphertext[used..]);
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    self.fail(pool);
                    return Err(error);
                }
            };
            let mut done = false;
            match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        plaintext.extend_from_slice(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(data) => append_handshake(&mut self.outgoing, data, pool),
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => match &mut self.end {
                    End::Open { peer_ended } | End::Ended { peer_ended } => *peer_ended = true,
                    End::Failed => {}
                },
                // Waits for more, or has nothing to do. Early data is not enabled.
                _ => done = true,
            }
            used += discard;
            if done {
                return Ok(used);
            }
        }
    }

    /// Fetches the alert, which is the last word.
    fn fail(&mut self, pool: &mut BufferPool) {
        self.end = End::Failed;
        pool.put(std::mem::take(&mut self.held));
        while self.session.common().wants_write() {
            match self.session.process(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(data)) => append_handshake(&mut self.outgoing, data, pool),
                _ => break,
            }
        }
    }

    /// Encrypts plaintext, at most [`RECORD_PLAINTEXT_BYTES_MAX`] bytes for one record,
    /// behind what is to be sent.
    ///
    /// # Errors
    /// The stream is over: [`TlsStream::can_encrypt`] is not so, or its keys are used up.
    pub fn encrypt(&mut self, plaintext: &[u8], pool: &mut BufferPool) -> Result<(), StreamOver> {
        let room = plaintext.len() + RECORD_OVERHEAD_BYTES;
        self.write(room, pool, |traffic, out| traffic.encrypt(plaintext, out))
    }

    /// Ends our direction: adds close_notify to what is to be sent. Nothing happens on a
    /// stream that cannot say it any more, or not yet.
    pub fn finish(&mut self, pool: &mut BufferPool) {
        if self.can_encrypt() {
            // A stream that is over has said all that it can.
            let _ = self.write(RECORD_OVERHEAD_BYTES, pool, |traffic, out| traffic.queue_close_notify(out));
        }
        if let End::Open { peer_ended } = self.end {
            self.end = End::Ended { peer_ended };
        }
    }

    fn write(
        &mut self,
        room: usize,
        pool: &mut BufferPool,
        mut write: impl FnMut(&mut WriteTraffic<'_, S::Side>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), StreamOver> {
        if !matches!(self.end, End::Open { .. }) {
            return Err(StreamOver);
        }
        loop {
            // What is held belongs in front: rustls remembers where a message in it begins.
            match self.session.process(&mut self.held).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let written = append(&mut self.outgoing, room, pool, |out| match write(&mut traffic, out) {
                        Ok(len) => Ok(Ok(len)),
                        Err(EncryptError::InsufficientSize(size)) => Err(size),
                        Err(EncryptError::EncryptExhausted) => Ok(Err(StreamOver)),
                    });
                    return written.inspect_err(|_| self.end = End::Failed);
                }
                Ok(ConnectionState::EncodeTlsData(data)) => append_handshake(&mut self.outgoing, data, pool),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.end = End::Open { peer_ended: true },
                _ => return Err(StreamOver),
            }
        }
    }

    /// Ciphertext that is to be sent.
    pub fn unsent(&self) -> &[u8] {
        &self.outgoing[self.sent..]
    }

    /// The transport took `n` bytes of it.
    pub fn sent(&mut self, n: usize, pool: &mut BufferPool) {
        self.sent += n;
        assert!(self.sent <= self.outgoing.len(), "bytes were sent that were not encrypted");
        if self.sent == self.outgoing.len() {
            self.sent = 0;
            pool.put(std::mem::take(&mut self.outgoing));
        }
    }

    /// Takes ciphertext back that was sent as far as was said, and was not: it comes before
    /// all that is to be sent.
    pub fn give_back(&mut self, bytes: &[u8], pool: &mut BufferPool) {
        let mut outgoing = pool.take(bytes.len() + self.unsent().len());
        outgoing.extend_from_slice(bytes);
        outgoing.extend_from_slice(self.unsent());
        self.sent = 0;
        pool.put(std::mem::replace(&mut self.outgoing, outgoing));
    }

    /// Gives buffers back; the stream is over.
    pub fn release(&mut self, pool: &mut BufferPool) {
        self.end = End::Failed;
        self.sent = 0;
        pool.put(std::mem::take(&mut self.held));
        pool.put(std::mem::take(&mut self.outgoing));
    }
}

/// Nothing can be encrypted on this stream any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the TLS stream is over")]
pub struct StreamOver;

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unsent = self.outgoing.len() - self.sent;
        f.debug_struct("TlsStream")
            .field("held", &self.held.len())
            .field("unsent", &unsent)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// Bytes that lack until `held` ends with a whole record; 0 if it does, or if no record
/// is as long as its header says.
fn missing_bytes(held: &[u8]) -> usize {
    let mut at = 0;
    while let Some(header) = held.get(at..at + HEADER_BYTES) {
        let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
        at += HEADER_BYTES + len;
        if len > RECORD_BYTES_MAX || at == held.len() {
            return 0;
        }
        if at > held.len() {
            return at - held.len();
        }
    }
    at + HEADER_BYTES - held.len()
}

fn append_handshake<Side>(outgoing: &mut Vec<u8>, mut data: EncodeTlsData<'_, Side>, pool: &mut BufferPool) {
    append(outgoing, HANDSHAKE_ROOM_BYTES, pool, |out| match data.encode(out) {
        Ok(len) => Ok(Ok::<_, StreamOver>(len)),
        Err(EncodeError::InsufficientSize(size)) => Err(size),
        Err(EncodeError::AlreadyEncoded) => Ok(Ok(0)),
    })
    .unwrap_or_else(|StreamOver| unreachable!("encoding does not end a stream"));
}

/// Appends what `write` puts into the room that it gets; it is asked again if it wants
/// more.
fn append(
    outgoing: &mut Vec<u8>,
    mut room: usize,
    pool: &mut BufferPool,
    mut write: impl FnMut(&mut [u8]) -> Result<Result<usize, StreamOver>, InsufficientSizeError>,
) -> Result<(), StreamOver> {
    if outgoing.capacity() == 0 {
        *outgoing = pool.take(room);
    }
    let start = outgoing.len();
    loop {
        outgoing.resize(start + room, 0);
        match write(&mut outgoing[start..]) {
            Err(InsufficientSizeError { required_size }) => room = required_size,
            Ok(written) => {
                outgoing.truncate(start + written.unwrap_or(0));
                return written.map(|_| ());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of `len` bytes behind its header.
    fn record(len: usize) -> Vec<u8> {
        let mut record = vec![0x17, 3, 3];
        record.extend_from_slice(&(len as u16).to_be_bytes());
        record.resize(HEADER_BYTES + len, 0);
        record
    }

    #[test]
    fn what_a_record_lacks_is_known_at_every_byte() {
        let records = [record(300), record(0), record(7)].concat();
        let ends = [305, 310, 322];
        for len in 1..=records.len() {
            let missing = missing_bytes(&records[..len]);
            let next = ends.into_iter().find(|&end| end >= len).unwrap();
            let start = ends.into_iter().rfind(|&end| end < len).unwrap_or(0);
            let expected = if len < start + HEADER_BYTES { start + HEADER_BYTES - len } else { next - len };
            assert_eq!(missing, expected, "{len} bytes");
        }
    }

    #[test]
    fn a_record_that_is_too_long_is_not_waited_for() {
        assert_eq!(missing_bytes(&record(RECORD_BYTES_MAX)[..5]), RECORD_BYTES_MAX);
        assert_eq!(missing_bytes(&record(RECORD_BYTES_MAX + 1)[..5]), 0);
    }
}
