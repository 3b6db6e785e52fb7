//! What a scenario's figures are called: a handshake is counted like a message elsewhere.

use super::Report;

/// The words of one scenario.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Words {
    /// What `sent` and `received` count.
    pub noun: &'static str,
    /// What `sent` is.
    pub sent: &'static str,
    /// What `received` is.
    pub received: &'static str,
    /// What `latency_us` is.
    pub latency: &'static str,
    /// What `service_us` is.
    pub service: &'static str,
}

const MESSAGES: Words = Words {
    noun: "messages",
    sent: "sent",
    received: "received",
    latency: "latency from intended send",
    service: "latency from actual send",
};
const SERVICE: Words = Words { latency: "service time", ..MESSAGES };
/// Open and closed loops together.
const BOTH: Words = Words { latency: "latency, see populations", ..MESSAGES };
const CONNECTS: Words = Words {
    noun: "connects",
    sent: "connects",
    received: "handshakes",
    latency: "handshake, intended connect",
    service: "handshake, actual connect",
};
const RETURNS: Words = Words {
    noun: "connections",
    sent: "dropped",
    received: "came back",
    latency: "drop to served again",
    service: "drop to served again",
};

impl Report {
    /// What became of the readers that stalled.
    pub fn stalled_text(&self) -> String {
        let ends = self.stalled_by_end.iter().map(|(kind, count)| format!("{count} {kind}"));
        let open = self.stalled - self.stalled_by_end.values().sum::<u64>();
        let ends = ends.chain([format!("{open} still open")]).collect::<Vec<_>>().join(", ");
        format!("{} readers stalled: {ends}", self.stalled)
    }

    /// What its figures are called.
    pub fn words(&self) -> Words {
        match self.scenario.as_str() {
            "churn" => CONNECTS,
            "storm" => RETURNS,
            "mixed" if self.target_rate.is_none() => BOTH,
            _ if self.target_rate.is_some() => MESSAGES,
            _ => SERVICE,
        }
    }
}
