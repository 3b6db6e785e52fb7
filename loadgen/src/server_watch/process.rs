//! What the kernel says of a process on this machine, in `/proc`.

use std::fs;
use std::io::{self, ErrorKind};
use std::time::Duration;

use wsgate::driver::descriptors;

use super::sample::{Look, Sample};

/// A process, by its number and its start: a number may be given to another.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    name: String,
    started: u64,
    /// What cannot be known of its open files, and why.
    remark: Option<String>,
    are_shared: AreShared,
}

/// Whether two threads use one table of files; `None` where the kernel does not say.
type AreShared = fn(u32, u32) -> Option<bool>;

impl Process {
    /// The process with that number.
    ///
    /// # Errors
    /// In words: why it cannot be watched, and what to do.
    pub(super) fn find(pid: u32) -> Result<Self, String> {
        Self::find_by(pid, descriptors::are_shared)
    }

    fn find_by(pid: u32, are_shared: AreShared) -> Result<Self, String> {
        let stat = Stat::read(pid).map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!("--pid {pid}: there is no such process on this machine; pgrep lists them"),
            ErrorKind::PermissionDenied => format!("--pid {pid}: {error}; run loadgen as the server's user"),
            _ => format!("--pid {pid}: cannot read /proc/{pid}/stat: {error}"),
        })?;
        let remark = match open_files(pid, are_shared) {
            Err(error) => Some(format!("cannot count its open files: {error}; run loadgen as its user")),
            Ok(_) if are_shared(pid, pid).is_none() => Some(ONE_TABLE.to_owned()),
            Ok(_) => None,
        };
        Ok(Self { pid, name: stat.name, started: stat.started, remark, are_shared })
    }

    /// Its number and its program's name.
    pub(super) fn name(&self) -> String {
        format!("pid {} ({})", self.pid, self.name)
    }

    /// What it does not say, and what to do about it.
    pub(super) fn remark(&self) -> Option<String> {
        self.remark.clone()
    }

    /// Reads it.
    ///
    /// # Errors
    /// In words: it has ended.
    pub(super) fn sample(&self, look: Look) -> Result<Sample, String> {
        let stat = Stat::read(self.pid).ok();
        let stat = stat.filter(|stat| stat.started == self.started && !stat.has_ended);
        let Some(stat) = stat else { return Err("the process ended".to_owned()) };
        let (rss, files) = match look {
            Look::Close => (exact_rss_bytes(self.pid), open_files(self.pid, self.are_shared).ok()),
            Look::Quick => (None, None),
        };
        Ok(Sample {
            cpu: Some(stat.cpu.max(run_time(self.pid))),
            rss_bytes: Some(rss.unwrap_or(stat.rss_bytes) as f64),
            files: files.map(|files| files as f64),
            threads: Some(stat.threads as f64),
            ..Sample::default()
        })
    }
}

/// What is said where tables of files cannot be told apart.
const ONE_TABLE: &str = "whether its threads have open files of their own, since kcmp(2) is refused here; open files are \
                         those of its first thread. Allow kcmp to loadgen (seccomp), or run it outside of the container";

/// Of the kernel's flags of a process: it has begun to exit (`PF_EXITING`).
const FLAG_EXITING: u64 = 4;

/// What is read of `/proc/PID/stat`.
#[derive(PartialEq, Debug)]
struct Stat {
    name: String,
    /// It is ending, or nobody has asked yet how it ended. Its connections are cut in
    /// between, so who sees them cut finds it here.
    has_ended: bool,
    /// User and system time of all its threads, those that have ended included, rounded
    /// down to the kernel's clock ticks.
    cpu: Duration,
    threads: u64,
    /// Its start in ticks since the machine's.
    started: u64,
    /// Lags behind by some pages for each processor.
    rss_bytes: u64,
}

impl Stat {
    fn read(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, format!("{text:?} is not understood")))
    }

    fn parse(text: &str) -> Option<Self> {
        // The name, in parentheses, may hold blanks and parentheses itself.
        let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
        let fields: Vec<_> = rest.split_ascii_whitespace().collect();
        // Numbered as in proc(5), where the state is the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = field(14)? + field(15)?;
        Some(Self {
            name: name.to_owned(),
            has_ended: matches!(*fields.first()?, "Z" | "X") || field(9)? & FLAG_EXITING != 0,
            cpu: Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64),
            threads: field(20)?,
            started: field(22)?,
            rss_bytes: field(24)? * rustix::param::page_size() as u64,
        })
    }
}

