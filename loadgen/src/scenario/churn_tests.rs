//! Churn against servers and a loadgen whose delays are known to the nanosecond.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::limits::{HANDSHAKES_PENDING_MAX, SCHEDULE_LAG_MAX, SCHEDULE_LAG_PART_MAX};
use crate::schedule::window;

const SECOND: u64 = 1_000_000_000;
const TENTH: u64 = SECOND / 10;
const MILLI: u64 = SECOND / 1_000;

fn churn_of(members: usize, rate: f64, stay: u64, duration: u64) -> Box<Churn> {
    let share = Share { senders: members, workers: 1, worker: 0 };
    let mut churn = Box::new(Churn::new(share, rate, Arrivals::Constant, Duration::from_nanos(stay)));
    churn.start(window(Time(0), Duration::from_nanos(duration)));
    churn
}

fn churn(members: usize) -> Box<Churn> {
    churn_of(members, 10.0, 150 * MILLI, SECOND)
}

#[test]
fn members_connect_at_the_rate_stay_and_leave() {
    let mut churn = churn(2);
    assert_eq!((churn.next_connect(Time(0)), churn.next_connect(Time(0))), (Some(0), None));
    churn.opened(0, Time(TENTH / 2));
    assert_eq!(churn.wake_at(), Some(Time(TENTH)));
    assert_eq!(churn.next_connect(Time(TENTH)), Some(1));
    assert_eq!(churn.next_leave(Time(2 * TENTH - 1)), None);
    assert_eq!(churn.next_leave(Time(2 * TENTH)), Some((0, Leave::Close)));
    churn.gone(0, Time(2 * TENTH));
    assert_eq!(churn.next_connect(Time(2 * TENTH)), Some(0), "a place that is free again");
}

#[test]
fn a_connect_that_had_to_wait_for_a_place_counts_from_its_time() {
    let mut churn = churn(1);
    churn.next_connect(Time(0)).unwrap();
    assert_eq!(churn.next_connect(Time(5 * TENTH)), None);
    churn.opened(0, Time(5 * TENTH));
    churn.next_leave(Time(7 * TENTH)).unwrap();
    churn.gone(0, Time(7 * TENTH));
    assert_eq!(churn.next_connect(Time(7 * TENTH)), Some(0), "meant for the first tenth");
    churn.opened(0, Time(8 * TENTH));
    let (latency, service) = (churn.tally.latency.quantiles(), churn.tally.service.quantiles());
    assert!((699_000.0..701_000.0).contains(&latency.unwrap().max), "{latency:?}");
    assert!((499_000.0..501_000.0).contains(&service.unwrap().max), "{service:?}");
}

#[test]
fn connections_that_fail_or_never_open_are_lost() {
    let mut churn = churn(2);
    churn.next_connect(Time(SECOND)).unwrap();
    churn.next_connect(Time(SECOND)).unwrap();
    churn.failed(0, Time(SECOND));
    assert!(!churn.drained());
    assert_eq!(churn.finish().lost, 2);
}

/// A run of `duration`, and who of the two is slow in it; times in nanoseconds.
#[derive(Clone, Copy)]
struct Run {
    members: usize,
    rate: f64,
    stay: u64,
    duration: u64,
    /// From connect to 101.
    handshake: u64,
    /// How much of that the server does for one client after the other.
    alone: u64,
    /// From Close to Close.
    close: u64,
    /// By how much later than it should loadgen does anything.
    tardy: u64,
    /// The two moments between which it does not run at all.
    stopped: (u64, u64),
    /// When it hears that it is to end, if it has not by then.
    interrupted: Option<u64>,
}

/// A good machine and a good server, with places to spare.
const GOOD: Run = Run {
    members: 60,
    rate: 500.0,
    stay: TENTH,
    duration: 4 * SECOND,
    handshake: MILLI / 4,
    alone: 0,
    close: MILLI / 4,
    tardy: MILLI / 20,
    stopped: (0, 0),
    interrupted: None,
};

const STOPPED: (u64, u64) = (SECOND, 2 * SECOND);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Opened(usize),
    Gone(usize),
}

