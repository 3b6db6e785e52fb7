//! Running seeds: what the environment asks for, and what a failure prints.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};

use crate::world::World;

/// What a seed that passed leaves.
pub(crate) struct Outcome {
    pub(crate) hash: u64,
    pub(crate) events: u64,
    counts: BTreeMap<&'static str, u64>,
}

/// What can be asked for by environment variables; `scripts/sim` sets them.
pub(crate) struct Environment {
    /// WSGATE_SIM_SEED: this one alone.
    pub(crate) seed: Option<u64>,
    /// WSGATE_SIM_SEEDS: how many.
    pub(crate) seeds: Option<u64>,
    /// WSGATE_SIM_FIRST: from which on.
    pub(crate) first: u64,
    /// WSGATE_SIM_TRACE: print every event.
    pub(crate) prints: bool,
}

impl Environment {
    pub(crate) fn read() -> Self {
        let number = |name| {
            std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is no number")))
        };
        Self {
            seed: number("WSGATE_SIM_SEED"),
            seeds: number("WSGATE_SIM_SEEDS"),
            first: number("WSGATE_SIM_FIRST").unwrap_or(1),
            prints: std::env::var_os("WSGATE_SIM_TRACE").is_some(),
        }
    }

    /// A seed that each commit has of its own.
    pub(crate) fn commit_seed(&self) -> u64 {
        let commit = commit();
        u64::from_str_radix(commit.get(..16).unwrap_or_default(), 16).unwrap_or_default()
    }
}

/// The commit that is tested: WSGATE_SIM_COMMIT, or what git says.
fn commit() -> String {
    if let Ok(commit) = std::env::var("WSGATE_SIM_COMMIT") {
        return commit;
    }
    let output = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

thread_local! {
    /// What the last panic of this thread said, with its place.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic is a finding: it is kept, and printed with its seed.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let text = info.to_string();
            SAID.with_borrow_mut(|said| *said = text);
            if std::env::var_os("RUST_BACKTRACE").is_some() {
                usual(info);
            }
        }));
    });
}

/// Runs one seed; the error is a report.
pub(crate) fn run_seed(seed: u64, prints: bool) -> Result<Outcome, String> {
    keep_panics();
    let mut world = World::new(seed, prints);
    let result = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    let trace = &world.scene.trace;
    match result {
        Ok(()) => Ok(Outcome { hash: trace.hash(), events: trace.events(), counts: trace.counts().clone() }),
        Err(_) => Err(format!(
            "{}\nseed {seed} failed at commit {} after {} events: {}\nagain: scripts/sim --seed {seed}\n",
            trace.tail(),
            commit(),
            trace.events(),
            SAID.with_borrow(String::clone),
        )),
    }
}

/// Runs seeds on all processors, and prints what happened in them.
///
/// # Panics
/// If one fails.
pub(crate) fn run_seeds(seeds: &[u64], prints: bool) {
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let totals: Mutex<BTreeMap<&'static str, (u64, u64)>> = Mutex::default();
    let events_least = Mutex::new(u64::MAX);
    let work = || {
        while failure.lock().expect("no panic holds it").is_none() {
            let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            match run_seed(*seed, prints) {
                Ok(outcome) => {
                    let mut totals = totals.lock().expect("no panic holds it");
                    for (what, count) in outcome.counts {
                        let total = totals.entry(what).or_default();
                        *total = (total.0 + count, total.1 + 1);
                    }
                    let mut least = events_least.lock().expect("no panic holds it");
                    *least = outcome.events.min(*least);
                }
                Err(report) => *failure.lock().expect("no panic holds it") = Some(report),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(seeds.len());
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let ran = next.into_inner().min(seeds.len());
    if let Some(report) = failure.into_inner().expect("no panic holds it") {
        eprintln!("{report}found after {ran} seeds from {}", seeds[0]);
        panic!("a seed failed, see above");
    }
    println!(
        "{ran} seeds from {}, each with at least {} events:",
        seeds[0],
        events_least.into_inner().expect("no panic holds it")
    );
    for (what, (count, seeds)) in totals.into_inner().expect("no panic holds it") {
        println!("{count:>12}  {what} (in {seeds} seeds)");
    }
}
