//! What Prometheus reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use wsgate::config::Io;
use wsgate::stats::CloseReason;

use crate::common::program::Program;
use crate::common::{TestServer, io, wait_until};
use crate::get;

/// One metric family: its type, and its samples by name and labels.
#[derive(Default, Debug)]
struct Family {
    kind: String,
    samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

/// Metrics of the whole process, not of a shard.
const PROCESS: [&str; 12] = [
    "process_cpu_seconds",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "wsgate_kernel_tcp_bytes",
    "wsgate_publishes_refused",
    "wsgate_publishes_refused_total",
    "wsgate_reloads",
    "wsgate_reloads_total",
];

/// Reads OpenMetrics text, and refuses what its specification does not allow.
fn parse_metrics(text: &str) -> BTreeMap<String, Family> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
            && !name.as_bytes()[0].is_ascii_digit()
    };
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    let mut lines = text.strip_suffix("# EOF\n").expect("the end is marked").lines();
    for line in &mut lines {
        if let Some(meta) = line.strip_prefix("# ") {
            let mut words = meta.splitn(3, ' ');
            let (keyword, name) = (words.next().unwrap(), words.next().expect(line));
            let rest = words.next().expect(line);
            assert!(is_name(name), "{line}");
            if name != current {
                assert!(families.insert(name.to_owned(), Family::default()).is_none(), "families are not torn: {line}");
                current = name.to_owned();
            }
            let family = families.get_mut(name).unwrap();
            assert!(family.samples.is_empty(), "what describes stands before what it describes: {line}");
            match keyword {
                "TYPE" => {
                    assert!(family.kind.is_empty() && ["counter", "gauge", "histogram"].contains(&rest), "{line}");
                    family.kind = rest.to_owned();
                }
                "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                "HELP" => assert!(!rest.is_empty(), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (name, labels, value) = match line.split_once('{') {
            Some((name, rest)) => {
                let (labels, value) = rest.split_once("} ").expect(line);
                (name, labels, value)
            }
            None => {
                let (name, value) = line.split_once(' ').expect(line);
                (name, "", value)
            }
        };
        let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
            let (name, value) = label.split_once("=\"").expect(line);
            let value = value.strip_suffix('"').expect(line);
            assert!(is_name(name) && !value.contains(['"', '\\']), "{line}");
            (name.to_owned(), value.to_owned())
        });
        let labels: BTreeMap<_, _> = labels.collect();
        assert!(labels.contains_key("shard") != PROCESS.contains(&name), "{line}");
        let family = families.get_mut(&current).expect(line);
        let suffixes: &[&str] = match family.kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            other => panic!("type {other:?} of {line}"),
        };
        assert!(name.strip_prefix(&current).is_some_and(|suffix| suffixes.contains(&suffix)), "{line} in {current}");
        let value: f64 = value.parse().expect(line);
        assert!(family.kind == "gauge" || value >= 0.0, "{line}");
        assert!(family.samples.insert((name.to_owned(), labels), value).is_none(), "twice: {line}");
    }
    families
}

fn scrape(server: &TestServer) -> BTreeMap<String, Family> {
    let answer = get(server.admin, "/metrics");
    assert_eq!(answer.status, 200);
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("Content-Type"), Some(content_type));
    parse_metrics(&answer.body)
}

impl Family {
    /// The sum of the samples that have this label, or of all.
    fn sum(&self, label: Option<(&str, &str)>) -> f64 {
        let has = |labels: &BTreeMap<String, String>| {
            label.is_none_or(|(name, value)| labels.get(name).is_some_and(|other| other == value))
        };
        self.samples.iter().filter(|((_, labels), _)| has(labels)).map(|(_, value)| value).sum()
    }

    fn labels(&self, name: &str) -> BTreeSet<&str> {
        self.samples.keys().filter_map(|(_, labels)| labels.get(name)).map(String::as_str).collect()
    }
}

