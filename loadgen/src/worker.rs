//! One thread: an event loop, and the table of its connections.
//!
//! Owner of everything it touches but the pace of connecting and the scenario's
//! board. What is pending for a connection leaves in one write per turn; all
//! connections read into one buffer; nothing is allocated per message.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use mio::event::Event as Readiness;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use wsgate::proto::close::CloseCode;
use wsgate::proto::frame;
use wsgate::time::Time;

use crate::alarm::Alarm;
use crate::client::{self, Client, Event, Tools};
use crate::connection::{Connection, Received};
use crate::connector::Connector;
use crate::failure::Failure;
use crate::limits::{
    CLOSE_TIMEOUT, CONNECTS_PER_TURN, EVENTS_PER_TURN, READS_PER_TURN_MAX, RECEIVE_BUFFER_BYTES,
    SPARE_BUFFER_BYTES_MAX, SPARE_BUFFERS_MAX, UNSENT_BYTES_MAX,
};
use crate::payload::{Payload, Stamp};
use crate::plan::Plan;
use crate::random::Random;
use crate::scenario::{Pace, Scenario};
use crate::schedule::Window;
use crate::self_check::SelfCheck;
use crate::shared::{Command, Counters, Counts, Reporter, Stage};
use crate::tally::{Connections, Outcome};
use crate::template::Values;
use crate::tls::TlsPlan;
use wsgate::driver::clock::Clock;

/// Token of the waker; connections have their slot.
pub const WAKE: Token = Token(usize::MAX);
const ALARM: Token = Token(usize::MAX - 1);
/// A member without a connection.
const NO_SLOT: u32 = u32::MAX;

/// What a worker is made of.
pub struct Setup {
    /// The run.
    pub plan: Arc<Plan>,
    /// The server.
    pub address: SocketAddr,
    /// The run's clock.
    pub clock: Clock,
    /// The run's messages.
    pub payload: Payload,
    /// What the connections do.
    pub scenario: Box<dyn Scenario>,
    /// The ramp.
    pub connector: Connector,
    /// The event queue, on which [`WAKE`] is registered.
    pub poll: Poll,
    /// One waker per worker.
    pub wakers: Arc<[Waker]>,
    /// Orders of the main thread.
    pub commands: Receiver<Command>,
    /// The way back.
    pub reporter: Reporter,
    /// All workers' counters.
    pub counters: Arc<[Counters]>,
}

/// The worker's thread, from the first connect to the last close.
pub fn run(setup: Setup) -> io::Result<Outcome> {
    let mut worker = Worker::new(setup)?;
    let mut events = Events::with_capacity(EVENTS_PER_TURN);
    while worker.phase != Phase::Over {
        worker.turn(&mut events)?;
    }
    let mut outcome = worker.outcome;
    outcome.loads.push(worker.self_check.finish());
    outcome.tally = worker.setup.scenario.finish();
    Ok(outcome)
}

/// What the worker is doing. Commands and the end of each task lead to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Connecting,
    /// Connected; the others may not be.
    Waiting,
    Running(Window),
    /// Done sending; the others may not be.
    Sent,
    Draining,
    /// Everything arrived; the others may still wait.
    Drained,
    /// Close frames are sent; at the latest then it is over.
    Closing(Time),
    Over,
}

/// Why a connection ends.
enum End {
    Failed(Failure),
    /// As it should, after our Close.
    Closed,
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

struct Worker {
    setup: Setup,
    phase: Phase,
    alarm: Alarm,
    tools: Tools,
    connections: Slab<Connection>,
    /// Slot of each member's open connection.
    slots: Vec<u32>,
    receive_buffer: Box<[u8]>,
    spares: Vec<Vec<u8>>,
    /// Slots with something to write.
    dirty: Vec<usize>,
    /// Slots that may have more to read than their turn allowed.
    unread: Vec<usize>,
    unsent_bytes_max: usize,
    /// When the scenario is to be asked for messages again.
    send_at: Option<Time>,
    self_check: SelfCheck,
    outcome: Outcome,
}

impl Worker {
    fn new(setup: Setup) -> io::Result<Self> {
        let number = setup.reporter.worker;
        let plan = &setup.plan;
        let members = plan.connection_share(number).local_senders() + plan.publisher_share(number).local_senders();
        let in_flight = match plan.pace {
            Some(Pace::Closed { in_flight }) => in_flight as usize,
            _ => 1,
        };
        let tools = Tools::new(Random::from_system()?, plan.payload_bytes.max(1 << 20) * 2);
        Ok(Self {
            phase: Phase::Connecting,
            alarm: Alarm::new(setup.poll.registry(), ALARM)?,
            tools,
            connections: Slab::with_capacity(members),
            slots: vec![NO_SLOT; members],
            receive_buffer: vec![0; RECEIVE_BUFFER_BYTES].into(),
            spares: Vec::new(),
            dirty: Vec::new(),
            unread: Vec::new(),
            unsent_bytes_max: UNSENT_BYTES_MAX + (in_flight + 1) * (plan.payload_bytes + 16),
            send_at: None,
            self_check: SelfCheck::new(number),
            outcome: Outcome::default(),
            setup,
        })
    }

