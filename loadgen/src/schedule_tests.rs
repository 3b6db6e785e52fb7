use std::collections::VecDeque;

use super::*;

const SECOND: u64 = 1_000_000_000;
const ONE: Share = Share { senders: 1, workers: 1, worker: 0 };

fn constant(window: Window, rate: f64, share: Share) -> Schedule {
    Schedule::new(window, Profile::constant(rate), Arrivals::Constant, share)
}

fn all(schedule: &mut Schedule) -> Vec<(usize, Time)> {
    std::iter::from_fn(|| schedule.take(Time(u64::MAX))).collect()
}

#[test]
fn times_are_fixed_in_advance_and_evenly_spaced() {
    let mut schedule = constant(window(Time(7), Duration::from_secs(1)), 1_000.0, ONE);
    let times = all(&mut schedule);
    assert_eq!(times.len(), 1_000);
    assert!(times.iter().enumerate().all(|(k, &(_, at))| at == Time(7 + k as u64 * 1_000_000)));
    assert_eq!(schedule.next_at(), None);
}

#[test]
fn nothing_is_taken_before_its_time_and_lateness_moves_nothing() {
    let mut schedule = constant(window(Time(0), Duration::from_secs(1)), 10.0, ONE);
    assert_eq!(schedule.take(Time(0)), Some((0, Time(0))));
    assert_eq!(schedule.take(Time(99_999_999)), None);
    // Half a second late: the intended times stay what they were.
    let late = std::iter::from_fn(|| schedule.take(Time(650_000_000))).map(|(_, at)| at.0 / 100_000_000);
    assert_eq!(late.collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(schedule.next_at(), Some(Time(700_000_000)));
}

#[test]
fn workers_share_one_sequence_without_gap_or_overlap() {
    for (senders, workers) in [(1, 1), (5, 2), (7, 3), (2, 4), (100, 8)] {
        let whole_share = Share { senders, ..ONE };
        let window = window(Time(0), Duration::from_secs(2));
        let whole = all(&mut constant(window, 1_337.0, whole_share));
        let mut parts: Vec<_> = (0..workers)
            .flat_map(|worker| {
                let share = Share { senders, workers, worker };
                let mut schedule = constant(window, 1_337.0, share);
                all(&mut schedule).into_iter().map(move |(local, at)| (share.sender(local), at)).collect::<Vec<_>>()
            })
            .collect();
        parts.sort_by_key(|&(_, at)| at);
        assert_eq!(parts, whole, "{senders} senders on {workers} workers");
        assert_eq!(whole.len(), 2 * 1_337);
    }
}

#[test]
fn senders_are_dealt_to_workers_completely() {
    for (senders, workers) in [(1, 1), (1, 4), (4, 4), (9, 4)] {
        let locals = (0..workers).map(|worker| Share { senders, workers, worker }.local_senders());
        assert_eq!(locals.sum::<usize>(), senders);
    }
}

#[test]
fn a_day_at_an_odd_rate_does_not_drift() {
    let rate = 333.3;
    let mut schedule = constant(window(Time(0), Duration::from_secs(86_400)), rate, ONE);
    schedule.round = 9_999_999;
    schedule.take(Time(u64::MAX));
    let at = schedule.next_at().unwrap().0;
    let exact = (10_000_000u128 * 10_000_000_000 / 3_333) as u64;
    assert!(at.abs_diff(exact) <= 10, "{at} for {exact}");
}

fn poisson(seed: u64, rate: f64, share: Share) -> Vec<(usize, Time)> {
    let window = window(Time(0), Duration::from_secs(100));
    all(&mut Schedule::new(window, Profile::constant(rate), Arrivals::Poisson { seed }, share))
}

#[test]
fn poisson_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() {
    let times: Vec<_> = poisson(7, 1_000.0, ONE).into_iter().map(|(_, at)| at.0).collect();
    // 100,000 on average, with a deviation of 316.
    assert!(times.len().abs_diff(100_000) < 1_500, "{}", times.len());
    // In windows of 10 ms, mean and variance of the counts are both 10.
    let mut counts = vec![0f64; 10_000];
    times.iter().for_each(|at| counts[(at / 10_000_000) as usize] += 1.0);
    let mean = counts.iter().sum::<f64>() / 1e4;
    let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / 1e4;
    assert!((mean - 10.0).abs() < 0.2 && (variance - 10.0).abs() < 1.0, "mean {mean}, variance {variance}");
}

#[test]
fn poisson_arrivals_repeat_themselves_and_differ_by_seed_and_worker() {
    let part = |worker| Share { senders: 4, workers: 2, worker };
    assert_eq!(poisson(1, 50.0, part(0)), poisson(1, 50.0, part(0)));
    assert_ne!(poisson(1, 50.0, part(0)), poisson(2, 50.0, part(0)));
    let (first, second) = (poisson(1, 50.0, part(0)), poisson(1, 50.0, part(1)));
    assert!(first.iter().zip(&second).all(|(a, b)| a.1 != b.1));
    // Each worker has its part of the rate: 2,500, with a deviation of 50.
    assert!(first.len().abs_diff(2_500) < 250 && second.len().abs_diff(2_500) < 250);
}

#[test]
fn warm_up_and_cool_down_surround_what_is_measured() {
    let [warm_up, measured, cool_down] = [2, 5, 1].map(Duration::from_secs);
    let window = Window::new(Time(10), warm_up, measured, cool_down);
    assert_eq!(window.end, Time(10 + 8 * SECOND));
    let schedule = &mut constant(window, 1.0, ONE);
    let measured: Vec<_> = all(schedule).iter().map(|&(_, at)| window.measures(at)).collect();
    assert_eq!(measured, [false, false, true, true, true, true, true, false]);
}

/// The most permits that any window of one second saw, and how many there were.
fn busiest_second(pacer: &mut Pacer, turns: impl Iterator<Item = u64>) -> (usize, usize) {
    let (mut recent, mut busiest, mut total) = (VecDeque::new(), 0, 0);
    for now in turns {
        while pacer.take(Time(now)).is_ok() {
            recent.push_back(now);
            total += 1;
        }
        while recent.front().is_some_and(|&at| at + SECOND <= now) {
            recent.pop_front();
        }
        busiest = busiest.max(recent.len());
    }
    (busiest, total)
}

#[test]
fn ramp_never_exceeds_the_asked_rate() {
    for rate in [1.0, 3.0, 50.0, 99.5, 100.0, 2_000.0, 20_000.0] {
        // Turns every 0.7 ms; then turns that come late, with a long pause between.
        let regular = (0..10 * SECOND).step_by(700_000);
        let ragged = (0..2_000u64).map(|i| i * i * 3_000 + i / 500 * SECOND);
        for (name, turns) in [("regular", regular.collect::<Vec<_>>()), ("ragged", ragged.collect())] {
            let (busiest, _) = busiest_second(&mut Pacer::new(rate), turns.into_iter());
            assert!(busiest as f64 <= rate, "{busiest} in one second at {rate}, {name} turns");
        }
    }
}

#[test]
fn ramp_reaches_nearly_the_asked_rate() {
    for rate in [10.0, 1_000.0, 20_000.0] {
        let (_, total) = busiest_second(&mut Pacer::new(rate), (0..10 * SECOND).step_by(1_000_000));
        assert!(total as f64 >= 0.98 * 10.0 * rate, "{total} in ten seconds at {rate}");
    }
}

#[test]
fn a_denied_permit_is_there_at_the_named_time() {
    let mut pacer = Pacer::new(7.0);
    assert_eq!(pacer.take(Time(5)), Ok(()));
    let at = pacer.take(Time(6)).unwrap_err();
    assert!(pacer.take(Time(at.0 - 1)).is_err());
    assert_eq!(pacer.take(at), Ok(()));
}

#[test]
fn slower_than_one_per_second_is_a_pace_too() {
    let mut pacer = Pacer::new(0.5);
    assert_eq!(pacer.take(Time(0)), Ok(()));
    assert_eq!(pacer.take(Time(SECOND)), Err(Time(2 * SECOND)));
}
