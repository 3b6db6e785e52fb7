//! Looks at the server while it is loaded: what each message costs it, and what each
//! connection.
//!
//! Owner: the main thread, which reads `/proc` and scrapes at most once a second; workers
//! know nothing of it. The messages that processor time is divided by are counted at the
//! moments at which it is read, so both ends of the division are of the same time, and
//! warm-up and cool-down are outside.

use std::time::Duration;

use wsgate::time::Time;

use crate::report::Report;
use crate::watch::{Moment, Watch};

mod metrics;
mod process;
mod report;
mod sample;

use metrics::Metrics;
use process::Process;
pub use report::{ServerReport, SourceReport, Steps};
use sample::{Look, Sample};

/// Time between two readings.
const INTERVAL: Duration = Duration::from_secs(1);

/// Who is watched, and what has been read.
#[derive(Debug)]
pub struct ServerWatch {
    sources: Vec<Source>,
    before: Sample,
    connected: Option<Reading>,
    /// The first in the measured phase, and the last of it so far.
    measured: Option<(Reading, Reading)>,
    /// The measured phase is over.
    is_measured: bool,
    end: Option<Reading>,
    most: Sample,
    read_at: Time,
}

/// All sources at one moment.
#[derive(Clone, Debug)]
struct Reading {
    at: Time,
    opened: u64,
    received: u64,
    sample: Sample,
}

#[derive(Debug)]
struct Source {
    server: Server,
    /// When it could not be read for the first time, and why.
    failure: Option<(Time, String)>,
}

#[derive(Debug)]
enum Server {
    Process(Process),
    Metrics(Metrics),
}

impl ServerWatch {
    /// Watches processes and addresses; `None` if there are none. Reads them once, so
    /// this is to be called before anybody connects.
    ///
    /// # Errors
    /// In words: who cannot be watched, why, and what to do.
    pub fn open(pids: &[u32], urls: &[String]) -> Result<Option<Self>, String> {
        let processes = pids.iter().map(|&pid| Process::find(pid).map(Server::Process));
        let addresses = urls.iter().map(|url| Metrics::open(url).map(Server::Metrics));
        let servers = processes.chain(addresses).collect::<Result<Vec<_>, _>>()?;
        if servers.is_empty() {
            return Ok(None);
        }
        let mut watch = Self {
            sources: servers.into_iter().map(|server| Source { server, failure: None }).collect(),
            before: Sample::default(),
            connected: None,
            measured: None,
            is_measured: false,
            end: None,
            most: Sample::default(),
            read_at: Time::ZERO,
        };
        watch.before = watch.sample(Look::Close, Time::ZERO).unwrap_or_default();
        watch.most = watch.before.clone();
        Ok(Some(watch))
    }

    fn read(&mut self, look: Look, moment: Moment<'_>) -> Option<Reading> {
        self.read_at = moment.now;
        let sample = self.sample(look, moment.now)?;
        self.most.raise_to(&sample);
        let (opened, received) = (moment.counts.opened, moment.counts.received);
        Some(Reading { at: moment.now, opened, received, sample })
    }

    /// All of them, or none: figures are of the time in which all could be read.
    fn sample(&mut self, look: Look, now: Time) -> Option<Sample> {
        let (mut processes, mut addresses) = (Vec::new(), Vec::new());
        for Source { server, failure } in &mut self.sources {
            let sample = match server {
                Server::Process(process) => process.sample(look).map(|sample| processes.push(sample)),
                Server::Metrics(metrics) => metrics.sample().map(|sample| addresses.push(sample)),
            };
            if let Err(why) = sample {
                failure.get_or_insert((now, why));
            }
        }
        if processes.len() + addresses.len() < self.sources.len() {
            return None;
        }
        // Both may be about the same server, so they are not added.
        let of_addresses = Sample::sum(&addresses);
        let counters = of_addresses.counters.clone();
        Some(if processes.is_empty() { of_addresses } else { Sample { counters, ..Sample::sum(&processes) } })
    }

