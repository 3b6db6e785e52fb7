//! Where clients connect to and where they come from: plain values.

#![forbid(unsafe_code)]

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

/// Permissions of a Unix socket whose address names none: for owner and group, so that a
/// proxy gets in by belonging to the group.
const UNIX_MODE_DEFAULT: u32 = 0o660;

/// Where a gateway listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ListenAddress {
    /// An IP address with a port; port 0 is a free one.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Permissions of the file.
        mode: u32,
    },
    /// Sockets that whoever started the process has opened (systemd's socket activation):
    /// all of that name, or all that no other address names.
    Inherited(Option<String>),
}

impl ListenAddress {
    /// The address, if it is one of TCP.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            _ => None,
        }
    }

    /// As the configuration writes it: what [`fmt::Display`] says, and the permissions.
    pub fn as_written(&self) -> String {
        match self {
            Self::Unix { path, mode } => format!("unix:{}?mode={mode:03o}", path.display()),
            other => other.to_string(),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
            Self::Inherited(None) => f.write_str("systemd"),
            Self::Inherited(Some(name)) => write!(f, "systemd:{name}"),
        }
    }
}

/// The text is no [`ListenAddress`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an address is IP:PORT, unix:/PATH, unix:/PATH?mode=OCTAL, systemd or systemd:NAME")]
pub struct NoListenAddress;

impl FromStr for ListenAddress {
    type Err = NoListenAddress;

    fn from_str(text: &str) -> Result<Self, NoListenAddress> {
        if let Some(rest) = text.strip_prefix("unix:") {
            return unix(rest).ok_or(NoListenAddress);
        }
        match text.strip_prefix("systemd") {
            Some("") => Ok(Self::Inherited(None)),
            Some(rest) => match rest.strip_prefix(':') {
                // Names of systemd are ASCII without colons and control characters.
                Some(name) if is_word(name) && !name.contains(':') => Ok(Self::Inherited(Some(name.to_owned()))),
                _ => Err(NoListenAddress),
            },
            None => text.parse().map(Self::Tcp).map_err(|_| NoListenAddress),
        }
    }
}

fn unix(text: &str) -> Option<ListenAddress> {
    let (path, mode) = match text.split_once("?mode=") {
        Some((path, digits)) if (3..=4).contains(&digits.len()) => (path, u32::from_str_radix(digits, 8).ok()?),
        Some(_) => return None,
        None => (text, UNIX_MODE_DEFAULT),
    };
    let allowed = Path::new(path).is_absolute() && is_word(path) && mode <= 0o777;
    allowed.then(|| ListenAddress::Unix { path: path.into(), mode })
}

/// Text that can stand in a list with commas and in the start line.
fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c == ',' || c.is_whitespace() || c.is_control())
}

/// A set of IP addresses, as blocks.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// The addresses of all these blocks.
    pub fn new(blocks: Vec<IpNet>) -> Self {
        Self(blocks)
    }

    /// Reads a block: `10.0.0.0/8`, `fd00::/8`, or a single address.
    pub fn parse_block(text: &str) -> Option<IpNet> {
        text.parse().ok().or_else(|| text.parse().map(|address: IpAddr| IpNet::from(address)).ok())
    }

    /// Whether an address belongs to it. An IPv4 address in IPv6's clothes counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|block| block.contains(&address))
    }
}

/// Of an address, the part that one client has for sure: all of IPv4; of IPv6 the first 64
/// bits, since whoever has one address there has all of them. Nine bytes, as each
/// connection has one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientBlock {
    /// An address of IPv4, also if it came in IPv6's clothes.
    V4([u8; 4]),
    /// A network of IPv6.
    V6([u8; 8]),
}

impl From<IpAddr> for ClientBlock {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

impl fmt::Debug for ClientBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(octets) => Ipv4Addr::from(*octets).fmt(f),
            Self::V6(network) => {
                let address = Ipv6Addr::from_bits(u128::from(u64::from_be_bytes(*network)) << 64);
                write!(f, "{address}/64")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_address_comes_back_as_it_was_written() {
        for text in ["127.0.0.1:8000", "[::]:0", "unix:/run/a.sock?mode=600", "systemd", "systemd:clients"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().as_written(), text);
        }
        let default: ListenAddress = "unix:/run/a.sock".parse().unwrap();
        assert_eq!(default.as_written(), "unix:/run/a.sock?mode=660");
        assert_eq!(default.to_string(), "unix:/run/a.sock");
    }

    #[test]
    fn what_is_no_address() {
        for text in [
            "",
            "localhost:8000",
            "127.0.0.1",
            "unix:",
            "unix:relative",
            "unix:/a b",
            "unix:/a,b",
            "unix:/a?mode=8",
            "unix:/a?mode=888",
            "unix:/a?mode=1777",
            "systemd:",
            "systemd:a:b",
            "systemdx",
        ] {
            assert_eq!(text.parse::<ListenAddress>(), Err(NoListenAddress), "{text}");
        }
    }

    #[test]
    fn blocks_have_their_addresses_in_either_clothes() {
        let networks = |list: &[&str]| Networks::new(list.iter().map(|b| Networks::parse_block(b).unwrap()).collect());
        let some = networks(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]);
        for (address, within) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.1.1.1", true),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(some.contains(address.parse().unwrap()), within, "{address}");
        }
        assert!(!Networks::default().contains(IpAddr::from([127, 0, 0, 1])));
        for text in ["", "10.0.0.0/33", "10.0.0", "localhost", "::/129"] {
            assert_eq!(Networks::parse_block(text), None, "{text}");
        }
    }

    #[test]
    fn a_client_of_ipv6_has_64_bits() {
        let block = |text: &str| format!("{:?}", ClientBlock::from(text.parse::<IpAddr>().unwrap()));
        assert_eq!(block("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(block("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(block("192.0.2.7"), "192.0.2.7");
    }
}