#[test]
fn metrics_are_open_metrics_and_complete() {
    let server = TestServer::with(|config| config.shards = 3);
    let families = scrape(&server);
    let kinds: BTreeMap<&str, &str> = families.iter().map(|(name, family)| (&**name, &*family.kind)).collect();
    let counters = [
        "accept_pauses",
        "accepted",
        "address_refusals",
        "bombs_cut",
        "close_timeouts",
        "closes",
        "conflated",
        "contexts_refused",
        "deflated",
        "deliveries",
        "drain_resets",
        "dropped",
        "envelopes",
        "flushes",
        "handshakes",
        "inflated",
        "messages_queued",
        "messages_received",
        "pings_skipped",
        "proxy_headers_too_long",
        "published",
        "publisher_pauses",
        "publishes_refused",
        "reading_pauses",
        "received_bytes",
        "receives_narrowed",
        "receives_starved",
        "reloads",
        "saved_received_bytes",
        "saved_sent_bytes",
        "sends",
        "sent_bytes",
        "short_sends",
        "tls_handshakes",
        "tls_handshakes_deferred",
        "tls_handshakes_failed",
        "tls_plaintext_refused",
        "tls_truncated",
        "topics_forgotten",
        "topics_refused",
        "wakes",
    ];
    let gauges = [
        "accept_paused",
        "compression_memory_bytes",
        "connection_memory_bytes",
        "connections",
        "drain_left",
        "drain_phase",
        "input_memory_bytes",
        "kernel_tcp_bytes",
        "log_bytes",
        "overflow_bytes",
        "queue_bytes",
        "queue_memory_bytes",
        "receive_chunks",
        "sockets",
        "assembly_memory_bytes",
        "subscriptions",
        "topic_memory_bytes",
        "topics",
    ];
    let expected = (counters.map(|name| (name, "counter")).into_iter())
        .chain(gauges.map(|name| (name, "gauge")))
        .chain([("loop_turn_seconds", "histogram"), ("publish_to_flush_seconds", "histogram")])
        .map(|(name, kind)| (format!("wsgate_{name}"), kind))
        .chain([("process_cpu_seconds".to_owned(), "counter")])
        .chain(
            ["max_fds", "open_fds", "resident_memory_bytes", "start_time_seconds", "threads"]
                .map(|name| (format!("process_{name}"), "gauge")),
        )
        .collect::<Vec<_>>();
    assert_eq!(kinds, expected.iter().map(|(name, kind)| (&**name, *kind)).collect());
    for (name, family) in families.iter().filter(|(name, _)| !PROCESS.contains(&name.as_str())) {
        assert_eq!(family.labels("shard"), BTreeSet::from(["0", "1", "2"]), "{name}");
    }
    let reasons: BTreeSet<_> = CloseReason::ALL.iter().map(|reason| reason.label()).collect();
    assert_eq!(families["wsgate_closes"].labels("reason"), reasons);
    assert_eq!(families["wsgate_address_refusals"].labels("bound"), BTreeSet::from(["connections", "handshakes"]));
    let statuses = ["101", "200", "400", "403", "404", "405", "408", "414", "426", "429", "431", "503"];
    assert_eq!(families["wsgate_handshakes"].labels("status"), BTreeSet::from(statuses));
}

#[test]
fn the_buckets_of_times_add_up() {
    let server = TestServer::start();
    server.wait_until("all shards turn", |server| server.stats().iter().all(|stats| stats.turns.count() > 0));
    expect_buckets(&server, "wsgate_loop_turn_seconds", 10);

    // Enough subscribers for each shard to have some.
    let mut subscribers: Vec<_> = (0..20).map(|_| server.client("/topics/a")).collect();
    server.publish("a", "text/plain", b"to all");
    subscribers.iter_mut().for_each(|subscriber| assert_eq!(subscriber.receive_text(), "to all"));
    server.wait_until("both shards have flushed it", |server| {
        server.stats().iter().map(|stats| stats.publish_to_flush.count()).sum::<u64>() == 2
    });
    expect_buckets(&server, "wsgate_publish_to_flush_seconds", 25);
}

/// The buckets of a histogram of every shard, none of which is empty, agree with each other.
fn expect_buckets(server: &TestServer, histogram: &str, count: usize) {
    let family = &scrape(server)[histogram];
    for shard in family.labels("shard") {
        let of_shard = |suffix: &str| {
            let name = format!("{histogram}{suffix}");
            let samples = family.samples.iter();
            samples.filter(move |((other, labels), _)| *other == name && labels["shard"] == *shard)
        };
        let mut buckets: Vec<(f64, f64)> =
            of_shard("_bucket").map(|((_, labels), value)| (labels["le"].parse().unwrap(), *value)).collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.len() == count && buckets[count - 1].0 == f64::INFINITY, "{buckets:?}");
        assert!(buckets.is_sorted_by_key(|bucket| bucket.1), "counts add up: {buckets:?}");
        // Turns go on while they are read, so the sum may know of one more.
        let last = buckets[count - 1].1;
        let count = *of_shard("_count").next().unwrap().1;
        assert!(count >= last && count > 0.0, "{count} in all, {buckets:?}");
        assert!(*of_shard("_sum").next().unwrap().1 > 0.0);
    }
}

