//! Names of topics: what may be one, and how a path spells it.
//!
//! Used by the dialects and by the control plane's API, so that both accept the same.

#![forbid(unsafe_code)]

use percent_encoding::percent_decode_str;

use crate::limits::TOPIC_NAME_BYTES_MAX;

/// Why a topic's name was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TopicNameError {
    /// No name at all.
    #[error("the topic name is empty; a name has 1 to {TOPIC_NAME_BYTES_MAX} bytes")]
    Empty,
    /// Longer than [`TOPIC_NAME_BYTES_MAX`].
    #[error("the topic name has {0} bytes; a name has 1 to {TOPIC_NAME_BYTES_MAX} bytes")]
    TooLong(usize),
    /// The percent-encoding is no UTF-8.
    #[error("the topic name is not UTF-8 after percent-decoding")]
    NotUtf8,
    /// A `%` without two hexadecimal digits.
    #[error("the topic name has a % that is not followed by two hexadecimal digits")]
    BadPercent,
    /// A control character.
    #[error("the topic name has the control character U+{0:04X}")]
    ControlCharacter(u32),
}

fn check_name(name: &str) -> Result<(), TopicNameError> {
    if name.is_empty() {
        return Err(TopicNameError::Empty);
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return Err(TopicNameError::TooLong(name.len()));
    }
    match name.chars().find(|c| c.is_control()) {
        Some(c) => Err(TopicNameError::ControlCharacter(c as u32)),
        None => Ok(()),
    }
}

/// The topic's name out of what follows `/topics/` in a path: percent-decoded UTF-8,
/// 1 to 255 bytes, no control characters. Slashes belong to it.
pub fn from_path(encoded: &str) -> Result<String, TopicNameError> {
    let bytes = encoded.as_bytes();
    for (at, _) in encoded.match_indices('%') {
        let digits = bytes.get(at + 1..at + 3);
        if !digits.is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit)) {
            return Err(TopicNameError::BadPercent);
        }
    }
    let name = percent_decode_str(encoded).decode_utf8().map_err(|_| TopicNameError::NotUtf8)?;
    check_name(&name)?;
    Ok(name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_and_may_have_slashes() {
        assert_eq!(from_path("room").unwrap(), "room");
        assert_eq!(from_path("a/b%20c%2Fd").unwrap(), "a/b c/d");
        assert_eq!(from_path("%E6%BC%A2").unwrap(), "漢");
    }

    #[test]
    fn names_that_are_refused_say_why() {
        for (path, part) in [
            ("", "empty"),
            ("%", "hexadecimal"),
            ("%4", "hexadecimal"),
            ("%zz", "hexadecimal"),
            ("%ff", "UTF-8"),
            ("a%00b", "U+0000"),
            ("a%0Ab", "U+000A"),
            ("%C2%80", "U+0080"),
        ] {
            let error = from_path(path).unwrap_err().to_string();
            assert!(error.contains(part), "{path}: {error}");
        }
        assert!(from_path(&"a".repeat(255)).is_ok());
        assert_eq!(from_path(&"a".repeat(256)), Err(TopicNameError::TooLong(256)));
        assert_eq!(from_path(&"%41".repeat(255)).unwrap().len(), 255);
    }
}
