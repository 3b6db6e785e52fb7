//! Connections come and go: the ramp, the scenario's own comings and goings, the
//! publishers' next connections, and every end.

use wsgate::proto::close::CloseCode;
use wsgate::time::Time;

use super::{End, NO_SLOT, Phase, Setup, Worker, recycle};
use crate::client::Client;
use crate::connection::{Connection, Peer};
use crate::failure::Failure;
use crate::limits::{CLOSE_TIMEOUT, CONNECTS_PER_TURN, STALLED_BUFFER_BYTES};
use crate::publisher::Publisher;
use crate::scenario::Leave;
use crate::sockets;
use crate::tls::TlsPlan;

impl Worker<'_> {
    pub(super) fn connect_due(&mut self) {
        if self.setup.connector.is_done() {
            return;
        }
        let now = self.setup.clock.now();
        let timeout = self.setup.plan.handshake_timeout;
        while let Some(deadline) = self.setup.connector.overdue(now) {
            // Both the slot and the member may have come back since, with a time of their own.
            let late = self
                .connections
                .get(deadline.slot)
                .filter(|connection| connection.member == deadline.member && connection.begun + timeout == deadline.at);
            if let Some(connection) = late.filter(|connection| !connection.ready) {
                let failure = match (&self.setup.plan.speech.subscribed, connection.is_connected()) {
                    (Some(text), true) if connection.peer.is_open() => {
                        Failure::SubscribeTimeout { text: text.clone(), timeout }
                    }
                    (_, true) => Failure::HandshakeTimeout(timeout),
                    (_, false) => Failure::ConnectTimeout(timeout),
                };
                self.end(deadline.slot, End::Failed(failure));
            }
        }
        for _ in 0..CONNECTS_PER_TURN {
            let Some(member) = self.setup.connector.next(now) else { break };
            self.connect(member, now);
        }
    }

    /// Connects and ends connections as the scenario asks for it, once messages are sent.
    pub(super) fn come_and_go(&mut self) {
        if matches!(self.phase, Phase::Connecting | Phase::Waiting | Phase::Closing(_) | Phase::Over) {
            return;
        }
        let now = self.setup.clock.now();
        while let Some((member, leave)) = self.setup.scenario.next_leave(now) {
            let slot = self.slots[member] as usize;
            self.serve(slot, |worker| match leave {
                Leave::Close => worker.close(slot),
                Leave::Cut => Err(End::Closed),
            });
        }
        for _ in 0..CONNECTS_PER_TURN {
            if !self.setup.connector.admit() {
                // A handshake that ends makes room, and a turn.
                self.setup.scenario.held_up(now);
                self.send_at = self.setup.scenario.wake_at().filter(|&at| at > now);
                return;
            }
            let Some(member) = self.setup.scenario.next_connect(now) else {
                self.setup.connector.withdraw();
                self.send_at = self.setup.scenario.wake_at().filter(|&at| at > now);
                return;
            };
            self.connect(member, now);
        }
        // More are due: the sockets that are ready have their turn before.
        self.send_at = Some(now);
    }

    fn connect(&mut self, member: usize, now: Time) {
        if let Err(failure) = self.open(member, None) {
            self.setup.connector.ended(false);
            self.setup.scenario.failed(member, now);
            self.outcome.connections.failures.add(&failure);
        }
    }

    /// Begins to connect; the slot. `publisher` goes on with what waits.
    fn open(&mut self, member: usize, publisher: Option<Publisher>) -> Result<usize, Failure> {
        let Setup { plan, addresses, clock, connector, number: worker, .. } = &mut self.setup;
        let (number, publishes) = plan.client(*worker, member);
        let values = plan.values(*worker, member);
        let request = if publishes { &plan.publisher_request } else { &plan.request };
        let source = (!plan.sources.is_empty()).then(|| plan.sources[number % plan.sources.len()]);
        let mut out = self.spares.pop().unwrap_or_default();
        let over_http = plan.publishes_over_http(number);
        let peer = if over_http {
            let mut publisher = publisher.unwrap_or_default();
            publisher.resume(&mut out);
            Peer::Publisher(Box::new(publisher))
        } else {
            let table = &plan.speech.table;
            Peer::WebSocket(Client::new(request, values, table, &mut out, &mut self.tools.random))
        };
        let address = if over_http { addresses.publish } else { addresses.clients };
        let begun = clock.now();
        let mut tls = plan.tls.as_ref().filter(|_| !over_http).map(TlsPlan::connect).transpose()?;
        if let Some(tls) = &mut tls {
            tls.begin(&mut self.tools.buffers)?;
        }
        let stalls = plan.stalls(number);
        let stream = sockets::connect(address, source, stalls.then_some(STALLED_BUFFER_BYTES));
        let stream = stream.map_err(Failure::connect)?;
        let entry = self.connections.vacant_entry();
        let slot = entry.key();
        let socket = self.sockets.open(slot, stream, stalls).map_err(Failure::ConnectFailed)?;
        let mut connection = Connection::new(begun, socket, peer, out, tls);
        connection.member = member;
        (connection.values, connection.publishes) = (values, publishes);
        entry.insert(connection);
        connector.begun(slot, member, begun);
        Ok(slot)
    }

    /// A publisher without a WebSocket is ready when TCP is.
    pub(super) fn publisher_connected(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        connection.ready = true;
        let was_here_before = self.slots[connection.member] as usize == slot;
        if !was_here_before {
            self.slots[connection.member] = slot as u32;
            self.setup.scenario.opened(connection.member, self.setup.clock.now());
            self.outcome.connections.opened += 1;
        }
        self.setup.connector.ended(true);
    }

    /// The connection of a publisher is over, but not its work.
    fn reconnect(&mut self, member: usize, publisher: Publisher) -> Result<(), Failure> {
        if !self.setup.connector.admit() {
            return Err(Failure::Disconnected);
        }
        match self.open(member, Some(publisher)) {
            Ok(slot) => self.slots[member] = slot as u32,
            Err(failure) => {
                self.setup.connector.ended(false);
                return Err(failure);
            }
        }
        Ok(())
    }

    /// The connection is over.
    pub(super) fn end(&mut self, slot: usize, end: End) {
        let connection = self.connections.remove(slot);
        let is_closing = connection.peer.is_closing();
        let (member, was_ready) = (connection.member, connection.ready);
        let was_open = self.slots[member] as usize == slot;
        let (peer, mut out) = connection.end(self.sockets, &mut self.tools.buffers);
        match peer {
            Peer::WebSocket(mut client) => client.release(&mut self.tools),
            Peer::Publisher(publisher) => {
                let (next, unanswered) = publisher.ended();
                if unanswered {
                    self.outcome.connections.failures.add(&Failure::Disconnected);
                }
                let goes_on = was_open && matches!(end, End::Closed) && !matches!(self.phase, Phase::Closing(_));
                if let (true, Some(next)) = (goes_on, next)
                    && self.reconnect(member, next).is_ok()
                {
                    return;
                }
            }
        }
        let counters = &mut self.outcome.connections;
        if !was_ready {
            self.setup.connector.ended(false);
        }
        if was_open {
            self.slots[member] = NO_SLOT;
            self.setup.scenario.gone(member, self.setup.clock.now());
        } else {
            self.setup.scenario.failed(member, self.setup.clock.now());
        }
        // Whatever the server does after our Close is its own affair.
        if let End::Failed(failure) = end
            && !is_closing
            && !self.setup.scenario.expects_end(member, &failure)
        {
            if was_open {
                counters.count_drop(self.setup.clock.now());
            }
            counters.failures.add(&failure);
        }
        out.clear();
        recycle(&mut self.spares, out, self.setup.payload.bytes());
    }

    /// Begins the closing handshake, where there is one.
    fn close(&mut self, slot: usize) -> Result<(), End> {
        let connection = &mut self.connections[slot];
        match &mut connection.peer {
            Peer::WebSocket(client) if client.is_open() => {
                client.close(&mut connection.out, CloseCode::NORMAL, &mut self.tools);
                self.flush(slot)
            }
            _ => Err(End::Closed),
        }
    }

    pub(super) fn close_all(&mut self) {
        self.setup.connector.stop();
        self.phase = Phase::Closing(self.setup.clock.now() + CLOSE_TIMEOUT);
        let slots: Vec<_> = self.connections.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.serve(slot, |worker| worker.close(slot));
        }
    }
}
