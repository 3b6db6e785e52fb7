//! The workers of a run, seen from the main thread, which leads them through the run:
//! connect, send, drain, close.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};

use mio::{Poll, Waker};
use wsgate::driver::clock::Clock;
use wsgate::time::Time;

use crate::connector::Connector;
use crate::handover::{Handover, Return};
use crate::interrupt::Interrupt;
use crate::limits::{CUT_LINGER, INTERRUPTED_GRACE_MAX, PROGRESS_INTERVAL, START_LEAD, SUBSCRIBE_LEAD};
use crate::mix::Mix;
use crate::payload::Payload;
use crate::plan::{Kind, Plan};
use crate::random::Random;
use crate::run::{Addresses, RunError};
use crate::scenario::{Pace, Scenario, churn::Churn, echo::Echo, fanout, fanout::Fanout, idle::Idle, storm::Storm};
use crate::schedule::{Pacer, Window};
use crate::series::Series;
use crate::shared::{Command, Counters, Counts, Notice, Reporter, Stage};
use crate::sockets::WAKE;
use crate::timeline::Timeline;
use crate::watch::{Moment, Watch};
use crate::worker::{self, Setup};

/// What the workers have found out.
#[derive(Debug)]
pub struct Finds {
    /// When messages were sent; `None` if it did not come to that.
    pub window: Option<Window>,
    /// The whole run.
    pub series: Series,
    /// Each population's part of it.
    pub by_population: Vec<Series>,
    /// The run was ended before its time.
    pub interrupted: bool,
}

/// All workers.
#[derive(Debug)]
pub struct Crew<'a> {
    mix: &'a Mix,
    clock: Clock,
    workers: Vec<JoinHandle<io::Result<()>>>,
    /// Number of each worker's population.
    populations: Vec<usize>,
    commands: Vec<Sender<Command>>,
    /// Of each population, by the numbers that its workers have in it.
    wakers: Vec<Arc<[Waker]>>,
    notices: Receiver<Notice>,
    /// How far each worker is.
    stages: Vec<Stage>,
    counters: Arc<[Counters]>,
    /// Each worker gets its counters back when they have been read.
    returns: Vec<Return>,
    series: Series,
    by_population: Vec<Series>,
    /// When to show next how far the run is.
    tick_at: Time,
    window: Option<Window>,
    interrupt: Interrupt,
    /// It was asked for, and has been heard.
    interrupted: bool,
}

impl<'a> Crew<'a> {
    /// Starts the workers, which begin to connect.
    ///
    /// # Errors
    /// The operating system refused an event queue or a thread.
    pub fn start(mix: &'a Mix, addresses: &[Addresses], interrupt: &Interrupt) -> io::Result<Self> {
        let clock = Clock::start();
        let threads = mix.threads();
        let pacer = Arc::new(Mutex::new(Pacer::new(mix.ramp)));
        let first_run = Random::from_system()?.next_u64() as u32;
        let (notice_sender, notices) = mpsc::channel();
        let series = |workers| Series::new(workers, Timeline::connecting());
        let mut crew = Self {
            mix,
            clock,
            workers: Vec::new(),
            populations: Vec::new(),
            commands: Vec::new(),
            wakers: Vec::new(),
            notices,
            stages: vec![Stage::Connecting; threads],
            counters: (0..threads).map(|_| Counters::default()).collect(),
            returns: Vec::new(),
            series: series(threads),
            by_population: mix.plans().map(|plan| series(plan.threads)).collect(),
            tick_at: Time::ZERO,
            window: None,
            interrupt: interrupt.clone(),
            interrupted: false,
        };
        for (number, (population, &addresses)) in mix.populations.iter().zip(addresses).enumerate() {
            let plan = &population.plan;
            let polls = (0..plan.threads).map(|_| Poll::new()).collect::<io::Result<Vec<_>>>()?;
            let wakers =
                polls.iter().map(|poll| Waker::new(poll.registry(), WAKE)).collect::<io::Result<Arc<[_]>>>()?;
            crew.wakers.push(wakers.clone());
            let is_open = plan.pace.is_some_and(Pace::is_open);
            // What other populations send to the same topic is foreign.
            let run = first_run.wrapping_add(number as u32);
            let payload = Payload::new(run, plan.payload_bytes, is_open);
            let scenario = scenarios(plan, &payload, &pacer);
            for (local, poll) in polls.into_iter().enumerate() {
                let worker = crew.workers.len();
                let (sender, commands) = mpsc::channel();
                let (give_back, returned) = mpsc::channel();
                let setup = Setup {
                    plan: plan.clone(),
                    number: local,
                    addresses,
                    clock,
                    payload: payload.clone(),
                    scenario: scenario(local),
                    connector: Connector::new(plan.members_at_first(local), pacer.clone(), plan.handshake_timeout),
                    wakers: wakers.clone(),
                    commands,
                    reporter: Reporter { worker, notices: notice_sender.clone() },
                    counters: crew.counters.clone(),
                    handover: Handover::new(Timeline::connecting(), clock.now(), returned),
                };
                crew.workers.push(Builder::new().name(format!("loadgen-{worker}")).spawn(|| worker::run(setup, poll))?);
                crew.populations.push(number);
                crew.commands.push(sender);
                crew.returns.push(give_back);
            }
        }
        Ok(crew)
    }

