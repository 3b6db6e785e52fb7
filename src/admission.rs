//! Who may connect, by address: how many connections, how many handshakes in a second.
//!
//! Shared by all shards, without a lock: a table of atomic counters of fixed size. An
//! address has one cell in each of four rows, by a hash whose seed is secret, and the
//! smallest of its cells counts (a count-min sketch). So
//!
//! * memory does not depend on how many addresses there are;
//! * a client of its own cells is counted exactly, but that shards which take in the same
//!   address at the same moment may pass a bound by one each;
//! * nobody gets more by sharing cells, and who shares all of them with others counts what
//!   they have too. With 10,000 other addresses that are at their bound that is one client
//!   in 200; with 1,000 one in a million.
//!
//! Time and seed come in as arguments.

#![forbid(unsafe_code)]

mod cells;

/// Of the language; a model checker's in the test that reads `cells.rs`.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

use core::net::IpAddr;
use std::hash::BuildHasher;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use crate::address::{ClientBlock, Networks};
use crate::time::Time;
use cells::{AHEAD_NS, Cell};

/// Cells of which the smallest counts.
const ROWS: usize = 4;
/// Cells in each row; all rows together are 2 MiB.
const CELLS_PER_ROW: usize = 32 * 1024;

const _: () = assert!(CELLS_PER_ROW.is_power_of_two());

/// Bounds, and for whom they are none.
#[derive(Clone, Default, Debug)]
pub struct AdmissionSettings {
    /// Connections of one address at once; 0 is any number.
    pub connections_per_address_max: u32,
    /// Handshakes of one address in a second; 0 is any number.
    pub handshakes_per_address_max: u32,
    /// Addresses without bounds.
    pub exempt: Networks,
    /// Addresses of proxies, which must say on whose behalf they connect.
    pub proxies: Networks,
    /// Whether that goes for peers at Unix sockets too, which have no address.
    pub proxies_at_unix_sockets: bool,
    /// Bytes of what a proxy says.
    pub proxy_header_bytes_max: usize,
}

/// A bound that an address has reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressBound {
    /// It has as many connections as it may have.
    Connections,
    /// It has begun as many handshakes as it may in a second.
    Handshakes,
}

impl AddressBound {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Connections, Self::Handshakes];

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Handshakes => "handshakes",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Admission {
    settings: AdmissionSettings,
    hasher: SeedableRandomState,
    /// Row after row.
    cells: Box<[Cell]>,
}

impl Default for Admission {
    /// Without bounds and proxies.
    fn default() -> Self {
        Self::new(AdmissionSettings::default(), 0)
    }
}

impl Admission {
    /// An empty table.
    pub fn new(settings: AdmissionSettings, seed: u64) -> Self {
        let bounded = settings.connections_per_address_max > 0 || settings.handshakes_per_address_max > 0;
        let cells = if bounded { ROWS * CELLS_PER_ROW } else { 0 };
        Self {
            settings,
            hasher: SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()),
            cells: (0..cells).map(|_| Cell::new()).collect(),
        }
    }

    /// What it was made with.
    pub fn settings(&self) -> &AdmissionSettings {
        &self.settings
    }

    /// Whether a peer must say on whose behalf it connects.
    pub fn is_proxy(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            Some(address) => self.settings.proxies.contains(address),
            None => self.settings.proxies_at_unix_sockets,
        }
    }

    /// A client wants in. `Ok(true)`: it counts until [`Admission::leave`] is called;
    /// `Ok(false)`: there are no bounds for it.
    pub fn enter(&self, client: IpAddr, now: Time) -> Result<bool, AddressBound> {
        if self.cells.is_empty() || self.settings.exempt.contains(client) {
            return Ok(false);
        }
        let cells = self.cells_of(client.into());
        let handshakes = u64::from(self.settings.handshakes_per_address_max);
        if handshakes > 0 && !cells::pay(&cells, AHEAD_NS / handshakes, now.0) {
            return Err(AddressBound::Handshakes);
        }
        if !cells::add_connection(&cells, self.settings.connections_per_address_max) {
            return Err(AddressBound::Connections);
        }
        Ok(true)
    }

    /// A client that was counted has left.
    pub fn leave(&self, client: ClientBlock) {
        cells::remove_connection(&self.cells_of(client));
    }

    fn cells_of(&self, client: ClientBlock) -> [&Cell; ROWS] {
        // Four parts of one hash, each as wide as a row: all its bits must be good.
        let hash = self.hasher.hash_one(client);
        core::array::from_fn(|row| {
            let part = (hash >> (row * CELLS_PER_ROW.ilog2() as usize)) as usize % CELLS_PER_ROW;
            &self.cells[row * CELLS_PER_ROW + part]
        })
    }
}

