//! One thread: an event loop, and the table of its connections.
//!
//! Owner of everything it touches but the pace of connecting and the scenario's
//! board. What is pending for a connection leaves in one write per turn; all
//! connections read into one buffer; nothing is allocated per message.
//!
//! `Worker::turn` has the steps; `receive`, `send` and `connect` are what they do.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use mio::{Poll, Waker};
use slab::Slab;
use wsgate::driver::clock::Clock;
use wsgate::driver::{descriptors, machine, uring};
use wsgate::time::Time;

use crate::client::Tools;
use crate::connection::Connection;
use crate::connector::Connector;
use crate::failure::Failure;
use crate::handover::Handover;
use crate::limits::{HANDSHAKES_PENDING_MAX, SPARE_BUFFER_BYTES_MAX, SPARE_BUFFERS_MAX, UNSENT_BYTES_MAX};
use crate::payload::Payload;
use crate::plan::Plan;
use crate::random::Random;
use crate::run::Addresses;
use crate::scenario::{Pace, Scenario};
use crate::schedule::Window;
use crate::self_check::SelfCheck;
use crate::shared::{Command, Counters, Reporter, Stage};
use crate::sockets::epoll::Epoll;
use crate::sockets::uring::Uring;
use crate::sockets::{Event, Io, Sockets};
use crate::tally::Outcome;
use crate::timeline::Timeline;

mod connect;
mod receive;
mod send;

/// A member without a connection.
const NO_SLOT: u32 = u32::MAX;

/// What a worker is made of.
pub struct Setup {
    /// What its population does.
    pub plan: Arc<Plan>,
    /// Number of the worker in its population; [`Reporter::worker`] is that in the run.
    pub number: usize,
    /// The servers.
    pub addresses: Addresses,
    /// The run's clock.
    pub clock: Clock,
    /// The run's messages.
    pub payload: Payload,
    /// What the connections do.
    pub scenario: Box<dyn Scenario>,
    /// The ramp.
    pub connector: Connector,
    /// One waker per worker of the population.
    pub wakers: Arc<[Waker]>,
    /// Orders of the main thread.
    pub commands: Receiver<Command>,
    /// The way back.
    pub reporter: Reporter,
    /// The counters of all workers of the run.
    pub counters: Arc<[Counters]>,
    /// The way of what was counted to the main thread.
    pub handover: Handover,
}

/// The worker's thread, from the first connect to the last close. What it counted
/// is handed over by the reporter. `poll` has the worker's waker, with the token
/// [`WAKE`](crate::sockets::WAKE).
pub fn run(setup: Setup, poll: Poll) -> io::Result<()> {
    if setup.plan.pin {
        pin(setup.reporter.worker)?;
    }
    // Without, it shares the process's, which has been found to be large enough.
    let _ = descriptors::unshare();
    match setup.plan.io {
        Io::Epoll => work(setup, &mut Epoll::new(poll)?),
        Io::IoUring => {
            let sockets_max = setup.plan.members(setup.number) + HANDSHAKES_PENDING_MAX;
            uring::with_streams(sockets_max, |streams| work(setup, &mut Uring::new(streams, poll)))
        }
    }
}

fn work(setup: Setup, sockets: &mut dyn Sockets) -> io::Result<()> {
    let mut worker = Worker::new(setup, sockets)?;
    // Who has nobody to connect would hear of no event that leads on.
    worker.advance();
    while worker.phase != Phase::Over {
        worker.turn()?;
    }
    let Worker { setup: Setup { scenario, clock, reporter, handover, .. }, mut outcome, self_check, .. } = worker;
    outcome.loads.push(self_check.finish());
    outcome.tally = scenario.finish();
    handover.finish(clock.now(), outcome, &reporter);
    Ok(())
}

/// Binds this thread to one of the processors that the process may use.
fn pin(worker: usize) -> io::Result<()> {
    match machine::processors()[..] {
        [] => Err(io::Error::other("the machine does not say which processors may be used; leave out --pin")),
        ref processors => Ok(machine::pin_thread(processors[worker % processors.len()])?),
    }
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

struct Worker<'s> {
    setup: Setup,
    sockets: &'s mut dyn Sockets,
    phase: Phase,
    tools: Tools,
    connections: Slab<Connection>,
    /// Slot of each member's open connection.
    slots: Vec<u32>,
    spares: Vec<Vec<u8>>,
    /// Slots with something to write.
    dirty: Vec<usize>,
    /// Slots that may have more to read than their turn allowed.
    unread: Vec<usize>,
    unsent_bytes_max: usize,
    /// When the scenario is to be asked for messages again.
    send_at: Option<Time>,
    self_check: SelfCheck,
    /// Readers that stall are read again.
    reads_all: bool,
    /// Counted since the last cut; its tally is the scenario's.
    outcome: Outcome,
}

