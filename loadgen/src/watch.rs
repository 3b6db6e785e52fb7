//! Who looks at a run while it goes on: the terminal, a log, a scrape.

use wsgate::time::Time;

use crate::mix::Mix;
use crate::report::Report;
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

    /// Each connection is open or has failed; messages follow. Connections of a churn do.
    fn connected(&mut self, _moment: Moment<'_>) {}

    /// All messages have left, or the run was interrupted. Answers may be under way.
    fn sent(&mut self, _moment: Moment<'_>) {}

    /// The report is made: what this one has to say belongs there. The first message was
    /// meant for `start`, if any was.
    fn add_to(&mut self, _report: &mut Report, _start: Option<Time>) {}

    /// The run is over, and all connections are closed. The report is made after it.
    fn end(&mut self, _moment: Moment<'_>) {}
}

/// All of them, in their order.
impl Watch for Vec<Box<dyn Watch + '_>> {
    fn tick(&mut self, moment: Moment<'_>) {
        self.iter_mut().for_each(|watch| watch.tick(moment));
    }

    fn second(&mut self, second: &Second, outcome: &Outcome) {
        self.iter_mut().for_each(|watch| watch.second(second, outcome));
    }

    fn connected(&mut self, moment: Moment<'_>) {
        self.iter_mut().for_each(|watch| watch.connected(moment));
    }

    fn sent(&mut self, moment: Moment<'_>) {
        self.iter_mut().for_each(|watch| watch.sent(moment));
    }

    fn add_to(&mut self, report: &mut Report, start: Option<Time>) {
        self.iter_mut().for_each(|watch| watch.add_to(report, start));
    }

    fn end(&mut self, moment: Moment<'_>) {
        self.iter_mut().for_each(|watch| watch.end(moment));
    }
}
