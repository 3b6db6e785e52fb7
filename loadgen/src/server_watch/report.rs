//! What watching the server found out, for reports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::numbers::{duration, grouped};

/// The server's own part of a run; several servers are added up.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct ServerReport {
    /// Who was watched.
    pub sources: Vec<SourceReport>,
    /// Between the two readings that processor time and messages are the difference of.
    pub seconds: f64,
    /// Messages received between them.
    pub messages: u64,
    /// Processor time between them, user and system.
    pub cpu_seconds: Option<f64>,
    /// The same by message.
    pub cpu_us_per_message: Option<f64>,
    /// The same by time: processors that the server kept busy.
    pub cpu_busy: Option<f64>,
    /// Growth of its resident memory from before the first connection until all were open, by connection.
    pub rss_bytes_per_connection: Option<f64>,
    /// Resident memory.
    pub rss_bytes: Steps,
    /// Open file descriptors.
    pub files: Steps,
    /// Threads.
    pub threads: Steps,
    /// By how much the server's own counters grew between the two readings; those that did.
    pub counters: BTreeMap<String, f64>,
}

/// Who was watched.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct SourceReport {
    /// Number and name of a process, or an address.
    pub name: String,
    /// What it does not say.
    pub remark: Option<String>,
    /// Why it could not be read any more: it ended, or did not answer.
    pub failure: Option<String>,
    /// When that was found, in seconds after the first message; figures are of the time before.
    pub failed_at: Option<f64>,
}

/// A figure as the run goes on.
#[derive(Clone, Copy, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct Steps {
    /// Before the first connection.
    pub before: Option<f64>,
    /// With all connections, before the first message.
    pub connected: Option<f64>,
    /// After the last message.
    pub end: Option<f64>,
    /// The most that was seen.
    pub most: Option<f64>,
}

impl ServerReport {
    /// The figures in words, each with its name.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        if let (Some(seconds), Some(busy)) = (self.cpu_seconds, self.cpu_busy) {
            let each = self.cpu_us_per_message.map(|micros| format!("{} per message received, ", duration(micros)));
            let each = each.unwrap_or_default();
            lines.push(("processor time", format!("{each}{seconds:.2} s in {:.1} s ({busy:.2} busy)", self.seconds)));
        }
        let each = self.rss_bytes_per_connection.map(|bytes| format!(" ({bytes:.0} bytes per connection)"));
        let mebibytes = |bytes: f64| format!("{:.1} MiB", bytes / f64::from(1 << 20));
        let count = |count: f64| grouped(count as u64);
        lines.extend(self.rss_bytes.line(mebibytes, &each.unwrap_or_default()).map(|line| ("resident memory", line)));
        lines.extend(self.files.line(count, "").map(|line| ("open files", line)));
        lines.extend(self.threads.line(count, "").map(|line| ("threads", line)));
        for source in &self.sources {
            if let (Some(failure), Some(at)) = (&source.failure, source.failed_at) {
                let name = &source.name;
                lines.push(("not to the end", format!("{name}, {at:.1} s after the first message's time: {failure}")));
            }
            lines.extend(source.remark.iter().map(|remark| ("not known", format!("{}: {remark}", source.name))));
        }
        lines
    }

    /// Who was watched, in words.
    pub fn names(&self) -> String {
        self.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Steps {
    fn line(&self, show: impl Fn(f64) -> String, connected: &str) -> Option<String> {
        let steps = [
            (self.before, "before", ""),
            (self.connected, "with all connections", connected),
            (self.end, "at the end", ""),
            (self.most, "at most", ""),
        ];
        let steps: Vec<_> = steps
            .into_iter()
            .filter_map(|(value, when, more)| Some(format!("{} {when}{more}", show(value?))))
            .collect();
        (!steps.is_empty()).then(|| steps.join(", "))
    }
}