impl<'s> Worker<'s> {
    fn new(setup: Setup, sockets: &'s mut dyn Sockets) -> io::Result<Self> {
        let plan = &setup.plan;
        let members = plan.members(setup.number);
        let in_flight = match plan.pace {
            Some(Pace::Closed { in_flight }) => in_flight as usize,
            _ => 1,
        };
        let tools = Tools::new(Random::from_system()?, plan.payload_bytes.max(1 << 20) * 2);
        Ok(Self {
            phase: Phase::Connecting,
            tools,
            connections: Slab::with_capacity(members),
            slots: vec![NO_SLOT; members],
            spares: Vec::new(),
            dirty: Vec::new(),
            unread: Vec::new(),
            unsent_bytes_max: UNSENT_BYTES_MAX + (in_flight + 1) * (plan.payload_bytes + 16),
            send_at: None,
            self_check: SelfCheck::new(setup.reporter.worker),
            reads_all: false,
            outcome: Outcome::default(),
            sockets,
            setup,
        })
    }

    /// One turn of the event loop.
    fn turn(&mut self) -> io::Result<()> {
        // 1. Wait for sockets, commands, or the next thing to do.
        self.wait()?;
        self.hand_over();
        // 2. Connections that could not be read to the end last time, then those that woke us.
        for slot in std::mem::take(&mut self.unread) {
            self.serve(slot, |worker| worker.receive(slot, true));
        }
        while let Some(event) = self.sockets.next_event() {
            match event {
                Event::Wake => self.obey(),
                Event::Ready(ready) => self.serve(ready.slot, |worker| worker.ready(ready)),
            }
            // A long turn must not make the schedule late.
            if self.send_at.is_some_and(|at| at <= self.setup.clock.now()) {
                self.send_due();
                self.sockets.submit();
            }
        }
        // 3. Tell the other workers what was delivered.
        let Setup { scenario, wakers, number, .. } = &mut self.setup;
        scenario.turn_done(&mut |worker| {
            // This worker is awake; one that cannot be woken has ended.
            if worker != *number {
                let _ = wakers[worker].wake();
            }
        });
        // 4. Send what is due, and what follows from what was read.
        self.send_due();
        // 5. Connect, and give up what takes too long; come and go as the scenario wants.
        self.connect_due();
        self.come_and_go();
        // 6. Go on to the next phase, if it is time. Who hears of it finds the counts.
        self.publish_counts();
        self.advance();
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        let now = self.setup.clock.now();
        self.self_check.turn(now);
        let phase_ends = match self.phase {
            Phase::Running(window) if now < window.start => Some(window.start),
            Phase::Running(window) if now < window.end => Some(window.end),
            Phase::Closing(deadline) => Some(deadline),
            _ => None,
        };
        let connect_at = self.setup.connector.wake_at();
        let cut_at = Some(self.setup.handover.cut_at());
        let unread_at = (!self.unread.is_empty()).then_some(now);
        let wake_at = [phase_ends, connect_at, self.send_at, cut_at, unread_at].into_iter().flatten().min();
        self.sockets.wait(wake_at, now)
    }

    fn obey(&mut self) {
        while let Ok(command) = self.setup.commands.try_recv() {
            match command {
                Command::Start(window) => {
                    self.setup.scenario.start(window);
                    self.self_check.start(&window);
                    let timeline = Timeline::sending(&self.setup.plan.course, window.start);
                    self.setup.handover.follow(timeline, self.setup.clock.now());
                    self.phase = Phase::Running(window);
                }
                Command::Stop => {
                    let now = self.setup.clock.now();
                    self.setup.scenario.stop(now);
                    if let Phase::Running(window) = self.phase {
                        self.phase = Phase::Running(window.until(now));
                    }
                }
                Command::Drain => {
                    self.phase = Phase::Draining;
                    self.read_stalled();
                }
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
                let unanswered = self.connections.iter().filter(|(_, connection)| !connection.peer.is_closed());
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

    /// Before a message is sent or received, so that each counts in its second.
    fn hand_over(&mut self) {
        let Setup { scenario, clock, reporter, handover, .. } = &mut self.setup;
        handover.cut(clock.now(), scenario.tally(), &mut self.outcome.connections, reporter);
    }

    fn publish_counts(&mut self) {
        let Setup { scenario, reporter, counters, handover, .. } = &mut self.setup;
        let counts = handover.counts(scenario.tally(), &self.outcome.connections);
        counters[reporter.worker].publish(counts);
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
