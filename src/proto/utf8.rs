//! Incremental UTF-8 validation.
//!
//! RFC 6455, section 8.1 wants a text message that is not UTF-8 to fail the
//! connection. This validator fails at the first byte that no valid text can
//! have there, even inside a fragment, and never waits for the message's end.

/// Whether `bytes` as a whole are valid UTF-8.
pub fn is_valid(bytes: &[u8]) -> bool {
    // The vector code has a fixed cost that short texts do not earn back.
    if bytes.len() < 64 { std::str::from_utf8(bytes).is_ok() } else { simdutf8::basic::from_utf8(bytes).is_ok() }
}

/// Validates a text that arrives in pieces. Holds at most the three bytes of a
/// character that a piece cut.
#[derive(Clone, Copy, Default, Debug)]
pub struct Utf8Validator {
    cut: [u8; 4],
    cut_len: u8,
}

/// The bytes cannot be part of any UTF-8 text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidUtf8;

impl Utf8Validator {
    /// Takes the next piece.
    pub fn feed(&mut self, mut piece: &[u8]) -> Result<(), InvalidUtf8> {
        while self.cut_len > 0 {
            let Some((&byte, rest)) = piece.split_first() else { return Ok(()) };
            piece = rest;
            self.cut[usize::from(self.cut_len)] = byte;
            self.cut_len += 1;
            match std::str::from_utf8(&self.cut[..usize::from(self.cut_len)]) {
                Ok(_) => self.cut_len = 0,
                Err(e) if e.error_len().is_none() => {}
                Err(_) => return Err(InvalidUtf8),
            }
        }
        if is_valid(piece) {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(piece) {
            Ok(_) => Ok(()),
            Err(e) if e.error_len().is_none() => {
                let tail = &piece[e.valid_up_to()..];
                self.cut[..tail.len()].copy_from_slice(tail);
                self.cut_len = tail.len() as u8;
                Ok(())
            }
            Err(_) => Err(InvalidUtf8),
        }
    }

    /// The text is over: an unfinished character is an error.
    pub fn finish(&self) -> Result<(), InvalidUtf8> {
        if self.cut_len == 0 { Ok(()) } else { Err(InvalidUtf8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_split_of_a_valid_text_is_valid() {
        let text = "aé漢😀 κόσμε".as_bytes();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let mut validator = Utf8Validator::default();
                for piece in [&text[..first], &text[first..second], &text[second..]] {
                    assert_eq!(validator.feed(piece), Ok(()));
                }
                assert_eq!(validator.finish(), Ok(()));
            }
        }
    }

    #[test]
    fn fails_at_the_first_impossible_byte() {
        // F4 90 would be a code point above U+10FFFF: the second byte decides.
        let mut validator = Utf8Validator::default();
        assert_eq!(validator.feed(&[0xf4]), Ok(()));
        assert_eq!(validator.feed(&[0x90]), Err(InvalidUtf8));
        // A surrogate half.
        let mut validator = Utf8Validator::default();
        assert_eq!(validator.feed(&[b'a', 0xed]), Ok(()));
        assert_eq!(validator.feed(&[0xa0]), Err(InvalidUtf8));
    }

    #[test]
    fn an_unfinished_character_fails_at_the_end() {
        let mut validator = Utf8Validator::default();
        assert_eq!(validator.feed("é".as_bytes().split_at(1).0), Ok(()));
        assert_eq!(validator.finish(), Err(InvalidUtf8));
    }
}
