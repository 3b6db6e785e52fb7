//! The PROXY protocol, versions 1 and 2: a proxy says in front of a connection's bytes
//! on whose behalf it connects ("The PROXY protocol", HAProxy, sections 2.1 and 2.2).
//!
//! Sees a growing prefix of the connection's bytes and says "not yet", "here it is", or
//! "this is none". Bytes after the header are not looked at.
//!
//! Written here and not taken from a crate: the known one leaves bounds and checksums to
//! its caller, which is most of what there is to do.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr;

/// Bytes of the longest header of version 1, its line end included (section 2.1).
pub const TEXT_BYTES_MAX: usize = 107;
/// Bytes of a header of version 2 before its addresses.
pub const BINARY_PREFIX_BYTES: usize = 16;

const TEXT_START: &[u8] = b"PROXY ";
const BINARY_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The entry whose value is the header's checksum (section 2.2.3).
const TLV_CRC32C: u8 = 3;

/// A complete header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProxyHeader {
    /// Who connected to the proxy; nothing if the proxy speaks for itself (health checks)
    /// or does not know.
    pub client: Option<SocketAddr>,
    /// Bytes of the header.
    pub len: usize,
}

/// Why the bytes are no header. The connection is over: without one nobody knows whose
/// it is (section 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProxyError {
    /// Neither version begins like this.
    #[error("byte {at} is {byte:#04x}")]
    NoHeader {
        /// Where the first wrong byte is.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// A line that is not one of version 1.
    #[error("{0}")]
    Text(&'static str),
    /// Version and command, or family and transport, that version 2 does not have.
    #[error("{what} {byte:#04x} is unknown")]
    Unknown {
        /// What the byte stands for.
        what: &'static str,
        /// The byte.
        byte: u8,
    },
    /// The header is longer than it may be.
    #[error("the header has {len} bytes, above the limit of {limit}")]
    TooLong {
        /// Bytes announced.
        len: usize,
        /// Bytes that it may have.
        limit: usize,
    },
    /// Addresses or entries need more bytes than the header has.
    #[error("the header ends inside its {0}")]
    Cut(&'static str),
    /// The checksum is not that of the header.
    #[error("the checksum is {given:#010x}, but that of the header is {computed:#010x}")]
    Checksum {
        /// What the header says.
        given: u32,
        /// What it is.
        computed: u32,
    },
}

/// Reads the header at the start of `bytes`. `None`: it is not complete.
///
/// `bytes_max` bounds headers of version 2; those of version 1 have a bound of their own.
/// What cannot become a header is refused at its first wrong byte.
pub fn parse(bytes: &[u8], bytes_max: usize) -> Result<Option<ProxyHeader>, ProxyError> {
    let start = if bytes.first() == Some(&BINARY_START[0]) { BINARY_START } else { TEXT_START };
    if let Some(at) = start.iter().zip(bytes).position(|(expected, byte)| expected != byte) {
        return Err(ProxyError::NoHeader { at, byte: bytes[at] });
    }
    match bytes.len() < start.len() {
        true => Ok(None),
        false if start == TEXT_START => parse_text(bytes),
        false => parse_binary(bytes, bytes_max),
    }
}

/// Version 1: a line of words with one space between them.
fn parse_text(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let head = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    let Some(end) = head.iter().position(|&byte| byte == b'\n') else {
        let complete = head.len() == TEXT_BYTES_MAX;
        return if complete { Err(ProxyError::Text("the line does not end after 107 bytes")) } else { Ok(None) };
    };
    let line = head[..end].strip_suffix(b"\r").ok_or(ProxyError::Text("the line ends without CRLF"))?;
    let line = str::from_utf8(line).map_err(|_| ProxyError::Text("the line is no text"))?;
    let mut words = line.split(' ').skip(1);
    let client = match words.next() {
        Some("TCP4") => Some(text_addresses::<Ipv4Addr>(words)?),
        Some("TCP6") => Some(text_addresses::<Ipv6Addr>(words)?),
        // Whatever follows is to be ignored.
        Some("UNKNOWN") => None,
        _ => return Err(ProxyError::Text("the protocol is none of TCP4, TCP6 and UNKNOWN")),
    };
    Ok(Some(ProxyHeader { client, len: end + 1 }))
}

/// Source and destination address, source and destination port; the source.
fn text_addresses<'a, A: FromStr + Into<IpAddr>>(
    mut words: impl Iterator<Item = &'a str>,
) -> Result<SocketAddr, ProxyError> {
    let mut address = || words.next()?.parse::<A>().ok().map(Into::into);
    let addresses = address().zip(address());
    let (source, _) = addresses.ok_or(ProxyError::Text("an address is not one of the protocol"))?;
    let mut port = || words.next().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok();
    let ports = port().zip(port());
    let (port, _) = ports.ok_or(ProxyError::Text("a port is no number from 0 to 65535"))?;
    match words.next() {
        Some(_) => Err(ProxyError::Text("the line goes on after its ports")),
        None => Ok(SocketAddr::new(source, port)),
    }
}

/// Version 2: a fixed part that says how long the rest is.
fn parse_binary(bytes: &[u8], bytes_max: usize) -> Result<Option<ProxyHeader>, ProxyError> {
    let Some(prefix) = bytes.get(..BINARY_PREFIX_BYTES) else { return Ok(None) };
    let (command, family) = (prefix[12], prefix[13]);
    let len = BINARY_PREFIX_BYTES + usize::from(u16::from_be_bytes([prefix[14], prefix[15]]));
    if len > bytes_max {
        return Err(ProxyError::TooLong { len, limit: bytes_max });
    }
    let Some(header) = bytes.get(..len) else { return Ok(None) };
    let body = &header[BINARY_PREFIX_BYTES..];
    let (client, addresses_len) = match (command, family) {
        // The proxy's own connection: what the rest says has no meaning.
        (0x20, _) => return Ok(Some(ProxyHeader { client: None, len })),
        (0x21, 0x00) => return Ok(Some(ProxyHeader { client: None, len })),
        (0x21, 0x11) => (Some(binary_source::<4>(body, 12)?), 12),
        (0x21, 0x21) => (Some(binary_source::<16>(body, 36)?), 36),
        // Datagrams and Unix sockets: valid, but no address that a client of ours could have.
        (0x21, 0x12) => (None, 12),
        (0x21, 0x22) => (None, 36),
        (0x21, 0x31 | 0x32) => (None, 216),
        (0x21, _) => return Err(ProxyError::Unknown { what: "address family and transport", byte: family }),
        _ => return Err(ProxyError::Unknown { what: "version and command", byte: command }),
    };
    let entries = body.get(addresses_len..).ok_or(ProxyError::Cut("addresses"))?;
    check_entries(header, entries)?;
    Ok(Some(ProxyHeader { client, len }))
}

/// Source address, destination address, source port, destination port; the source.
fn binary_source<const N: usize>(body: &[u8], len: usize) -> Result<SocketAddr, ProxyError>
where
    IpAddr: From<[u8; N]>,
{
    let addresses = body.get(..len).ok_or(ProxyError::Cut("addresses"))?;
    let (source, rest) = addresses.split_first_chunk::<N>().ok_or(ProxyError::Cut("addresses"))?;
    let port = u16::from_be_bytes([rest[N], rest[N + 1]]);
    Ok(SocketAddr::new(IpAddr::from(*source), port))
}

/// Walks over the entries behind the addresses; the checksum is the only one that is
/// looked at.
fn check_entries(header: &[u8], mut entries: &[u8]) -> Result<(), ProxyError> {
    while let [kind, high, low, rest @ ..] = entries {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let value = rest.get(..len).ok_or(ProxyError::Cut("entries"))?;
        entries = &rest[len..];
        if *kind == TLV_CRC32C {
            let given = value.try_into().map(u32::from_be_bytes).map_err(|_| ProxyError::Cut("checksum"))?;
            // Computed with zeros in its own place.
            let end = header.len() - entries.len();
            let before = crc32c(u32::MAX, header[..end - len].iter().copied());
            let with_zeros = crc32c(before, [0; 4]);
            let computed = !crc32c(with_zeros, entries.iter().copied());
            if given != computed {
                return Err(ProxyError::Checksum { given, computed });
            }
        }
    }
    if entries.is_empty() { Ok(()) } else { Err(ProxyError::Cut("entries")) }
}

/// Continues a CRC-32C (Castagnoli), bit by bit: a header is short and comes once for
/// each connection.
fn crc32c(state: u32, bytes: impl IntoIterator<Item = u8>) -> u32 {
    const POLYNOMIAL_REVERSED: u32 = 0x82f6_3b78;
    bytes.into_iter().fold(state, |state, byte| {
        (0..8).fold(state ^ u32::from(byte), |state, _| {
            let carry = if state & 1 == 1 { POLYNOMIAL_REVERSED } else { 0 };
            (state >> 1) ^ carry
        })
    })
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