    /// One turn of the event loop.
    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        // 1. Wait for sockets, commands, or the next thing to do.
        self.wait(events)?;
        // 2. Connections that could not be read to the end last time, then those that woke us.
        for slot in std::mem::take(&mut self.unread) {
            self.serve(slot, |worker| worker.receive(slot, true));
        }
        for event in events.iter() {
            match event.token() {
                WAKE => self.obey(),
                ALARM => self.alarm.rang(),
                Token(slot) => self.serve(slot, |worker| worker.ready(slot, event)),
            }
            // A long turn must not make the schedule late.
            if self.send_at.is_some_and(|at| at <= self.setup.clock.now()) {
                self.send_due();
            }
        }
        // 3. Tell the other workers what was delivered.
        let Setup { scenario, wakers, reporter, .. } = &mut self.setup;
        scenario.turn_done(&mut |worker| {
            // This worker is awake; one that cannot be woken has ended.
            if worker != reporter.worker {
                let _ = wakers[worker].wake();
            }
        });
        // 4. Send what is due.
        self.send_due();
        // 5. Connect, and give up what takes too long.
        self.connect_due();
        // 6. Go on to the next phase, if it is time. Who hears of it finds the counts.
        self.publish_counts();
        self.advance();
        Ok(())
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let now = self.setup.clock.now();
        self.self_check.turn(now);
        let phase_ends = match self.phase {
            Phase::Running(window) if now < window.start => Some(window.start),
            Phase::Running(window) if now < window.end => Some(window.end),
            Phase::Closing(deadline) => Some(deadline),
            _ => None,
        };
        let connect_at = self.setup.connector.wake_at();
        let wake_at = [phase_ends, connect_at, self.send_at].into_iter().flatten().min();
        let is_due = wake_at.is_some_and(|at| at <= now) || !self.unread.is_empty();
        if !is_due {
            self.alarm.set(wake_at, now)?;
        }
        match self.setup.poll.poll(events, is_due.then_some(std::time::Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    fn obey(&mut self) {
        while let Ok(command) = self.setup.commands.try_recv() {
            match command {
                Command::Start(window) => {
                    self.setup.scenario.start(window);
                    self.self_check.start(&window);
                    self.phase = Phase::Running(window);
                }
                Command::Drain => self.phase = Phase::Draining,
                Command::Close => self.close_all(),
            }
        }
    }

    /// Does something with a connection, which ends if that fails.
    fn serve(&mut self, slot: usize, action: impl FnOnce(&mut Self) -> Result<(), End>) {
        if self.connections.contains(slot)
            && let Err(end) = action(self)
        {
            self.end(slot, end);
        }
    }

    fn ready(&mut self, slot: usize, event: &Readiness) -> Result<(), End> {
        let connection = &mut self.connections[slot];
        if !connection.is_connected() && !connection.check_connected()? {
            return Ok(());
        }
        if event.is_writable() && connection.unsent_bytes() > 0 {
            self.flush(slot)?;
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            // The end of the stream makes no event of its own if it came with the data.
            self.receive(slot, event.is_read_closed() || event.is_error())?;
        }
        Ok(())
    }

    /// Reads what has arrived and hands it to the scenario. A read that does not fill
    /// the buffer has emptied the socket, unless `to_the_end` is asked for.
    fn receive(&mut self, slot: usize, to_the_end: bool) -> Result<(), End> {
        let Self { setup, connections, tools, receive_buffer, spares, slots, outcome, phase, .. } = self;
        let connection = &mut connections[slot];
        if !connection.is_connected() {
            return Ok(());
        }
        if connection.out.capacity() == 0 {
            connection.out = spares.pop().unwrap_or_default();
        }
        let mut emptied = false;
        for _ in 0..READS_PER_TURN_MAX {
            let len = match connection.receive(receive_buffer)? {
                Received::Bytes(len) => len,
                Received::Nothing => {
                    emptied = true;
                    break;
                }
                Received::End if connection.client.is_closing() => return Err(End::Closed),
                Received::End => return Err(End::Failed(Failure::Disconnected)),
            };
            let now = setup.clock.now();
            let Tools { plaintext, buffers, .. } = &mut *tools;
            let mut plaintext = std::mem::take(plaintext);
            let mut input = connection.read(&mut receive_buffer[..len], &mut plaintext, buffers)?;
            while let Some(event) = connection.client.next(&mut input, &mut connection.out, tools)? {
                let mut becomes_ready = false;
                match event {
                    Event::Message(_) if matches!(phase, Phase::Closing(_)) => {} // Too late to count.
                    Event::Message(message) => {
                        let Setup { plan, payload, scenario, .. } = &mut *setup;
                        if !plan.speech.answers.is_empty() {
                            plan.speech.answer(&mut connection.out, message, plan.message_kind, &mut tools.random);
                        }
                        if connection.ready {
                            for part in payload.parts(message) {
                                if let Some(stamp) = scenario.message(connection.member, part, now) {
                                    let Connection { out, values, .. } = connection;
                                    append(out, plan, payload, stamp, *values, &mut tools.random);
                                }
                            }
                        } else {
                            becomes_ready = plan.speech.confirms(message);
                        }
                    }
                    Event::Control => {}
                    Event::Opened => {
                        let Plan { speech, message_kind, .. } = &*setup.plan;
                        let (_, publishes) = setup.plan.client(setup.reporter.worker, connection.member);
                        let Connection { out, values, .. } = connection;
                        becomes_ready = speech.open(out, *values, !publishes, *message_kind, &mut tools.random);
                        outcome.connections.opened += 1;
                        outcome.connections.handshakes.record(now.0 - connection.begun.0);
                    }
                    Event::Closed { asked: true, .. } => {} // The server ends the stream.
                    Event::Closed { asked: false, code, reason } => {
                        let _ = connection.flush(&mut tools.buffers); // Our answer; the server may be gone already.
                        return Err(Failure::ClosedByServer { code: code.map(|code| code.0), reason }.into());
                    }
                }
                if becomes_ready {
                    connection.ready = true;
                    slots[connection.member] = slot as u32;
                    setup.connector.ended(true);
                    setup.scenario.opened(connection.member);
                }
            }
            tools.plaintext = plaintext;
            if len < receive_buffer.len() && !to_the_end {
                emptied = true;
                break;
            }
        }
        if !emptied {
            self.unread.push(slot);
        }
        self.flush(slot)
    }

    fn flush(&mut self, slot: usize) -> Result<(), End> {
        let connection = &mut self.connections[slot];
        connection.flush(&mut self.tools.buffers)?;
        let bytes = connection.unsent_bytes();
        if bytes == 0 {
            recycle(&mut self.spares, std::mem::take(&mut connection.out), self.setup.payload.bytes());
        } else if bytes > self.unsent_bytes_max {
            return Err(Failure::NotReading { bytes }.into());
        }
        Ok(())
    }

    /// Queues every message that is due, then writes once per connection.
    fn send_due(&mut self) {
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
        append(&mut connection.out, plan, payload, stamp, connection.values, &mut self.tools.random);
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    fn connect_due(&mut self) {
        if self.setup.connector.is_done() {
            return;
        }
        let now = self.setup.clock.now();
        while let Some(deadline) = self.setup.connector.overdue(now) {
            let late = self.connections.get(deadline.slot).filter(|connection| connection.member == deadline.member);
            if let Some(connection) = late.filter(|connection| !connection.ready) {
                let timeout = self.setup.plan.handshake_timeout;
                let failure = match (&self.setup.plan.speech.subscribed, connection.is_connected()) {
                    (Some(text), true) if connection.client.is_open() => {
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
            if let Err(failure) = self.connect(member) {
                self.setup.connector.ended(false);
                self.outcome.connections.failures.add(&failure);
            }
        }
    }

    fn connect(&mut self, member: usize) -> Result<(), Failure> {
        let Setup { plan, address, clock, poll, connector, reporter, .. } = &mut self.setup;
        let (number, publishes) = plan.client(reporter.worker, member);
        let values = plan.values(reporter.worker, member);
        let request = if publishes { &plan.publisher_request } else { &plan.request };
        let source = (!plan.sources.is_empty()).then(|| plan.sources[number % plan.sources.len()]);
        let mut out = self.spares.pop().unwrap_or_default();
        let client = Client::new(request, values, &plan.speech.table, &mut out, &mut self.tools.random);
        let begun = clock.now();
        let mut tls = plan.tls.as_ref().map(TlsPlan::connect).transpose()?;
        if let Some(tls) = &mut tls {
            tls.begin(&mut self.tools.buffers)?;
        }
        let mut connection = Connection::connect(member, begun, *address, source, client, out, tls)?;
        connection.values = values;
        let entry = self.connections.vacant_entry();
        let slot = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(connection.stream(), Token(slot), interest).map_err(Failure::ConnectFailed)?;
        entry.insert(connection);
        connector.begun(slot, member, begun);
        Ok(())
    }

    /// The connection is over.
    fn end(&mut self, slot: usize, end: End) {
        let mut connection = self.connections.remove(slot);
        connection.client.release(&mut self.tools);
        connection.release(&mut self.tools.buffers);
        let member = connection.member;
        let counters = &mut self.outcome.connections;
        let was_open = self.slots[member] as usize == slot;
        if was_open {
            self.slots[member] = NO_SLOT;
            self.setup.scenario.gone(member);
        } else {
            self.setup.connector.ended(false);
        }
        // Whatever the server does after our Close is its own affair.
        if let End::Failed(failure) = end
            && !connection.client.is_closing()
        {
            counters.dropped += u64::from(was_open);
            counters.failures.add(&failure);
        }
        connection.out.clear();
        recycle(&mut self.spares, connection.out, self.setup.payload.bytes());
    }

    fn close_all(&mut self) {
        self.setup.connector.stop();
        self.phase = Phase::Closing(self.setup.clock.now() + CLOSE_TIMEOUT);
        let slots: Vec<_> = self.connections.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.serve(slot, |worker| {
                let connection = &mut worker.connections[slot];
                if !connection.client.is_open() {
                    return Err(End::Closed);
                }
                connection.client.close(&mut connection.out, CloseCode::NORMAL, &mut worker.tools);
                worker.flush(slot)
            });
        }
    }

    fn advance(&mut self) {
        let now = self.setup.clock.now();
        let (phase, reached) = match self.phase {
            Phase::Connecting if self.setup.connector.is_done() => (Phase::Waiting, Some(Stage::Connected)),
            Phase::Running(_) if self.setup.scenario.sending_done(now) => {
                self.outcome.sent_at = Some(now);
                (Phase::Sent, Some(Stage::Sent))
            }
            Phase::Draining if self.setup.scenario.drained() => (Phase::Drained, Some(Stage::Drained)),
            Phase::Closing(deadline) if self.connections.is_empty() || now >= deadline => {
                let unanswered = self.connections.iter().filter(|(_, connection)| !connection.client.is_closed());
                self.outcome.connections.close_unanswered = unanswered.count() as u64;
                (Phase::Over, None)
            }
            same => (same, None),
        };
        self.phase = phase;
        if let Some(stage) = reached {
            self.setup.reporter.reached(stage);
        }
    }

    fn publish_counts(&self) {
        let (sent, received) = self.setup.scenario.counts();
        let Connections { opened, failures, .. } = &self.outcome.connections;
        let counts = Counts { opened: *opened, failed: failures.total(), sent, received };
        self.setup.counters[self.setup.reporter.worker].publish(counts);
    }
}

/// Appends a payload, with the words around it if there are any.
fn append(out: &mut Vec<u8>, plan: &Plan, payload: &Payload, stamp: Stamp, values: Values, random: &mut Random) {
    match &plan.speech.message {
        None => client::append_message(out, plan.message_kind, payload, stamp, random),
        Some(template) => {
            let text = plan.speech.wrap(template, payload, stamp, values);
            frame::append_client(out, plan.message_kind.opcode(), random.mask_key(), &text);
        }
    }
}

/// Keeps a buffer for the next connection that has something to send.
fn recycle(spares: &mut Vec<Vec<u8>>, buffer: Vec<u8>, message_bytes: usize) {
    debug_assert!(buffer.is_empty());
    let fits = (1..=SPARE_BUFFER_BYTES_MAX + message_bytes).contains(&buffer.capacity());
    if fits && spares.len() < SPARE_BUFFERS_MAX {
        spares.push(buffer);
    }
}
