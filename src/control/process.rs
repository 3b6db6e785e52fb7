//! What the system says about this process and its network: read at each scrape.

use std::sync::Arc;
use std::{fmt, fs};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::stats::ProcessStats;

/// The figures of a process by the names that client libraries of all languages share, so
/// that dashboards and load generators know them. What the system does not say is left out.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) stats: Arc<ProcessStats>,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Processor time of the process, user and system";
        encoder
            .encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&cpu_seconds(), None)?;
        let encoder = &mut encoder;
        let tables = self.stats.own_tables.get().map_or(&[][..], Vec::as_slice);
        let (bytes, seconds) = (Some(&Unit::Bytes), Some(&Unit::Seconds));
        gauge(encoder, "process_resident_memory", bytes, "Resident memory of the process", resident_bytes())?;
        gauge(encoder, "process_open_fds", None, "Open file descriptors", open_files(tables))?;
        let help = "File descriptors that may be open, in the tables of all shards together";
        gauge(encoder, "process_max_fds", None, help, files_max(tables))?;
        let stat = Stat::read();
        gauge(encoder, "process_threads", None, "Threads of the process", stat.as_ref().map(|stat| stat.threads))?;
        let started = stat.zip(boot_seconds()).map(|(stat, boot)| boot + stat.started_after_boot);
        gauge(encoder, "process_start_time", seconds, "Start of the process, in seconds since 1970", started)
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    unit: Option<&Unit>,
    help: &str,
    value: Option<impl EncodeGaugeValue>,
) -> fmt::Result {
    let Some(value) = value else { return Ok(()) };
    encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
}

/// Memory in bytes that TCP holds for all sockets of this network namespace: what waits
/// in the kernel, in both directions.
pub(super) fn kernel_tcp_bytes() -> Option<u64> {
    tcp_memory_of(&fs::read_to_string("/proc/net/sockstat").ok()?)
}

/// That of threads which have ended is in it; finer than the ticks in `/proc`.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn resident_bytes() -> Option<u64> {
    resident_of(&fs::read_to_string("/proc/self/statm").ok()?)
}

/// Of the process's table and of those that threads have for themselves.
fn open_files(own_tables: &[u32]) -> Option<u64> {
    let shared = listed("/proc/self/fd")?;
    // A thread may have ended, and its table with it.
    let own = own_tables.iter().filter_map(|thread| listed(&format!("/proc/self/task/{thread}/fd")));
    Some(shared + own.sum::<u64>())
}

fn listed(folder: &str) -> Option<u64> {
    // Kernels since 6.2 give the number as the folder's size; to list it is work for each.
    match fs::metadata(folder).ok()?.len() {
        // The listing has a descriptor itself.
        0 => Some(fs::read_dir(folder).ok()?.count().saturating_sub(1) as u64),
        size => Some(size),
    }
}

/// The limit holds for each table.
fn files_max(own_tables: &[u32]) -> Option<u64> {
    let limit = getrlimit(Resource::Nofile).current?;
    Some(limit.saturating_mul(1 + own_tables.len() as u64))
}

/// Seconds since 1970 at which the system was started; whole ones.
fn boot_seconds() -> Option<f64> {
    boot_of(&fs::read_to_string("/proc/stat").ok()?)
}

/// What is read of `/proc/self/stat`.
#[derive(PartialEq, Debug)]
struct Stat {
    threads: u64,
    /// In seconds.
    started_after_boot: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::of(&fs::read_to_string("/proc/self/stat").ok()?, clock_ticks_per_second())
    }

    fn of(stat: &str, ticks_per_second: u64) -> Option<Self> {
        // The name, in parentheses, may hold blanks and parentheses itself. Fields are
        // numbered as in proc(5), where the one behind it is the third.
        let fields = stat.rsplit_once(')')?.1;
        let field = |number: usize| fields.split_whitespace().nth(number - 3)?.parse::<u64>().ok();
        Some(Self { threads: field(20)?, started_after_boot: field(22)? as f64 / ticks_per_second as f64 })
    }
}

/// The number after `btime`.
fn boot_of(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The second number of `statm`, in pages.
fn resident_of(statm: &str) -> Option<u64> {
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * page_size() as u64)
}

/// The number after `mem` in the line `TCP:`, in pages.
fn tcp_memory_of(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let pages: u64 = line.split_whitespace().skip_while(|word| *word != "mem").nth(1)?.parse().ok()?;
    Some(pages * page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_s_files_are_understood() {
        let page = page_size() as u64;
        assert_eq!(resident_of("65046 1015 749 300 0 400 0\n"), Some(1015 * page));
        let sockstat = "sockets: used 290\nTCP: inuse 5 orphan 0 tw 3 alloc 7 mem 2\nUDP: inuse 1 mem 9\n";
        assert_eq!(tcp_memory_of(sockstat), Some(2 * page));
        assert_eq!(tcp_memory_of("UDP: mem 9"), None);
        assert_eq!(boot_of("cpu 1 2\nintr 5\nbtime 1700000000\nprocesses 9\n"), Some(1_700_000_000.0));
        let rest = "S 1 2 3 4 -1 4194304 128 0 1 0 23 75 5 6 20 0 7 0 363490 2990080 3 1844";
        for name in ["wsgate", "a b", "a) R 1 (b"] {
            let stat = Stat::of(&format!("3770 ({name}) {rest}"), 100);
            assert_eq!(stat, Some(Stat { threads: 7, started_after_boot: 3_634.9 }), "{name}");
        }
        assert!(resident_bytes().is_some_and(|bytes| bytes > 0));
    }
}
