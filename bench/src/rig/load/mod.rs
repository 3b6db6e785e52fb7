//! The load: bare clients on one thread, which share one read buffer, send frames
//! made beforehand and count bytes.
//!
//! A load keeps a fixed number of messages under way. It is run for some time and
//! then until nothing is under way any more, so that what a window measures is whole.

mod echo;
mod fanout;
pub(crate) mod socket;
#[cfg(test)]
mod tests;

pub(crate) use echo::{Echo, Next};
pub(crate) use fanout::{FanOut, Pace};

use std::io;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll};

pub(crate) const EVENTS_PER_TURN_MAX: usize = 1024;
pub(crate) const READ_BUFFER_BYTES: usize = 256 * 1024;

/// The longest that no byte may come while messages are under way.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(10);

/// Work that is kept going.
pub(crate) trait Load {
    /// Where the connections are registered.
    fn poll(&mut self) -> &mut Poll;

    /// Sends as much as is to be under way.
    fn start(&mut self) -> io::Result<()>;

    /// Reads what an event announces.
    fn take_event(&mut self, event: &Event, buffer: &mut [u8]) -> io::Result<()>;

    /// Sends anew for what has arrived, after all events of a turn.
    fn refill(&mut self) -> io::Result<()>;

    /// Messages that have arrived since the load was made.
    fn arrived(&self) -> u64;

    /// Messages that are under way.
    fn under_way(&self) -> u64;
}

/// Runs a load for at least `time`, from nothing under way to nothing under way, and
/// returns how long it took.
pub(crate) fn run(load: &mut impl Load, time: Duration) -> io::Result<Duration> {
    let mut events = Events::with_capacity(EVENTS_PER_TURN_MAX);
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    let start = Instant::now();
    load.start()?;
    let mut refilling = true;
    while load.under_way() > 0 {
        load.poll().poll(&mut events, Some(STALL_MAX))?;
        if events.is_empty() {
            let under_way = load.under_way();
            return Err(io::Error::other(format!(
                "nothing came for {STALL_MAX:?} with {under_way} messages under way"
            )));
        }
        for event in &events {
            load.take_event(event, &mut buffer)?;
        }
        refilling = refilling && start.elapsed() < time;
        if refilling {
            load.refill()?;
        }
    }
    Ok(start.elapsed())
}
