//! permessage-deflate, against an implementation of DEFLATE that the gateway does not use
//! (miniz_oxide) and a second reading of RFC 7692.
//!
//! Input: a byte that chooses what is looked at, then what that part reads.

mod inflating;
mod offers;
mod peer;
mod round_trip;

pub(super) fn run(data: &[u8]) {
    let Some((&part, data)) = data.split_first() else { return };
    match part % 3 {
        0 => offers::run(data),
        1 => inflating::run(data),
        _ => round_trip::run(data),
    }
}

/// Messages, each behind its length in two bytes; the last one may be cut.
fn messages(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = data.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_be_bytes(*len)).min(rest.len());
        let (message, rest) = rest.split_at(len);
        data = rest;
        Some(message)
    })
}
