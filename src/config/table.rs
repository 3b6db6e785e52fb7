//! Every option that there is, declared once: key, values, unit, default, reason.
//!
//! Add an option here and read it in `build`; nothing else has to know it.

use super::choice::{Io, LogLevel, Mode};
use super::setting::Setting;
use super::value::Kind::{
    self, Address, Certificates, Choice, Hosts, Listeners, Networks, Policies, Secret, Subset, Switch,
};
use super::value::Unit;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const HOUR_MS: u64 = 3_600_000;

const fn count(min: u64, max: u64) -> Kind {
    Kind::Whole { min, max, unit: Unit::Count }
}

const fn bytes(min: u64, max: u64) -> Kind {
    Kind::Whole { min, max, unit: Unit::Bytes }
}

const fn milliseconds(min: u64, max: u64) -> Kind {
    Kind::Whole { min, max, unit: Unit::Milliseconds }
}

/// The sections of the file in their order, with what they are about.
pub(super) static SECTIONS: &[(&str, &str)] = &[
    ("", "Where wsgate listens, and with what."),
    ("security", "Who may connect, and do what."),
    ("proxy_protocol", "Proxies that say on whose behalf they connect (PROXY protocol 1 and 2)."),
    ("tls", "Certificates for wss://. Without any, clients are served in the clear."),
    ("admin_api", "The HTTP API for back ends and operators, on the admin address."),
    ("topics", "What is done for topics by their names."),
    ("limits", "Bounds, so that no client takes what belongs to the others."),
    ("address_limits", "What one client address may take, so that others find room."),
    ("compression", "permessage-deflate (RFC 7692), for clients that offer it."),
    ("timeouts", "How long wsgate waits."),
    ("drain", "How wsgate goes down, on SIGTERM and SIGINT. A second signal stops it at once."),
    ("dialects", "Paths that only try out a connection."),
];

/// Options that a running gateway follows when it is told to read its configuration
/// again (SIGHUP). All others take effect at the next start.
pub(super) static RELOADABLE: &[&str] = &[
    "log",
    "security.anonymous",
    "security.allowed_hosts",
    "security.allowed_origins",
    "admin_api.key",
    "topics.slow_consumers",
];

