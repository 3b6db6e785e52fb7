//! What wsgate runs with: defaults, `wsgate.toml`, environment `WSGATE_*`, flags, in
//! rising priority.
//!
//! Caller: `main`, before any thread is started, and again when it is told to read anew.
//! Everything below takes plain values out of [`Config`]; nothing else reads files,
//! variables or flags.
//!
//! * [`table`](SETTINGS): every option, declared once
//! * `cli`, `file`, `layers`: parse, each value checked against its declaration
//! * `validate`: rules between options
//! * `build`: the typed [`Config`]
//! * `reload`: the same again while the gateway runs
//! * `example`: what is printed about options: sample file, reference, what is in force

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::address::{ListenAddress, Networks};
use crate::policy::TopicPolicies;

mod build;
mod choice;
pub mod cli;
mod error;
mod example;
mod file;
mod layers;
mod reload;
mod secret;
mod setting;
mod table;
mod validate;
mod value;

pub use build::Machine;
pub use choice::{Io, LogLevel, Mode};
pub use error::ConfigError;
pub use layers::{FILE_DEFAULT, FILE_VARIABLE, Source};
pub use reload::{Reading, Reloaded};
pub use secret::ApiKey;
pub use setting::{ENVIRONMENT_PREFIX, Setting};
pub use table::SETTINGS;
pub use value::{Kind, Unit};

/// A configuration that was checked: every number is in its range, `auto` is
/// resolved, and the options go together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Whether strangers may be served.
    pub mode: Mode,
    /// Where clients connect, one address at least; port 0 takes a free one.
    pub listen: Vec<ListenAddress>,
    /// Where the API, health and metrics are; port 0 takes a free one.
    pub admin: SocketAddr,
    /// Event loops, 1 to 64.
    pub shards: usize,
    /// What an event loop waits with.
    pub io: Io,
    /// The least severe log lines that are written.
    pub log: LogLevel,
    /// Bounds.
    pub limits: Limits,
    /// What one client address may take.
    pub address_limits: AddressLimits,
    /// Patience.
    pub timeouts: Timeouts,
    /// Going down.
    pub drain: Drain,
    /// What is done with subscribers that read too slowly.
    pub slow_consumers: TopicPolicies,
    /// Who may connect, and do what.
    pub security: Security,
    /// Proxies that say on whose behalf they connect.
    pub proxy_protocol: ProxyProtocol,
    /// Certificates, and who may do without.
    pub tls: Tls,
    /// What API requests must carry in `X-API-Key`; nothing asks for nothing.
    pub api_key: Option<ApiKey>,
    /// Largest message over HTTP, in bytes.
    pub body_bytes_max: usize,
    /// How messages are compressed.
    pub compression: Compression,
    /// Whether `/echo` and `/ws` are served.
    pub echo: bool,
    /// Whether `/chat` is served.
    pub greeting: bool,
}

/// Bounds; what happens at each is told by `wsgate config example`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections of the process.
    pub connections_max: usize,
    /// Bytes of a connection's first request head.
    pub handshake_bytes_max: usize,
    /// Bytes that may wait for one connection.
    pub queue_bytes_max: usize,
    /// Bytes of replies waiting for one connection above which its reading pauses;
    /// at most `queue_bytes_max`.
    pub reply_bytes_watermark: usize,
    /// Bytes of a message on `/echo`.
    pub echo_message_bytes_max: usize,
    /// Bytes of a message on `/chat`.
    pub greeting_message_bytes_max: usize,
    /// Bytes of a message that a client publishes on `/topics/...`.
    pub plain_message_bytes_max: usize,
    /// Bytes of a frame's payload.
    pub frame_bytes_max: usize,
    /// Frames of a message.
    pub fragments_max: usize,
    /// Bytes of replies waiting for one connection above which only its newest ping is
    /// answered.
    pub pong_bytes_max: usize,
    /// Topics in use in the whole process.
    pub topics_max: usize,
    /// Topics without subscribers whose offset a shard remembers.
    pub topics_idle_max: usize,
    /// Entries of the ring from one shard to another.
    pub mailbox_entries: usize,
    /// Published bytes waiting for another shard's full ring or for their flush above which
    /// publishing pauses.
    pub overflow_bytes_max: usize,
    /// Bytes that may wait for all connections together.
    pub queue_bytes_total_max: usize,
    /// Bytes not yet sent that the kernel takes for one connection.
    pub kernel_unsent_bytes: usize,
    /// Bytes of the kernel's send buffer for one connection; nothing leaves it to the system.
    pub kernel_send_bytes: Option<usize>,
    /// The same of its receive buffer.
    pub kernel_receive_bytes: Option<usize>,
}

