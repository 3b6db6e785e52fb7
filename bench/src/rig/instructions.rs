//! Instructions that a process executes in its own code, where the machine counts them.
//!
//! Many virtual machines do not. A count varies far less than time does.

use std::fs;
use std::io;

use perf_event::events::Hardware;
use perf_event::{Builder, Counter};

/// A counter on each thread of a process.
#[derive(Debug)]
pub(crate) struct Instructions {
    threads: Vec<Counter>,
}

impl Instructions {
    /// Starts to count those of a process; `None` if this machine does not count, or
    /// does not let us. Threads that start later are not counted.
    pub(crate) fn count(pid: u32) -> Option<Self> {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let count = |thread: io::Result<fs::DirEntry>| -> io::Result<Counter> {
            let name = thread?.file_name();
            let thread = name.to_string_lossy().parse().map_err(io::Error::other)?;
            let mut counter = Builder::new(Hardware::INSTRUCTIONS).observe_pid(thread).any_cpu().build()?;
            counter.enable()?;
            Ok(counter)
        };
        let threads = threads.map(count).collect::<io::Result<Vec<_>>>().ok()?;
        Some(Self { threads })
    }

    /// Instructions since the start.
    pub(crate) fn read(&mut self) -> io::Result<u64> {
        self.threads.iter_mut().map(Counter::read).sum()
    }
}
