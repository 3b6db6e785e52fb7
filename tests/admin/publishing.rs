//! Messages that are published over HTTP, and what is answered when they cannot be.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::Notify;
use tungstenite::Message;
use wsgate::command::{Address, Envelope, LiveOptions, Position, TopicsFull};
use wsgate::control::{ApiOptions, Control, ControlSettings, DrainPlan};
use wsgate::driver::mailbox::{Post, post_offices};
use wsgate::origin::OriginPolicy;
use wsgate::stats::ShardStats;

use crate::common::{PATIENCE, RawClient, TestServer, scraped};
use crate::{HOST, answer, get, post, request};

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
    assert_eq!(server.scraped("publishes_refused", "\"body_too_long\""), 2);
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

fn live_options() -> Arc<LiveOptions> {
    let origin = Arc::new(OriginPolicy::default());
    Arc::new(LiveOptions { origin, policies: Arc::default(), anonymous_subscribe: true, anonymous_publish: true })
}

const OVERFLOW_BYTES_MAX: u64 = 1 << 20;

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
            overflow_bytes_max: OVERFLOW_BYTES_MAX,
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

    /// Publishes that were refused for this reason.
    fn refused(&self, reason: &str) -> u64 {
        scraped(self.admin, "publishes_refused", &format!("reason=\"{reason}\""))
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
    assert_eq!(staged.refused("mailbox_full"), 1);
    staged.control.stop();
}

#[test]
fn too_much_that_waits_is_answered_503_with_retry_after_until_it_has_left() {
    let mut staged = Staged::start();
    staged.shard.set_unflushed_bytes(OVERFLOW_BYTES_MAX + 1);
    let refused = answer(&mut staged.post());
    refused.expect_error(503, "limits.overflow_bytes_max");
    assert_eq!(refused.header("Retry-After"), Some("1"));
    staged.shard.set_unflushed_bytes(OVERFLOW_BYTES_MAX);
    let mut taken = staged.post();
    staged.order(Ok(Position { epoch: 255, offset: 1 }));
    assert_eq!(answer(&mut taken).status, 200);
    assert_eq!((staged.refused("overflow"), staged.refused("mailbox_full")), (1, 0));
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
    assert_eq!(staged.refused("topics_full"), 1);
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
