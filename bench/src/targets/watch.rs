//! The most memory that a server held while something ran.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::rig::metrics::Metrics;

/// Rare enough that the server's answers, of 1 to 3 ms on the shard's processor, cost little.
const INTERVAL: Duration = Duration::from_millis(250);

/// Bytes, and who holds them.
#[derive(Clone, Copy, Default, Serialize, Debug)]
pub(super) struct Memory {
    /// Resident memory of the process, by its own metric: to add up `smaps_rollup` from
    /// outside would lock the address space, and whoever allocates meanwhile waits.
    pub(super) resident: u64,
    /// What queues keep alive (`wsgate_queue_memory_bytes`).
    pub(super) queues: u64,
    /// What TCP holds in the network namespace, both ends (`wsgate_kernel_tcp_bytes`).
    pub(super) kernel: u64,
    /// Connections that are open.
    pub(super) connections: u64,
}

impl Memory {
    fn read(metrics: &mut Metrics) -> io::Result<Self> {
        let scrape = metrics.scrape()?;
        Ok(Self {
            resident: scrape.of_process("process_resident_memory_bytes").unwrap_or_default(),
            queues: scrape.sum("wsgate_queue_memory_bytes"),
            kernel: scrape.of_process("wsgate_kernel_tcp_bytes").unwrap_or_default(),
            connections: scrape.sum("wsgate_connections"),
        })
    }

    fn max(self, other: Self) -> Self {
        Self {
            resident: self.resident.max(other.resident),
            queues: self.queues.max(other.queues),
            kernel: self.kernel.max(other.kernel),
            connections: self.connections.max(other.connections),
        }
    }
}

/// Runs something; returns its result, memory before it and the most meanwhile.
pub(super) fn during<T>(admin: SocketAddr, run: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Memory, Memory)> {
    let mut metrics = Metrics::connect(admin)?;
    let before = Memory::read(&mut metrics)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = before;
            while !over.load(Ordering::Relaxed) {
                thread::sleep(INTERVAL);
                most = most.max(Memory::read(&mut metrics)?);
            }
            io::Result::Ok(most)
        });
        let result = run();
        over.store(true, Ordering::Relaxed);
        let most = watch.join().map_err(|_| io::Error::other("reading the server's memory panicked"))?;
        Ok((result?, before, most?))
    })
}
