//! Each fault is counted as often as it was committed.

use crate::common::loadgen;
use crate::log::{Deed, Log, Mischief};

const CONNECTIONS: usize = 5;

/// Runs 2,000 messages past a server and compares.
fn compare(seed: u64, chance: usize, deeds: &'static [Deed], arguments: &str) -> Log {
    let server = Mischief::start(seed, chance, deeds);
    let run = loadgen("echo", server.address, &format!("-c {CONNECTIONS} --grace 1s {arguments}"));
    let log = server.log(CONNECTIONS);
    assert_eq!(Log::of(&run), log, "{deeds:?}: {}", run.json);
    // A repeated message arrived once before, a changed one never as it was.
    assert_eq!(run.count("received"), log.taken - log.lost - log.corrupted, "{deeds:?}");
    let faults = log.lost + log.duplicated + log.reordered + log.corrupted;
    let verdict = if faults > 0 { (1, "faults") } else { (0, "ok") };
    assert_eq!((run.code, run.json["verdict"].as_str().unwrap()), verdict, "{deeds:?}: {log:?}");
    log
}

const OPEN: &str = "-R 2000 -d 1s";

#[test]
fn each_fault_alone_is_counted_as_often_as_it_happened() {
    for deed in [[Deed::Lose], [Deed::Repeat], [Deed::Hold], [Deed::Change]] {
        let log = compare(1, 20, Box::leak(Box::new(deed)), OPEN);
        let committed = [log.lost, log.duplicated, log.reordered, log.corrupted];
        assert!(committed.iter().sum::<u64>() > 50, "one in twenty of 2,000: {log:?}");
    }
}

#[test]
fn faults_beside_each_other_are_told_apart() {
    const ALL: &[Deed] = &[Deed::Lose, Deed::Repeat, Deed::Hold, Deed::Change];
    for seed in 2..5 {
        let log = compare(seed, 10, ALL, OPEN);
        let committed = [log.lost, log.duplicated, log.reordered, log.corrupted];
        assert!(committed.iter().all(|&count| count > 10), "{log:?}");
    }
}

#[test]
fn a_single_fault_in_thousands_decides_the_verdict() {
    // Rare enough for some seeds to do nothing at all.
    let lost: Vec<_> = (0..6).map(|seed| compare(seed, 4_000, &[Deed::Lose], OPEN).lost).collect();
    assert!(lost.contains(&0) && lost.contains(&1), "{lost:?}");
}

#[test]
fn a_closed_loop_counts_the_same() {
    compare(7, 50, &[Deed::Repeat, Deed::Hold, Deed::Change], "--in-flight 8 -d 500ms");
}
