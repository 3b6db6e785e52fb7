//! The machine that a table was measured on, for its head.

use std::fs;

use serde::Serialize;
use wsgate::driver::machine;

/// What figures depend on.
#[derive(Clone, Serialize, Debug)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) processors: usize,
    pub(super) kernel: String,
    /// TCP's congestion control: some pace what they send by timers, which costs.
    pub(super) congestion_control: String,
    /// Where the server runs. A row with two shards adds the load's processor.
    pub(super) server_on: usize,
    /// Where the load runs.
    pub(super) load_on: usize,
}

impl Machine {
    /// Looks at the machine; an error if there are not two processors.
    pub(super) fn look() -> Result<Self, String> {
        let processors = machine::processors();
        let &[server_on, load_on, ..] = &processors[..] else {
            return Err(format!(
                "two processors are needed, for the server and for the load; there are {processors:?}"
            ));
        };
        let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let setting = |name| fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default().trim().to_owned();
        Ok(Self {
            processor: model.map_or("unknown", |(_, name)| name).trim().to_owned(),
            processors: processors.len(),
            kernel: setting("kernel/osrelease"),
            congestion_control: setting("net/ipv4/tcp_congestion_control"),
            server_on,
            load_on,
        })
    }
}
