//! What the kernel says of a process: its CPU time and its memory.

use std::fs;
use std::io;
use std::time::Duration;

/// The unit of times in `/proc`: fixed, whatever the kernel's own clock is.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time of a process, all its threads together.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct CpuTime {
    /// Nanoseconds on a processor, exact. Work that interrupts did meanwhile is in it,
    /// as the kernel's receiving side of every send over loopback is.
    pub(crate) total_ns: u64,
    /// Clock ticks in the program itself, sampled.
    pub(crate) user_ticks: u64,
    /// Clock ticks in the kernel for it, sampled.
    pub(crate) system_ticks: u64,
}

impl CpuTime {
    /// Reads what a process has used so far. A thread that ends takes its share of
    /// `total_ns` with it.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (user_ticks, system_ticks) = parse_ticks(&stat).ok_or_else(|| unexpected("stat", &stat))?;
        let mut total_ns = 0;
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            match fs::read_to_string(thread?.path().join("schedstat")) {
                Ok(text) => total_ns += parse_run_ns(&text).ok_or_else(|| unexpected("schedstat", &text))?,
                // It has ended since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { total_ns, user_ticks, system_ticks })
    }

    /// What was used since an earlier reading.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            total_ns: self.total_ns.saturating_sub(earlier.total_ns),
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks),
        }
    }

    /// The part of the time that was spent in the program itself, from 0 to 1.
    pub(crate) fn user_share(self) -> f64 {
        self.user_ticks as f64 / (self.user_ticks + self.system_ticks).max(1) as f64
    }
}

/// CPU time that all programs of the machine have used so far, interrupts and what the
/// hypervisor took away included.
pub(crate) fn machine_busy() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let ticks = parse_busy_ticks(&stat).ok_or_else(|| unexpected("../stat", &stat))?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Resident memory of a process in bytes.
pub(crate) fn resident_bytes(pid: u32) -> io::Result<u64> {
    // The sums in `statm` lag behind by some pages for each processor; these do not.
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    parse_resident_bytes(&rollup).ok_or_else(|| unexpected("smaps_rollup", &rollup))
}

fn unexpected(file: &str, text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("cannot read this as /proc/PID/{file}: {text:?}"))
}

/// User and system ticks in `/proc/PID/stat`: fields 14 and 15.
fn parse_ticks(stat: &str) -> Option<(u64, u64)> {
    // The name, in parentheses, may hold blanks and parentheses itself.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Nanoseconds on a processor in `/proc/PID/task/TID/schedstat`: its first field.
fn parse_run_ns(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

/// Ticks in the first line of `/proc/stat`, idle and waiting ones left out.
fn parse_busy_ticks(stat: &str) -> Option<u64> {
    let fields: Option<Vec<u64>> =
        stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace().map(|field| field.parse().ok()).collect();
    match fields?[..] {
        [user, nice, system, _idle, _io_wait, interrupt, soft_interrupt, stolen, ..] => {
            Some(user + nice + system + interrupt + soft_interrupt + stolen)
        }
        _ => None,
    }
}

fn parse_resident_bytes(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let rest = "S 1 2 3 4 -1 4194304 128 0 1 0 23 75 5 6 20 0 1 0 363490 2990080";
        for name in ["yes", "a b", "a) R 1 (b", "))"] {
            assert_eq!(parse_ticks(&format!("3770 ({name}) {rest}")), Some((23, 75)), "{name}");
        }
        assert_eq!(parse_ticks("3770 (yes) S 1"), None);
    }

    #[test]
    fn run_time_is_the_first_field() {
        assert_eq!(parse_run_ns("992580929 12940986 79\n"), Some(992_580_929));
        assert_eq!(parse_run_ns(""), None);
    }

    #[test]
    fn a_machine_is_busy_but_for_idle_and_waiting() {
        let stat = "cpu  1000 200 30 99999 88888 4 5 6 700 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(parse_busy_ticks(stat), Some(1245));
        assert_eq!(parse_busy_ticks("cpu0 1 1 1 1 1 1 1 1\n"), None);
    }

    #[test]
    fn resident_memory_is_the_whole_of_it() {
        let rollup = "55d0-7ffc ---p 0 00:00 0 [rollup]\nRss:                2052 kB\nPss:   601 kB\nPss_Anon: 9 kB\n";
        assert_eq!(parse_resident_bytes(rollup), Some(2052 * 1024));
        assert_eq!(parse_resident_bytes("Pss: 601 kB\n"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let pid = std::process::id();
        let before = CpuTime::of(pid).unwrap();
        while CpuTime::of(pid).unwrap().since(before).total_ns == 0 {}
        assert!(resident_bytes(pid).unwrap() > 4096);
    }

    #[test]
    fn the_user_share_is_of_the_ticks() {
        assert_eq!(CpuTime { total_ns: 9, user_ticks: 1, system_ticks: 3 }.user_share(), 0.25);
        assert_eq!(CpuTime::default().user_share(), 0.0);
    }
}
