//! What leaves: messages that are due are queued, and each connection written once.

use super::{End, Phase, Setup, Worker, recycle};
use crate::connection::{Connection, Peer};
use crate::conversation::append;
use crate::failure::Failure;
use crate::payload::Stamp;

impl Worker<'_> {
    pub(super) fn flush(&mut self, slot: usize) -> Result<(), End> {
        let connection = &mut self.connections[slot];
        connection.flush(self.sockets, &mut self.tools.buffers)?;
        let waiting = if let Peer::Publisher(publisher) = &connection.peer { publisher.waiting_bytes() } else { 0 };
        let bytes = connection.unsent_bytes() + waiting;
        if connection.out.is_empty() {
            recycle(&mut self.spares, std::mem::take(&mut connection.out), self.setup.payload.bytes());
        }
        if bytes > self.unsent_bytes_max {
            return Err(Failure::NotReading { bytes }.into());
        }
        Ok(())
    }

    /// Queues every message that is due, then writes once per connection.
    pub(super) fn send_due(&mut self) {
        self.queue_due();
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            // It may be gone, and another have its place.
            let Some(connection) = self.connections.get_mut(slot).filter(|connection| connection.dirty) else {
                continue;
            };
            connection.dirty = false;
            let owed = std::mem::take(&mut connection.owed);
            if owed > 0 {
                self.queue_owed(slot, owed);
            }
            self.serve(slot, |worker| worker.flush(slot));
        }
        // To be flushed ends no connection that another needs, and makes none dirty.
        debug_assert!(self.dirty.is_empty());
        self.dirty = dirty;
    }

    fn queue_due(&mut self) {
        if !matches!(self.phase, Phase::Running(_)) {
            self.send_at = None;
            return;
        }
        let now = self.setup.clock.now();
        while let Some((member, stamp)) = self.setup.scenario.next_send(now) {
            self.queue(member, stamp);
        }
        // Nothing is due at `now`: a time that has passed waits for something to arrive.
        self.send_at = self.setup.scenario.wake_at().filter(|&at| at > now);
    }

    /// What a client sends for messages that arrived, timed from now.
    fn queue_owed(&mut self, slot: usize, owed: usize) {
        let Self { setup, sockets, connections, spares, self_check, tools, .. } = self;
        let Setup { plan, payload, scenario, clock, .. } = setup;
        let connection = &mut connections[slot];
        let Peer::WebSocket(client) = &connection.peer else { unreachable!("publishers expect no messages") };
        let (compresses, now) = (client.compresses(), clock.now());
        let is_blocked = connection.is_blocked(*sockets);
        let out = with_room(&mut connection.out, spares);
        for _ in 0..owed {
            let Some(stamp) = scenario.next_of(connection.member, now) else { return };
            if is_blocked {
                self_check.count_blocked();
            }
            append(out, plan, payload, stamp, connection.values, compresses, tools);
        }
    }

    fn queue(&mut self, member: usize, stamp: Stamp) {
        let slot = self.slots[member] as usize;
        let connection = &mut self.connections[slot];
        if connection.is_blocked(self.sockets) {
            self.self_check.count_blocked();
        }
        let Setup { plan, payload, .. } = &self.setup;
        let (out, values) = (with_room(&mut connection.out, &mut self.spares), connection.values);
        match (&mut connection.peer, &plan.publish) {
            (Peer::Publisher(publisher), Some(publish)) => {
                let body = plan.speech.wrap(payload, stamp, values);
                publisher.send(publish.with_body(&body, values, &plan.speech.table), out);
            }
            (Peer::WebSocket(client), _) => {
                append(out, plan, payload, stamp, values, client.compresses(), &mut self.tools);
            }
            (Peer::Publisher(_), None) => unreachable!("a publisher has a URL"),
        }
        mark_dirty(connection, slot, &mut self.dirty);
    }
}

/// The buffer, in place of none one that was used before.
fn with_room<'a>(out: &'a mut Vec<u8>, spares: &mut Vec<Vec<u8>>) -> &'a mut Vec<u8> {
    if out.capacity() == 0 {
        *out = spares.pop().unwrap_or_default();
    }
    out
}

/// Notes that the connection has something to write in this turn.
pub(super) fn mark_dirty(connection: &mut Connection, slot: usize, dirty: &mut Vec<usize>) {
    if !connection.dirty {
        connection.dirty = true;
        dirty.push(slot);
    }
}
