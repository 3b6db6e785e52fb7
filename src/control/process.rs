//! What the system says about this process and its network: read at each scrape.

use std::fs;

/// Bytes of a page; Linux on x86-64 and on most 64-bit ARM has no other.
const PAGE_BYTES: u64 = 4096;

/// Resident memory of this process in bytes.
pub(super) fn resident_bytes() -> Option<u64> {
    resident_of(&fs::read_to_string("/proc/self/statm").ok()?)
}

/// Memory in bytes that TCP holds for all sockets of this network namespace: what waits
/// in the kernel, in both directions.
pub(super) fn kernel_tcp_bytes() -> Option<u64> {
    tcp_memory_of(&fs::read_to_string("/proc/net/sockstat").ok()?)
}

/// The second number of `statm`, in pages.
fn resident_of(statm: &str) -> Option<u64> {
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

/// The number after `mem` in the line `TCP:`, in pages.
fn tcp_memory_of(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let pages: u64 = line.split_whitespace().skip_while(|word| *word != "mem").nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_s_files_are_understood() {
        assert_eq!(resident_of("65046 1015 749 300 0 400 0\n"), Some(1015 * PAGE_BYTES));
        let sockstat = "sockets: used 290\nTCP: inuse 5 orphan 0 tw 3 alloc 7 mem 2\nUDP: inuse 1 mem 9\n";
        assert_eq!(tcp_memory_of(sockstat), Some(2 * PAGE_BYTES));
        assert_eq!(tcp_memory_of("UDP: mem 9"), None);
        assert!(resident_bytes().is_some_and(|bytes| bytes > 0));
    }
}
