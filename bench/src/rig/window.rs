//! What a server and its load use between two moments.

use std::io;
use std::time::{Duration, Instant};

use super::instructions::Instructions;
use super::load::{self, Load};
use super::metrics::{Metrics, Scrape};
use super::process::{CpuTime, machine_busy};
use super::server::Server;

/// Other programs that take more CPU than this, in processors, spoil a measurement: they
/// hold up both sides and empty their caches.
pub(crate) const OTHERS_BUSY_MAX: f64 = 0.1;

/// Readings at the first of the two moments.
#[derive(Debug)]
pub(crate) struct Meter {
    start: Instant,
    server: CpuTime,
    load: CpuTime,
    machine: Duration,
}

/// What was used until the second one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) wall: Duration,
    /// CPU time of the server.
    pub(crate) server: CpuTime,
    /// CPU time of this process, which is the load.
    load: CpuTime,
    machine: Duration,
}

impl Meter {
    pub(crate) fn start(server: &Server) -> io::Result<Self> {
        let machine = machine_busy()?;
        let (server, load) = (CpuTime::of(server.pid())?, CpuTime::of(std::process::id())?);
        Ok(Self { start: Instant::now(), server, load, machine })
    }

    pub(crate) fn stop(&self, server: &Server) -> io::Result<Usage> {
        let wall = self.start.elapsed();
        let (server, load) = (CpuTime::of(server.pid())?, CpuTime::of(std::process::id())?);
        let machine = machine_busy()?.saturating_sub(self.machine);
        Ok(Usage { wall, server: server.since(self.server), load: load.since(self.load), machine })
    }
}

impl Usage {
    /// CPU seconds of the server per second.
    pub(crate) fn server_busy(&self) -> f64 {
        self.per_second(Duration::from_nanos(self.server.total_ns))
    }

    /// CPU seconds of the load per second.
    pub(crate) fn load_busy(&self) -> f64 {
        self.per_second(Duration::from_nanos(self.load.total_ns))
    }

    /// Nanoseconds of the load's CPU.
    pub(crate) fn load_ns(&self) -> u64 {
        self.load.total_ns
    }

    /// CPU seconds of all other programs per second.
    pub(crate) fn others_busy(&self) -> f64 {
        self.per_second(self.machine.saturating_sub(Duration::from_nanos(self.server.total_ns + self.load.total_ns)))
    }

    fn per_second(&self, time: Duration) -> f64 {
        time.as_secs_f64() / self.wall.as_secs_f64()
    }
}

/// A load that ran from nothing under way to nothing under way.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) usage: Usage,
    /// Messages that arrived.
    pub(crate) messages: u64,
    /// Of the server's own code; `None` where they are not counted.
    pub(crate) instructions: Option<u64>,
    /// The server's own counters around it, if it has any.
    counters: Option<(Scrape, Scrape)>,
}

impl Window {
    /// Runs a load to warm up, and then for at least `time`.
    pub(crate) fn measure(
        server: &Server,
        load: &mut impl Load,
        warm_up: Duration,
        time: Duration,
    ) -> io::Result<Self> {
        load::run(load, warm_up)?;
        let mut metrics = server.admin.map(Metrics::connect).transpose()?;
        let mut scrape = || metrics.as_mut().map(Metrics::scrape).transpose();

        // Scrapes cost the server CPU too, so they lie outside.
        let before = scrape()?;
        let mut instructions = Instructions::count(server.pid());
        let arrived = load.arrived();
        let meter = Meter::start(server)?;
        load::run(load, time)?;
        let usage = meter.stop(server)?;
        let instructions = instructions.as_mut().map(Instructions::read).transpose()?;
        let counters = before.zip(scrape()?);
        Ok(Self { usage, messages: load.arrived() - arrived, instructions, counters })
    }

    /// CPU of the server for each message, in nanoseconds.
    pub(crate) fn cpu_per_message(&self) -> f64 {
        self.usage.server.total_ns as f64 / self.messages as f64
    }

    /// How much a counter of the server has grown; `None` if it has no counters.
    pub(crate) fn grown(&self, counter: &str) -> Option<u64> {
        self.counters.as_ref().map(|(before, after)| after.sum(counter) - before.sum(counter))
    }
}
