use super::*;

const LIMIT: usize = 4096;

fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u16).to_be_bytes();
    [BINARY_START, &[command, family], &len, body].concat()
}

/// 192.0.2.7:4660 to 198.51.100.1:443.
const IPV4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x34, 0x01, 0xbb];

fn ipv6() -> Vec<u8> {
    let source: Ipv6Addr = "2001:db8::7".parse().unwrap();
    [source.octets().as_slice(), &Ipv6Addr::LOCALHOST.octets(), &[0x12, 0x34, 0, 80]].concat()
}

/// The addresses, and entries whose checksum makes the header right.
fn with_checksum(before: &[u8], after: &[u8]) -> Vec<u8> {
    let body = [&IPV4, before, &[TLV_CRC32C, 0, 4, 0, 0, 0, 0], after].concat();
    let mut header = binary(0x21, 0x11, &body);
    let at = BINARY_PREFIX_BYTES + IPV4.len() + before.len() + 3;
    let sum = !crc32c(u32::MAX, header.iter().copied());
    header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    header
}

/// The header is found at its last byte, whatever follows, and not before.
#[track_caller]
fn expect_header(header: &[u8], client: Option<&str>) {
    let client = client.map(|text| text.parse().unwrap());
    for len in 0..header.len() {
        assert_eq!(parse(&header[..len], LIMIT), Ok(None), "the first {len} bytes");
    }
    let expected = Ok(Some(ProxyHeader { client, len: header.len() }));
    assert_eq!(parse(header, LIMIT), expected);
    assert_eq!(parse(&[header, b"GET / HTTP/1.1\r\n\r\n"].concat(), LIMIT), expected);
    assert_eq!(parse(&[header, b"\n\0\xff"].concat(), LIMIT), expected);
}

#[track_caller]
fn expect_refusal(bytes: &[u8], words: &str) {
    let error = parse(bytes, LIMIT).expect_err("refused").to_string();
    assert!(error.contains(words), "{error}");
}

#[test]
fn the_checksum_is_the_one_that_the_world_agrees_on() {
    assert_eq!(!crc32c(u32::MAX, *b"123456789"), 0xe306_9283);
}

