//! Rules between options, after each has been checked for itself.

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;

use super::choice::Mode;
use super::error::ConfigError;
use super::layers::{Entry, FILE_DEFAULT, Layers, Source};
use super::value::Value;
use crate::address::ListenAddress;

/// Refuses what does not go together.
pub(super) fn validate(layers: &Layers) -> Result<(), ConfigError> {
    refuse_one_address_for_two(layers)?;
    refuse_watermark_above_queue(layers)?;
    refuse_drain_beyond_deadline(layers)?;
    if layers.value("mode") == &Value::Word(Mode::Production.word()) {
        refuse_undecided_production(layers)
    } else {
        refuse_exposed_development(layers)
    }
}

fn refuse_one_address_for_two(layers: &Layers) -> Result<(), ConfigError> {
    let (listen, admin) = (listeners(layers), admin(layers));
    if let Some(clients) = listen.iter().filter_map(ListenAddress::tcp).find(|clients| overlap(*clients, admin)) {
        let allowed = format!("a port of its own; clients connect to {clients}");
        return Err(refusal(layers.entry("admin"), &allowed));
    }
    for (at, address) in listen.iter().enumerate() {
        let twice = listen[..at].iter().find(|earlier| match (earlier.tcp(), address.tcp()) {
            (Some(earlier), Some(address)) => overlap(earlier, address),
            // Without the permissions.
            _ => earlier.to_string() == address.to_string(),
        });
        if let Some(earlier) = twice {
            let allowed = format!("each address once; {address} is also served by {earlier}");
            return Err(refusal(layers.entry("listen"), &allowed));
        }
    }
    Ok(())
}

/// Whether two sockets cannot have these addresses at once.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    // A socket of IPv6 does not serve IPv4.
    let same = one.ip() == other.ip() || (any && one.is_ipv4() == other.is_ipv4());
    one.port() != 0 && one.port() == other.port() && same
}

fn refuse_watermark_above_queue(layers: &Layers) -> Result<(), ConfigError> {
    let (watermark, queue) = (layers.entry("limits.reply_bytes_watermark"), layers.entry("limits.queue_bytes_max"));
    match (&watermark.value, &queue.value) {
        (Value::Whole(above), Value::Whole(max)) if above > max => {
            Err(refusal(watermark, &format!("not more than {}", queue.describe())))
        }
        _ => Ok(()),
    }
}

/// What is left at the deadline is reset, so nobody can be told after it. What is "auto"
/// takes what the others leave.
fn refuse_drain_beyond_deadline(layers: &Layers) -> Result<(), ConfigError> {
    let [grace, spread, deadline] =
        ["drain.grace_ms", "drain.spread_ms", "drain.deadline_ms"].map(|key| layers.entry(key));
    let milliseconds = |entry: &Entry| if let Value::Whole(number) = entry.value { number } else { 0 };
    if milliseconds(grace) >= milliseconds(deadline) {
        return Err(refusal(grace, &format!("less than {}", deadline.describe())));
    }
    if milliseconds(grace) + milliseconds(spread) >= milliseconds(deadline) {
        let allowed = format!("less than what {} leaves of {}", grace.describe(), deadline.describe());
        return Err(refusal(spread, &allowed));
    }
    Ok(())
}

fn refusal(entry: &Entry, allowed: &str) -> ConfigError {
    ConfigError::Value {
        key: entry.setting.key,
        value: entry.setting.kind.show(&entry.value),
        given_by: entry.source.clone(),
        allowed: allowed.to_owned(),
    }
}

