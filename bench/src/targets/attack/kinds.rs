//! The attacks, where each comes from, and what it may hold of the server's memory.

use std::io;
use std::net::Ipv4Addr;

use super::attacker::{Attack, Sources, Target};
use super::bombs::{self, Bombs};
use super::crowds::{HALF_OPEN, HalfOpen, SILENT, Silent};
use super::floods::{Announcements, Garbage, Handshakes, Resets};
use super::streams::{self, Streams};
use super::tls::{self, Abandoned, Truncated};
use super::{HANDSHAKE_BYTES_MAX, MESSAGE_BYTES_MAX, PATH, QUEUE_BYTES_MAX, QUEUE_BYTES_TOTAL_MAX};
use crate::rig::secure::Certificates;

/// The addresses that attacks come from are this one and those after it.
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// As many as no flood needs more of: with 200 handshakes a second from each that are
/// admitted, more than a processor can do.
const MANY: u32 = 500;
/// Addresses of a crowd: 100 connections of each at most.
const CROWD: u32 = 50;

/// What rustls may hold of a handshake that is under way, its answer included.
const TLS_HANDSHAKE_BYTES: u64 = 16 * 1024;

type Start = fn(Target, &Certificates) -> io::Result<Box<dyn Attack>>;

/// An attack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// As `--attacks` selects it.
    pub(super) name: &'static str,
    /// For readers.
    pub(super) title: &'static str,
    /// What its tally counts.
    pub(super) unit: &'static str,
    /// How many addresses it comes from.
    pub(super) addresses: u32,
    /// Whether the server has certificates.
    pub(super) secure: bool,
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
        addresses: CROWD,
        held_max: HALF_OPEN as u64 * HANDSHAKE_BYTES_MAX,
        start: |target, _| Ok(Box::new(HalfOpen::http(target))),
        ..PLAIN
    },
    Kind {
        name: "silent",
        title: "2,000 connections that never read",
        unit: "subscriptions",
        addresses: CROWD,
        held_max: QUEUE_BYTES_TOTAL_MAX + SILENT as u64 * 1024,
        start: |target, _| Ok(Box::new(Silent::fed(target)?)),
        ..PLAIN
    },
    Kind {
        name: "silent-here",
        title: "the same on the topic of the honest, which has three times the subscribers then",
        unit: "subscriptions",
        addresses: CROWD,
        held_max: QUEUE_BYTES_TOTAL_MAX + SILENT as u64 * 1024,
        start: |target, _| Ok(Box::new(Silent::listening(target, PATH))),
        ..PLAIN
    },
    Kind {
        name: "announced",
        title: "4 GiB announced and never sent",
        unit: "closed with 1009",
        addresses: MANY,
        start: |target, _| Ok(Box::new(Announcements(target))),
        ..PLAIN
    },
    Kind {
        name: "fragments",
        title: "messages of 100,000 fragments",
        unit: "fragments",
        addresses: MANY,
        held_max: streams::CONNECTIONS as u64 * MESSAGE_BYTES_MAX,
        start: |target, _| Ok(Box::new(Streams::fragments(target))),
        ..PLAIN
    },
    Kind {
        name: "bombs",
        title: "1 GiB of zeros in 1 MiB",
        unit: "closed with 1009",
        addresses: MANY,
        flags: &["--compression-enabled", "true"],
        held_max: bombs::BATCH as u64 * MESSAGE_BYTES_MAX,
        start: |target, _| Ok(Box::new(Bombs::new(target)?)),
        ..PLAIN
    },
    Kind {
        name: "pings",
        title: "ping floods",
        unit: "pings",
        held_max: streams::CONNECTIONS as u64 * QUEUE_BYTES_MAX,
        start: |target, _| Ok(Box::new(Streams::pings(target))),
        ..PLAIN
    },
    Kind {
        name: "handshakes-one",
        title: "handshakes from one address",
        unit: "handshakes",
        start: |target, _| Ok(Box::new(Handshakes(target))),
        ..PLAIN
    },
    Kind {
        name: "handshakes",
        title: "handshakes from 500 addresses",
        unit: "handshakes",
        addresses: MANY,
        start: |target, _| Ok(Box::new(Handshakes(target))),
        ..PLAIN
    },
    Kind {
        name: "resets",
        title: "connects and resets",
        unit: "connects",
        addresses: MANY,
        start: |target, _| Ok(Box::new(Resets(target))),
        ..PLAIN
    },
    Kind {
        name: "garbage",
        title: "no HTTP at all",
        unit: "ended",
        addresses: MANY,
        start: |target, _| Ok(Box::new(Garbage { target, bytes: vec![0xe5; 2048] })),
        ..PLAIN
    },
    Kind {
        name: "tls-garbage",
        title: "TLS records of garbage",
        unit: "ended",
        addresses: MANY,
        start: |target, _| Ok(Box::new(tls::garbage(target))),
        ..SECURE
    },
    Kind {
        name: "tls-stalled",
        title: "5,000 ClientHellos, a byte a second",
        unit: "bytes",
        addresses: CROWD,
        held_max: HALF_OPEN as u64 * HANDSHAKE_BYTES_MAX,
        start: |target, _| Ok(Box::new(tls::stalled(target))),
        ..SECURE
    },
    Kind {
        name: "tls-answered",
        title: "5,000 TLS handshakes that were answered, then a byte a second",
        unit: "bytes",
        addresses: CROWD,
        held_max: HALF_OPEN as u64 * (HANDSHAKE_BYTES_MAX + TLS_HANDSHAKE_BYTES),
        start: |target, certificates| Ok(Box::new(tls::answered(target, certificates)?)),
        ..SECURE
    },
    Kind {
        name: "tls-abandoned",
        title: "TLS handshakes reset when they are answered",
        unit: "answers",
        addresses: MANY,
        start: |target, certificates| Ok(Box::new(Abandoned::new(target, certificates)?)),
        ..SECURE
    },
    Kind {
        name: "tls-truncated",
        title: "whole TLS handshakes, then a record that is cut",
        unit: "ended",
        addresses: MANY,
        start: |target, certificates| Ok(Box::new(Truncated { target, certificates: certificates.clone() })),
        ..SECURE
    },
];

/// What is not said of an attack.
const PLAIN: Kind = Kind {
    name: "",
    title: "",
    unit: "",
    addresses: 1,
    secure: false,
    flags: &[],
    held_max: 0,
    start: |_, _| Err(io::Error::other("no attack")),
};

/// What is not said of an attack on a server with certificates.
const SECURE: Kind = Kind { secure: true, ..PLAIN };

impl Kind {
    /// Where it comes from: each from addresses of its own.
    pub(super) fn sources(&self) -> Sources {
        let before = KINDS.iter().take_while(|kind| kind.name != self.name).map(|kind| kind.addresses).sum::<u32>();
        Sources { first: Ipv4Addr::from_bits(FIRST_SOURCE.to_bits() + before), count: self.addresses }
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
    fn attacks_come_from_loopback_addresses_that_no_other_one_has() {
        let mut next = FIRST_SOURCE;
        for Sources { first, count } in KINDS.iter().map(Kind::sources) {
            assert_eq!(first, next);
            next = Ipv4Addr::from_bits(first.to_bits() + count);
        }
        assert!(next.is_loopback());
    }
}