/// Time on a processor of the threads that there are, in nanoseconds: much finer than
/// ticks, but a thread that ends takes its share with it.
fn run_time(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanos = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// Unreadable for other users.
fn exact_rss_bytes(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Of all its tables: threads may have their own.
fn open_files(pid: u32, are_shared: AreShared) -> io::Result<u64> {
    let mut count = listed(&format!("/proc/{pid}/fd"))?;
    let mut counted = vec![pid];
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for thread in threads.filter_map(|thread| thread.file_name().to_str()?.parse::<u32>().ok()) {
        // Where the kernel does not say, one table is counted, and a remark says so.
        if counted.iter().all(|&known| are_shared(known, thread) == Some(false)) {
            // It may have ended.
            count += listed(&format!("/proc/{pid}/task/{thread}/fd")).unwrap_or_default();
            counted.push(thread);
        }
    }
    Ok(count)
}

fn listed(folder: &str) -> io::Result<u64> {
    let listed = fs::read_dir(folder)?;
    // Kernels since 6.2 give the number as the folder's size.
    match fs::metadata(folder)?.len() {
        0 => Ok(listed.count() as u64),
        size => Ok(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let rest = "S 1 2 3 4 -1 4194304 128 0 1 0 23 75 5 6 20 0 7 0 363490 2990080 3 1844";
        for name in ["yes", "a b", "a) R 1 (b", "))"] {
            let stat = Stat::parse(&format!("3770 ({name}) {rest}")).unwrap();
            assert_eq!((stat.name.as_str(), stat.has_ended), (name, false));
            assert_eq!((stat.cpu, stat.threads, stat.started), (Duration::from_millis(980), 7, 363_490));
            assert_eq!(stat.rss_bytes, 3 * rustix::param::page_size() as u64);
        }
        assert_eq!(Stat::parse("3770 (yes) S 1"), None);
    }

    #[test]
    fn a_process_that_is_ending_has_ended() {
        let has_ended = |state: &str, flags: u64| {
            let text = format!("1 (a) {state} 1 2 3 4 -1 {flags} 128 0 1 0 23 75 5 6 20 0 7 0 363490 2990080 3 1844");
            Stat::parse(&text).unwrap().has_ended
        };
        assert!(!has_ended("S", 0x40_0000) && has_ended("Z", 0x40_0000) && has_ended("X", 0x40_0000));
        assert!(has_ended("R", 0x40_0004) && has_ended("D", 0x40_0004), "its memory is taken down");
    }

    #[test]
    fn this_process_can_be_read() {
        let process = Process::find(std::process::id()).unwrap();
        let before = process.sample(Look::Close).unwrap();
        assert!(before.rss_bytes.unwrap() > 4096.0 && before.files.unwrap() >= 3.0 && before.threads.unwrap() >= 1.0);
        while process.sample(Look::Quick).unwrap().cpu == before.cpu {}
        assert_eq!((process.remark(), process.sample(Look::Quick).unwrap().files), (None, None));
    }

    #[test]
    fn files_of_threads_with_tables_of_their_own_are_counted_and_others_once() {
        const FILES: usize = 500;
        let all_alone = std::sync::Barrier::new(3);
        let all_open = std::sync::Barrier::new(4);
        let counted = std::sync::Barrier::new(4);
        let open = &|alone: bool| {
            if alone {
                descriptors::unshare().unwrap();
            }
            all_alone.wait();
            let files: Vec<_> = (0..FILES).map(|_| fs::File::open("/dev/null").unwrap()).collect();
            all_open.wait();
            counted.wait();
            drop(files);
        };
        let before = open_files(std::process::id(), descriptors::are_shared).unwrap() as usize;
        let after = std::thread::scope(|scope| {
            for alone in [true, true, false] {
                scope.spawn(move || open(alone));
            }
            all_open.wait();
            let after = open_files(std::process::id(), descriptors::are_shared);
            counted.wait();
            after.unwrap() as usize
        });
        // Copies of what was open before are in both tables, and other tests open files, too.
        assert!((before + 3 * FILES..before + 4 * FILES).contains(&after), "{before} before, {after} after");
    }

    #[test]
    fn where_tables_cannot_be_told_apart_that_is_said() {
        let refused = Process::find_by(std::process::id(), |_, _| None).unwrap();
        assert!(refused.sample(Look::Close).unwrap().files.unwrap() >= 3.0, "of one table");
        let remark = refused.remark().unwrap();
        assert!(remark.contains("kcmp(2) is refused") && remark.contains("those of its first thread"), "{remark}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        // Above the kernel's own limit of 4,194,304.
        let error = Process::find(4_200_000).unwrap_err();
        assert!(error.contains("--pid 4200000: there is no such process"), "{error}");
        let gone = Process { started: 0, ..Process::find(std::process::id()).unwrap() };
        assert!(gone.sample(Look::Quick).unwrap_err().contains("ended"), "the number belongs to another now");
    }
}
