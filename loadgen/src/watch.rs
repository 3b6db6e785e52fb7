//! Who looks at a run while it goes on: the terminal, a log, a scrape.

use wsgate::time::Time;

use crate::mix::Mix;
use crate::schedule::Window;
use crate::series::Second;
use crate::shared::Counts;
use crate::tally::Outcome;

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The run.
    pub mix: &'a Mix,
    /// When messages are sent; unknown while connections are opened.
    pub window: Option<Window>,
    /// By the run's clock.
    pub now: Time,
    /// Counted since the run began.
    pub counts: Counts,
}

/// Is told how a run goes on, on the main thread. It may take its time: workers do
/// not wait for it.
pub trait Watch {
    /// Some time has passed, a part of a second.
    fn tick(&mut self, _moment: Moment<'_>) {}

    /// A second is complete; `outcome` has what was counted in it.
    fn second(&mut self, _second: &Second, _outcome: &Outcome) {}

    /// The run is over.
    fn end(&mut self) {}
}

/// All of them, in their order.
impl Watch for Vec<Box<dyn Watch + '_>> {
    fn tick(&mut self, moment: Moment<'_>) {
        self.iter_mut().for_each(|watch| watch.tick(moment));
    }

    fn second(&mut self, second: &Second, outcome: &Outcome) {
        self.iter_mut().for_each(|watch| watch.second(second, outcome));
    }

    fn end(&mut self) {
        self.iter_mut().for_each(|watch| watch.end());
    }
}