impl Run {
    fn tally(self) -> Tally {
        let mut churn = churn_of(self.members, self.rate, self.stay, self.duration);
        let (mut now, mut served_until) = (0, 0);
        let mut events = BinaryHeap::new();
        loop {
            let event_at = events.peek().map(|&Reverse((at, _))| at);
            let wakes = event_at.into_iter().chain(churn.wake_at().map(|at| at.0));
            let Some(next) = wakes.min() else { break };
            now = (next.min(self.interrupted.unwrap_or(u64::MAX)) + self.tardy).max(now);
            if (self.stopped.0..self.stopped.1).contains(&now) {
                now = self.stopped.1;
            }
            if self.interrupted.is_some_and(|at| at <= now) {
                churn.stop(Time(now));
                break;
            }
            while events.peek().is_some_and(|&Reverse((at, _))| at <= now) {
                match events.pop().unwrap().0.1 {
                    Event::Opened(member) => churn.opened(member, Time(now)),
                    Event::Gone(member) => churn.gone(member, Time(now)),
                }
            }
            while let Some((member, _)) = churn.next_leave(Time(now)) {
                events.push(Reverse((now + self.close, Event::Gone(member))));
            }
            while churn.places.connecting() < HANDSHAKES_PENDING_MAX {
                let Some(member) = churn.next_connect(Time(now)) else { break };
                served_until = served_until.max(now) + self.alone;
                events.push(Reverse((served_until + self.handshake, Event::Opened(member))));
            }
            if churn.places.connecting() == HANDSHAKES_PENDING_MAX {
                churn.held_up(Time(now));
            }
        }
        churn.finish()
    }

    /// Whether the report would call it late; and how late it was.
    fn is_late(self) -> (bool, String) {
        let tally = self.tally();
        let (lag, latency) = (tally.schedule_lag.quantiles().unwrap(), tally.latency.quantiles().unwrap());
        let allowed = (latency.p99 * SCHEDULE_LAG_PART_MAX).max(SCHEDULE_LAG_MAX.as_secs_f64() * 1e6);
        (lag.p99 > allowed, format!("lag {lag:?} us, latency {latency:?} us, behind {:?}", tally.behind))
    }
}

#[test]
fn a_loadgen_that_stands_still_is_late_whatever_it_has_to_wait_for_then() {
    assert!(!GOOD.is_late().0, "{}", GOOD.is_late().1);
    let few_to_spare = Run { stopped: STOPPED, ..GOOD };
    let none_to_spare = Run { members: 200, rate: 200.0, stay: SECOND, ..few_to_spare };
    let many_handshakes = Run { members: 2_000, stay: SECOND, handshake: 30 * MILLI, ..few_to_spare };
    let mostly_handshakes = Run { members: 110, stay: 10 * MILLI, handshake: 200 * MILLI, ..few_to_spare };
    let mostly_closes = Run { members: 110, stay: 10 * MILLI, close: 200 * MILLI, ..few_to_spare };
    // Nobody is to leave at any time, and nothing but the server is waited for.
    let handshakes_alone = Run { members: 10, rate: 60.0, stay: 0, handshake: 200 * MILLI, ..few_to_spare };
    let closes_alone = Run { members: 10, rate: 60.0, stay: 0, close: 200 * MILLI, ..few_to_spare };
    let all_handshakes = Run { members: 1_000, rate: 700.0, stay: 0, handshake: 200 * MILLI, ..few_to_spare };
    let runs = [
        few_to_spare,
        none_to_spare,
        many_handshakes,
        mostly_handshakes,
        mostly_closes,
        handshakes_alone,
        closes_alone,
        all_handshakes,
    ];
    for (number, run) in runs.into_iter().enumerate() {
        let (is_late, text) = run.is_late();
        assert!(is_late, "run {number}: {text}");
    }
}

#[test]
fn one_that_is_interrupted_after_it_stood_still_is_late_or_behind() {
    // In the turn in which it runs again, in the next, and when places are in use again.
    for after in [0, MILLI / 2, MILLI, 20 * MILLI] {
        for (members, stay) in [(20, TENTH), (200, SECOND)] {
            let interrupted = Some(2 * SECOND + after);
            let run = Run { members, stay, rate: 200.0, duration: 60 * SECOND, stopped: STOPPED, interrupted, ..GOOD };
            // Either not all that were due have begun, or they have, and late.
            let (behind, (is_late, text)) = (run.tally().behind, run.is_late());
            assert!(behind > Duration::from_millis(300) || is_late, "{members} members, {after} ns: {text}");
        }
    }
}

#[test]
fn so_is_one_whose_backlog_waits_for_its_own_handshakes() {
    // Of 500 that were due, 128 began at once, and as many when those were complete.
    let interrupted = Some(2 * SECOND + 45 * MILLI);
    let run = Run { members: 2_000, stay: SECOND, handshake: 30 * MILLI, stopped: STOPPED, interrupted, ..GOOD };
    let behind = run.tally().behind;
    assert!((450..550).contains(&behind.as_millis()), "{behind:?}");
}

