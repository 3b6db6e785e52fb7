//! How a host's transports take what its shard has to say, and how they end.

use std::ops::Range;

use wsgate::connection::Output;
use wsgate::id::ConnectionId;
use wsgate::stats::CloseReason;

use crate::client::ClientId;
use crate::ending;
use crate::host::{Accepting, Host, Readiness};
use crate::network::{ClientEnd, ServerEnd, Transfer};
use crate::scene::Scene;

impl Host {
    pub(crate) fn flush(&mut self, scene: &mut Scene) {
        let most = if scene.one_in(3) { scene.rng.usize(0..4) } else { 64 };
        for _ in 0..most {
            let published = self.stats.published.get();
            let next = self.shard.next_flush(scene.now);
            self.count_published(scene.early[self.index], self.stats.published.get() - published, scene);
            let Some(id) = next else { break };
            if scene.plan.lends {
                self.lend_one(id, scene);
            } else {
                self.flush_one(id, scene);
            }
        }
        self.offer_lent(scene);
        if !self.shard.has_flushes() {
            self.published_bytes = 0;
        }
    }

    /// Does what the shard wants of a connection's transport.
    pub(crate) fn flush_one(&mut self, id: ConnectionId, scene: &mut Scene) {
        let Some(client_id) = self.client_of(id) else { panic!("{id:?} is to be flushed and is gone") };
        loop {
            let gathered;
            let bytes = match self.shard.output(id) {
                Output::Idle => return,
                Output::Send(bytes) => bytes,
                Output::SendSegments((slices, count)) => {
                    gathered = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>();
                    &gathered
                }
                Output::EndWriting => {
                    let link = &mut scene.clients[client_id].link;
                    if link.reset {
                        self.shard.transport_failed(id);
                    } else {
                        link.server_end = ServerEnd::Ended;
                        self.shard.ended_writing(id);
                    }
                    continue;
                }
                Output::Close { abort } => return self.remove(id, client_id, abort, scene),
            };
            let offered = bytes.len();
            match offer(scene, client_id, bytes) {
                Transfer::Bytes(n) => {
                    self.shard.sent(id, n);
                    if n < offered {
                        return self.wait_writable(id, client_id, scene);
                    }
                }
                Transfer::WouldBlock => return self.wait_writable(id, client_id, scene),
                Transfer::Failed => self.shard.transport_failed(id),
                Transfer::End => unreachable!("a write has no end"),
            }
        }
    }

    /// Sends replies that lie in the receive buffer; see `EpollLoop::reply`.
    pub(crate) fn reply(&mut self, id: ConnectionId, client_id: ClientId, replies: Range<usize>, scene: &mut Scene) {
        let mut rest = &self.buffer[replies];
        if rest.is_empty() {
            return;
        }
        scene.trace.count("reply in place", 1);
        match offer(scene, client_id, rest) {
            Transfer::Bytes(n) => {
                self.shard.replied(n);
                rest = &rest[n..];
                if rest.is_empty() {
                    return;
                }
            }
            Transfer::WouldBlock => {}
            Transfer::Failed => return self.shard.transport_failed(id),
            Transfer::End => unreachable!("a write has no end"),
        }
        scene.trace.count("reply in place kept", 1);
        // Blocked first, so that it is not flushed in vain.
        self.shard.blocked(id);
        self.shard.keep_replies(id, rest);
        self.wait_writable(id, client_id, scene);
    }

    pub(crate) fn wait_writable(&mut self, id: ConnectionId, client: ClientId, scene: &mut Scene) {
        self.shard.blocked(id);
        let client = &mut scene.clients[client];
        client.was_blocked = true;
        client.wants_writable = true;
        // The kernel reports what is so when it is asked.
        if client.link.is_writable() {
            client.wants_writable = false;
            self.report(Readiness::Writable(id));
        }
    }

    fn remove(&mut self, id: ConnectionId, client_id: ClientId, abort: bool, scene: &mut Scene) {
        let before: Vec<u64> = self.stats.closes.iter().map(|cell| cell.get()).collect();
        self.shard.remove(id);
        self.sockets[id.slot as usize] = None;
        self.departed.push(id);
        let counted: Vec<usize> = (0..before.len()).filter(|n| self.stats.closes[*n].get() != before[*n]).collect();
        let [reason] = counted[..] else { panic!("an end has one reason, not {counted:?}") };
        let most = if abort { scene.rng.usize(0..=4_000) } else { 0 };
        let link = &mut scene.clients[client_id].link;
        link.server_end = if abort { ServerEnd::Aborted } else { ServerEnd::Closed };
        link.lose(most);
        ending::ended(scene, self, client_id, CloseReason::ALL[reason], abort);
        if let Accepting::Paused { .. } = self.accepting {
            self.accepting = Accepting::Ready;
        }
    }
}

/// Offers bytes to a transport, which may take a part of them, nothing, or be broken.
pub(crate) fn offer(scene: &mut Scene, client: ClientId, bytes: &[u8]) -> Transfer {
    assert!(!bytes.is_empty(), "nothing is sent");
    let most = if scene.plan.partial_writes && scene.rng.u32(0..4) == 0 {
        scene.trace.count("partial write", 1);
        scene.rng.usize(0..=bytes.len())
    } else {
        bytes.len()
    };
    let client = &mut scene.clients[client];
    if let Some(subscription) = &mut client.subscription {
        subscription.confirmed(&scene.oracle);
    }
    let transfer = client.link.write(bytes, most);
    match transfer {
        Transfer::Bytes(n) => scene.trace.hash_bytes(&bytes[..n]),
        Transfer::WouldBlock => scene.trace.count("would block", 1),
        Transfer::Failed => client.link.client_end = ClientEnd::Reported,
        Transfer::End => {}
    }
    transfer
}
