use std::time::Duration;

use super::*;
use crate::course::Course;

fn at(millis: u64) -> Time {
    Time(millis * 1_000_000)
}

/// An interval in which the worker received `received` messages of 1 ms each.
fn interval(worker: usize, from: u64, until: u64, received: u64) -> Interval {
    let mut outcome = Box::<Outcome>::default();
    outcome.tally.received = received;
    (0..received).for_each(|_| outcome.tally.latency.record(1_000_000));
    Interval { worker, from: at(from), until: at(until), outcome }
}

fn series(workers: usize) -> Series {
    Series::new(workers, Timeline::sending(&Course::steady(Duration::from_secs(60)), Time::ZERO))
}

/// What was received in each complete second, with its beginning.
fn received(series: &Series) -> Vec<(f64, u64)> {
    series.seconds().iter().map(|second| (second.at, second.received)).collect()
}

#[test]
fn a_second_is_complete_when_all_workers_are_done_with_it() {
    let mut series = series(2);
    let mut shown = Vec::new();
    for interval in [interval(0, 0, 1_000, 3), interval(0, 1_000, 2_000, 5), interval(1, 0, 1_000, 4)] {
        series.add(&interval, &mut |second, outcome| shown.push((second.received, outcome.tally.latency.count())));
    }
    assert_eq!(received(&series), [(0.0, 7)]);
    series.add(&interval(1, 1_000, 2_000, 6), &mut |second, outcome| {
        shown.push((second.received, outcome.tally.latency.count()));
    });
    assert_eq!(received(&series), [(0.0, 7), (1.0, 11)]);
    assert_eq!(shown, [(7, 7), (11, 11)], "each second shows its own histogram and no other's");
    assert!((990.0..1_010.0).contains(&series.seconds()[1].latency_us.unwrap().p50));
}

#[test]
fn a_worker_that_is_late_holds_up_four_seconds_and_loses_nothing() {
    let mut series = series(2);
    for second in 0..6 {
        series.add(&interval(0, second * 1_000, second * 1_000 + 1_000, 1), &mut |_, _| {});
    }
    assert_eq!(received(&series), [(0.0, 1), (1.0, 1)]);
    // Its turn took six seconds: what it counted goes to the oldest that is open.
    series.add(&interval(1, 0, 6_000, 10), &mut |_, _| {});
    series.finish(&mut |_, _| {});
    assert_eq!(received(&series), [(0.0, 1), (1.0, 1), (2.0, 11), (3.0, 1), (4.0, 1), (5.0, 1)]);
    assert!(series.seconds().iter().all(|second| second.seconds == 1.0));
}

#[test]
fn phases_are_summed_up_apart_and_make_the_whole() {
    let mut series = Series::new(1, Timeline::connecting());
    series.add(&interval(0, 0, 1_000, 0), &mut |_, _| {});
    series.follow(Timeline::sending(&Course::steady(Duration::from_secs(2)), at(1_500)));
    for (from, until, count) in [(1_000, 1_500, 0), (1_500, 2_500, 8), (2_500, 3_500, 9), (3_500, 3_700, 1)] {
        series.add(&interval(0, from, until, count), &mut |_, _| {});
    }
    let phases: Vec<_> =
        series.phases().iter().map(|total| (&*total.phase.name, total.seconds, total.outcome.tally.received)).collect();
    assert_eq!(phases, [("connect", 1.5, 0), ("measured", 2.0, 17), ("drain", 0.2, 1)]);
    assert_eq!(received(&series), [(-1.5, 0), (-0.5, 0), (0.0, 8), (1.0, 9), (2.0, 1)]);
    let total = series.total();
    assert_eq!((total.tally.received, total.tally.latency.count()), (18, 18));
}
