//! A new transport, until it is known whose it is.
//!
//! The peer's address is the client's, unless the peer is a proxy: then the client's comes
//! in a header before anything else. Either way the address decides whether the client may
//! come in.

use core::net::IpAddr;

use super::session::Session;
use super::{Peer, Shard};
use crate::address::ClientBlock;
use crate::admission::AddressBound;
use crate::connection::Connection;
use crate::id::ConnectionId;
use crate::proto::handshake::HandshakeError;
use crate::proto::proxy::ProxyError;
use crate::stats::CloseReason;
use crate::time::Time;

/// Why a transport was not taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAccepted {
    /// The table is full or the shard drains; the caller pauses accepting.
    NoRoom,
    /// The client's address has reached a bound. Counted; the caller says so or not, and
    /// closes the transport.
    Refused(AddressBound),
}

/// Whose a connection is.
#[derive(Default, Debug)]
pub(super) struct Client {
    /// Nothing at a Unix socket.
    pub(super) address: Option<ClientBlock>,
    /// It counts for the bounds of its address.
    counted: bool,
    /// A proxy is to say first on whose behalf it connects.
    awaits_proxy_header: bool,
}

impl Client {
    /// Whether a proxy is to say first on whose behalf it connects.
    pub(super) fn awaits_proxy_header(&self) -> bool {
        self.awaits_proxy_header
    }
}

impl Shard {
    /// Takes in a new transport of which nothing more is known.
    pub fn accept(&mut self, now: Time) -> Option<ConnectionId> {
        self.has_room().then(|| self.insert(Client::default(), now)).flatten()
    }

    /// Takes in a new transport, if its client may come in. `peer` is the address at its
    /// other end, which Unix sockets do not have.
    pub fn accept_from(&mut self, peer: Option<IpAddr>, now: Time) -> Result<ConnectionId, NotAccepted> {
        if !self.has_room() {
            return Err(NotAccepted::NoRoom);
        }
        let admission = &self.settings.admission;
        let awaits_proxy_header = admission.is_proxy(peer);
        let counted = match peer.filter(|_| !awaits_proxy_header) {
            Some(address) => admission.enter(address, now).map_err(|bound| {
                self.stats.address_refusals[bound as usize].add(1);
                NotAccepted::Refused(bound)
            })?,
            None => false,
        };
        self.insert(Client { address: peer.map(ClientBlock::from), counted, awaits_proxy_header }, now)
            .ok_or(NotAccepted::NoRoom)
    }

    fn insert(&mut self, client: Client, now: Time) -> Option<ConnectionId> {
        let connection = Connection::new(now);
        let deadline = connection.deadline(&self.settings.deadlines);
        let session = Session::default();
        let peer =
            Peer { connection, session, client, compression: None, read_pending: false, publisher_paused: false };
        let id = self.table.insert(peer)?;
        self.timers.set(id.slot, deadline);
        self.stats.accepted.add(1);
        self.stats.connections.set(self.table.len() as u64);
        let memory = self.table.memory_bytes() + self.timers.memory_bytes();
        self.stats.connection_memory_bytes.set(memory as u64);
        Some(id)
    }

    /// Takes bytes of a PROXY header, if one is due; whether the client's own bytes may
    /// follow in what is left.
    pub(super) fn receive_proxy_header(&mut self, id: ConnectionId, input: &mut &mut [u8], now: Time) -> bool {
        let Some(peer) = self.table.get_mut(id) else { return false };
        if !peer.client.awaits_proxy_header {
            return true;
        }
        let admission = &self.settings.admission;
        let header = match peer.connection.receive_proxy_header(input, admission.settings().proxy_header_bytes_max) {
            Ok(None) => return false,
            Ok(Some(header)) => header,
            Err(error) => {
                let too_long = matches!(error, ProxyError::TooLong { .. });
                self.stats.proxy_headers_too_long.add(u64::from(too_long));
                self.refuse_arrival(id, &HandshakeError::Proxy(error), now);
                return false;
            }
        };
        peer.client.awaits_proxy_header = false;
        // Without a client's address the proxy speaks for itself, and is trusted.
        let Some(client) = header.client else { return true };
        peer.client.address = Some(client.ip().into());
        match admission.enter(client.ip(), now) {
            Ok(counted) => {
                peer.client.counted = counted;
                true
            }
            Err(bound) => {
                self.stats.address_refusals[bound as usize].add(1);
                self.refuse_arrival(id, &HandshakeError::AddressBound(bound.label()), now);
                false
            }
        }
    }

    /// Says why, unless the client may speak TLS: then nothing can be said to it yet.
    fn refuse_arrival(&mut self, id: ConnectionId, error: &HandshakeError, now: Time) {
        if self.speaks_tls() {
            tracing::debug!(%error, "refused before TLS began");
            self.abort_handshake(id, CloseReason::NotUpgraded);
        } else {
            self.refuse(id, error, CloseReason::NotUpgraded, now);
        }
    }

    /// The client does not count any more.
    pub(super) fn depart(&self, client: &Client) {
        if let Some(address) = client.address.filter(|_| client.counted) {
            self.settings.admission.leave(address);
        }
    }
}