    /// Leads the workers through the run.
    ///
    /// # Errors
    /// A worker's event loop failed.
    pub fn work(mut self, watch: &mut dyn Watch) -> Result<Finds, RunError> {
        self.wait_for(Stage::Connected, None, watch);
        // Where nobody was let in, nobody will be; some have not tried.
        let mut plans = self.mix.plans();
        let none_tried = plans.any(|plan| (0..plan.threads).all(|worker| plan.members_at_first(worker) == 0));
        if (self.counts().opened > 0 || none_tried) && !self.interrupted {
            self.send(watch);
        }
        if self.counts().failed > 0 {
            // A server that goes takes its connections with it one after the other. Those that
            // are still on their way out are to be seen as cut, not closed from here.
            self.wait_for(Stage::Ended, Some(self.clock.now() + CUT_LINGER), watch);
        }
        // Who interrupts the closing does not cut the figures short.
        let interrupted = self.interrupted;
        self.order(Command::Close);
        self.wait_for(Stage::Ended, None, watch);
        self.join(watch)?;
        watch.end(self.moment());
        let Self { window, series, by_population, .. } = self;
        Ok(Finds { window, series, by_population, interrupted })
    }

    /// Sends and drains.
    fn send(&mut self, watch: &mut dyn Watch) {
        watch.connected(self.moment());
        let publishes = self.mix.plans().any(|plan| plan.publishers() > 0);
        let start = self.clock.now() + if publishes { SUBSCRIBE_LEAD } else { START_LEAD };
        let course = self.mix.course();
        let window = course.window(start);
        self.window = Some(window);
        let timeline = Timeline::sending(course, start);
        self.all_series().for_each(|series| series.follow(timeline.clone()));
        self.order(Command::Start(window));
        self.wait_for(Stage::Sent, None, watch);
        watch.sent(self.moment());
        self.order(Command::Drain);
        let grace = if self.interrupted { self.mix.grace().min(INTERRUPTED_GRACE_MAX) } else { self.mix.grace() };
        self.wait_for(Stage::Drained, Some(self.clock.now() + grace), watch);
    }

    fn all_series(&mut self) -> impl Iterator<Item = &mut Series> {
        self.by_population.iter_mut().chain([&mut self.series])
    }

    fn order(&self, command: Command) {
        for (commands, waker) in self.commands.iter().zip(self.wakers.iter().flat_map(|wakers| wakers.iter())) {
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
                if matches!(stage, Stage::Connected | Stage::Drained) {
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
                self.by_population[self.populations[interval.worker]].add(&interval, &mut |_, _| {});
                self.series.add(&interval, &mut |second, outcome| watch.second(second, outcome));
                interval.outcome.reset();
                // A worker that has ended needs no counters.
                let _ = self.returns[interval.worker].send(interval.outcome);
            }
        }
    }

    fn moment(&self) -> Moment<'a> {
        Moment { mix: self.mix, window: self.window, now: self.clock.now(), counts: self.counts() }
    }

    fn counts(&self) -> Counts {
        self.counters.iter().map(Counters::read).fold(Counts::default(), |sum, counts| sum + counts)
    }

    fn join(&mut self, watch: &mut dyn Watch) -> Result<(), RunError> {
        for (worker, thread) in std::mem::take(&mut self.workers).into_iter().enumerate() {
            let result = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result.map_err(|error| RunError::Worker { worker, error })?;
        }
        while let Ok(notice) = self.notices.try_recv() {
            self.take(notice, watch);
        }
        self.series.finish(&mut |second, outcome| watch.second(second, outcome));
        self.by_population.iter_mut().for_each(|series| series.finish(&mut |_, _| {}));
        Ok(())
    }
}

/// Makes each worker's part of the scenario.
fn scenarios<'a>(
    plan: &'a Plan,
    payload: &'a Payload,
    pacer: &'a Arc<Mutex<Pacer>>,
) -> impl Fn(usize) -> Box<dyn Scenario> + use<'a> {
    let pace = plan.pace.unwrap_or(Pace::Closed { in_flight: 0 });
    let board = Arc::new(fanout::Board::new(plan.topics, plan.publishers(), pace));
    let course = || plan.course.clone();
    let fanout = move |subscribers, worker| {
        let publishers = plan.publisher_share(worker);
        Fanout::new(payload.clone(), pace, plan.arrivals, subscribers, publishers, board.clone()).over(course())
    };
    move |worker| {
        let connections = plan.connection_share(worker);
        match plan.kind {
            Kind::Echo => Box::new(Echo::new(payload.clone(), connections, pace, plan.arrivals).over(course())),
            Kind::Fanout { .. } => Box::new(fanout(connections, worker)),
            Kind::Slow { stalled, .. } => Box::new(fanout(connections, worker).with_stalled(stalled)),
            Kind::Churn { stay } => {
                let Pace::Open { rate } = pace else { unreachable!("connects have a rate") };
                Box::new(Churn::new(connections, rate, plan.arrivals, stay).over(course()))
            }
            Kind::Storm { times } => Box::new(Storm::new(connections.local_senders(), times)),
            Kind::Idle => Box::new(Idle::new(connections.local_senders(), course(), pacer.clone())),
        }
    }
}