    fn report(&self, start: Option<Time>) -> ServerReport {
        let after = |at: Time| (at.0 as f64 - start.unwrap_or(at).0 as f64) / 1e9;
        let has_process = self.sources.iter().any(|source| matches!(source.server, Server::Process(_)));
        let sources = self.sources.iter().map(|Source { server, failure }| {
            let (name, remark) = match server {
                Server::Process(process) => (process.name(), process.remark()),
                Server::Metrics(metrics) => (metrics.name(), metrics.remark().filter(|_| !has_process)),
            };
            let failed_at = failure.as_ref().map(|&(at, _)| after(at));
            SourceReport { name, remark, failure: failure.as_ref().map(|(_, why)| why.clone()), failed_at }
        });
        let steps = |read: fn(&Sample) -> Option<f64>| Steps {
            before: read(&self.before),
            connected: self.connected.as_ref().and_then(|reading| read(&reading.sample)),
            end: self.end.as_ref().and_then(|reading| read(&reading.sample)),
            most: read(&self.most),
        };
        let mut report = ServerReport {
            sources: sources.collect(),
            rss_bytes: steps(|sample| sample.rss_bytes),
            files: steps(|sample| sample.files),
            threads: steps(|sample| sample.threads),
            ..ServerReport::default()
        };
        if let (Some(connected), Some(before)) = (&self.connected, report.rss_bytes.before) {
            let each = |bytes: f64| (connected.opened > 0).then(|| (bytes - before) / connected.opened as f64);
            report.rss_bytes_per_connection = report.rss_bytes.connected.and_then(each);
        }
        if let Some((first, last)) = &self.measured {
            report.add_difference(first, last);
        }
        report
    }
}

impl ServerReport {
    fn add_difference(&mut self, first: &Reading, last: &Reading) {
        self.seconds = last.at.since(first.at).as_secs_f64();
        self.messages = last.received.saturating_sub(first.received);
        let cpu = last.sample.cpu.zip(first.sample.cpu).map(|(last, first)| last.saturating_sub(first).as_secs_f64());
        self.cpu_seconds = cpu;
        self.cpu_us_per_message = cpu.filter(|_| self.messages > 0).map(|cpu| cpu * 1e6 / self.messages as f64);
        self.cpu_busy = cpu.filter(|_| self.seconds > 0.0).map(|cpu| cpu / self.seconds);
        let grown = last.sample.counters.iter().map(|(name, value)| {
            let before = first.sample.counters.get(name).copied().unwrap_or(0.0);
            (name.clone(), value - before)
        });
        self.counters = grown.filter(|&(_, growth)| growth > 0.0).collect();
    }
}

impl Watch for ServerWatch {
    fn connected(&mut self, moment: Moment<'_>) {
        self.connected = self.read(Look::Close, moment);
        // Without a warm-up nothing happens until the first message.
        let window = moment.mix.course().window(moment.now);
        if window.measured_from == window.start {
            self.measured = self.connected.clone().map(|reading| (reading.clone(), reading));
        }
    }

    fn tick(&mut self, moment: Moment<'_>) {
        let Some(window) = moment.window else { return };
        if moment.now < window.measured_from || self.is_measured {
            return;
        }
        let is_over = moment.now >= window.measured_to;
        if self.measured.is_some() && !is_over && moment.now.since(self.read_at) < INTERVAL {
            return;
        }
        self.is_measured = is_over;
        if let Some(reading) = self.read(Look::Quick, moment) {
            match &mut self.measured {
                Some((_, last)) => *last = reading,
                None => self.measured = Some((reading.clone(), reading)),
            }
        }
    }

    fn sent(&mut self, moment: Moment<'_>) {
        let Some(reading) = self.read(Look::Close, moment) else { return };
        if let (Some((_, last)), false) = (&mut self.measured, self.is_measured) {
            *last = reading.clone();
        }
        self.end = Some(reading);
    }

    fn end(&mut self, moment: Moment<'_>) {
        // Who went down meanwhile is named; figures are of the time before.
        let _ = self.sample(Look::Quick, moment.now);
    }

    fn add_to(&mut self, report: &mut Report, start: Option<Time>) {
        report.server = Some(self.report(start));
    }
}
