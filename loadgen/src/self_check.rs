//! Whether loadgen itself was the limit: what each worker's thread had left.
//!
//! A worker samples its thread about once a second while messages are measured. What
//! follows from the samples is decided once, over all workers, by [`limits`]:
//!
//! * **Open loop**: a thread that was running, or waiting for a processor, for more than
//!   95 % of the time in more than a tenth of the windows. It read late what had arrived,
//!   so latencies contain its own delay.
//! * **Closed loop**: all threads were running for more than 95 % of the time in more
//!   than half of the windows. Somebody is always the limit there; threads that never
//!   wait show that it was not the server, which answers at once. Waiting for a processor
//!   does not count: on a machine that runs both sides, the server may have it.
//!
//! That messages left late is judged by the report. Messages that wait for room in a
//! socket are counted and shown, and are no limit of loadgen's: a socket is full when
//! its server reads more slowly than it is sent to.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wsgate::time::Time;

use crate::scenario::Pace;
use crate::schedule::Window;
use crate::tally::Limit;

/// Time between two samples.
const WINDOW: Duration = Duration::from_secs(1);
/// A shorter one at the end says nothing.
const WINDOW_MIN: Duration = Duration::from_millis(200);
/// A thread is at its limit above this part of a processor.
const BUSY_PART_MAX: f64 = 0.95;
/// Part of the windows that may be busy in an open loop: a second of a long run, such as
/// the one in which a cron job ran, changes no conclusion.
const BUSY_WINDOWS_PART_OPEN: f64 = 0.1;
/// The same in a closed loop, whose mean is what is looked at.
const BUSY_WINDOWS_PART_CLOSED: f64 = 0.5;

/// What one worker's thread did while messages were measured.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct WorkerLoad {
    /// Number of the worker.
    pub worker: usize,
    /// Samples.
    pub windows: u32,
    /// Samples in which it ran for more than 95 % of the time.
    pub busy: u32,
    /// Samples in which it ran, or waited for a processor, for more than 95 %.
    pub short: u32,
    /// Processor time by time in the busiest sample, 0 to 1.
    pub busiest: f64,
    /// The greatest part of a sample in which it ran or waited for a processor, 0 to 1.
    pub shortest: f64,
    /// Processor time in all samples.
    pub cpu: Duration,
    /// Length of all samples.
    pub time: Duration,
    /// Messages that found earlier ones still waiting for room in their socket.
    pub blocked_messages: u64,
}

/// Samples the calling thread.
#[derive(Debug)]
pub struct SelfCheck {
    load: WorkerLoad,
    /// `/proc/thread-self/schedstat`, where there is one.
    scheduler: Option<File>,
    last: Option<Sample>,
    next_at: Time,
    until: Time,
}

/// What the thread has had until a point in time.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Time,
    cpu: Duration,
    /// Ready to run, but without a processor.
    waited: Duration,
}

impl SelfCheck {
    /// To be made by the thread that it is about.
    pub fn new(worker: usize) -> Self {
        let load = WorkerLoad { worker, ..WorkerLoad::default() };
        Self {
            load,
            scheduler: File::open("/proc/thread-self/schedstat").ok(),
            last: None,
            next_at: Time(u64::MAX),
            until: Time::ZERO,
        }
    }

    /// Messages are measured in that window.
    pub fn start(&mut self, window: &Window) {
        (self.next_at, self.until) = (window.measured_from, window.measured_to);
    }

    /// Called in each turn; mostly a comparison.
    pub fn turn(&mut self, now: Time) {
        if now < self.next_at {
            return;
        }
        // The last one is short, or late because the thread slept.
        if self.last.is_none_or(|last| now.since(last.at) >= WINDOW_MIN) {
            self.sample(now);
        }
        self.next_at = if now < self.until { (now + WINDOW).min(self.until) } else { Time(u64::MAX) };
    }

    /// Messages that could not leave, for sockets that were full.
    pub fn count_blocked(&mut self) {
        self.load.blocked_messages += 1;
    }

    /// What was found out.
    pub fn finish(self) -> WorkerLoad {
        self.load
    }

    fn sample(&mut self, at: Time) {
        let (cpu, waited) =
            self.scheduler.as_mut().and_then(scheduled).unwrap_or_else(|| (cpu_clock(), Duration::ZERO));
        let now = Sample { at, cpu, waited };
        if let Some(last) = self.last.replace(now) {
            self.load.add(last, now);
        }
    }
}

/// The first two numbers: nanoseconds on a processor, and on a run queue.
fn scheduled(file: &mut File) -> Option<(Duration, Duration)> {
    let mut text = [0; 96];
    file.rewind().ok()?;
    let len = file.read(&mut text).ok()?;
    let mut numbers = std::str::from_utf8(&text[..len]).ok()?.split_whitespace();
    let mut next = || numbers.next()?.parse().ok().map(Duration::from_nanos);
    Some((next()?, next()?))
}

