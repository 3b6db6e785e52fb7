//! Connections that are opened and held; pings are answered below.
//!
//! As many are open as the course's load is of all: those that it asks for at its beginning
//! before the run, the others when it does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use wsgate::time::Time;

use super::{Leave, Scenario};
use crate::course::Course;
use crate::payload::Stamp;
use crate::schedule::{Pacer, Window};
use crate::tally::Tally;

/// How often it is looked whether there should be more connections, or fewer.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The idle scenario's part on one worker.
#[derive(Debug)]
pub struct Idle {
    course: Course,
    /// Shared by all that connect: the asked rate is never exceeded.
    pacer: Arc<Mutex<Pacer>>,
    states: Vec<State>,
    /// Members that may connect in the run; those that failed do not try again.
    free: Vec<usize>,
    /// Members that are open, and to whom nothing else has happened since.
    open: usize,
    under_way: usize,
    /// Who opened, the newest last; some of them may be gone.
    newest: Vec<usize>,
    window: Option<Window>,
    looked_at: Time,
    tally: Tally,
}

/// Where a member is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Away,
    /// Since the run asked for it.
    Connecting,
    Open,
    Leaving,
}

impl Idle {
    /// That many members, and how many of them are open over time. The first
    /// [`Course::members_at_first`] connect before the run.
    pub fn new(members: usize, course: Course, pacer: Arc<Mutex<Pacer>>) -> Self {
        Self {
            states: vec![State::Away; members],
            free: (course.members_at_first(members)..members).rev().collect(),
            pacer,
            open: 0,
            under_way: 0,
            newest: Vec::new(),
            course,
            window: None,
            looked_at: Time::ZERO,
            tally: Tally::default(),
        }
    }

    /// Connections that there should be.
    fn asked(&self, now: Time) -> usize {
        let Some(window) = self.window else { return 0 };
        self.course.members_at(now.since(window.start), self.states.len())
    }

    /// Members come and go, and sending goes on.
    fn is_changing(&self, now: Time) -> bool {
        !self.course.is_steady() && self.window.is_some_and(|window| now < window.end)
    }
}

impl Scenario for Idle {
    fn opened(&mut self, member: usize, _now: Time) {
        if std::mem::replace(&mut self.states[member], State::Open) == State::Connecting {
            self.under_way -= 1;
        }
        self.open += 1;
        self.newest.push(member);
    }

    fn gone(&mut self, member: usize, _now: Time) {
        // Who was cut by the server stays away; who left may come again.
        match std::mem::replace(&mut self.states[member], State::Away) {
            State::Leaving => self.free.push(member),
            _ => self.open -= 1,
        }
    }

    fn failed(&mut self, member: usize, _now: Time) {
        if std::mem::replace(&mut self.states[member], State::Away) == State::Connecting {
            self.under_way -= 1;
        }
    }

    fn start(&mut self, window: Window) {
        self.window = Some(window);
        self.looked_at = window.start;
    }

    fn stop(&mut self, now: Time) {
        self.window = self.window.map(|window| window.until(now));
    }

    fn message(&mut self, _member: usize, _payload: &[u8], _now: Time) -> bool {
        self.tally.foreign += 1;
        false
    }

    fn next_send(&mut self, _now: Time) -> Option<(usize, Stamp)> {
        None
    }

    fn next_connect(&mut self, now: Time) -> Option<usize> {
        self.looked_at = self.looked_at.max(now);
        if !self.is_changing(now) || self.open + self.under_way >= self.asked(now) {
            return None;
        }
        // Not before there is somebody to use it.
        let member = *self.free.last()?;
        self.pacer.lock().expect("no worker panics while it holds the pace").take(now).ok()?;
        self.free.pop();
        self.under_way += 1;
        self.states[member] = State::Connecting;
        Some(member)
    }

    fn next_leave(&mut self, now: Time) -> Option<(usize, Leave)> {
        if !self.is_changing(now) || self.open <= self.asked(now) {
            return None;
        }
        let Self { newest, states, .. } = self;
        let member = std::iter::from_fn(|| newest.pop()).find(|&member| states[member] == State::Open)?;
        self.states[member] = State::Leaving;
        self.open -= 1;
        Some((member, Leave::Close))
    }

