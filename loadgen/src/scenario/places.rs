//! The places of clients that come and go: who connects next, and since when that could
//! have been, had loadgen never been late.
//!
//! Owner: the churn scenario of one worker. Every time is an argument. A connect takes a
//! place until its connection is over, and one of the handshakes that may be under way
//! until its own is. The server's time is in both. Loadgen's own lateness is taken off
//! them, so that who waits for a place because loadgen was late waits for loadgen.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use wsgate::time::Time;

use crate::limits::{HANDSHAKES_PENDING_MAX, SENDING_LATE_MAX, SENDING_LATE_PART_MAX};

/// One worker's places.
#[derive(Debug)]
pub(super) struct Places {
    /// How long a connection stays when it is open.
    stay: Duration,
    places: Vec<Place>,
    /// Those that are free, and since when they could have been; the first one first.
    free: BinaryHeap<Reverse<(Time, usize)>>,
    /// Since when each of the handshakes that may begin could have begun.
    handshakes: BinaryHeap<Reverse<Time>>,
    /// Who leaves when, the first one first.
    leaving: VecDeque<(Time, usize)>,
    /// When loadgen means to look again at the latest, whatever the server does.
    looks_at: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    step: Step,
    /// When it was taken last.
    taken: Time,
    /// By how much later loadgen does everything here than if it had never been late.
    late: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Free,
    Connecting,
    Open,
    /// Its Close is sent, and the server's is waited for.
    Closing,
}

impl Places {
    /// That many, all free.
    pub(super) fn new(count: usize, stay: Duration) -> Self {
        Self {
            stay,
            places: vec![Place { step: Step::Free, taken: Time::ZERO, late: Duration::ZERO }; count],
            free: (0..count).map(|place| Reverse((Time::ZERO, place))).collect(),
            handshakes: vec![Reverse(Time::ZERO); HANDSHAKES_PENDING_MAX].into(),
            leaving: VecDeque::new(),
            looks_at: None,
        }
    }

    /// Whether a connect may begin.
    pub(super) fn admit(&self) -> bool {
        !self.free.is_empty() && !self.handshakes.is_empty()
    }

    /// The place of a connect that was meant for `intended` and begins now, and since when
    /// it could have begun; `None` if it has to wait.
    pub(super) fn take(&mut self, intended: Time, now: Time) -> Option<(usize, Time)> {
        if !self.admit() {
            return None;
        }
        let Reverse((place_at, place)) = self.free.pop()?;
        let Reverse(handshake_at) = self.handshakes.pop()?;
        let able = intended.max(place_at).max(handshake_at);
        self.places[place] = Place { step: Step::Connecting, taken: now, late: now.since(able) };
        Some((place, able))
    }

    /// Its handshake is complete.
    pub(super) fn opened(&mut self, place: usize, now: Time) {
        self.handshake_ended(place, now);
        self.places[place].step = Step::Open;
        self.leaving.push_back((now + self.stay, place));
    }

    /// Its handshake failed, or its connection is over.
    pub(super) fn ended(&mut self, place: usize, now: Time) {
        match self.places[place].step {
            Step::Connecting => self.handshake_ended(place, now),
            Step::Open => {
                self.leaving.retain(|&(_, leaving)| leaving != place);
                self.add_overslept(place, now);
            }
            Step::Closing => self.add_overslept(place, now),
            Step::Free => unreachable!("nobody is there"),
        }
        self.places[place].step = Step::Free;
        self.free.push(Reverse((self.places[place].usable_since(now), place)));
    }

    /// Whose connection is to end now.
    pub(super) fn next_leave(&mut self, now: Time) -> Option<usize> {
        let (at, place) = self.leaving.pop_front_if(|&mut (at, _)| at <= now)?;
        self.places[place].late += now.since(at);
        self.places[place].step = Step::Closing;
        Some(place)
    }

    /// When that is asked next.
    pub(super) fn next_leave_at(&self) -> Option<Time> {
        self.leaving.front().map(|&(at, _)| at)
    }

    /// All that can be done now is. Loadgen means to look again by `at`.
    pub(super) fn look_at(&mut self, at: Option<Time>) {
        self.looks_at = at;
    }

    /// How many handshakes are under way.
    pub(super) fn connecting(&self) -> usize {
        HANDSHAKES_PENDING_MAX - self.handshakes.len()
    }

    /// Since when a connect could have begun that has not, had loadgen never been late: not
    /// before now, where nothing but the server keeps it.
    pub(super) fn able_since(&self, now: Time) -> Time {
        let looked = self.looked(now);
        let pending = |step: Step| self.places.iter().filter(move |place| place.step == step).map(|place| place.late);
        let closing = pending(Step::Closing).map(|late| earlier(looked, late));
        let connecting = || pending(Step::Connecting).map(|late| earlier(looked, late));
        let open = self.leaving.iter().map(|&(at, place)| earlier(at, self.places[place].late));
        let free = self.free.peek().map(|&Reverse((at, _))| at);
        let place = free.into_iter().chain(open).chain(closing).chain(connecting().map(|at| at + self.stay)).min();
        let handshake = self.handshakes.peek().map(|&Reverse(at)| at).or_else(|| connecting().min());
        place.max(handshake).unwrap_or(now)
    }

    fn handshake_ended(&mut self, place: usize, now: Time) {
        self.add_overslept(place, now);
        self.handshakes.push(Reverse(self.places[place].usable_since(now)));
    }

    /// What is heard of too late may have happened when loadgen should have looked.
    fn add_overslept(&mut self, place: usize, now: Time) {
        let overslept = now.since(self.looked(now));
        self.places[place].late += overslept;
    }

    /// The moment before which loadgen did not miss anything.
    fn looked(&self, now: Time) -> Time {
        self.looks_at.map_or(now, |at| at.min(now))
    }
}

impl Place {
    /// Since when the next could have what is given back now, had loadgen never been late.
    /// As long as the rate counts as held, lateness does not add up from one to the next.
    fn usable_since(&self, now: Time) -> Time {
        let tolerated = now.since(self.taken).mul_f64(SENDING_LATE_PART_MAX).max(SENDING_LATE_MAX);
        if self.late > tolerated { earlier(now, self.late) } else { now }
    }
}

fn earlier(at: Time, by: Duration) -> Time {
    Time(at.0.saturating_sub(by.as_nanos() as u64))
}