#[test]
fn what_is_heard_of_late_may_have_happened_when_loadgen_should_have_looked() {
    let mut churn = churn(2);
    churn.next_connect(Time(0)).unwrap();
    assert_eq!(churn.next_connect(Time(0)), None);
    // Nothing since, though the second was meant for a tenth.
    churn.opened(0, Time(5 * TENTH));
    assert_eq!(churn.next_connect(Time(5 * TENTH)), Some(1));
    assert_eq!(churn.next_connect(Time(5 * TENTH)), None);
    churn.next_leave(Time(6 * TENTH + TENTH / 2)).unwrap();
    churn.gone(0, Time(6 * TENTH + TENTH / 2));
    assert_eq!(churn.next_connect(Time(6 * TENTH + TENTH / 2)), Some(0), "open since a tenth, for all one knows");
    let lag = churn.tally.schedule_lag.quantiles().unwrap();
    assert!((399_000.0..401_000.0).contains(&lag.p50), "none, 400 ms, and the same again: {lag:?}");
}

#[test]
fn a_slow_server_makes_nobody_late() {
    let slow_handshakes = Run { handshake: 300 * MILLI, ..GOOD };
    let slow_closes = Run { close: 300 * MILLI, ..GOOD };
    let one_after_the_other = Run { members: 2_000, rate: 600.0, alone: 5 * MILLI, ..GOOD };
    let all_places = Run { members: 10, rate: 60.0, stay: 0, handshake: 200 * MILLI, ..GOOD };
    let one_place = Run { members: 1, rate: 50.0, stay: 0, handshake: 50 * MILLI, duration: SECOND, ..GOOD };
    for (number, run) in
        [slow_handshakes, slow_closes, one_after_the_other, all_places, one_place].into_iter().enumerate()
    {
        let (is_late, text) = run.is_late();
        assert!(!is_late, "run {number}: {text}");
        let interrupted = Run { interrupted: Some(run.duration / 2), ..run }.tally();
        assert!(interrupted.behind < SCHEDULE_LAG_MAX, "run {number}: {:?}", interrupted.behind);
    }
}

#[test]
fn lateness_that_nobody_sees_does_not_add_up() {
    let run = Run { members: 1, rate: 50.0, stay: 20 * MILLI, duration: 60 * SECOND, tardy: MILLI / 2, ..GOOD };
    let none_to_spare = Run { members: 200, rate: 200.0, stay: SECOND, duration: 8 * SECOND, tardy: MILLI / 2, ..GOOD };
    assert!(!none_to_spare.is_late().0, "{}", none_to_spare.is_late().1);
    let (is_late, text) = run.is_late();
    assert!(!is_late && run.tally().schedule_lag.quantiles().unwrap().max < 1_000.0, "{text}");
}

#[test]
fn what_was_due_and_could_leave_is_behind_when_the_run_is_stopped() {
    let mut churn = churn(3);
    churn.next_connect(Time(0)).unwrap();
    churn.stop(Time(6 * TENTH));
    assert_eq!(churn.tally.behind, Duration::from_millis(500), "the second was meant for 100 ms");
}

#[test]
fn of_a_place_that_comes_late_the_part_of_each_is_told_apart() {
    let mut churn = churn(1);
    churn.next_connect(Time(0)).unwrap();
    // Each time that loadgen looks, and finds no place.
    assert_eq!(churn.next_connect(Time(TENTH)), None);
    churn.opened(0, Time(TENTH));
    assert_eq!(churn.next_connect(Time(TENTH)), None);
    // Meant for 250 ms, so 50 ms of loadgen's; the server takes 400 ms; then loadgen 100 ms.
    churn.next_leave(Time(3 * TENTH)).unwrap();
    assert_eq!(churn.next_connect(Time(3 * TENTH)), None);
    assert_eq!(churn.next_connect(Time(7 * TENTH)), None);
    churn.gone(0, Time(7 * TENTH));
    assert_eq!(churn.next_connect(Time(8 * TENTH)), Some(0), "meant for the first tenth");
    let lag = churn.tally.schedule_lag.quantiles().unwrap();
    assert!((149_000.0..151_000.0).contains(&lag.max), "{lag:?}");
    assert_eq!(churn.next_connect(Time(20 * TENTH)), None);
    churn.failed(0, Time(20 * TENTH));
    assert_eq!(churn.next_connect(Time(20 * TENTH)), Some(0), "long behind its time");
    assert_eq!(churn.tally.behind, Duration::from_millis(150), "the rest is the server's");
}
