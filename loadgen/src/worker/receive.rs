//! What arrives: sockets are read, and conversations go on.

use super::send::mark_dirty;
use super::{End, Phase, Worker};
use crate::client::{Event, Tools};
use crate::connection::{Connection, Peer};
use crate::conversation::Conversation;
use crate::failure::Failure;
use crate::limits::READS_PER_TURN_MAX;
use crate::sockets::{Ready, Received};

impl Worker<'_> {
    /// What became of readers that stalled shows when they read.
    pub(super) fn read_stalled(&mut self) {
        self.reads_all = true;
        let scenario = &self.setup.scenario;
        let stalled = self.connections.iter().filter(|(_, connection)| !scenario.reads(connection.member));
        self.unread.extend(stalled.map(|(slot, _)| slot).collect::<Vec<_>>());
    }

    pub(super) fn ready(&mut self, ready: Ready) -> Result<(), End> {
        let slot = ready.slot;
        let connection = &mut self.connections[slot];
        if !connection.is_connected() {
            if !connection.check_connected(self.sockets)? {
                return Ok(());
            }
            if matches!(connection.peer, Peer::Publisher(_)) {
                self.publisher_connected(slot);
            }
        }
        let connection = &mut self.connections[slot];
        if ready.writable && connection.unsent_bytes() > 0 {
            self.flush(slot)?;
        }
        if ready.readable {
            // The end of the stream makes no event of its own if it came with the data.
            self.receive(slot, ready.ended)?;
        }
        Ok(())
    }

    /// Reads what has arrived and hands it to the scenario; with `to_the_end`, until
    /// reading finds nothing.
    pub(super) fn receive(&mut self, slot: usize, to_the_end: bool) -> Result<(), End> {
        let Self { setup, sockets, connections, tools, slots, outcome, phase, reads_all, .. } = self;
        let connection = &mut connections[slot];
        if !connection.is_connected() {
            return Ok(());
        }
        if matches!(connection.peer, Peer::Publisher(_)) {
            return self.receive_answers(slot);
        }
        let mut emptied = false;
        for _ in 0..READS_PER_TURN_MAX {
            if connection.ready && !*reads_all && !setup.scenario.reads(connection.member) {
                emptied = true;
                break;
            }
            let (bytes, is_all) = match connection.receive(*sockets)? {
                Received::Bytes { bytes, is_all } => (bytes, is_all),
                Received::Nothing => {
                    emptied = true;
                    break;
                }
                Received::End if connection.peer.is_closing() => return Err(End::Closed),
                Received::End => return Err(End::Failed(Failure::Disconnected)),
            };
            let now = setup.clock.now();
            let Tools { plaintext, inflated, buffers, .. } = &mut *tools;
            let (mut plaintext, mut inflated) = (std::mem::take(plaintext), std::mem::take(inflated));
            let read = connection.read(bytes, &mut plaintext, buffers);
            let mut input = match read {
                Ok(input) => input,
                Err(failure) => {
                    // The server learns why, if it takes it.
                    let _ = connection.flush_ciphertext(*sockets, buffers);
                    return Err(failure.into());
                }
            };
            let Connection { peer, out, member, publishes, values, ready, begun, .. } = connection;
            let Peer::WebSocket(client) = peer else { unreachable!("publishers are served above") };
            let mut conversation = Conversation {
                plan: &setup.plan,
                payload: &setup.payload,
                scenario: &mut *setup.scenario,
                member: *member,
                publishes: *publishes,
                values: *values,
                is_ready: *ready,
                compresses: client.compresses(),
                owed: 0,
            };
            let mut closed = None;
            while let Some(event) = client.next(&mut input, out, tools)? {
                match event {
                    // Too late to count.
                    Event::Message(_) | Event::Compressed(..) if matches!(phase, Phase::Closing(_)) => {}
                    Event::Message(message) => conversation.hear(message, out, now, tools),
                    Event::Compressed(opcode, payload) => {
                        tools.inflate(opcode, payload, &mut inflated)?;
                        conversation.hear(&inflated, out, now, tools);
                    }
                    Event::Control => {}
                    Event::Opened => {
                        conversation.compresses = client.compresses();
                        conversation.open(out, tools);
                        outcome.connections.opened += 1;
                        outcome.connections.handshakes.record(now.0 - begun.0);
                    }
                    Event::Closed { asked: true, .. } => {} // The server ends the stream.
                    Event::Closed { asked: false, code, reason } => {
                        closed = Some(Failure::ClosedByServer { code: code.map(|code| code.0), reason });
                    }
                }
                if conversation.is_ready && !*ready {
                    *ready = true;
                    slots[*member] = slot as u32;
                    setup.connector.ended(true);
                    conversation.scenario.opened(*member, now);
                }
            }
            connection.owed += conversation.owed;
            if let Some(failure) = closed {
                let _ = connection.flush(*sockets, &mut tools.buffers); // Our answer; the server may be gone already.
                return Err(failure.into());
            }
            tools.inflated = inflated;
            tools.plaintext = plaintext;
            if is_all && !to_the_end {
                emptied = true;
                break;
            }
        }
        if !emptied {
            self.unread.push(slot);
        }
        // Sockets are read one after the other, and then written: that keeps the kernel's
        // code for either at hand, and what is timed from its sending does not wait.
        if connection.owed > 0 || connection.unsent_bytes() > 0 {
            mark_dirty(connection, slot, &mut self.dirty);
        }
        Ok(())
    }

    /// Reads answers to publishes; the next message leaves with each.
    fn receive_answers(&mut self, slot: usize) -> Result<(), End> {
        let Self { sockets, connections, outcome, .. } = self;
        let connection = &mut connections[slot];
        loop {
            let bytes = match connection.receive(*sockets)? {
                Received::Bytes { bytes, .. } => bytes,
                Received::Nothing => break,
                Received::End => return Err(End::Closed),
            };
            let Peer::Publisher(publisher) = &mut connection.peer else { return Ok(()) };
            if let Some(answer) = publisher.receive(bytes, &mut connection.out)? {
                answer.failure().iter().for_each(|failure| outcome.connections.failures.add(failure));
            }
            if publisher.is_ending() {
                return Err(End::Closed);
            }
        }
        self.flush(slot)
    }
}
