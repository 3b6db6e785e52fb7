//! Figures of the run for Prometheus, while it lasts.
//!
//! The main thread writes the text once a second, a thread of its own hands it out:
//! neither workers nor the run's schedule meet a scrape.
#![allow(clippy::disallowed_methods)] // A thread that only hands out text.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use wsgate::driver::descriptors;

use crate::failure::FailureCounts;
use crate::latency::{Latency, Quantiles};
use crate::series::Second;
use crate::tally::{Outcome, Tally};
use crate::watch::{Moment, Watch};

/// How long a scraper may take to ask, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a request that are looked at.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// Counts the run's seconds together and serves the sums.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    page: Arc<Mutex<String>>,
    sums: Sums,
}

#[derive(Default, Debug)]
struct Sums {
    opened: u64,
    dropped: u64,
    sent: u64,
    received: u64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    corrupted: u64,
    misdelivered: u64,
    failures: FailureCounts,
    target_rate: Option<f64>,
    latency: Sum,
    service: Sum,
}

/// A summary: quantiles of the last second, sum and count of all of them.
#[derive(Default, Debug)]
struct Sum {
    last: Option<Quantiles>,
    seconds: f64,
    count: u64,
}

impl Sum {
    fn add(&mut self, quantiles: Option<Quantiles>, latency: &Latency) {
        self.last = quantiles;
        self.count += latency.count();
        self.seconds += latency.histogram().mean() * latency.count() as f64 / 1e9;
    }
}

impl Prometheus {
    /// Serves `GET /metrics` there.
    pub fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let page = Arc::new(Mutex::new(Sums::default().text()));
        let served = page.clone();
        Builder::new().name("loadgen-metrics".to_owned()).spawn(move || {
            // What is accepted here is in no worker's copy of the table, which would keep it
            // open until the end of the run.
            let _ = descriptors::unshare();
            serve(&listener, &served);
        })?;
        Ok(Self { address, page, sums: Sums::default() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Watch for Prometheus {
    fn tick(&mut self, moment: Moment<'_>) {
        self.sums.target_rate = moment.mix.target_rate();
    }

    fn second(&mut self, second: &Second, outcome: &Outcome) {
        self.sums.add(second, outcome);
        *self.page.lock().unwrap_or_else(PoisonError::into_inner) = self.sums.text();
    }
}

impl Sums {
    fn add(&mut self, second: &Second, outcome: &Outcome) {
        let Tally { latency, service, .. } = &outcome.tally;
        self.opened += second.opened;
        self.dropped += second.dropped;
        self.sent += second.sent;
        self.received += second.received;
        self.lost += second.lost;
        self.duplicated += second.duplicated;
        self.reordered += second.reordered;
        self.corrupted += second.corrupted;
        self.misdelivered += second.misdelivered;
        self.failures.merge(&outcome.connections.failures);
        self.latency.add(second.latency_us, latency);
        self.service.add(second.service_us, service);
    }

    /// The text format, version 0.0.4.
    fn text(&self) -> String {
        let mut out = String::new();
        let counters = [
            ("connections_opened", "Handshakes that were completed.", self.opened),
            ("connections_dropped", "Open connections that ended before the run did.", self.dropped),
            ("messages_sent", "Messages sent; in a fan-out, published.", self.sent),
            ("messages_received", "Different messages received intact; in a fan-out, deliveries.", self.received),
            ("messages_lost", "Messages found to be lost; most are found at the end of the run.", self.lost),
            ("messages_duplicated", "Messages that arrived again.", self.duplicated),
            ("messages_reordered", "Messages that arrived after a later one of the same sender.", self.reordered),
            ("messages_corrupted", "Messages that arrived changed.", self.corrupted),
            ("messages_misdelivered", "Messages that reached a subscriber of another topic.", self.misdelivered),
        ];
        for (name, help, value) in counters {
            head(&mut out, &format!("{name}_total"), "counter", help);
            writeln!(out, "loadgen_{name}_total {value}").expect("text");
        }
        head(&mut out, "errors_total", "counter", "Connections that failed, before or after their handshake.");
        for (kind, failure) in self.failures.iter() {
            writeln!(
                out,
                "loadgen_errors_total{{kind=\"{}\"}} {}",
                kind.replace(['\\', '"', '\n'], "_"),
                failure.count
            )
            .expect("text");
        }
        if let Some(rate) = self.target_rate {
            head(&mut out, "target_rate", "gauge", "Messages per second that were asked for.");
            writeln!(out, "loadgen_target_rate {rate}").expect("text");
        }
        let latency =
            "Latency from the intended send, in a closed loop from the actual one; quantiles of the last second.";
        summary(&mut out, "latency_seconds", latency, &self.latency);
        let service = "Latency from the actual send, in an open loop; quantiles of the last second.";
        summary(&mut out, "service_seconds", service, &self.service);
        out
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    writeln!(out, "# HELP loadgen_{name} {help}\n# TYPE loadgen_{name} {kind}").expect("text");
}

fn summary(out: &mut String, name: &str, help: &str, sum: &Sum) {
    head(out, name, "summary", help);
    if let Some(q) = sum.last {
        for (quantile, micros) in [("0.5", q.p50), ("0.9", q.p90), ("0.99", q.p99), ("0.999", q.p999), ("1", q.max)] {
            writeln!(out, "loadgen_{name}{{quantile=\"{quantile}\"}} {}", micros / 1e6).expect("text");
        }
    }
    writeln!(out, "loadgen_{name}_sum {}\nloadgen_{name}_count {}", sum.seconds, sum.count).expect("text");
}

fn serve(listener: &TcpListener, page: &Mutex<String>) {
    for stream in listener.incoming().flatten() {
        // A scraper that leaves, or never asks, harms nobody but itself.
        let _ = answer(stream, page);
    }
}

fn answer(mut stream: TcpStream, page: &Mutex<String>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        match stream.read(&mut buffer)? {
            0 => break,
            len => request.extend_from_slice(&buffer[..len]),
        }
    }
    let is_metrics = [&b"GET /metrics "[..], b"GET /metrics?"].iter().any(|start| request.starts_with(start));
    let (status, body) = match is_metrics {
        true => ("200 OK", page.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        false => ("404 Not Found", "GET /metrics is all there is.\n".to_owned()),
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let len = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}"
    )
}
