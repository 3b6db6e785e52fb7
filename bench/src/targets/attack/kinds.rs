//! The attacks, and what each may hold of the server's memory.

use std::io;
use std::net::Ipv4Addr;

use super::attacker::{Attack, Target};
use super::bombs::Bombs;
use super::crowds::{HALF_OPEN, HalfOpen, SILENT, Silent};
use super::floods::{Announcements, Garbage, Handshakes, Resets};
use super::streams::{self, Streams};
use super::{HANDSHAKE_BYTES_MAX, MESSAGE_BYTES_MAX, PATH, QUEUE_BYTES_MAX, QUEUE_BYTES_TOTAL_MAX};

/// The addresses that attacks come from are this one and those after it.
const FIRST_SOURCE: u32 = Ipv4Addr::new(127, 0, 0, 2).to_bits();

/// A TLS record that holds a ClientHello of 512 bytes, as far as its first bytes say.
const CLIENT_HELLO: &[u8] = &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
const CLIENT_HELLO_BYTES: usize = 5 + 512;

type Start = fn(Target) -> io::Result<Box<dyn Attack>>;

/// An attack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// As `--attacks` selects it.
    pub(super) name: &'static str,
    /// For readers.
    pub(super) title: &'static str,
    /// What its tally counts.
    pub(super) unit: &'static str,
    /// The option that a build without this part of the protocol does not have.
    pub(super) needs: Option<&'static str>,
    /// Flags for the server beside the usual ones.
    pub(super) flags: &'static [&'static str],
    /// Bytes that the configuration lets its connections hold together.
    pub(super) held_max: u64,
    pub(super) start: Start,
}

/// All attacks, in the order of the table.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "half-open",
        title: "5,000 half-open handshakes, a byte a second",
        unit: "bytes",
        held_max: HALF_OPEN as u64 * HANDSHAKE_BYTES_MAX,
        start: |target| Ok(Box::new(HalfOpen::http(target))),
        ..PLAIN
    },
    Kind {
        name: "silent",
        title: "2,000 connections that never read",
        unit: "subscriptions",
        held_max: QUEUE_BYTES_TOTAL_MAX + SILENT as u64 * 1024,
        start: |target| Ok(Box::new(Silent::fed(target)?)),
        ..PLAIN
    },
    Kind {
        name: "silent-here",
        title: "the same on the topic of the honest, which has three times the subscribers then",
        unit: "subscriptions",
        held_max: QUEUE_BYTES_TOTAL_MAX + SILENT as u64 * 1024,
        start: |target| Ok(Box::new(Silent::listening(target, PATH))),
        ..PLAIN
    },
    Kind {
        name: "announced",
        title: "4 GiB announced and never sent",
        unit: "closed with 1009",
        start: |target| Ok(Box::new(Announcements(target))),
        ..PLAIN
    },
    Kind {
        name: "fragments",
        title: "messages of 100,000 fragments",
        unit: "fragments",
        held_max: streams::CONNECTIONS as u64 * MESSAGE_BYTES_MAX,
        start: |target| Ok(Box::new(Streams::fragments(target))),
        ..PLAIN
    },
    Kind {
        name: "bombs",
        title: "1 GiB of zeros in 1 MiB",
        unit: "ended",
        needs: Some("compression.enabled"),
        flags: &["--compression-enabled", "true"],
        held_max: streams::CONNECTIONS as u64 * MESSAGE_BYTES_MAX,
        start: |target| Ok(Box::new(Bombs::new(target)?)),
    },
    Kind {
        name: "pings",
        title: "ping floods",
        unit: "pings",
        held_max: streams::CONNECTIONS as u64 * QUEUE_BYTES_MAX,
        start: |target| Ok(Box::new(Streams::pings(target))),
        ..PLAIN
    },
    Kind {
        name: "handshakes",
        title: "whole handshakes from one address",
        unit: "handshakes",
        start: |target| Ok(Box::new(Handshakes(target))),
        ..PLAIN
    },
    Kind {
        name: "resets",
        title: "connects and resets",
        unit: "connects",
        start: |target| Ok(Box::new(Resets(target))),
        ..PLAIN
    },
    Kind {
        name: "garbage",
        title: "no HTTP at all",
        unit: "ended",
        start: |target| Ok(Box::new(Garbage { target, bytes: vec![0xe5; 2048] })),
        ..PLAIN
    },
    Kind {
        name: "tls-garbage",
        title: "TLS records of garbage",
        unit: "ended",
        needs: TLS,
        start: |target| Ok(Box::new(Garbage { target, bytes: client_hello(CLIENT_HELLO_BYTES) })),
        ..PLAIN
    },
    Kind {
        name: "tls-stalled",
        title: "5,000 truncated TLS handshakes, a byte a second",
        unit: "bytes",
        needs: TLS,
        held_max: HALF_OPEN as u64 * HANDSHAKE_BYTES_MAX,
        start: |target| Ok(Box::new(HalfOpen::new(target, client_hello(CLIENT_HELLO.len())))),
        ..PLAIN
    },
];

/// What a build with TLS has, and which certificate it is to use.
const TLS: Option<&str> = Some("tls.certificate");

/// What is not said of an attack.
const PLAIN: Kind = Kind {
    name: "",
    title: "",
    unit: "",
    needs: None,
    flags: &[],
    held_max: 0,
    start: |_| Err(io::Error::other("no attack")),
};

impl Kind {
    /// Which server it attacks, and from where: each from an address of its own.
    pub(super) fn source(&self) -> Ipv4Addr {
        let index = KINDS.iter().position(|kind| kind.name == self.name).unwrap_or_default();
        Ipv4Addr::from_bits(FIRST_SOURCE + index as u32)
    }
}

/// The attacks of these names; all if there are none.
pub(super) fn select(names: &[String]) -> io::Result<Vec<Kind>> {
    if names.is_empty() {
        return Ok(KINDS.to_vec());
    }
    let find = |name: &String| {
        KINDS.iter().find(|kind| kind.name == name).copied().ok_or_else(|| {
            let known: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
            io::Error::other(format!("there is no attack {name:?}, but {}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

/// The first bytes of a ClientHello whose rest is no such thing.
fn client_hello(bytes: usize) -> Vec<u8> {
    let mut hello = CLIENT_HELLO.to_vec();
    hello.resize(bytes, 0xe5);
    hello
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_are_selected_by_name_and_an_unknown_one_is_refused_with_the_names_of_all() {
        let named = select(&["pings".to_owned(), "half-open".to_owned()]).unwrap();
        assert_eq!(named.iter().map(|kind| kind.name).collect::<Vec<_>>(), ["pings", "half-open"]);
        assert_eq!(select(&[]).unwrap().len(), KINDS.len());
        let error = select(&["rudeness".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("rudeness") && error.contains("half-open, silent"), "{error}");
    }

    #[test]
    fn no_two_attacks_come_from_the_same_address() {
        let mut sources: Vec<_> = KINDS.iter().map(Kind::source).collect();
        sources.dedup();
        assert_eq!((sources.len(), sources[0]), (KINDS.len(), Ipv4Addr::new(127, 0, 0, 2)));
    }
}
