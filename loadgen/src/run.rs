//! A run from start to end: starts the workers, leads them through its phases,
//! and puts together what they bring home.
//!
//! Owner: the main thread.

use std::io;
use std::net::SocketAddr;

use wsgate::driver::uring;
use wsgate::time::Time;

use crate::crew::{Crew, Finds};
use crate::files::{self, TooFewFiles};
use crate::interrupt::Interrupt;
use crate::mix::{Mix, Population};
use crate::plan::Plan;
use crate::report::Report;
use crate::schedule::Window;
use crate::self_check;
use crate::series::Series;
use crate::sockets::Io;
use crate::watch::Watch;

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
    /// The kernel, or who rules over it, refuses io_uring.
    #[error("cannot use io_uring (--io io_uring): {0}; {hint}, or use --io epoll", hint = uring::hint(.0))]
    IoUring(io::Error),
    /// A worker's event loop failed.
    #[error("worker {worker} failed: {error}")]
    Worker {
        /// Its number.
        worker: usize,
        /// Why.
        error: io::Error,
    },
}

/// Where a population connects to.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The server.
    pub clients: SocketAddr,
    /// Where publishers without a WebSocket connect to.
    pub publish: SocketAddr,
}

impl Addresses {
    fn resolve(plan: &Plan) -> Result<Self, RunError> {
        let refused = |url: String, error| RunError::Resolve { url, error };
        let clients = plan.target.resolve().map_err(|error| refused(plan.target.to_string(), error))?;
        let publish = plan.publish.as_ref().map(|publish| {
            let url = || publish.target.to_string().replacen("ws", "http", 1);
            publish.target.resolve().map_err(|error| refused(url(), error))
        });
        Ok(Self { clients, publish: publish.transpose()?.unwrap_or(clients) })
    }
}

/// Carries out what is planned, showing `watch` how it goes on.
/// It ends early if `interrupt` asks for it.
///
/// # Errors
/// What keeps a run from taking place; what goes wrong in one is in its report.
pub fn run(mix: &Mix, watch: &mut dyn Watch, interrupt: &Interrupt) -> Result<Report, RunError> {
    files::raise_limit(mix)?;
    if mix.io() == Io::IoUring {
        uring::probe().map_err(RunError::IoUring)?;
    }
    let addresses = mix.plans().map(Addresses::resolve).collect::<Result<Vec<_>, _>>()?;
    let finds = Crew::start(mix, &addresses, interrupt).map_err(RunError::Start)?.work(watch)?;
    let Finds { window, series, by_population, interrupted } = &finds;
    let parts = mix.populations.iter().zip(by_population);
    let mut parts: Vec<_> = parts.map(|(population, series)| report(population, series, *window)).collect();
    let mut report = match mix.file {
        None => parts.remove(0),
        Some(_) => Report::mixed(mix, parts, series),
    };
    watch.add_to(&mut report, window.map(|window| window.start));
    report.interrupted = *interrupted;
    if *interrupted {
        report.note("Interrupted: these are the figures of what was measured until then.".to_owned());
    }
    Ok(report)
}

/// The report of one population.
fn report(Population { name, plan }: &Population, series: &Series, window: Option<Window>) -> Report {
    let mut outcome = series.total();
    outcome.limits.extend(self_check::limits(plan.pace, &outcome.loads));
    // A run whose connections are all gone ends before its time. One whose messages left
    // late has taken longer for them than it should have.
    let seconds = outcome.sent_at.zip(window).map_or(0.0, |(sent_at, window)| {
        let last = sent_at.min(window.measured_to).max(outcome.tally.last_left);
        last.since(window.measured_from).as_secs_f64()
    });
    let mut report = Report::new(plan, &outcome, seconds).with_series(series).with_asked(plan);
    report.name = Some(name.clone()).filter(|name| !name.is_empty());
    if let Some((first, last)) = outcome.connections.dropped_between {
        let after = |time: Time| window.map_or(0.0, |window| (time.0 as f64 - window.start.0 as f64) / 1e9);
        let (count, first, last) = (outcome.connections.dropped, after(first), after(last));
        report.note(format!(
            "{count} connections were cut, from {first:.2} s to {last:.2} s after the first message's time"
        ));
    }
    report
}