#[test]
fn metrics_follow_the_traffic() {
    let server = TestServer::start();
    let mut subscribers: Vec<_> = (0..6).map(|_| server.client("/topics/a")).collect();
    let mut talker = server.client("/echo");
    let before = scrape(&server);
    assert_eq!(before["wsgate_connections"].sum(None), 7.0);
    assert_eq!(before["wsgate_subscriptions"].sum(None), 6.0);
    assert_eq!(before["wsgate_handshakes"].sum(Some(("status", "101"))), 7.0);

    talker.send("ten bytes!");
    assert_eq!(talker.receive_text(), "ten bytes!");
    for _ in 0..5 {
        server.publish("a", "text/plain", b"to six");
    }
    for subscriber in &mut subscribers {
        for _ in 0..5 {
            subscriber.receive();
        }
    }
    assert!(server.try_client("/nothing").is_err());
    // What is counted after the bytes have left may come after the bytes.
    server.wait_until("all sends are counted", |server| server.sum(|stats| &stats.queue_bytes) == 0);
    server.wait_until("the refused client is gone", |server| server.sum(|stats| &stats.connections) == 7);
    let after = scrape(&server);
    let grown = |name: &str, label| after[name].sum(label) - before[name].sum(label);
    assert_eq!(grown("wsgate_messages_received", None), 1.0);
    assert_eq!(grown("wsgate_published", None), 5.0);
    assert_eq!(grown("wsgate_deliveries", None), 30.0);
    assert_eq!(grown("wsgate_messages_queued", None), 31.0);
    assert_eq!(grown("wsgate_accepted", None), 1.0);
    assert_eq!(grown("wsgate_handshakes", Some(("status", "404"))), 1.0);
    assert_eq!(grown("wsgate_closes", Some(("reason", "not_upgraded"))), 1.0);
    // 30 deliveries of 8 bytes, an echo of 12 bytes, and the words of the 404.
    assert!(grown("wsgate_sent_bytes", None) > 252.0);
    assert!(grown("wsgate_received_bytes", None) > 16.0);
    let flushes = grown("wsgate_flushes", None);
    assert!(flushes >= 8.0, "each of eight clients was sent something, not {flushes}");
    assert!(grown("wsgate_sends", None) >= flushes, "a flush takes a send or more");
    assert_eq!(after["wsgate_queue_bytes"].sum(None), 0.0);
    assert_eq!(after["wsgate_topics"].sum(None), before["wsgate_topics"].sum(None));

    drop((subscribers, talker));
    server.wait_until("all have left", |server| server.sum(|stats| &stats.connections) == 0);
    let end = scrape(&server);
    assert_eq!(end["wsgate_closes"].sum(Some(("reason", "peer_vanished"))), 7.0);
    assert_eq!(end["wsgate_subscriptions"].sum(None), 0.0);
}

#[test]
fn the_figures_of_the_process_are_those_of_the_system() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let before = now();
    let program = Program::start(&["--shards", "2"]);
    let after = now();
    let read = |name: &str| parse_metrics(&get(program.admin, "/metrics").body)[name].sum(None);
    // The system counts its own start in whole seconds.
    let started = read("process_start_time_seconds");
    assert!(before - 1.5 <= started && started <= after + 1.5, "{before} {started} {after}");

    let system = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", program.pid())).unwrap();
    let tasks = || std::fs::read_dir(format!("/proc/{}/task", program.pid())).unwrap().map(|task| task.unwrap().path());
    let name = |task: &Path| std::fs::read_to_string(task.join("comm")).unwrap();
    let files = |task: &Path| std::fs::read_dir(task.join("fd")).unwrap().count() as f64;
    let status = system("status");
    let in_status = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(&status);
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(read("process_threads"), in_status("Threads:"));
    let resident = read("process_resident_memory_bytes");
    assert!((0.5..2.0).contains(&(resident / (in_status("VmRSS:") * 1024.0))), "{resident} {status}");
    let limits = system("limits");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect(&limits);
    let limit: f64 = line.split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(read("process_max_fds"), 3.0 * limit, "of each shard, and of the rest");

    // Connections have a descriptor each, but with io_uring; that of the scrape has one in any
    // case, and the one before may be there yet.
    let idle = read("process_open_fds");
    let _clients: Vec<_> = (0..20).map(|_| program.raw_open("/echo")).collect();
    let open = read("process_open_fds");
    let has_own = |task: &PathBuf| ["wsgate\n", "shard-0\n", "shard-1\n"].contains(&name(task).as_str());
    let listed: f64 = tasks().filter(has_own).map(|task| files(&task)).sum();
    let grown = if io() == Io::Epoll { 20.0 } else { 0.0 };
    assert!((open - idle - grown).abs() <= 1.0 && (open - listed).abs() <= 2.0, "{idle} {open} {listed}");

    let cpu = read("process_cpu_seconds");
    wait_until("scrapes take time", || read("process_cpu_seconds") > cpu + 0.05);
    let ticks: Vec<f64> = system("stat").split_whitespace().skip(13).take(2).map(|t| t.parse().unwrap()).collect();
    let (used, seconds) = (read("process_cpu_seconds"), (ticks[0] + ticks[1]) / 100.0);
    assert!(seconds <= used + 0.03 && used < seconds + 0.5, "{used} {seconds}");
}
