//! How the values of flags are read, and what is allowed.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use clap::ValueEnum;

use crate::limits::{CONNECTIONS_MAX, DURATION_MAX, PAYLOAD_BYTES_MAX, RATE_MAX};
use crate::payload::PAYLOAD_BYTES_MIN;
use crate::sockets::Io;

/// Addresses of `--source`.
const SOURCES_MAX: usize = 4096;

/// How workers wait for their sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum IoArg {
    Auto,
    Epoll,
    #[value(name = "io_uring")]
    IoUring,
}

impl From<IoArg> for Io {
    fn from(io: IoArg) -> Self {
        match io {
            // It measured no worse where it was compared.
            IoArg::Auto | IoArg::Epoll => Self::Epoll,
            IoArg::IoUring => Self::IoUring,
        }
    }
}

/// Source addresses. A type of its own: clap takes a bare `Vec` for a repeated flag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sources(pub(super) Vec<IpAddr>);

pub(super) fn connections(text: &str) -> Result<usize, String> {
    whole(text, 1, CONNECTIONS_MAX)
}

pub(super) fn connections_or_none(text: &str) -> Result<usize, String> {
    whole(text, 0, CONNECTIONS_MAX)
}

pub(super) fn payload(text: &str) -> Result<usize, String> {
    whole(text, PAYLOAD_BYTES_MIN, PAYLOAD_BYTES_MAX)
}

fn whole(text: &str, min: usize, max: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(format!("not a whole number from {min} to {max}")),
    }
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= RATE_MAX => Ok(value),
        _ => Err(format!("not a number above 0 and up to {RATE_MAX}")),
    }
}

/// A part of a whole, such as `10%`.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    match text.strip_suffix('%').unwrap_or(text).parse::<f64>() {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value / 100.0),
        _ => Err("not a part from 0% to 100%".to_owned()),
    }
}

/// A time as [`duration`] reads it, or none at all.
pub(super) fn duration_or_none(text: &str) -> Result<Duration, String> {
    if text.trim_end_matches(|c: char| c.is_ascii_alphabetic()) == "0" { Ok(Duration::ZERO) } else { duration(text) }
}

/// `500ms`, `10s`, `5m`, `1h`; a bare number counts seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{unit:?} is no unit; use ms, s, m or h")),
    };
    let seconds = number.parse::<f64>().map_err(|_| "not a time such as 500ms, 10s, 5m or 1h".to_owned())?;
    match Duration::try_from_secs_f64(seconds * seconds_per_unit) {
        Ok(duration) if !duration.is_zero() && duration <= DURATION_MAX => Ok(duration),
        _ => Err(format!("not above 0 and up to {} h", DURATION_MAX.as_secs() / 3600)),
    }
}

/// Part of a query: what may stand in a URL.
pub(super) fn query(text: &str) -> Result<String, String> {
    match text.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        None => Ok(text.trim_start_matches('?').to_owned()),
        Some(odd) => Err(format!("{odd:?} cannot stand in a query; percent-encode it")),
    }
}

pub(super) fn token(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?={}".contains(c)) {
        Ok(text.to_owned())
    } else {
        Err("not a subprotocol name: letters, digits and -._+".to_owned())
    }
}

pub(super) fn sources(text: &str) -> Result<Sources, String> {
    let address = |text: &str| text.parse::<IpAddr>().map_err(|_| format!("{text:?} is not an IP address"));
    let Some((first, last)) = text.split_once('-') else { return Ok(Sources(vec![address(text)?])) };
    let (IpAddr::V4(first), IpAddr::V4(last)) = (address(first)?, address(last)?) else {
        return Err("a range has IPv4 addresses".to_owned());
    };
    let (first, last) = (first.to_bits(), last.to_bits());
    if first > last || (last - first) as usize >= SOURCES_MAX {
        return Err(format!("not a range of 1 to {SOURCES_MAX} addresses, the lower one first"));
    }
    Ok(Sources((first..=last).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))).collect()))
}
