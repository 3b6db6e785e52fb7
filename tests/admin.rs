//! The admin address: who may use it, publishing over HTTP, health, metrics.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::{PATIENCE, RawClient, TestServer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::Notify;
use tungstenite::Message;
use wsgate::command::{Address, Envelope, LiveOptions, Position, TopicsFull};
use wsgate::config::cli::{Command, Surroundings, parse_in};
use wsgate::config::{ApiKey, Machine};
use wsgate::control::{ApiOptions, Control, ControlSettings, DrainPlan};
use wsgate::driver::mailbox::{Post, post_offices};
use wsgate::origin::OriginPolicy;
use wsgate::stats::{CloseReason, ShardStats};

const KEY: &str = "sixteen-bytes-or-more";

/// What the admin address answers.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    /// Refused with this status, and words that contain `part`.
    #[track_caller]
    fn expect_error(&self, status: u16, part: &str) {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"));
        let words = body["error"].as_str().unwrap_or_default();
        assert!(self.status == status && words.contains(part), "{status} {part:?} expected: {self:?}");
    }
}

/// One request with exactly these headers, and no Host but the one given.
fn ask(admin: SocketAddr, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut client = RawClient::connect(admin);
    client.send(&request(line, headers, body));
    answer(&mut client)
}

fn request(line: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        request += &format!("Content-Length: {}\r\n", body.len());
    }
    [request.as_bytes(), b"\r\n", body].concat()
}