/// Where the scheduler does not tell. (And only there: valgrind does not survive it.)
fn cpu_clock() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl WorkerLoad {
    fn add(&mut self, last: Sample, now: Sample) {
        let time = now.at.since(last.at);
        let part = |duration: Duration| (duration.as_secs_f64() / time.as_secs_f64()).min(1.0);
        let cpu = now.cpu.saturating_sub(last.cpu);
        let running = part(cpu);
        let ready = part(cpu + now.waited.saturating_sub(last.waited));
        self.windows += 1;
        self.busy += u32::from(running > BUSY_PART_MAX);
        self.short += u32::from(ready > BUSY_PART_MAX);
        self.busiest = self.busiest.max(running);
        self.shortest = self.shortest.max(ready);
        self.cpu += cpu;
        self.time += time;
    }
}

/// What the workers' samples say about a run at that pace.
pub fn limits(pace: Option<Pace>, loads: &[WorkerLoad]) -> Vec<Limit> {
    let above = |part: f64, windows: u32, load: &WorkerLoad| f64::from(windows) > part * f64::from(load.windows);
    match pace {
        None => Vec::new(),
        Some(Pace::Open { .. }) => loads
            .iter()
            .filter(|load| above(BUSY_WINDOWS_PART_OPEN, load.short, load))
            .map(|load| Limit::Cpu { worker: load.worker, busiest: load.shortest, windows: load.short })
            .collect(),
        Some(Pace::Closed { .. }) => {
            let all_busy = loads.iter().all(|load| above(BUSY_WINDOWS_PART_CLOSED, load.busy, load));
            let busy = loads.iter().filter(|_| all_busy);
            busy.map(|load| Limit::Cpu { worker: load.worker, busiest: load.busiest, windows: load.busy }).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::window;

    const OPEN: Option<Pace> = Some(Pace::Open { rate: 1.0 });
    const CLOSED: Option<Pace> = Some(Pace::Closed { in_flight: 1 });

    /// A worker with seconds of so much processor time and waiting for it, in milliseconds.
    fn load(worker: usize, seconds: &[(u64, u64)]) -> WorkerLoad {
        let mut load = WorkerLoad { worker, ..WorkerLoad::default() };
        let mut last = Sample { at: Time(0), cpu: Duration::ZERO, waited: Duration::ZERO };
        for &(cpu, waited) in seconds {
            let now = Sample {
                at: last.at + Duration::from_secs(1),
                cpu: last.cpu + Duration::from_millis(cpu),
                waited: last.waited + Duration::from_millis(waited),
            };
            load.add(last, now);
            last = now;
        }
        load
    }

    #[test]
    fn a_thread_with_time_to_spare_is_no_limit() {
        let loads = [load(0, &[(900, 20); 10]), load(1, &[(100, 0); 10])];
        assert_eq!((limits(OPEN, &loads), limits(CLOSED, &loads)), (vec![], vec![]));
        assert_eq!(loads[0].cpu, Duration::from_secs(9));
    }

    #[test]
    fn an_open_loop_is_limited_by_each_thread_that_never_sleeps() {
        let loads = [load(0, &[(600, 390); 10]), load(1, &[(100, 0); 10])];
        let [Limit::Cpu { worker: 0, busiest, windows: 10 }] = limits(OPEN, &loads)[..] else { panic!() };
        assert!((0.98..1.0).contains(&busiest));
        assert_eq!(limits(CLOSED, &loads), [], "it may be the server that had its processor");
    }

    #[test]
    fn one_busy_second_of_a_long_open_loop_is_forgiven_and_two_are_not() {
        let mut seconds = vec![(100, 0); 10];
        seconds[3] = (990, 0);
        assert_eq!(limits(OPEN, &[load(0, &seconds)]), []);
        seconds[4] = (990, 0);
        assert_eq!(limits(OPEN, &[load(0, &seconds)]).len(), 1);
    }

    #[test]
    fn a_closed_loop_is_limited_only_when_no_thread_waits_for_the_server() {
        let (busy, idle) = ([(990, 0); 10], [(700, 0); 10]);
        assert_eq!(limits(CLOSED, &[load(0, &busy), load(1, &idle)]), []);
        assert_eq!(limits(CLOSED, &[load(0, &busy), load(1, &busy)]).len(), 2);
        assert_eq!(limits(None, &[load(0, &busy)]), [], "nothing was sent");
        assert_eq!(limits(CLOSED, &[load(0, &[])]), [], "a run too short to sample");
    }

    #[test]
    fn the_thread_itself_is_seen() {
        let mut check = SelfCheck::new(3);
        check.start(&window(Time(0), Duration::from_secs(1)));
        check.turn(Time(0));
        let mut busy = 0u64;
        let deadline = clock_gettime(ClockId::ThreadCPUTime);
        let spent = |now: rustix::time::Timespec| {
            (now.tv_sec - deadline.tv_sec) * 1_000_000_000 + (now.tv_nsec - deadline.tv_nsec) as i64
        };
        // 30 ms of work, which are told to have taken a second.
        while spent(clock_gettime(ClockId::ThreadCPUTime)) < 30_000_000 {
            busy = busy.wrapping_mul(31).wrapping_add(1);
        }
        check.turn(Time(500_000));
        check.turn(Time(1_000_000_000));
        let load = check.finish();
        assert_eq!((load.worker, load.windows, load.busy), (3, 1, 0));
        // The scheduler counts in ticks.
        assert!((0.02..0.2).contains(&load.busiest), "{}, {busy}", load.busiest);
    }
}
