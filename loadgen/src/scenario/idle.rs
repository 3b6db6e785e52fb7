//! Connections that are opened and held; pings are answered below.

use wsgate::time::Time;

use super::Scenario;
use crate::payload::Stamp;
use crate::schedule::Window;
use crate::tally::Tally;

/// The idle scenario's part on one worker.
#[derive(Default, Debug)]
pub struct Idle {
    live: usize,
    window: Option<Window>,
    tally: Tally,
}

impl Scenario for Idle {
    fn opened(&mut self, _member: usize, _now: Time) {
        self.live += 1;
    }

    fn gone(&mut self, _member: usize) {
        self.live -= 1;
    }

    fn start(&mut self, window: Window) {
        self.window = Some(window);
    }

    fn stop(&mut self, now: Time) {
        self.window = self.window.map(|window| window.until(now));
    }

    fn message(&mut self, _member: usize, _payload: &[u8], _now: Time) -> Option<Stamp> {
        self.tally.foreign += 1;
        None
    }

    fn next_send(&mut self, _now: Time) -> Option<(usize, Stamp)> {
        None
    }

    fn wake_at(&self) -> Option<Time> {
        None
    }

    fn sending_done(&self, now: Time) -> bool {
        self.live == 0 || self.window.is_some_and(|window| now >= window.end)
    }

    fn drained(&self) -> bool {
        true
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    fn finish(self: Box<Self>) -> Tally {
        self.tally
    }
}
