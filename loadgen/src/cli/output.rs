//! Flags about what is made of a run's results; the same for all scenarios.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::mix::Mix;
use crate::progress::Mode;
use crate::threshold::Threshold;

/// What to show, write and check.
#[derive(Args, Clone, Default, Debug)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print one JSON object on standard output instead of text; docs/loadgen-json.md describes it
    #[arg(long)]
    pub json: bool,
    /// Write the report as one HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the latencies of each second to an interval log (V2) for HdrHistogram's tools
    #[arg(long, value_name = "FILE")]
    pub hdr_log: Option<PathBuf>,
    /// Write the latencies' percentile distribution for HdrHistogram's tools; in an open loop, that from
    /// the actual send goes to a file beside it, run.uncorrected.hgrm beside run.hgrm
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Serve figures to Prometheus at /metrics while the run lasts, such as 127.0.0.1:9100
    #[arg(long, value_name = "IP:PORT")]
    pub prometheus: Option<SocketAddr>,
    /// Watch this process while it is loaded: the server's processor time per message, memory per connection, open
    /// files, threads; may be repeated
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Watch the server by what it exports for Prometheus, such as http://127.0.0.1:8001/metrics; may be repeated
    #[arg(long, value_name = "URL")]
    pub metrics: Vec<String>,
    /// Exit with 5 if this holds, such as 'p99 > 5ms', 'lost > 0' or 'rate < 0.99 * target'; may be repeated
    #[arg(long, value_name = "CONDITION")]
    pub fail_if: Vec<Threshold>,
    /// Do not exit with 6 when loadgen itself was the limit; the report says so all the same
    #[arg(long)]
    pub allow_invalid: bool,
    /// How far the run is, on standard error
    #[arg(long, value_enum, default_value_t)]
    pub progress: Mode,
    /// Name for this run in its report, for who compares it with others
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
}

impl OutputArgs {
    /// What no flag can check alone.
    pub(super) fn check(&self, mix: &Mix) -> Result<(), String> {
        if let Some(threshold) = self.fail_if.iter().find(|threshold| threshold.needs_server())
            && self.pid.is_empty()
            && self.metrics.is_empty()
        {
            return Err(format!("--fail-if '{threshold}' speaks of the server, which needs a --pid or --metrics\n"));
        }
        self.fail_if.iter().try_for_each(|threshold| check(threshold, mix))
    }
}

/// Whether the run will have the figures that a condition is about.
fn check(threshold: &Threshold, mix: &Mix) -> Result<(), String> {
    let without_rate =
        |what: &str| Err(format!("--fail-if '{threshold}' speaks of the target, which needs a {what}\n"));
    if threshold.needs_rate(None) && !mix.is_open_loop() {
        return without_rate(if mix.file.is_some() { "rate in all populations that send" } else { "--rate" });
    }
    for name in threshold.populations() {
        let Some(population) = mix.populations.iter().find(|population| population.name == name) else {
            let names: Vec<_> = mix.populations.iter().map(|population| population.name.as_str()).collect();
            let there_is = match mix.file {
                Some(_) => format!("there are {}", names.join(", ")),
                None => "only loadgen mixed has some".to_owned(),
            };
            return Err(format!("--fail-if '{threshold}' speaks of a population {name:?}; {there_is}\n"));
        };
        if threshold.needs_rate(Some(name)) && population.plan.target_rate().is_none() {
            return without_rate(&format!("rate of {name}"));
        }
    }
    Ok(())
}
