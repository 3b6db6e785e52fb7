//! How a host sends what it gathers first, as the loop of `driver::uring` does: the shard is
//! told at once that it has left, and gets back what has not.

use std::rc::Rc;

use wsgate::buffer::Batch;
use wsgate::connection::Output;
use wsgate::id::ConnectionId;

use crate::flush::offer;
use crate::host::Host;
use crate::network::Transfer;
use crate::scene::Scene;

/// Something that is to be sent.
pub(crate) struct Lent {
    id: ConnectionId,
    source: Source,
}

enum Source {
    Batch(Rc<Batch>, usize),
    Copy(Vec<u8>),
}

impl Host {
    /// As `flush_one`, but that most of it is offered to the transport later, once at most
    /// for each.
    pub(crate) fn lend_one(&mut self, id: ConnectionId, scene: &mut Scene) {
        loop {
            if self.lent.iter().any(|lent| lent.id == id) {
                if matches!(self.shard.output(id), Output::Idle) {
                    return;
                }
                let is_short = self.offer_lent(scene).contains(&id);
                if is_short && !matches!(self.shard.output(id), Output::Close { .. }) {
                    return;
                }
                continue;
            }
            if let Some((batch, start)) = self.shard.lend_batch(id) {
                scene.trace.count("lent batch", 1);
                self.lent.push(Lent { id, source: Source::Batch(batch, start) });
                continue;
            }
            let is_behind = self.shard.is_behind(id);
            let copy = match self.shard.output(id) {
                Output::Send(bytes) if !is_behind => bytes.to_vec(),
                Output::SendSegments((slices, count)) if !is_behind => {
                    slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect()
                }
                Output::Idle => return,
                _ => return self.flush_one(id, scene),
            };
            scene.trace.count("lent copy", 1);
            self.shard.lend(id, copy.len());
            self.lent.push(Lent { id, source: Source::Copy(copy) });
        }
    }

    /// Offers everything to its transport; those that did not take all of it.
    pub(crate) fn offer_lent(&mut self, scene: &mut Scene) -> Vec<ConnectionId> {
        let mut short = Vec::new();
        for Lent { id, source } in std::mem::take(&mut self.lent) {
            let Some(client_id) = self.client_of(id) else { panic!("{id:?} left before what it was to be sent") };
            let bytes = match &source {
                Source::Batch(batch, start) => &batch.as_bytes()[*start..],
                Source::Copy(bytes) => bytes,
            };
            let taken = match offer(scene, client_id, bytes) {
                Transfer::Bytes(n) => n,
                Transfer::WouldBlock => 0,
                Transfer::Failed => {
                    self.shard.transport_failed(id);
                    continue;
                }
                Transfer::End => unreachable!("a write has no end"),
            };
            self.shard.replied(taken);
            let is_short = taken < bytes.len();
            if is_short {
                scene.trace.count("given back", 1);
                short.push(id);
                self.shard.blocked(id);
            }
            match source {
                Source::Batch(batch, start) if is_short => self.shard.give_back_batch(id, batch, start + taken),
                Source::Batch(batch, _) => self.shard.put_batch(batch),
                Source::Copy(bytes) if is_short => self.shard.give_back(id, &bytes[taken..]),
                Source::Copy(_) => {}
            }
            if is_short {
                self.wait_writable(id, client_id, scene);
            }
        }
        short
    }
}