fn answer(client: &mut RawClient) -> Answer {
    let text = String::from_utf8(client.read_to_end()).expect("HTTP answers are text");
    let (head, body) = text.split_once("\r\n\r\n").expect(&text);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect(head);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

const HOST: (&str, &str) = ("Host", "localhost");

fn post(admin: SocketAddr, topic: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    ask(admin, &format!("POST /topics/{topic}"), &[&[HOST], headers].concat(), body)
}

fn get(admin: SocketAddr, path: &str) -> Answer {
    ask(admin, &format!("GET {path}"), &[HOST], b"")
}

/// The key as the environment sets it.
fn api_key() -> Option<ApiKey> {
    let environment = vec![("WSGATE_ADMIN_API_KEY".into(), KEY.into())];
    let surroundings = Surroundings { directory: PathBuf::new(), environment, machine: Machine::here() };
    match parse_in(["wsgate".into()], &surroundings) {
        Ok(Command::Serve(config)) => config.api_key,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_api_wants_its_key_and_health_does_not() {
    let server = TestServer::with(|config| config.api_key = api_key());
    let admin = server.admin;
    let wrong = KEY.replace('m', "M");
    for line in ["POST /topics/a", "GET /metrics", "GET /topics/a"] {
        ask(admin, line, &[HOST], b"").expect_error(401, "X-API-Key is missing");
        ask(admin, line, &[HOST, ("X-API-Key", "")], b"").expect_error(401, "is not the API key");
        ask(admin, line, &[HOST, ("X-API-Key", &wrong)], b"").expect_error(401, "is not the API key");
        ask(admin, line, &[HOST, ("X-API-Key", &KEY[1..])], b"").expect_error(401, "is not the API key");
    }
    assert_eq!(server.sum(|stats| &stats.published), 0);
    assert_eq!(post(admin, "a", &[("x-api-key", KEY)], b"m").status, 200);
    assert_eq!(ask(admin, "GET /metrics", &[HOST, ("X-API-Key", KEY)], b"").status, 200);
    assert_eq!(server.sum(|stats| &stats.published), 1);
    assert_eq!(get(admin, "/health").status, 200);
}

#[test]
fn names_that_were_rebound_to_this_machine_are_refused() {
    let server = TestServer::with(|config| config.security.allowed_hosts = vec!["gateway.example".into()]);
    for line in ["POST /topics/a", "GET /metrics", "GET /health", "GET /nothing"] {
        for host in ["evil.example", "127.0.0.1.evil.example:8001", "localhost.evil.example", "192.0.2.1", ""] {
            ask(server.admin, line, &[("Host", host)], b"").expect_error(403, "is not served here");
        }
        ask(server.admin, line, &[], b"").expect_error(400, "Host is missing");
    }
    let own = server.admin.to_string();
    for host in [own.as_str(), "localhost", "LOCALHOST:1", "[::1]:8001", "gateway.example:8001"] {
        assert_eq!(ask(server.admin, "GET /health", &[("Host", host)], b"").status, 200, "{host}");
    }
    assert_eq!(server.sum(|stats| &stats.published), 0);
}

#[test]
fn pages_of_elsewhere_are_refused() {
    let server = TestServer::with(|config| config.security.allowed_origins = vec!["page.example".into()]);
    for origin in ["http://evil.example", "null", "http://localhost.evil.example", "http://page.example.evil.example"] {
        let headers = [HOST, ("Origin", origin)];
        ask(server.admin, "POST /topics/a", &headers, b"m").expect_error(403, "may not use the API");
        ask(server.admin, "GET /metrics", &headers, b"").expect_error(403, "security.allowed_origins");
    }
    assert_eq!(server.sum(|stats| &stats.published), 0);
    for origin in ["http://localhost:3000", "https://page.example"] {
        assert_eq!(post(server.admin, "a", &[("Origin", origin)], b"m").status, 200, "{origin}");
    }
}

#[test]
fn production_answers_for_any_host_and_still_not_for_any_page() {
    let server = TestServer::with(|config| config.security.check_host = false);
    let host = ("Host", "gateway.example");
    assert_eq!(ask(server.admin, "GET /health", &[host], b"").status, 200);
    ask(server.admin, "POST /topics/a", &[host, ("Origin", "http://evil.example")], b"m").expect_error(403, "origin");
}

#[test]
fn the_content_type_decides_between_text_and_binary() {
    let server = TestServer::start();
    let mut subscriber = server.client("/topics/a");
    let long = "ü".repeat(50_000);
    for (content_type, body, arrives) in [
        (None, "plain", Message::text("plain")),
        (Some("text/plain"), "", Message::text("")),
        (Some("application/json"), "{}", Message::text("{}")),
        (Some("application/octet-stream"), "bytes", Message::binary("bytes")),
        (Some("text/plain"), &long, Message::text(long.as_str())),
    ] {
        let headers: Vec<_> = content_type.map(|value| ("Content-Type", value)).into_iter().collect();
        let answer = post(server.admin, "a", &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(subscriber.receive(), arrives);
    }
    let no_text = b"\xff\xfe";
    let octets = ("Content-Type", "application/octet-stream");
    assert_eq!(post(server.admin, "a", &[octets], no_text).status, 200);
    assert_eq!(subscriber.receive(), Message::binary(no_text.as_slice()));
    post(server.admin, "a", &[], no_text).expect_error(400, "application/octet-stream");
    post(server.admin, "a", &[("Content-Type", "text/plain")], b"cut: \xe2\x82").expect_error(400, "UTF-8");
    server.publish("a", "text/plain", b"the next");
    assert_eq!(subscriber.receive_text(), "the next", "what was refused has not been published");
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let server = TestServer::with(|config| config.body_bytes_max = 1000);
    assert_eq!(post(server.admin, "a", &[], &[b'm'; 1000]).status, 200);
    post(server.admin, "a", &[], &[b'm'; 1001]).expect_error(413, "limit");
    // Without a length that could be looked at first.
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 1001, "m".repeat(1001));
    let mut client = RawClient::connect(server.admin);
    let head = "POST /topics/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(format!("{head}{chunk}").as_bytes());
    answer(&mut client).expect_error(413, "limit");
    assert_eq!(server.sum(|stats| &stats.published), 1);
}

#[test]
fn a_topic_name_that_cannot_be_is_refused_and_a_strange_one_is_not() {
    let server = TestServer::start();
    let long = "n".repeat(256);
    for (name, part) in [
        ("", "empty"),
        ("%", "hexadecimal"),
        ("%zz", "hexadecimal"),
        ("%ff", "UTF-8"),
        ("a%00", "U+0000"),
        ("%0A", "U+000A"),
        (&long, "256 bytes"),
    ] {
        post(server.admin, name, &[], b"m").expect_error(400, part);
    }
    for (name, decoded) in
        [("a%2Fb", "a/b"), ("a/b//c", "a/b//c"), ("%E6%BC%A2+%20%25", "漢+ %"), (&long[1..], &long[1..])]
    {
        let answer = post(server.admin, name, &[], b"m");
        let body: serde_json::Value = serde_json::from_str(&answer.body).expect(&answer.body);
        assert_eq!((answer.status, body["topic"].as_str()), (200, Some(decoded)));
    }
}

#[test]
fn what_is_not_served_is_said_so() {
    let server = TestServer::start();
    for line in ["GET /topics/a", "PUT /topics/a", "DELETE /topics/a"] {
        let answer = ask(server.admin, line, &[HOST], b"");
        assert_eq!((answer.status, answer.header("Allow")), (405, Some("POST")), "{line}: {answer:?}");
    }
    for line in ["POST /metrics", "POST /health"] {
        let answer = ask(server.admin, line, &[HOST], b"");
        assert_eq!((answer.status, answer.header("Allow")), (405, Some("GET,HEAD")), "{line}: {answer:?}");
    }
    for path in ["/", "/topics", "/nothing", "/metrics/", "/health/x"] {
        get(server.admin, path).expect_error(404, &format!("{path:?}"));
    }
}

#[test]
fn health_says_ok_and_while_draining_not() {
    let server = TestServer::with(|config| {
        (config.drain.deadline, config.timeouts.close) = (PATIENCE, PATIENCE);
    });
    // Keeps the gateway from being done, until it answers.
    let mut client = server.raw_open("/echo");
    assert_eq!(get(server.admin, "/health").body, "ok\n");
    server.drain();
    get(server.admin, "/health").expect_error(503, "draining");
    client.answer_close(1001);
    client.expect_end();
    drop(client);
    server.wait();
}

/// One metric family: its type, and its samples by name and labels.
#[derive(Default, Debug)]
struct Family {
    kind: String,
    samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

/// Reads OpenMetrics text, and refuses what its specification does not allow.
/// Metrics of the whole process, not of a shard.
const PROCESS: [&str; 4] =
    ["wsgate_resident_bytes", "wsgate_kernel_tcp_bytes", "wsgate_reloads", "wsgate_reloads_total"];

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
        "closes",
        "conflated",
        "deflated",
        "deliveries",
        "dropped",
        "envelopes",
        "flushes",
        "handshakes",
        "inflated",
        "messages_queued",
        "messages_received",
        "pings_skipped",
        "published",
        "received_bytes",
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
        "assembly_memory_bytes",
        "resident_bytes",
        "subscriptions",
        "topic_memory_bytes",
        "topics",
    ];
    let expected = (counters.map(|name| (name, "counter")).into_iter())
        .chain(gauges.map(|name| (name, "gauge")))
        .chain([("loop_turn_seconds", "histogram"), ("publish_to_flush_seconds", "histogram")])
        .map(|(name, kind)| (format!("wsgate_{name}"), kind))
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

fn live_options() -> Arc<LiveOptions> {
    let origin = Arc::new(OriginPolicy::default());
    Arc::new(LiveOptions { origin, policies: Arc::default(), anonymous_subscribe: true, anonymous_publish: true })
}

/// A control plane whose only shard is played by the test, with room for one envelope.
struct Staged {
    control: Control,
    shard: Post,
    admin: SocketAddr,
}

impl Staged {
    fn start() -> Self {
        let bell = Arc::new(Notify::new());
        let ring = bell.clone();
        let mut posts = post_offices(1, 1, Box::new(move || ring.notify_one())).unwrap();
        let (control_post, shard) = (posts.pop().unwrap(), posts.pop().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let admin = listener.local_addr().unwrap();
        let settings = ControlSettings {
            shards: 1,
            hash_seed: 1,
            live: ApiOptions { api_key: None, shards: live_options() },
            process: Arc::default(),
            body_bytes_max: 1000,
            overflow_bytes_max: 1 << 20,
            drain: DrainPlan { grace: Duration::ZERO, spread: Duration::ZERO, deadline: PATIENCE, seed: 1 },
        };
        let stats: Arc<[Arc<ShardStats>]> = [Arc::default()].into();
        let control = Control::start(settings, listener, control_post, bell, stats).unwrap();
        Self { control, shard, admin }
    }

    /// Waits until there is mail, and leaves it where it is, or room for what waits.
    fn wait_for_mail(&mut self) {
        while self.shard.prepare_sleep() {
            let timeout = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
            let mut ready = [PollFd::new(self.shard.descriptor().unwrap(), PollFlags::IN)];
            assert_eq!(poll(&mut ready, Some(&timeout)), Ok(1), "woken in time");
            self.shard.awake();
            self.shard.reset();
        }
    }

    /// Answers as the shard would, which carries its mail out at each turn.
    fn reply(&mut self, envelope: Envelope) {
        self.shard.send(Address::Control, envelope);
        self.shard.announce();
        while self.shard.overflow_bytes() > 0 {
            self.wait_for_mail();
            self.shard.announce();
        }
    }

    /// Answers a probe, which is the next mail.
    fn answer_probe(&mut self) {
        self.wait_for_mail();
        match self.shard.receive() {
            Some(Envelope::Probe { token }) => self.reply(Envelope::ProbeAnswer { token }),
            other => panic!("{other:?}"),
        }
    }

    /// Orders the message that is the next mail.
    fn order(&mut self, result: Result<Position, TopicsFull>) {
        self.wait_for_mail();
        match self.shard.receive() {
            Some(Envelope::PublishRequest { token, .. }) => self.reply(Envelope::Published { token, result }),
            other => panic!("{other:?}"),
        }
    }

    fn post(&self) -> RawClient {
        let mut client = RawClient::connect(self.admin);
        client.send(&request("POST /topics/a", &[HOST], b"m"));
        client
    }
}

#[test]
fn a_full_mailbox_is_answered_503_with_retry_after_until_there_is_room() {
    let mut staged = Staged::start();
    let mut first = staged.post();
    staged.wait_for_mail();
    let refused = answer(&mut staged.post());
    refused.expect_error(503, "try again later");
    assert_eq!(refused.header("Retry-After"), Some("1"));

    staged.order(Ok(Position { epoch: 255, offset: 41 }));
    let ordered = answer(&mut first);
    assert_eq!((ordered.status, &*ordered.body), (200, r#"{"epoch":"00000000000000ff","offset":41,"topic":"a"}"#));
    let mut second = staged.post();
    staged.order(Ok(Position { epoch: 255, offset: 42 }));
    assert_eq!(answer(&mut second).status, 200);
    staged.control.stop();
}

#[test]
fn a_full_topic_table_is_answered_503_with_retry_after() {
    let mut staged = Staged::start();
    let mut client = staged.post();
    staged.order(Err(TopicsFull { limit: 7 }));
    let refused = answer(&mut client);
    refused.expect_error(503, "limit 7");
    assert_eq!(refused.header("Retry-After"), Some("1"));
    staged.control.stop();
}

#[test]
fn a_shard_that_does_not_turn_makes_health_say_so_and_publishers_wait_no_longer_than_needed() {
    let mut staged = Staged::start();
    let mut publisher = staged.post();
    staged.wait_for_mail();
    // Its probe finds the mailbox full, and waits.
    get(staged.admin, "/health").expect_error(503, "shard 0");
    answer(&mut publisher).expect_error(504, "may have been published or not");
    // Late answers are for nobody.
    staged.order(Ok(Position { epoch: 0, offset: 1 }));
    staged.answer_probe();

    let mut client = RawClient::connect(staged.admin);
    client.send(&request("GET /health", &[HOST], b""));
    staged.answer_probe();
    assert_eq!(answer(&mut client).status, 200, "it turns again");
    staged.control.stop();
}

/// Clients that keep their HTTP connection open must not keep the gateway from ending.
#[test]
fn an_idle_http_connection_does_not_hold_up_the_end() {
    let server = TestServer::start();
    let mut client = RawClient::connect(server.admin);
    client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(client.read_head().starts_with("HTTP/1.1 200 "));
    client.expect(b"ok\n");
    server.drain();
    server.wait();
    client.0.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.expect_gone();
}
