//! `bench client`: what loadgen itself takes for an echo, beside a client that does the
//! least.
//!
//! Both work against wsgate's `/echo` from the same processor, with as many messages of the
//! same size under way. The bare client sends frames made beforehand and counts bytes;
//! loadgen stamps, masks and checks each message and records its time.

use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Serialize;

use super::Bench;
use super::report::{Findings, Table, each, max_of, paired_ratio, show_spread};
use crate::rig::client;
use crate::rig::frames::{client_frame, server_frame};
use crate::rig::load::{Echo, Next};
use crate::rig::markdown::{show_ratio, show_time};
use crate::rig::metrics::Metrics;
use crate::rig::process::CpuTime;
use crate::rig::server::Server;
use crate::rig::verdict::{Judgement, Verdict};
use crate::rig::window::Window;

const CONNECTIONS: usize = 100;
/// The least in which loadgen recognizes its messages.
const PAYLOAD_BYTES: usize = 20;
/// Messages under way on each connection, and how many times the bare client's
/// processor time loadgen may take.
const BUDGETS: [(usize, f64); 2] = [(1, 1.10), (16, 1.5)];
/// Until loadgen has connected, and longer.
const WARM_UP: Duration = Duration::from_millis(1_000);

#[derive(Serialize, Debug)]
struct Sample {
    in_flight: usize,
    round: usize,
    /// Nanoseconds of the client's processor time.
    bare_per_echo: f64,
    loadgen_per_echo: f64,
    /// Processors that other programs took meanwhile, in the bare client's run.
    others_busy: f64,
}

pub(super) fn measure(bench: &Bench) -> io::Result<Findings> {
    let loadgen = bench.stand.workshop.build_loadgen()?;
    let mut samples = Vec::new();
    for round in 0..bench.rounds {
        for (in_flight, _) in BUDGETS {
            let bare = || bench.with_wsgate(1, &[], |server| bare(server, in_flight, bench.time));
            let tool = || bench.with_wsgate(1, &[], |server| tool(server, &loadgen, in_flight, bench.time));
            // Each comes first in every other round.
            let (bare, loadgen_per_echo) = if round % 2 == 0 {
                let bare = bare()?;
                (bare, tool()?)
            } else {
                let tool = tool()?;
                (bare()?, tool)
            };
            let (bare_per_echo, others_busy) = bare;
            let number = round + 1;
            eprintln!(
                "{number}/{} {in_flight} in flight: {loadgen_per_echo:.0} of {bare_per_echo:.0} ns",
                bench.rounds
            );
            samples.push(Sample { in_flight, round, bare_per_echo, loadgen_per_echo, others_busy });
        }
    }
    Ok(find(&samples))
}

/// The bare client: nanoseconds by echo, and how busy others were.
fn bare(server: &Server, in_flight: usize, time: Duration) -> io::Result<(f64, f64)> {
    let streams = client::open(server.clients, &vec!["/echo".to_owned(); CONNECTIONS])?;
    let (sent, returned) = (client_frame(PAYLOAD_BYTES), server_frame(PAYLOAD_BYTES));
    let mut load = Echo::new(streams, &sent, &returned, Next::Same { in_flight })?;
    let window = Window::measure(server, &mut load, WARM_UP, time)?;
    Ok((window.usage.load_ns() as f64 / window.messages as f64, window.usage.others_busy()))
}

/// A program that is killed when nobody wants it any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Only fails if it has ended already; then it is waited for all the same.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// loadgen: nanoseconds by echo, counted by the server while it is under way.
fn tool(server: &Server, loadgen: &Path, in_flight: usize, time: Duration) -> io::Result<f64> {
    let mut metrics = Metrics::connect(server.admin.ok_or_else(|| io::Error::other("wsgate has no metrics"))?)?;
    let mut echoes = || Ok::<_, io::Error>(metrics.scrape()?.sum("wsgate_messages_received_total"));
    let child = Command::new(loadgen)
        .args(["echo", &format!("ws://{}/echo", server.clients), "--binary", "--threads", "1", "-d", "1h"])
        .args(["-c", &CONNECTIONS.to_string(), "-s", &PAYLOAD_BYTES.to_string()])
        .args(["--in-flight", &in_flight.to_string()])
        .stdout(Stdio::null())
        .spawn()?;
    let child = Running(child);
    std::thread::sleep(WARM_UP);
    let (from, echoed) = (CpuTime::of(child.0.id())?, echoes()?);
    std::thread::sleep(time);
    let (used, echoed) = (CpuTime::of(child.0.id())?.since(from), echoes()? - echoed);
    if echoed == 0 {
        return Err(io::Error::other("loadgen echoed nothing"));
    }
    Ok(used.total_ns as f64 / echoed as f64)
}

fn find(samples: &[Sample]) -> Findings {
    let (mut rows, mut verdicts) = (Vec::new(), Vec::new());
    for (in_flight, ratio_max) in BUDGETS {
        let of_it: Vec<_> = samples.iter().filter(|sample| sample.in_flight == in_flight).collect();
        let bare = each(&of_it, |sample| sample.bare_per_echo);
        let loadgen = each(&of_it, |sample| sample.loadgen_per_echo);
        let ratio = paired_ratio(&loadgen, &bare);
        rows.push(vec![
            in_flight.to_string(),
            show_spread(&bare, show_time),
            show_spread(&loadgen, show_time),
            ratio.map(show_ratio).unwrap_or_default(),
        ]);
        let target = format!("{in_flight} in flight: at most {ratio_max:.2} × the bare client");
        verdicts.push(Verdict { target, result: Judgement::at_most(ratio_max, ratio) });
    }
    let head = vec!["in flight", "bare client, CPU per echo", "loadgen", "ratio"];
    let title = format!("{CONNECTIONS} connections, {PAYLOAD_BYTES} B");
    Findings {
        tables: vec![Table { title, head, rows }],
        verdicts,
        remarks: Vec::new(),
        others_busy_max: max_of(samples, |sample| sample.others_busy),
        samples: serde_json::json!(samples),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_in_flight_has_its_own_budget() {
        let sample = |in_flight, round| Sample {
            in_flight,
            round,
            bare_per_echo: 1_000.0,
            loadgen_per_echo: 1_200.0,
            others_busy: 0.0,
        };
        let samples: Vec<_> = (0..5).flat_map(|round| [sample(1, round), sample(16, round)]).collect();
        let results: Vec<_> = find(&samples).verdicts.iter().map(|verdict| verdict.result).collect();
        assert_eq!(results, [Judgement::Missed, Judgement::Met]);
    }
}
