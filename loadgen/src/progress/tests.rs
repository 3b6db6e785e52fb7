use std::time::Duration;

use clap::Parser as _;
use wsgate::time::Time;

use super::*;
use crate::cli::Cli;
use crate::failure::Failure;
use crate::handover::Interval;
use crate::mix::Mix;
use crate::schedule::window;
use crate::series::Series;
use crate::shared::Counts;
use crate::timeline::Timeline;
use crate::watch::Moment;

fn mix() -> Mix {
    Cli::parse_from(["loadgen", "fanout", "ws://127.0.0.1:1/topics/a", "-c", "1000", "-R", "200", "-d", "4s"])
        .into_plan()
        .unwrap()
        .into()
}

/// Shows a run of three seconds whose latency grows by a millisecond in each.
fn show(watch: &mut dyn Watch) {
    let mix = mix();
    let window = window(Time::ZERO, Duration::from_secs(4));
    let counts = |part: u64| Counts { opened: 1_001, failed: 1, sent: 200 * part, received: 200_000 * part };
    let moment = |window, now, counts| Moment { mix: &mix, window, now, counts };
    watch.tick(moment(None, Time::ZERO, Counts { opened: 500, ..Counts::default() }));
    let mut series = Series::new(1, Timeline::sending(mix.course(), window.start));
    for second in 1..=3 {
        let mut outcome = Box::<Outcome>::default();
        (outcome.tally.sent, outcome.tally.received, outcome.tally.lost) = (200, 200_000, second - 1);
        (0..1_000).for_each(|_| outcome.tally.latency.record(second * 1_000_000));
        if second == 2 {
            outcome.connections.failures.add(&Failure::Disconnected);
        }
        let at = |second: u64| Time(second * 1_000_000_000);
        let interval = Interval { worker: 0, from: at(second - 1), until: at(second), outcome };
        series.add(&interval, &mut |second, outcome| watch.second(second, outcome));
        watch.tick(moment(Some(window), at(second), counts(second)));
    }
}

/// What a terminal of 80 columns shows after such output.
fn screen(output: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut row = 0_usize;
    let mut rest = output;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("\x1b[J") {
            lines.truncate(row);
            lines.push(String::new());
            rest = after;
        } else if let Some(after) = rest.strip_prefix("\x1b[") {
            let (count, after) = after.split_once('A').expect("the only other sequence");
            row -= count.parse::<usize>().unwrap();
            rest = after;
        } else {
            match c {
                '\r' => {} // Lines are only ever drawn whole.
                '\n' => {
                    row += 1;
                    lines.resize(lines.len().max(row + 1), String::new());
                }
                c => lines[row].push(c),
            }
            rest = &rest[c.len_utf8()..];
        }
    }
    assert!(lines.iter().all(|line| line.chars().count() < 80), "{lines:#?}");
    lines
}

#[test]
fn the_live_view_is_drawn_in_place() {
    let mut out = Vec::new();
    let mut live = Live::new(&mut out, || (80, 24));
    show(&mut live);
    let lines = screen(std::str::from_utf8(&out).unwrap());
    let expected = [
        "fanout ws://127.0.0.1:1/topics/a",
        "  ███████████████████████░░░░░░░  3.0 of 4.0 s  measured",
        "  connections          1,001  of 1,001 opened",
        "  sent                   600  200 per second  of 200 asked",
        "  received           600,000  200,000 per second",
        "  latency          p50 3.00 ms   p99 3.00 ms   max 3.00 ms",
        "  p99              ▃▆█  up to 3.00 ms",
        "  faults           lost 3, disconnected 1",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn the_live_view_is_gone_at_the_end() {
    let mut out = Vec::new();
    let mut live = Live::new(&mut out, || (80, 24));
    show(&mut live);
    live.end(Moment { mix: &mix(), window: None, now: Time::ZERO, counts: Counts::default() });
    assert_eq!(screen(std::str::from_utf8(&out).unwrap()), [""]);
}

#[test]
fn a_small_terminal_gets_what_fits() {
    let mut out = Vec::new();
    let mut live = Live::new(&mut out, || (30, 4));
    show(&mut live);
    let lines = screen(std::str::from_utf8(&out).unwrap());
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line.chars().count() <= 29), "{lines:#?}");
    assert!(lines[0].ends_with('\u{2026}'), "{lines:#?}");
}

#[test]
fn plain_lines_have_the_second_and_the_faults_so_far() {
    let mut out = Vec::new();
    show(&mut Plain::new(&mut out));
    let lines: Vec<_> = std::str::from_utf8(&out).unwrap().lines().collect();
    assert_eq!(
        lines,
        [
            "+0.0 s measured: sent 200/s, received 200,000/s, p50 1.00 ms, p99 1.00 ms, max 1.00 ms",
            "+1.0 s measured: sent 200/s, received 200,000/s, p50 2.00 ms, p99 2.00 ms, max 2.00 ms, lost 1, disconnected 1",
            "+2.0 s measured: sent 200/s, received 200,000/s, p50 3.00 ms, p99 3.00 ms, max 3.00 ms, lost 3, disconnected 1",
        ]
    );
}