/// What one client address may take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressLimits {
    /// Connections at once; 0 is any number.
    pub connections_max: usize,
    /// Handshakes in a second; 0 is any number.
    pub handshakes_per_second_max: usize,
    /// Addresses to which these do not apply.
    pub exempt: Networks,
}

/// permessage-deflate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compression {
    /// Whether it is agreed on with clients that offer it.
    pub enabled: bool,
    /// Bytes below which a message is sent as it is.
    pub message_bytes_min: usize,
    /// From 1, fast, to 9, small.
    pub level: usize,
    /// Whether what is sent to one client alone may refer to what it was sent before.
    pub server_context_takeover: bool,
    /// Whether what a client sends may refer to what it sent before.
    pub client_context_takeover: bool,
    /// Bytes of memory that context takeover may take for all connections together.
    pub context_bytes_max: usize,
    /// Whether clients may compress control frames.
    pub control_frames: bool,
}

/// How long wsgate waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// From accepting a connection to answering its request.
    pub handshake: Duration,
    /// From a connection's last sign of life to a ping.
    pub ping_interval: Duration,
    /// From a ping to the end of a connection that does not answer.
    pub pong_timeout: Duration,
    /// From a client's last message to the end of its connection, if it ends for that.
    pub idle: Option<Duration>,
    /// From sending a Close to the end of a connection that does not answer it.
    pub close: Duration,
    /// From sending bytes that the peer's machine does not acknowledge to the end of the
    /// connection.
    pub unacknowledged: Duration,
}

/// How the gateway goes down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drain {
    /// From the signal until nobody is taken in any more and connections are told.
    pub grace: Duration,
    /// From the first connection that is told to the last.
    pub spread: Duration,
    /// From the signal to the end of the process; above the two others together.
    pub deadline: Duration,
}

/// Peers that begin with a PROXY header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProxyProtocol {
    /// Their addresses.
    pub trusted: Networks,
    /// Whether all peers at Unix sockets are such.
    pub trusts_unix: bool,
    /// Bytes of a header of version 2.
    pub header_bytes_max: usize,
}

/// Who may connect, and do what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Security {
    /// Names besides loopback ones that are answered for where `check_host`; in lower
    /// case, IPv6 without brackets.
    pub allowed_hosts: Vec<String>,
    /// Whether the Host header is checked against DNS rebinding.
    pub check_host: bool,
    /// Hosts whose pages may connect besides the request's own host; `*` is any. In
    /// lower case, IPv6 without brackets.
    pub allowed_origins: Vec<String>,
    /// Whether clients may subscribe that have not said who they are.
    pub anonymous_subscribe: bool,
    /// Whether clients may publish that have not said who they are.
    pub anonymous_publish: bool,
}

/// How clients are served over TLS; not at all without certificates.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Tls {
    /// Certificates in the order of preference; the first is the default.
    pub certificates: Vec<CertificateFiles>,
    /// Whether TLS 1.2 is refused.
    pub only_version_1_3: bool,
    /// Whether clients that do not speak TLS are served, too.
    pub allow_plaintext: bool,
}

/// Where a certificate and its key are, in PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateFiles {
    /// The server's certificate, and behind it those that lead to the root.
    pub certificates: PathBuf,
    /// Its private key; may be the same file.
    pub key: PathBuf,
}

impl Default for Config {
    /// What `wsgate` runs with when nobody says anything: development mode on this
    /// machine's loopback addresses.
    fn default() -> Self {
        build::build(&layers::Layers::defaults(), &Machine::here())
    }
}
