//! The last step: from checked values to the [`Config`] that everything else takes.

use std::net::SocketAddr;
use std::thread::available_parallelism;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::choice::{Io, LogLevel, Mode};
use super::layers::Layers;
use super::secret::ApiKey;
use super::value::{Kind, UNIX, Value, certificate_pair};
use super::{
    AddressLimits, CertificateFiles, Compression, Config, Drain, Limits, ProxyProtocol, Security, Timeouts, Tls,
};
use crate::address::{ListenAddress, Networks};
use crate::policy::TopicPolicies;

/// Descriptors that "auto" keeps from connections: listeners, event loops, the API's
/// connections, log files. With few descriptors in all, half of them.
const FILES_HEADROOM: u64 = 256;

/// What `auto` depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Cores that this process may use (affinity and cgroup quota considered).
    pub parallelism: usize,
    /// The hard limit of open files; nothing if there is none.
    pub files_max: Option<u64>,
    /// That limit holds for the thread of each shard, not for all of them together.
    pub files_of_each_shard: bool,
}

impl Machine {
    /// The machine and the limits that this process has.
    pub fn here() -> Self {
        Self {
            parallelism: available_parallelism().map_or(1, usize::from),
            files_max: getrlimit(Resource::Nofile).maximum,
            files_of_each_shard: false,
        }
    }
}

/// Builds from values that `validate` has passed.
pub(super) fn build(layers: &Layers, machine: &Machine) -> Config {
    let values = Values(layers);
    let mode = values.word("mode", Mode::from_word).expect("mode has no auto");
    let development = mode == Mode::Development;
    let anonymous = values.list("security.anonymous");
    let shards = values.whole_or("shards", machine.parallelism as u64);
    let io = values.word("io", Io::from_word).unwrap_or(Io::Epoll);
    Config {
        mode,
        listen: values.listeners("listen"),
        admin: values.address("admin"),
        shards,
        io,
        log: values.word("log", LogLevel::from_word).expect("log has no auto"),
        limits: Limits {
            connections_max: values.whole_or("limits.connections_max", connections_auto(machine, io, shards)),
            handshake_bytes_max: values.whole("limits.handshake_bytes_max"),
            queue_bytes_max: values.whole("limits.queue_bytes_max"),
            reply_bytes_watermark: values.whole("limits.reply_bytes_watermark"),
            echo_message_bytes_max: values.whole("limits.echo_message_bytes_max"),
            greeting_message_bytes_max: values.whole("limits.greeting_message_bytes_max"),
            plain_message_bytes_max: values.whole("limits.plain_message_bytes_max"),
            frame_bytes_max: values.whole("limits.frame_bytes_max"),
            fragments_max: values.whole("limits.fragments_max"),
            pong_bytes_max: values.whole("limits.pong_bytes_max"),
            topics_max: values.whole("limits.topics_max"),
            topics_idle_max: values.whole("limits.topics_idle_max"),
            mailbox_entries: values.whole("limits.mailbox_entries"),
            overflow_bytes_max: values.whole("limits.overflow_bytes_max"),
            queue_bytes_total_max: values.whole("limits.queue_bytes_total_max"),
            kernel_unsent_bytes: values.whole("limits.kernel_unsent_bytes"),
            kernel_send_bytes: values.whole_if_given("limits.kernel_send_bytes"),
            kernel_receive_bytes: values.whole_if_given("limits.kernel_receive_bytes"),
        },
        address_limits: AddressLimits {
            connections_max: values.whole("address_limits.connections_max"),
            handshakes_per_second_max: values.whole("address_limits.handshakes_per_second_max"),
            exempt: values.networks("address_limits.exempt"),
        },
        timeouts: Timeouts {
            handshake: values.milliseconds("timeouts.handshake_ms"),
            ping_interval: values.milliseconds("timeouts.ping_interval_ms"),
            pong_timeout: values.milliseconds("timeouts.pong_timeout_ms"),
            idle: Some(values.milliseconds("timeouts.idle_ms")).filter(|idle| !idle.is_zero()),
            close: values.milliseconds("timeouts.close_ms"),
            unacknowledged: values.milliseconds("timeouts.unacknowledged_ms"),
        },
        drain: drain(&values, development),
        slow_consumers: TopicPolicies::new(
            values.list("topics.slow_consumers").iter().filter_map(|rule| TopicPolicies::parse_rule(rule)).collect(),
        ),
        security: Security {
            allowed_hosts: values.list("security.allowed_hosts"),
            check_host: development,
            allowed_origins: values.list("security.allowed_origins"),
            anonymous_subscribe: anonymous.iter().any(|right| right == "subscribe"),
            anonymous_publish: anonymous.iter().any(|right| right == "publish"),
        },
        proxy_protocol: ProxyProtocol {
            trusted: values.networks("proxy_protocol.trusted"),
            trusts_unix: values.list("proxy_protocol.trusted").iter().any(|item| item == UNIX),
            header_bytes_max: values.whole("proxy_protocol.header_bytes_max"),
        },
        tls: Tls {
            certificates: (values.list("tls.certificates").iter())
                .filter_map(|pair| certificate_pair(pair))
                .map(|(certificates, key)| CertificateFiles { certificates: certificates.into(), key: key.into() })
                .collect(),
            only_version_1_3: values.word("tls.version_min", |word| Some(word == "1.3")).unwrap_or(false),
            allow_plaintext: values.switch_or("tls.allow_plaintext", false),
        },
        api_key: values.secret("admin_api.key"),
        body_bytes_max: values.whole("admin_api.body_bytes_max"),
        compression: Compression {
            enabled: values.switch("compression.enabled"),
            message_bytes_min: values.whole("compression.message_bytes_min"),
            level: values.whole("compression.level"),
            server_context_takeover: values.switch("compression.server_context_takeover"),
            client_context_takeover: values.switch("compression.client_context_takeover"),
            context_bytes_max: values.whole("compression.context_bytes_max"),
            control_frames: values.switch("compression.control_frames"),
        },
        echo: values.switch_or("dialects.echo", development),
        greeting: values.switch_or("dialects.greeting", development),
    }
}

