//! The API key: compared without a hint by time, never printed.

use std::fmt;
use std::hint::black_box;

/// The secret that a request to the API must carry in `X-API-Key`.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(Box<[u8]>);

impl ApiKey {
    /// Takes the key as configured: 16 bytes at least, visible ASCII.
    pub(super) fn new(key: &str) -> Self {
        Self(key.as_bytes().into())
    }

    /// Whether that is the key. How long it takes tells a guesser the key's length at
    /// most, not how many bytes were right.
    pub fn matches(&self, given: &[u8]) -> bool {
        if given.len() != self.0.len() {
            return false;
        }
        let differing = self.0.iter().zip(given).fold(0, |bits, (ours, theirs)| black_box(bits | (ours ^ theirs)));
        differing == 0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(set)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_matches() {
        let key = ApiKey::new("0123456789abcdef");
        assert!(key.matches(b"0123456789abcdef"));
        for wrong in ["", "0123456789abcde", "0123456789abcdef0", "1123456789abcdef", "0123456789abcdeF"] {
            assert!(!key.matches(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn debug_output_hides_the_key() {
        assert_eq!(format!("{:?}", ApiKey::new("0123456789abcdef")), "(set)");
    }
}