/// Development mode takes no decisions, so nobody but this machine may reach it.
fn refuse_exposed_development(layers: &Layers) -> Result<(), ConfigError> {
    // An IPv6 socket takes IPv4 peers as ::ffff:a.b.c.d, so look at what is meant.
    let exposed = |address: SocketAddr| !address.ip().to_canonical().is_loopback();
    let listen = listeners(layers).iter().filter_map(ListenAddress::tcp).any(exposed);
    let exposed = [("listen", listen), ("admin", exposed(admin(layers)))];
    let exposed: Vec<_> = exposed.iter().filter(|(_, exposed)| *exposed).map(|(key, _)| layers.entry(key)).collect();
    if exposed.is_empty() {
        return Ok(());
    }
    let mode = layers.entry("mode");
    let why = format!(
        "{}\ncan be reached from other machines, which {} does not serve.\n{}",
        exposed.iter().map(|entry| entry.describe()).collect::<Vec<_>>().join(" and\n"),
        mode.describe(),
        instruction(layers),
    );
    let lines = format!("{}mode = \"production\"\n\n{}", overruled(mode), undecided_lines(layers));
    Err(ConfigError::Undecided { why, lines: lines.trim_end().to_owned() })
}

fn refuse_undecided_production(layers: &Layers) -> Result<(), ConfigError> {
    let lines = undecided_lines(layers);
    if lines.is_empty() {
        return Ok(());
    }
    let why = format!("{} lacks decisions.\n{}", layers.entry("mode").describe(), instruction(layers));
    Err(ConfigError::Undecided { why, lines: lines.trim_end().to_owned() })
}

fn instruction(layers: &Layers) -> String {
    match &layers.file {
        Some(path) => format!(
            "To serve others, work these lines into {}, each into its section\n(mode at the top), and start again:",
            path.display()
        ),
        None => format!("To serve others, put these lines into {FILE_DEFAULT} and start again:"),
    }
}

/// What production wants decided and is not yet, as TOML with a proposal for each.
fn undecided_lines(layers: &Layers) -> String {
    let plaintext = layers.entry("security.plaintext");
    let anonymous = layers.entry("security.anonymous");
    let key = layers.entry("admin_api.key");
    let mut security = String::new();
    let encrypted = layers.value("tls.certificates") != &Value::List(Vec::new());
    if plaintext.value == Value::Switch(false) && !encrypted {
        security += "# Either write tls.certificates instead (see wsgate config example), or put a\n\
                     # proxy in front that ends TLS, or be sure that nobody can listen in on the way.\n";
        security += &overruled(plaintext);
        security += "plaintext = true\n";
    }
    if anonymous.source == Source::Default {
        security += "# What any client may do: [], [\"subscribe\"] or [\"subscribe\", \"publish\"].\n\
                     anonymous = [\"subscribe\"]\n";
    }
    let mut lines = String::new();
    if !security.is_empty() {
        lines += &format!("[security]\n{security}\n");
    }
    if key.value == Value::Secret(None) {
        lines += "[admin_api]\n# Back ends send it as X-API-Key. This one is fresh and random.\n";
        lines += &overruled(key);
        lines += &format!("key = \"{}\"\n", fresh_key());
    }
    lines
}

/// A reminder, where a line in the file would not help since a higher layer has the
/// last word.
fn overruled(entry: &Entry) -> String {
    match &entry.source {
        Source::Environment(_) | Source::Flag(_) => {
            format!("# Remove the {} too: it goes before this line.\n", entry.source)
        }
        Source::Default | Source::File { .. } => String::new(),
    }
}

/// A key that nobody can guess, in hexadecimal. Without the system's randomness it
/// is empty, and so refused like no key.
fn fresh_key() -> String {
    let mut random = [0; 24];
    match File::open("/dev/urandom").and_then(|mut device| device.read_exact(&mut random)) {
        Ok(()) => random.iter().map(|byte| format!("{byte:02x}")).collect(),
        Err(_) => String::new(),
    }
}

fn admin(layers: &Layers) -> SocketAddr {
    match layers.value("admin") {
        Value::Address(address) => *address,
        other => unreachable!("admin is declared as an address, but is {other:?}"),
    }
}

fn listeners(layers: &Layers) -> Vec<ListenAddress> {
    match layers.value("listen") {
        Value::List(list) => list.iter().filter_map(|item| item.parse().ok()).collect(),
        other => unreachable!("listen is declared as a list, but is {other:?}"),
    }
}