#[test]
fn lines_of_version_1_at_any_split() {
    expect_header(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", Some("192.0.2.7:56324"));
    expect_header(b"PROXY TCP6 2001:db8::7 ::1 0 65535\r\n", Some("[2001:db8::7]:0"));
    expect_header(b"PROXY UNKNOWN\r\n", None);
    expect_header(b"PROXY UNKNOWN ffff::1 whatever 1\r\n", None);
    let longest = [b"PROXY UNKNOWN ".as_slice(), &[b'f'; 91], b"\r\n"].concat();
    assert_eq!(longest.len(), TEXT_BYTES_MAX);
    expect_header(&longest, None);
}

#[test]
fn lines_that_are_none_of_version_1() {
    for (line, words) in [
        ("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\n", "CRLF"),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", "address"),
        ("PROXY TCP6 192.0.2.7 192.0.2.8 1 2\r\n", "address"),
        ("PROXY TCP4 192.0.2.7 192.0.2 1 2\r\n", "address"),
        ("PROXY TCP4  192.0.2.7 192.0.2.8 1 2\r\n", "address"),
        ("PROXY TCP4 192.0.2.7\r\n", "address"),
        ("PROXY TCP4 192.0.2.7 192.0.2.8 1\r\n", "port"),
        ("PROXY TCP4 192.0.2.7 192.0.2.8 1 65536\r\n", "port"),
        ("PROXY TCP4 192.0.2.7 192.0.2.8 +1 2\r\n", "port"),
        ("PROXY TCP4 192.0.2.7 192.0.2.8 1 2 \r\n", "goes on"),
        ("PROXY TCP5 192.0.2.7 192.0.2.8 1 2\r\n", "none of TCP4"),
        ("PROXY \r\n", "none of TCP4"),
        ("PROXY TCP4 192.0.2.7 192.0.2.\u{e9} 1 2\r\n", "address"),
    ] {
        expect_refusal(line.as_bytes(), words);
    }
    expect_refusal(b"PROXY \xff\r\n", "no text");
    expect_refusal(&[b"PROXY UNKNOWN ".as_slice(), &[b'f'; 93]].concat(), "107 bytes");
}

#[test]
fn what_begins_otherwise_is_refused_at_the_first_wrong_byte() {
    expect_refusal(b"G", "byte 0 is 0x47");
    expect_refusal(b"\x16\x03\x01", "byte 0 is 0x16");
    expect_refusal(b"PROXy ", "byte 4 is 0x79");
    expect_refusal(b"\r\n\r\n\0\r\nQUIT\r", "byte 11 is 0x0d");
}

#[test]
fn headers_of_version_2_at_any_split() {
    expect_header(&binary(0x21, 0x11, &IPV4), Some("192.0.2.7:4660"));
    expect_header(&binary(0x21, 0x21, &ipv6()), Some("[2001:db8::7]:4660"));
    // Entries of other kinds are skipped, empty ones too.
    let entries = [&IPV4, b"\x01\x00\x02h2\x04\x00\x00\xea\x00\x03abc".as_slice()].concat();
    expect_header(&binary(0x21, 0x11, &entries), Some("192.0.2.7:4660"));
}

#[test]
fn without_an_address_of_a_client_the_proxy_speaks_for_itself() {
    expect_header(&binary(0x20, 0x00, b""), None);
    expect_header(&binary(0x20, 0x11, &IPV4), None);
    expect_header(&binary(0x20, 0xff, b"anything"), None);
    expect_header(&binary(0x21, 0x00, b"anything"), None);
    expect_header(&binary(0x21, 0x12, &IPV4), None);
    expect_header(&binary(0x21, 0x22, &ipv6()), None);
    expect_header(&binary(0x21, 0x31, &[b'u'; 216]), None);
}

#[test]
fn a_checksum_is_checked_wherever_it_stands() {
    expect_header(&with_checksum(b"", b""), Some("192.0.2.7:4660"));
    expect_header(&with_checksum(b"\x01\x00\x02h2", b"\x04\x00\x01\x00"), Some("192.0.2.7:4660"));
    let good = with_checksum(b"", b"\x04\x00\x01\x00");
    for at in BINARY_PREFIX_BYTES..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        // A changed length or kind shows as something else, but never as a header that is right.
        let kind_of_checksum = BINARY_PREFIX_BYTES + IPV4.len();
        assert_eq!(parse(&bad, LIMIT).is_err(), at != kind_of_checksum, "byte {at}");
    }
    let short = [&IPV4, [TLV_CRC32C, 0, 1, 0].as_slice()].concat();
    expect_refusal(&binary(0x21, 0x11, &short), "checksum");
}

#[test]
fn headers_that_are_none_of_version_2() {
    expect_refusal(&binary(0x11, 0x11, &IPV4), "version and command 0x11");
    expect_refusal(&binary(0x22, 0x11, &IPV4), "version and command 0x22");
    expect_refusal(&binary(0x21, 0x13, &IPV4), "transport 0x13");
    expect_refusal(&binary(0x21, 0x41, &IPV4), "transport 0x41");
    expect_refusal(&binary(0x21, 0x11, &IPV4[..11]), "inside its addresses");
    expect_refusal(&binary(0x21, 0x21, &IPV4), "inside its addresses");
    expect_refusal(&binary(0x21, 0x31, &IPV4), "inside its addresses");
    expect_refusal(&binary(0x21, 0x11, &[&IPV4, b"\x01".as_slice()].concat()), "inside its entries");
    expect_refusal(&binary(0x21, 0x11, &[&IPV4, b"\x01\x00\x02h".as_slice()].concat()), "inside its entries");
}

#[test]
fn a_length_above_the_limit_is_refused_before_its_bytes_come() {
    let header = binary(0x21, 0x11, &[0; 102]);
    let limit = header.len();
    assert!(parse(&header, limit).unwrap().is_some());
    let error = parse(&header[..BINARY_PREFIX_BYTES], limit - 1).unwrap_err();
    assert_eq!(error, ProxyError::TooLong { len: limit, limit: limit - 1 });
}