/// All options, in the order in which they are listed everywhere.
pub static SETTINGS: &[Setting] = &[
    Setting {
        key: "mode",
        kind: Choice(Mode::WORDS),
        default: "development",
        help: "Whether strangers may be served.",
        reason: "Development takes no decisions, so it listens on loopback addresses only. Production listens \
                 anywhere, once everything that matters there is decided; what is missing is listed at the start.",
    },
    Setting {
        key: "listen",
        kind: Listeners,
        default: "127.0.0.1:8000",
        help: "Where clients connect, at all of these addresses.",
        reason: "Port 0 takes a free one; the start line names it. An IPv6 address serves IPv6 alone, [::] too: list \
                 0.0.0.0 beside it for both. A Unix socket gets the permissions 660 unless its address names others; \
                 a file that is left of one is removed if nobody answers there. \"systemd\" takes the sockets that \
                 were passed by socket activation, \"systemd:NAME\" those of that FileDescriptorName.",
    },
    Setting {
        key: "admin",
        kind: Address,
        default: "127.0.0.1:8001",
        help: "Where the HTTP API, health and metrics are.",
        reason: "A port of its own, so that a firewall can open one and not the other.",
    },
    Setting {
        key: "shards",
        kind: count(1, 64),
        default: "auto",
        help: "Event loops, each a thread with connections of its own.",
        reason: "\"auto\" is one for each core that this process may use (CPU affinity and cgroup quota). Fewer leave \
                 cores to other programs; more than cores gain nothing.",
    },
    Setting {
        key: "io",
        kind: Choice(Io::WORDS),
        default: "auto",
        help: "What an event loop waits with.",
        reason: "\"auto\" is epoll: io_uring measured between a tenth better and a tenth worse, by the kind of work. It takes \
                 Linux 6.12 and a kernel or container that allows it.",
    },
    Setting {
        key: "log",
        kind: Choice(LogLevel::WORDS),
        default: "info",
        help: "The least severe log lines that are written.",
        reason: "No level writes a line per message.",
    },
    Setting {
        key: "security.plaintext",
        kind: Switch,
        default: "false",
        help: "Whether production may listen without TLS.",
        reason: "Set it where a proxy in front ends TLS, or where nobody can listen in; not needed with \
                 tls.certificates. Development mode does not ask.",
    },
    Setting {
        key: "security.anonymous",
        kind: Subset(&["subscribe", "publish"]),
        default: "subscribe,publish",
        help: "What clients may do that have not said who they are.",
        reason: "Production wants this written down, since it decides whether strangers may read and write.",
    },
    Setting {
        key: "security.allowed_hosts",
        kind: Hosts { any: false },
        default: "",
        help: "Names besides localhost that development mode answers for in the Host header.",
        reason: "Other names are refused: a web page could point its own name at this machine (DNS rebinding). \
                 Production answers for any name.",
    },
    Setting {
        key: "security.allowed_origins",
        kind: Hosts { any: true },
        default: "",
        help: "Hosts whose web pages may connect from browsers.",
        reason: "A page may always connect to the host that it came from; other pages only when listed here.",
    },
    Setting {
        key: "proxy_protocol.trusted",
        kind: Networks { unix: true },
        default: "",
        help: "Peers whose connections begin with a PROXY header, and are refused without one.",
        reason: "The client's address in it counts for address_limits and for logs. From anybody else such a \
                 header is no HTTP and gets 400.",
    },
    Setting {
        key: "proxy_protocol.header_bytes_max",
        kind: bytes(256, 64 * KIB),
        default: "4 KiB",
        help: "Largest PROXY header of version 2.",
        reason: "Proxies that add certificates need more. Version 1 has 107 bytes at most.",
    },
    Setting {
        key: "tls.certificates",
        kind: Certificates,
        default: "",
        help: "Files with certificates and their private keys, in PEM; with any, clients speak TLS.",
        reason: "A file of certificates has the server's own first, then those that lead to the root. A client gets \
                 the first one that has the name which it asked for, or else the first of all. SIGHUP reads the files \
                 anew.",
    },
    Setting {
        key: "tls.version_min",
        kind: Choice(&["1.2", "1.3"]),
        default: "1.2",
        help: "The oldest version of TLS that is spoken.",
        reason: "All current clients speak 1.3; devices and phones of before 2019 may not.",
    },
    Setting {
        key: "tls.allow_plaintext",
        kind: Switch,
        default: "false",
        help: "Whether clients that do not speak TLS are served on the same port.",
        reason: "For a change from ws:// to wss://. Without certificates everybody is served in the clear.",
    },
    Setting {
        key: "admin_api.key",
        kind: Secret,
        default: "",
        help: "The secret that API requests carry in the header X-API-Key.",
        reason: "Production needs one. There is no flag for it, since flags show in process lists.",
    },
    Setting {
        key: "admin_api.body_bytes_max",
        kind: bytes(1, GIB),
        default: "1 MiB",
        help: "Largest message that may be published over HTTP.",
        reason: "A request is held in memory until its message is in order.",
    },
    Setting {
        key: "topics.slow_consumers",
        kind: Policies,
        default: "",
        help: "What is done with a subscriber for whom more waits than limits.queue_bytes_max, by topic.",
        reason: "The first pattern that matches counts; without one it is \"disconnect\": close code 4008. \
                 \"drop_oldest\" drops what is oldest and sends {\"gap\":N} to those that connected with ?gaps=on, and \
                 closes others. \"latest_only\" is for topics whose messages replace each other: who is behind gets the \
                 newest alone.",
    },
    Setting {
        key: "limits.connections_max",
        kind: count(1, 16_777_216),
        default: "auto",
        help: "Connections that the process holds at once; above it accepting pauses until one leaves.",
        reason: "\"auto\" is the hard limit of open files (ulimit -Hn) less 256, which stay free for the rest, for each \
                 shard: each has a table of open files of its own (Linux before 5.9 has one for all). With io_uring it is \
                 the whole limit for each shard, since its sockets are no open files.",
    },
    Setting {
        key: "limits.handshake_bytes_max",
        kind: bytes(KIB, 64 * KIB),
        default: "8 KiB",
        help: "Largest head of a connection's first request.",
        reason: "Browsers send cookies along, so raise it if yours are large.",
    },
    Setting {
        key: "limits.queue_bytes_max",
        kind: bytes(64 * KIB, GIB),
        default: "1 MiB",
        help: "What may wait for one connection.",
        reason: "A client that reads so slowly that more would wait is told so and closed.",
    },
    Setting {
        key: "limits.reply_bytes_watermark",
        kind: bytes(KIB, 16 * MIB),
        default: "64 KiB",
        help: "Replies waiting for one connection above which nothing more is read from it.",
        reason: "A client that asks without reading the answers slows only itself. Not above limits.queue_bytes_max.",
    },
    Setting {
        key: "limits.echo_message_bytes_max",
        kind: bytes(1, GIB),
        default: "16 MiB",
        help: "Largest message on /echo.",
        reason: "The conformance tests send 16 MiB. A message is held whole while it arrives.",
    },
    Setting {
        key: "limits.greeting_message_bytes_max",
        kind: bytes(1, GIB),
        default: "64 KiB",
        help: "Largest message on /chat.",
        reason: "Its answer does not depend on it.",
    },
    Setting {
        key: "limits.plain_message_bytes_max",
        kind: bytes(1, GIB),
        default: "1 MiB",
        help: "Largest message that a client may publish on /topics/...",
        reason: "A message is held whole while it arrives.",
    },
    Setting {
        key: "limits.frame_bytes_max",
        kind: bytes(125, GIB),
        default: "16 MiB",
        help: "Largest payload of one frame.",
        reason: "Beside the limits of whole messages; more is closed with 1009 before it comes.",
    },
    Setting {
        key: "limits.fragments_max",
        kind: count(1, 16_777_216),
        default: "70000",
        help: "Frames that a message may come in.",
        reason: "Each costs its header and a look, however small it is; more are closed with 1009. The conformance \
                 tests send 4 MiB in 65537 frames.",
    },
    Setting {
        key: "limits.pong_bytes_max",
        kind: bytes(256, 16 * MIB),
        default: "4 KiB",
        help: "Replies waiting for one connection above which only its newest ping is answered.",
        reason: "A client that sends pings faster than it reads pongs makes nothing grow.",
    },
    Setting {
        key: "limits.topics_max",
        kind: count(1, 16_777_216),
        default: "1000000",
        help: "Topics in use at once, in the whole process: those with a subscriber or a connected publisher.",
        reason: "A topic is counted by the shard that owns it, and has an entry there and in each shard that has \
                 subscribers of it: about 200 bytes beside its name. Of shards' tables each has this bound too.",
    },
    Setting {
        key: "limits.topics_idle_max",
        kind: count(0, 16_777_216),
        default: "10000",
        help: "Topics without subscribers whose offset a shard remembers.",
        reason: "Their offsets go on when subscribers come back. The longest idle is forgotten first.",
    },
    Setting {
        key: "limits.mailbox_entries",
        kind: count(64, 1_048_576),
        default: "4096",
        help: "Entries of the ring from one shard to another.",
        reason: "Larger rings bridge longer pauses of the receiving shard. There is one for each pair of shards.",
    },
    Setting {
        key: "limits.overflow_bytes_max",
        kind: bytes(64 * KIB, GIB),
        default: "16 MiB",
        help: "Published bytes waiting for another shard's full ring or for their flush above which publishing pauses.",
        reason: "What was accepted is kept; publishers wait, or get 503 over HTTP. In the whole process.",
    },
    Setting {
        key: "limits.queue_bytes_total_max",
        kind: bytes(MIB, 1024 * GIB),
        default: "256 MiB",
        help: "Bytes that may wait for all connections together; shared messages count once.",
        reason: "Above it the connections for which most waits are closed with 4008, until it holds again.",
    },
    Setting {
        key: "limits.kernel_unsent_bytes",
        kind: bytes(4 * KIB, 64 * MIB),
        default: "64 KiB",
        help: "Bytes not yet sent that the kernel takes for one connection (TCP_NOTSENT_LOWAT).",
        reason: "Without it one client that does not read makes the kernel hold megabytes; what the kernel does not \
                 take waits in the connection's own queue, where it is bounded and counted.",
    },
    Setting {
        key: "limits.kernel_send_bytes",
        kind: bytes(2 * KIB, 64 * MIB),
        default: "auto",
        help: "The kernel's send buffer for one connection (SO_SNDBUF).",
        reason: "\"auto\" leaves it to the system, which gives more to connections that are fast and far away. A number \
                 bounds the kernel's memory, and the speed of such connections: what is longer waits for acknowledgements, \
                 which clients may put off, so that with 16 KiB an echo of 64 KiB took 44 ms on loopback. The kernel \
                 doubles it for its own use.",
    },
    Setting {
        key: "limits.kernel_receive_bytes",
        kind: bytes(2 * KIB, 64 * MIB),
        default: "auto",
        help: "The kernel's receive buffer for one connection (SO_RCVBUF).",
        reason: "As limits.kernel_send_bytes, for what clients send.",
    },
    Setting {
        key: "address_limits.connections_max",
        kind: count(0, 16_777_216),
        default: "1000",
        help: "Connections that one client address holds at once, in the whole process; 0 is any number.",
        reason: "More get 429 and a reset. An IPv6 client is its /64. Many clients may share an address behind a proxy or a \
                 carrier's NAT: raise it there, list the proxy in address_limits.exempt, or let it say who its \
                 clients are (proxy_protocol.trusted).",
    },
    Setting {
        key: "address_limits.handshakes_per_second_max",
        kind: count(0, 1_000_000),
        default: "200",
        help: "Handshakes that one client address begins in a second, in the whole process; 0 is any number.",
        reason: "More get 429, for next to no work. So many may also come at once after a pause.",
    },
    Setting {
        key: "address_limits.exempt",
        kind: Networks { unix: false },
        default: "127.0.0.0/8,::1",
        help: "Addresses to which these limits do not apply.",
        reason: "Loopback addresses are this machine's own programs, and proxies on it. Clients at Unix sockets have \
                 no address and no such limits.",
    },
    Setting {
        key: "compression.enabled",
        kind: Switch,
        default: "false",
        help: "Whether messages are compressed for clients that offer it, and taken from them.",
        reason: "It saves traffic and costs computing: 5 to 20 µs for each message of a KiB, once for all subscribers \
                 of a topic. Starscream 4 breaks on it unless compression.control_frames is set too.",
    },
    Setting {
        key: "compression.message_bytes_min",
        kind: bytes(0, GIB),
        default: "256",
        help: "Smaller messages are sent as they are.",
        reason: "A message is compressed alone, so a short one has little to refer to: 128 bytes of JSON become 113, \
                 256 bytes 127.",
    },
    Setting {
        key: "compression.level",
        kind: count(1, 9),
        default: "6",
        help: "From 1, fast, to 9, small.",
        reason: "Above 6 messages get hardly smaller.",
    },
    Setting {
        key: "compression.server_context_takeover",
        kind: Switch,
        default: "false",
        help: "Whether what is sent to one client alone may refer to what it was sent before.",
        reason: "Replies get smaller, and a connection that gets any holds 372 KiB. What is published is compressed \
                 once for all and never refers to anything.",
    },
    Setting {
        key: "compression.client_context_takeover",
        kind: Switch,
        default: "false",
        help: "Whether what a client sends may refer to what it sent before.",
        reason: "Its messages get smaller, and its connection holds up to 32 KiB of them.",
    },
    Setting {
        key: "compression.context_bytes_max",
        kind: bytes(0, 1024 * GIB),
        default: "256 MiB",
        help: "Memory that context takeover may take for all connections together.",
        reason: "Each shard has its share. Where the next connection would be above it, it gets compression without \
                 context takeover.",
    },
    Setting {
        key: "compression.control_frames",
        kind: Switch,
        default: "false",
        help: "Whether clients may compress pings, pongs and closes.",
        reason: "RFC 7692 forbids it: such a frame ends the connection with 1002. Starscream 4 compresses its pongs \
                 all the same, so set this where it is among the clients.",
    },
    Setting {
        key: "timeouts.handshake_ms",
        kind: milliseconds(10, HOUR_MS / 6),
        default: "10000",
        help: "From accepting a connection to answering its request.",
        reason: "Ends connections that say nothing.",
    },
    Setting {
        key: "timeouts.ping_interval_ms",
        kind: milliseconds(10, HOUR_MS),
        default: "25000",
        help: "From a connection's last sign of life to the ping that asks for one.",
        reason: "Proxies commonly end connections that are silent for 30 or 60 s.",
    },
    Setting {
        key: "timeouts.pong_timeout_ms",
        kind: milliseconds(10, HOUR_MS / 6),
        default: "10000",
        help: "From a ping to the end of a connection that does not answer.",
        reason: "Ends connections whose peer has vanished without a word.",
    },
    Setting {
        key: "timeouts.idle_ms",
        kind: milliseconds(0, 24 * HOUR_MS),
        default: "0",
        help: "From a client's last message to the end of its connection, with close code 4009; 0 is never.",
        reason: "Answering pings is no message, and neither is receiving: leave it 0 where clients only listen.",
    },
    Setting {
        key: "timeouts.close_ms",
        kind: milliseconds(10, HOUR_MS / 6),
        default: "5000",
        help: "From sending a Close to the end of a connection that does not answer it.",
        reason: "A peer that stalls must not keep its slot.",
    },
    Setting {
        key: "timeouts.unacknowledged_ms",
        kind: milliseconds(1_000, HOUR_MS),
        default: "30000",
        help: "From sending bytes that the peer's machine does not acknowledge to the end of the connection.",
        reason: "Ends connections to machines that are gone (TCP_USER_TIMEOUT); the system's default is about 15 minutes.",
    },
    Setting {
        key: "drain.grace_ms",
        kind: milliseconds(0, HOUR_MS),
        default: "auto",
        help: "From the signal until no connection and no publish is taken any more.",
        reason: "Meanwhile /health says 503 and all else goes on, so that load balancers send nobody here any more before \
                 the port is closed: longer than they take to notice. \"auto\" is a fifth of drain.deadline_ms in \
                 production, and 0 in development mode.",
    },
    Setting {
        key: "drain.spread_ms",
        kind: milliseconds(0, HOUR_MS),
        default: "auto",
        help: "From the first connection that is closed to the last, in random order.",
        reason: "Clients that are closed come back at once, so all together would be a storm for those that are left. \
                 \"auto\" is two fifths of drain.deadline_ms in production, and 0 in development mode.",
    },
    Setting {
        key: "drain.deadline_ms",
        kind: milliseconds(10, HOUR_MS),
        default: "25000",
        help: "From the signal to the end of the process; connections that are left are reset.",
        reason: "Keep it below the patience of what stops wsgate (systemd: 90 s, Kubernetes: 30 s), and above \
                 drain.grace_ms and drain.spread_ms together. Without connections the end comes after the grace.",
    },
    Setting {
        key: "dialects.echo",
        kind: Switch,
        default: "auto",
        help: "Whether /echo and /ws send every message back.",
        reason: "\"auto\" is on in development mode and off in production.",
    },
    Setting {
        key: "dialects.greeting",
        kind: Switch,
        default: "auto",
        help: "Whether /chat answers every message with \"good\".",
        reason: "\"auto\" is on in development mode and off in production.",
    },
];