    fn wake_at(&self) -> Option<Time> {
        self.is_changing(self.looked_at).then(|| self.looked_at + LOOK_INTERVAL)
    }

    fn sending_done(&self, now: Time) -> bool {
        let is_over = self.window.is_some_and(|window| now >= window.end);
        is_over || (self.course.is_steady() && self.open == 0)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::course::Phase;
    use crate::schedule::window;

    const SECOND: u64 = 1_000_000_000;

    fn pacer(rate: f64) -> Arc<Mutex<Pacer>> {
        Arc::new(Mutex::new(Pacer::new(rate)))
    }

    /// Ten members, all of them wanted in a second, then fewer and fewer in the next.
    fn rise_and_fall() -> Idle {
        let phase = |load| Phase { name: "a".into(), lasts: Duration::from_secs(1), measured: true, load };
        let course = Course::new(vec![phase((0.0, 1.0)), phase((1.0, 0.0))]);
        let mut idle = Idle::new(10, course, pacer(1e6));
        idle.start(window(Time(SECOND), Duration::from_secs(2)));
        idle
    }

    fn connect(idle: &mut Idle, now: Time) -> usize {
        let members: Vec<_> = std::iter::from_fn(|| idle.next_connect(now)).collect();
        members.iter().for_each(|&member| idle.opened(member, now));
        members.len()
    }

    #[test]
    fn as_many_are_open_as_the_load_asks_for() {
        let mut idle = rise_and_fall();
        assert_eq!(connect(&mut idle, Time(SECOND + SECOND / 2)), 5);
        assert_eq!(idle.next_leave(Time(SECOND + SECOND / 2)), None);
        assert_eq!(connect(&mut idle, Time(2 * SECOND)), 5);
        let now = Time(2 * SECOND + SECOND * 3 / 4);
        let left: Vec<_> = std::iter::from_fn(|| idle.next_leave(now)).map(|(member, _)| member).collect();
        assert_eq!((left.len(), left[0]), (7, 9), "the newest first; half a member stays");
        assert!(!idle.sending_done(now) && idle.sending_done(Time(3 * SECOND)));
    }

    #[test]
    fn who_left_may_come_again_and_who_was_cut_does_not() {
        let mut idle = rise_and_fall();
        connect(&mut idle, Time(2 * SECOND - 1));
        idle.gone(3, Time::ZERO);
        let now = Time(2 * SECOND + SECOND / 2);
        let left: Vec<_> = std::iter::from_fn(|| idle.next_leave(now)).map(|(member, _)| member).collect();
        assert_eq!(left, [9, 8, 7, 6]);
        left.iter().for_each(|&member| idle.gone(member, Time::ZERO));
        assert_eq!(idle.free, [9, 8, 7, 6]);
    }

    #[test]
    fn who_is_asked_for_at_the_beginning_connects_before_the_run_and_others_at_the_ramp() {
        let half = Phase { name: "a".into(), lasts: Duration::from_secs(4), measured: true, load: (0.5, 0.5) };
        let all = Phase { load: (1.0, 1.0), ..half.clone() };
        let mut idle = Idle::new(10, Course::new(vec![half, all]), pacer(1.0));
        (0..5).for_each(|member| idle.opened(member, Time(0)));
        idle.start(window(Time(0), Duration::from_secs(8)));
        assert_eq!((idle.next_connect(Time(0)), idle.next_leave(Time(0))), (None, None));
        let first: Vec<_> = std::iter::from_fn(|| idle.next_connect(Time(5 * SECOND))).collect();
        assert_eq!(first, [5], "one per second is asked for");
        assert_eq!(idle.next_connect(Time(6 * SECOND)), Some(6));
    }

    #[test]
    fn it_looks_again_until_the_run_ends() {
        let mut idle = rise_and_fall();
        idle.next_connect(Time(SECOND));
        assert_eq!(idle.wake_at(), Some(Time(SECOND) + LOOK_INTERVAL));
        idle.next_connect(Time(3 * SECOND));
        assert_eq!(idle.wake_at(), None);
        let mut steady = Idle::new(3, Course::default(), pacer(1.0));
        steady.start(window(Time(0), Duration::from_secs(1)));
        assert_eq!((steady.next_connect(Time(1)), steady.wake_at()), (None, None));
    }
}
