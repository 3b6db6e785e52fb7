//! Close codes and the body of Close frames (RFC 6455, sections 5.5.1 and 7.4).

use super::error::ProtocolError;
use super::utf8;

/// A close code. Any number can be held; [`CloseCode::may_be_received`] says which
/// a peer may put on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The purpose of the connection was fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The server goes down or the page is left. Also says "restart" to clients of
    /// unknown kind, since widespread ones take 1012 for a protocol error.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// A type of data that the endpoint cannot accept.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// A payload that contradicts its type, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// The message breaks a rule of the server, such as publishing without the right to.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// A message above the limit.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// wsgate's own: the peer did not read fast enough and messages would be lost.
    pub const SLOW_CONSUMER: Self = Self(4008);

    /// wsgate's own: no message came for longer than the server waits.
    pub const IDLE: Self = Self(4009);

    /// Whether a peer may send this code: the registered ones that are not reserved
    /// for local use, 3000 to 3999 for libraries and 4000 to 4999 for applications.
    pub fn may_be_received(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// The body of a Close frame that has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CloseFrame<'a> {
    /// Why.
    pub code: CloseCode,
    /// Why, in words; at most 123 bytes.
    pub reason: &'a str,
}

/// Reads the payload of a Close frame; an empty one has neither code nor reason.
pub fn parse(payload: &[u8]) -> Result<Option<CloseFrame<'_>>, ProtocolError> {
    match payload {
        [] => Ok(None),
        [_] => Err(ProtocolError::CloseBodyTooShort),
        [high, low, reason @ ..] => {
            let code = CloseCode(u16::from_be_bytes([*high, *low]));
            if !code.may_be_received() {
                return Err(ProtocolError::CloseCodeInvalid(code.0));
            }
            if !utf8::is_valid(reason) {
                return Err(ProtocolError::InvalidUtf8);
            }
            let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::InvalidUtf8)?;
            Ok(Some(CloseFrame { code, reason }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_body_has_no_code() {
        assert_eq!(parse(b""), Ok(None));
    }

    #[test]
    fn body_of_one_byte_is_refused() {
        assert_eq!(parse(b"\x03"), Err(ProtocolError::CloseBodyTooShort));
    }

    #[test]
    fn codes_at_every_boundary() {
        for (code, accepted) in [
            (0, false),
            (999, false),
            (1000, true),
            (1003, true),
            (1004, false),
            (1005, false),
            (1006, false),
            (1007, true),
            (1014, true),
            (1015, false),
            (1016, false),
            (2999, false),
            (3000, true),
            (4999, true),
            (5000, false),
            (65535, false),
        ] {
            let body = u16::to_be_bytes(code);
            assert_eq!(parse(&body).is_ok(), accepted, "code {code}");
        }
    }

    #[test]
    fn reason_must_be_utf8() {
        assert_eq!(parse(b"\x03\xe8ok").unwrap().unwrap().reason, "ok");
        assert_eq!(parse(b"\x03\xe8\xff"), Err(ProtocolError::InvalidUtf8));
    }
}