const _: () = assert!(ROWS as u32 * CELLS_PER_ROW.ilog2() <= u64::BITS);

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections: u32, handshakes: u32) -> Admission {
        let settings = AdmissionSettings {
            connections_per_address_max: connections,
            handshakes_per_address_max: handshakes,
            exempt: Networks::new(vec![Networks::parse_block("127.0.0.0/8").unwrap()]),
            ..AdmissionSettings::default()
        };
        Admission::new(settings, 7)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_gets_its_connections_and_more_when_some_have_left() {
        let admission = admission(3, 0);
        for _ in 0..3 {
            assert_eq!(admission.enter(ip("192.0.2.1"), Time::ZERO), Ok(true));
        }
        for _ in 0..5 {
            assert_eq!(admission.enter(ip("192.0.2.1"), Time::ZERO), Err(AddressBound::Connections));
        }
        assert_eq!(admission.enter(ip("192.0.2.2"), Time::ZERO), Ok(true), "another address");
        admission.leave(ip("::ffff:192.0.2.1").into());
        assert_eq!(admission.enter(ip("192.0.2.1"), Time::ZERO), Ok(true));
        assert_eq!(admission.enter(ip("192.0.2.1"), Time::ZERO), Err(AddressBound::Connections));
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let admission = admission(2, 0);
        assert_eq!(admission.enter(ip("2001:db8::1"), Time::ZERO), Ok(true));
        assert_eq!(admission.enter(ip("2001:db8::ffff:1"), Time::ZERO), Ok(true));
        assert_eq!(admission.enter(ip("2001:db8::2"), Time::ZERO), Err(AddressBound::Connections));
        assert_eq!(admission.enter(ip("2001:db8:0:1::2"), Time::ZERO), Ok(true), "the network beside it");
    }

    #[test]
    fn handshakes_come_at_once_and_then_at_their_rate() {
        let admission = admission(0, 10);
        let admitted = |ms: u64| {
            let tries = (0..50).map(|_| admission.enter(ip("192.0.2.1"), Time(ms * 1_000_000)));
            tries.filter(|result| *result == Ok(true)).count()
        };
        assert_eq!(admitted(0), 10);
        assert_eq!(admitted(99), 0);
        assert_eq!(admitted(100), 1);
        assert_eq!(admitted(500), 4, "what was refused has not been paid for");
        assert_eq!(admitted(10_000), 10, "nothing is saved up beyond a second");
    }

    #[test]
    fn exempt_addresses_have_no_bounds() {
        let admission = admission(1, 1);
        for _ in 0..5 {
            assert_eq!(admission.enter(ip("127.0.0.2"), Time::ZERO), Ok(false));
            assert_eq!(admission.enter(ip("::ffff:127.0.0.2"), Time::ZERO), Ok(false));
        }
    }

    #[test]
    fn ten_thousand_addresses_at_their_bound_are_in_the_way_of_few() {
        const BOUND: u32 = 10;
        let admission = admission(BOUND, 0);
        let address = |network: u8, n: u32| IpAddr::from([network, (n >> 16) as u8, (n >> 8) as u8, n as u8]);
        let refused_of_them =
            (0..10_000 * BOUND).filter(|n| admission.enter(address(10, n / BOUND), Time::ZERO).is_err()).count();
        let refused = (0..10_000).filter(|n| admission.enter(address(11, *n), Time::ZERO).is_err()).count();
        // One in 200, as the module says; twice that before the test complains.
        assert!(refused <= 100, "{refused} of 10000");
        assert!(refused_of_them <= 100 * BOUND as usize, "{refused_of_them}");
    }
}
