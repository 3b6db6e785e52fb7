//! The machine that a table was measured on, for its head.

use std::fmt;
use std::fs;

use serde::Serialize;
use wsgate::driver::machine;

/// What figures depend on.
#[derive(Clone, Serialize, Debug)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) kernel: String,
    /// TCP's congestion control: some pace what they send by timers, which costs.
    pub(crate) congestion_control: String,
    /// Where the server runs. A row with two shards adds the load's processor.
    pub(crate) server_on: usize,
    /// Where the load runs.
    pub(crate) load_on: usize,
}

impl Machine {
    /// Looks at the machine; an error if there are not two processors.
    pub(crate) fn look() -> Result<Self, String> {
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

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, processors, kernel, congestion_control, server_on, load_on } = self;
        write!(
            formatter,
            "{processor}, {processors} processors, Linux {kernel}, TCP congestion control {congestion_control}. \
             Server on processor {server_on}, load on {load_on}"
        )
    }
}