fn connections_auto(machine: &Machine, io: Io, shards: usize) -> u64 {
    let Some(files) = machine.files_max else { return u64::MAX };
    match io {
        Io::Epoll => {
            let tables = if machine.files_of_each_shard { shards as u64 } else { 1 };
            files.saturating_sub(FILES_HEADROOM).max(files / 2).saturating_mul(tables)
        }
        // Its sockets are in the rings, each of which holds as many as a process may open
        // files.
        Io::IoUring => files.saturating_mul(shards as u64),
    }
}

/// Nobody has to notice that a gateway for one machine goes. Elsewhere "auto" leaves the
/// last connections time to answer, and never takes more than half of what is left.
fn drain(values: &Values<'_>, development: bool) -> Drain {
    let deadline = values.milliseconds("drain.deadline_ms");
    let (grace, spread) = (values.given_milliseconds("drain.grace_ms"), values.given_milliseconds("drain.spread_ms"));
    let auto = |part: Duration, taken: Duration| {
        if development { Duration::ZERO } else { part.min(deadline.saturating_sub(taken) / 2) }
    };
    let grace = grace.unwrap_or_else(|| auto(deadline / 5, spread.unwrap_or_default()));
    let spread = spread.unwrap_or_else(|| auto(deadline * 2 / 5, grace));
    Drain { grace, spread, deadline }
}

/// Values by key and type. A key or type that the table does not declare is a bug
/// of this file and panics; every test that builds a `Config` would show it.
struct Values<'a>(&'a Layers);

impl Values<'_> {
    fn address(&self, key: &str) -> SocketAddr {
        match self.0.value(key) {
            Value::Address(address) => *address,
            other => mistyped(key, other),
        }
    }

    fn listeners(&self, key: &str) -> Vec<ListenAddress> {
        self.list(key).iter().map(|item| item.parse().expect("the table's kind has read it")).collect()
    }

    fn networks(&self, key: &str) -> Networks {
        Networks::new(self.list(key).iter().filter_map(|item| Networks::parse_block(item)).collect())
    }

    fn word<T>(&self, key: &str, from_word: fn(&str) -> Option<T>) -> Option<T> {
        match self.0.value(key) {
            Value::Word(word) => from_word(word),
            Value::Auto => None,
            other => mistyped(key, other),
        }
    }

    fn whole(&self, key: &str) -> usize {
        match self.0.value(key) {
            Value::Whole(number) => usize::try_from(*number).expect("the table's ranges fit"),
            other => mistyped(key, other),
        }
    }

    /// The number, or for `auto` the one given here, brought into the option's range.
    fn whole_or(&self, key: &str, auto: u64) -> usize {
        match (self.0.value(key), &self.0.entry(key).setting.kind) {
            (Value::Auto, Kind::Whole { min, max, .. }) => {
                usize::try_from(auto.clamp(*min, *max)).expect("the table's ranges fit")
            }
            _ => self.whole(key),
        }
    }

    /// The number; nothing for `auto`, which leaves it to the system.
    fn whole_if_given(&self, key: &str) -> Option<usize> {
        (*self.0.value(key) != Value::Auto).then(|| self.whole(key))
    }

    fn milliseconds(&self, key: &str) -> Duration {
        Duration::from_millis(self.whole(key) as u64)
    }

    /// Nothing for `auto`.
    fn given_milliseconds(&self, key: &str) -> Option<Duration> {
        (self.0.value(key) != &Value::Auto).then(|| self.milliseconds(key))
    }

    fn switch_or(&self, key: &str, auto: bool) -> bool {
        match self.0.value(key) {
            Value::Switch(on) => *on,
            Value::Auto => auto,
            other => mistyped(key, other),
        }
    }

    fn switch(&self, key: &str) -> bool {
        match self.0.value(key) {
            Value::Switch(on) => *on,
            other => mistyped(key, other),
        }
    }

    fn list(&self, key: &str) -> Vec<String> {
        match self.0.value(key) {
            Value::List(list) => list.clone(),
            other => mistyped(key, other),
        }
    }

    fn secret(&self, key: &str) -> Option<ApiKey> {
        match self.0.value(key) {
            Value::Secret(key) => key.clone(),
            other => mistyped(key, other),
        }
    }
}

fn mistyped(key: &str, value: &Value) -> ! {
    unreachable!("{key} is declared with another type than it is built with: {value:?}")
}
