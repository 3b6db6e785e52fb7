//! From a request head to an open dialect.

use super::Shard;
use super::unread::Compressed;
use crate::dialect::{Dialect, Route};
use crate::hub::{Subscribed, Variant};
use crate::id::ConnectionId;
use crate::proto::handshake::{HandshakeError, Status, Upgrade, append_response};
use crate::proto::http::{self, Request};
use crate::stats::CloseReason;
use crate::time::Time;

/// What a valid request leads to.
enum Admitted {
    Health,
    Upgrade { upgrade: Upgrade, dialect: Dialect, topic: Option<String> },
}

impl Shard {
    /// Takes bytes of the request head; whether frames may follow in what is left.
    pub(super) fn receive_head(&mut self, id: ConnectionId, input: &mut &mut [u8], now: Time) -> bool {
        let Some(peer) = self.table.get_mut(id) else { return false };
        let admitted = match peer.connection.receive_head(input, self.settings.handshake_bytes_max) {
            Ok(None) => return false,
            Ok(Some((head, len))) if head.is_empty() => {
                let admitted = self.admit(&input[..len]);
                *input = &mut std::mem::take(input)[len..];
                admitted
            }
            Ok(Some((head, _))) => self.admit(&head),
            Err(error) => Err(error),
        };
        match admitted {
            Ok(Admitted::Health) => {
                let (status, words) = if self.drain.is_announced() {
                    (Status::ServiceUnavailable, "draining\n")
                } else {
                    (Status::Ok, "ok\n")
                };
                self.answer_http(id, CloseReason::NotUpgraded, status, now, |out| {
                    append_response(out, status, &[], words);
                });
                false
            }
            Ok(Admitted::Upgrade { upgrade, dialect, topic }) => self.upgrade(id, upgrade, dialect, topic, input, now),
            Err(error) => {
                self.refuse(id, &error, CloseReason::NotUpgraded, now);
                false
            }
        }
    }

    fn admit(&mut self, head: &[u8]) -> Result<Admitted, HandshakeError> {
        let request = http::parse(head)?;
        if request.method != "GET" {
            return Err(HandshakeError::Method(request.method.to_owned()));
        }
        let host = request.single("Host")?.ok_or(HandshakeError::HeaderMissing("Host"))?;
        if !self.settings.origin.allows_host(host) {
            return Err(HandshakeError::HostForbidden(host.to_owned()));
        }
        match self.settings.routes.route(&request)? {
            Route::Health => Ok(Admitted::Health),
            Route::Dialect { .. } if self.drain.is_shut() => Err(HandshakeError::GoingAway),
            Route::Dialect { dialect, subprotocols, topic } => {
                let mut upgrade = Upgrade::validate(&request, subprotocols)?;
                self.check_origin(&request, host)?;
                let offers = request.values("Sec-WebSocket-Extensions");
                upgrade.deflate = self.compression.negotiate(offers, dialect.replies())?;
                self.count_compression();
                Ok(Admitted::Upgrade { upgrade, dialect, topic })
            }
        }
    }

    fn check_origin(&self, request: &Request<'_>, host: &str) -> Result<(), HandshakeError> {
        // No Origin: not a browser, so there is no page that could be misused.
        match request.single("Origin")? {
            Some(origin) if !self.settings.origin.allows_origin(origin, host) => {
                Err(HandshakeError::OriginForbidden(origin.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Opens the dialect; whether frames may follow at once.
    fn upgrade(
        &mut self,
        id: ConnectionId,
        upgrade: Upgrade,
        dialect: Dialect,
        topic: Option<String>,
        input: &mut &mut [u8],
        now: Time,
    ) -> bool {
        let topic = match topic.map(|name| self.hub.open_topic(&name)).transpose() {
            Ok(topic) => topic,
            Err(_) => {
                self.stats.topics_refused.add(1);
                self.refuse(id, &HandshakeError::TopicsFull, CloseReason::NotUpgraded, now);
                return false;
            }
        };
        let compression = upgrade.deflate.map(|agreement| self.compression.connect(agreement));
        let variant = match &compression {
            Some(compression) if compression.takes_shared() => Variant::Deflate,
            _ => Variant::Plain,
        };
        let subscribes = matches!(dialect, Dialect::Plain(plain) if plain.subscribes);
        let subscribed =
            topic.filter(|_| subscribes).map(|topic| self.hub.subscribe(topic, id, variant, &mut self.outbox));
        self.count_topics();
        let Some(peer) = self.table.get_mut(id) else { return false };
        peer.compression = compression.map(|agreed| Box::new(Compressed::new(agreed)));
        peer.session.dialect = Some(dialect);
        peer.session.topic = topic;
        peer.session.subscription = subscribed.map(|(Subscribed::Confirmed(id) | Subscribed::Waiting(id))| id);
        if matches!(subscribed, Some(Subscribed::Waiting(_))) {
            // The 101 promises that every message ordered later is delivered, so it waits
            // for the owner. Frames that came early wait with it.
            peer.connection.accept_later(upgrade, std::mem::take(input).to_vec(), now);
            return false;
        }
        self.open(id, &upgrade);
        true
    }

    /// The owner has confirmed a subscription: answer, and read what came early.
    pub(super) fn confirm(&mut self, id: ConnectionId, now: Time) {
        let Some(peer) = self.table.get_mut(id) else { return };
        let Some(mut accepted) = peer.connection.confirm() else { return };
        self.open(id, &accepted.upgrade);
        // The 101 waits, so the replies wait behind it.
        let replies = self.receive_frames(id, &mut accepted.early, now);
        debug_assert!(replies.is_empty());
        self.resume_reading(id);
    }

    fn open(&mut self, id: ConnectionId, upgrade: &Upgrade) {
        self.with_queue_counted(id, |connection, pool| connection.open(upgrade, pool));
        self.stats.handshakes[Status::SwitchingProtocols as usize].add(1);
        self.settle(id);
    }

    /// The head did not arrive in time, or the owner did not answer in time.
    pub(super) fn refuse_late(&mut self, id: ConnectionId, now: Time) {
        if self.has_no_language(id) {
            self.abort_handshake(id, CloseReason::HandshakeTimeout);
            return;
        }
        self.refuse(id, &HandshakeError::Timeout, CloseReason::HandshakeTimeout, now);
    }

    pub(super) fn refuse(&mut self, id: ConnectionId, error: &HandshakeError, reason: CloseReason, now: Time) {
        let client = self.table.get(id).and_then(|peer| peer.client.address);
        tracing::debug!(%error, ?client, "handshake refused");
        self.answer_http(id, reason, error.status(), now, |out| error.append_response(out));
    }

    fn answer_http(
        &mut self,
        id: ConnectionId,
        reason: CloseReason,
        status: Status,
        now: Time,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.with_queue_counted(id, |connection, pool| connection.finish_http(reason, now, pool, write));
        self.stats.handshakes[status as usize].add(1);
        self.settle(id);
    }
}
