//! A run from start to end: starts the workers, leads them through its phases,
//! and puts together what they bring home.
//!
//! Owner: the main thread. Phases: connect, send, drain, close.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};

use mio::{Poll, Waker};
use wsgate::time::Time;

use crate::connector::Connector;
use crate::files::{self, TooFewFiles};
use crate::handover::{Handover, Return};
use crate::interrupt::Interrupt;
use crate::limits::{PROGRESS_INTERVAL, START_LEAD, SUBSCRIBE_LEAD};
use crate::payload::Payload;
use crate::plan::{Kind, Plan};
use crate::random::Random;
use crate::report::Report;
use crate::scenario::{Pace, Scenario, churn::Churn, echo::Echo, fanout, fanout::Fanout, idle::Idle, storm::Storm};
use crate::schedule::{Pacer, Window};
use crate::self_check;
use crate::series::Series;
use crate::shared::{Command, Counters, Counts, Notice, Reporter, Stage};
use crate::timeline::Timeline;
use crate::watch::{Moment, Watch};
use crate::worker::{self, Setup, WAKE};
use wsgate::driver::clock::Clock;

/// Why a run could not take place.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The limit of open files is too low.
    #[error(transparent)]
    Files(#[from] TooFewFiles),
    /// The host name leads nowhere.
    #[error("{url}: {error}")]
    Resolve {
        /// The target.
        url: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// The operating system refused an event queue or a thread.
    #[error("cannot start worker threads: {0}")]
    Start(io::Error),
    /// A worker's event loop failed.
    #[error("worker {worker} failed: {error}")]
    Worker {
        /// Its number.
        worker: usize,
        /// Why.
        error: io::Error,
    },
}

/// Runs the plan, showing `watch` how it goes on.
/// It ends early if `interrupt` asks for it.
pub fn run(plan: Plan, watch: &mut dyn Watch, interrupt: &Interrupt) -> Result<Report, RunError> {
    files::raise_limit(plan.connections_total(), plan.threads)?;
    let resolved = plan.target.resolve();
    let address = resolved.map_err(|error| RunError::Resolve { url: plan.target.to_string(), error })?;
    let publish = plan.publish.as_ref().map(|publish| (publish.target.resolve(), publish.target.to_string()));
    let publish_address = publish
        .map(|(resolved, url)| {
            resolved.map_err(|error| RunError::Resolve { url: url.replacen("ws", "http", 1), error })
        })
        .transpose()?;
    let mut crew = Crew::start(Arc::new(plan), address, publish_address, interrupt).map_err(RunError::Start)?;

    crew.wait_for(Stage::Connected, None, watch);
    if (crew.counts().opened > 0 || !crew.plan.connects_first()) && !crew.interrupted {
        crew.send(watch);
    }
    let (window, interrupted) = (crew.window, crew.interrupted);
    crew.order(Command::Close);
    crew.wait_for(Stage::Ended, None, watch);
    let plan = crew.plan.clone();
    let series = crew.join(watch)?;
    watch.end();
    let mut outcome = series.total();
    outcome.limits.extend(self_check::limits(plan.pace, &outcome.loads));
    // A run whose connections are all gone ends before its time.
    let seconds = outcome
        .sent_at
        .zip(window)
        .map_or(0.0, |(sent_at, window)| sent_at.min(window.measured_to).since(window.measured_from).as_secs_f64());
    let mut report = Report::new(&plan, &outcome, seconds).with_series(&series);
    if let Some((first, last)) = outcome.connections.dropped_between {
        let after = |time: Time| window.map_or(0.0, |window| (time.0 as f64 - window.start.0 as f64) / 1e9);
        let (count, first, last) = (outcome.connections.dropped, after(first), after(last));
        report.note(format!(
            "  {count} connections were cut, from {first:.2} s to {last:.2} s after the first message's time"
        ));
    }
    watch.add_to(&mut report, window.map(|window| window.start));
    if interrupted {
        report.note("  Interrupted: these are the figures of what was measured until then.".to_owned());
    }
    Ok(report)
}

/// The workers of a run, seen from the main thread.
struct Crew {
    plan: Arc<Plan>,
    clock: Clock,
    workers: Vec<JoinHandle<io::Result<()>>>,
    commands: Vec<Sender<Command>>,
    wakers: Arc<[Waker]>,
    notices: Receiver<Notice>,
    /// How far each worker is.
    stages: Vec<Stage>,
    counters: Arc<[Counters]>,
    /// Each worker gets its counters back when they have been read.
    returns: Vec<Return>,
    series: Series,
    /// When to show next how far the run is.
    tick_at: Time,
    window: Option<Window>,
    interrupt: Interrupt,
    /// It was asked for, and has been heard.
    interrupted: bool,
}

impl Crew {
    fn start(
        plan: Arc<Plan>,
        address: SocketAddr,
        publish_address: Option<SocketAddr>,
        interrupt: &Interrupt,
    ) -> io::Result<Self> {
        let clock = Clock::start();
        let polls = (0..plan.threads).map(|_| Poll::new()).collect::<io::Result<Vec<_>>>()?;
        let wakers = polls.iter().map(|poll| Waker::new(poll.registry(), WAKE)).collect::<io::Result<Arc<[_]>>>()?;
        let counters: Arc<[Counters]> = (0..plan.threads).map(|_| Counters::default()).collect();
        let is_open = plan.pace.is_some_and(Pace::is_open);
        let payload = Payload::new(Random::from_system()?.next_u64() as u32, plan.payload_bytes, is_open);
        let pacer = Arc::new(Mutex::new(Pacer::new(plan.ramp)));
        let scenario = scenarios(&plan, &payload);
        let (notice_sender, notices) = mpsc::channel();
        let mut crew = Self {
            clock,
            workers: Vec::new(),
            commands: Vec::new(),
            wakers,
            notices,
            stages: vec![Stage::Connecting; plan.threads],
            counters,
            returns: Vec::new(),
            series: Series::new(plan.threads, Timeline::connecting()),
            tick_at: Time::ZERO,
            window: None,
            interrupt: interrupt.clone(),
            interrupted: false,
            plan,
        };
        for (number, poll) in polls.into_iter().enumerate() {
            let (sender, commands) = mpsc::channel();
            crew.commands.push(sender);
            let (give_back, returned) = mpsc::channel();
            crew.returns.push(give_back);
            let plan = &crew.plan;
            let members = plan.connection_share(number).local_senders() + plan.publisher_share(number).local_senders();
            let setup = Setup {
                plan: plan.clone(),
                address,
                publish_address: publish_address.unwrap_or(address),
                clock,
                payload: payload.clone(),
                scenario: scenario(number),
                connector: Connector::new(
                    if plan.connects_first() { members } else { 0 },
                    pacer.clone(),
                    plan.handshake_timeout,
                ),
                poll,
                wakers: crew.wakers.clone(),
                commands,
                reporter: Reporter { worker: number, notices: notice_sender.clone() },
                counters: crew.counters.clone(),
                handover: Handover::new(Timeline::connecting(), clock.now(), returned),
            };
            crew.workers.push(Builder::new().name(format!("loadgen-{number}")).spawn(|| worker::run(setup))?);
        }
        Ok(crew)
    }

    /// Sends and drains.
    fn send(&mut self, watch: &mut dyn Watch) {
        watch.connected(self.moment());
        let lead = if self.plan.publishers() > 0 { SUBSCRIBE_LEAD } else { START_LEAD };
        let Plan { warm_up, duration, cool_down, .. } = *self.plan;
        let window = Window::new(self.clock.now() + lead, warm_up, duration, cool_down);
        self.window = Some(window);
        self.series.follow(Timeline::of_window(window));
        self.order(Command::Start(window));
        self.wait_for(Stage::Sent, None, watch);
        watch.sent(self.moment());
        self.order(Command::Drain);
        self.wait_for(Stage::Drained, Some(self.clock.now() + self.plan.grace), watch);
    }

    fn order(&self, command: Command) {
        for (commands, waker) in self.commands.iter().zip(self.wakers.iter()) {
            // A worker that has ended hears nothing; joining it tells why.
            let _ = commands.send(command);
            let _ = waker.wake();
        }
    }

    /// Waits until all workers have reached the stage, or the time has come.
    fn wait_for(&mut self, stage: Stage, until: Option<Time>, watch: &mut dyn Watch) {
        while self.stages.iter().any(|&reached| reached < stage) {
            let now = self.clock.now();
            let left = until.map_or(PROGRESS_INTERVAL, |until| until.since(now));
            if left.is_zero() {
                return;
            }
            if self.interrupt.is_asked() && !self.interrupted {
                self.interrupted = true;
                if stage == Stage::Connected {
                    return;
                }
                self.order(Command::Stop);
            }
            match self.notices.recv_timeout(left.min(PROGRESS_INTERVAL)) {
                Ok(notice) => self.take(notice, watch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = self.clock.now();
            if now >= self.tick_at {
                self.tick_at = now + PROGRESS_INTERVAL;
                watch.tick(self.moment());
            }
        }
    }

    fn take(&mut self, notice: Notice, watch: &mut dyn Watch) {
        match notice {
            Notice::Reached { worker, stage } => self.stages[worker] = stage,
            Notice::Interval(mut interval) => {
                self.series.add(&interval, &mut |second, outcome| watch.second(second, outcome));
                interval.outcome.reset();
                // A worker that has ended needs no counters.
                let _ = self.returns[interval.worker].send(interval.outcome);
            }
        }
    }

    fn moment(&self) -> Moment<'_> {
        Moment { plan: &self.plan, window: self.window, now: self.clock.now(), counts: self.counts() }
    }

    fn counts(&self) -> Counts {
        self.counters.iter().map(Counters::read).fold(Counts::default(), |sum, counts| sum + counts)
    }

    fn join(mut self, watch: &mut dyn Watch) -> Result<Series, RunError> {
        for (worker, thread) in std::mem::take(&mut self.workers).into_iter().enumerate() {
            let result = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result.map_err(|error| RunError::Worker { worker, error })?;
        }
        while let Ok(notice) = self.notices.try_recv() {
            self.take(notice, watch);
        }
        self.series.finish(&mut |second, outcome| watch.second(second, outcome));
        Ok(self.series)
    }
}

/// Makes each worker's part of the scenario.
fn scenarios(plan: &Plan, payload: &Payload) -> impl Fn(usize) -> Box<dyn Scenario> + use<> {
    let (plan, payload) = (plan.clone(), payload.clone());
    let pace = plan.pace.unwrap_or(Pace::Closed { in_flight: 0 });
    let board = Arc::new(fanout::Board::new(plan.topics, plan.publishers(), pace));
    move |worker| {
        let connections = plan.connection_share(worker);
        match plan.kind {
            Kind::Echo => Box::new(Echo::new(payload.clone(), connections, pace, plan.arrivals)),
            Kind::Fanout { .. } => {
                let publishers = plan.publisher_share(worker);
                Box::new(Fanout::new(payload.clone(), pace, plan.arrivals, connections, publishers, board.clone()))
            }
            Kind::Slow { stalled, .. } => {
                let publishers = plan.publisher_share(worker);
                let fanout = Fanout::new(payload.clone(), pace, plan.arrivals, connections, publishers, board.clone());
                Box::new(fanout.with_stalled(stalled))
            }
            Kind::Churn { stay } => {
                let Pace::Open { rate } = pace else { unreachable!("connects have a rate") };
                Box::new(Churn::new(connections, rate, plan.arrivals, stay))
            }
            Kind::Storm { times } => Box::new(Storm::new(connections.local_senders(), times)),
            Kind::Idle => Box::new(Idle::default()),
        }
    }
}
