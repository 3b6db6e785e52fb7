//! What leaves: messages that are due are queued, and each connection written once.

use super::{End, Phase, Setup, Worker, recycle};
use crate::connection::Peer;
use crate::conversation::append;
use crate::failure::Failure;
use crate::payload::Stamp;

impl Worker {
    pub(super) fn flush(&mut self, slot: usize) -> Result<(), End> {
        let connection = &mut self.connections[slot];
        connection.flush(&mut self.tools.buffers)?;
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
        for slot in std::mem::take(&mut self.dirty) {
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.dirty = false;
                self.serve(slot, |worker| worker.flush(slot));
            }
        }
    }

    fn queue(&mut self, member: usize, stamp: Stamp) {
        let slot = self.slots[member] as usize;
        let connection = &mut self.connections[slot];
        if connection.out.capacity() == 0 {
            connection.out = self.spares.pop().unwrap_or_default();
        }
        if connection.is_blocked() {
            self.self_check.count_blocked();
        }
        let Setup { plan, payload, .. } = &self.setup;
        let (out, values) = (&mut connection.out, connection.values);
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
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }
}
