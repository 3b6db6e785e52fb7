//! `Sec-WebSocket-Extensions`: what is offered, and what is agreed on (RFC 6455,
//! section 9.1; RFC 7692, section 7.1).
//!
//! There is one extension here, permessage-deflate. An offer that is not understood
//! to the last parameter is declined, as the RFC has it, and the next one is looked
//! at; a client writes several when it would rather have the first.

use std::borrow::Cow;

use super::handshake::HandshakeError;

const PERMESSAGE_DEFLATE: &str = "permessage-deflate";
const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// The smallest window that may be negotiated, as a power of two of bytes.
pub const WINDOW_BITS_MIN: u8 = 8;
/// The largest window, and the one in use where nobody says anything.
pub const WINDOW_BITS_MAX: u8 = 15;

/// Who would keep the window from one message to the next.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Takeover {
    /// The server, for what it sends.
    pub server: bool,
    /// The client, for what it sends.
    pub client: bool,
}

/// permessage-deflate, as both sides use it on one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeflateAgreement {
    /// Who keeps the window. The others begin anew with each message.
    pub takeover: Takeover,
    /// `None`: not named in the answer.
    server_window_bits: Option<u8>,
    client_window_bits: Option<u8>,
}

impl DeflateAgreement {
    /// The server's window is at most two to this power, in bytes: 8 to 15.
    pub fn server_window_bits(&self) -> u8 {
        self.server_window_bits.unwrap_or(WINDOW_BITS_MAX)
    }

    /// The client's window is at most two to this power, in bytes: 8 to 15.
    pub fn client_window_bits(&self) -> u8 {
        self.client_window_bits.unwrap_or(WINDOW_BITS_MAX)
    }

    /// Appends the value of the answer's header. Windows that were offered are named
    /// even at their default: Starscream before 4.0.6 makes its contexts out of them.
    pub fn append_header_value(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(PERMESSAGE_DEFLATE.as_bytes());
        for (kept, name) in
            [(self.takeover.server, SERVER_NO_CONTEXT_TAKEOVER), (self.takeover.client, CLIENT_NO_CONTEXT_TAKEOVER)]
        {
            if !kept {
                out.extend_from_slice(format!("; {name}").as_bytes());
            }
        }
        for (bits, name) in
            [(self.server_window_bits, SERVER_MAX_WINDOW_BITS), (self.client_window_bits, CLIENT_MAX_WINDOW_BITS)]
        {
            if let Some(bits) = bits {
                out.extend_from_slice(format!("; {name}={bits}").as_bytes());
            }
        }
    }
}

/// The server's choice among the offers in all header fields of that name: the first
/// that it understands, with no more takeover than `allowed`. `None`: none, so the
/// answer names no extension.
pub fn negotiate<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    allowed: Takeover,
) -> Result<Option<DeflateAgreement>, HandshakeError> {
    let mut agreed = None;
    for value in values {
        for extension in parse(value).ok_or(HandshakeError::Malformed("Sec-WebSocket-Extensions is not a list"))? {
            if agreed.is_none() && extension.name == PERMESSAGE_DEFLATE {
                agreed = accept(&extension, allowed);
            }
        }
    }
    Ok(agreed)
}

/// Section 7.1: an offer with an unknown parameter, a parameter that stands twice, or a
/// value that the parameter cannot have is declined.
fn accept(offer: &Extension<'_>, allowed: Takeover) -> Option<DeflateAgreement> {
    let mut agreement = DeflateAgreement { takeover: allowed, server_window_bits: None, client_window_bits: None };
    for (at, (name, value)) in offer.parameters.iter().enumerate() {
        if offer.parameters[..at].iter().any(|(earlier, _)| earlier == name) {
            return None;
        }
        match (*name, value) {
            (SERVER_NO_CONTEXT_TAKEOVER, None) => agreement.takeover.server = false,
            (CLIENT_NO_CONTEXT_TAKEOVER, None) => agreement.takeover.client = false,
            (SERVER_MAX_WINDOW_BITS, Some(bits)) => agreement.server_window_bits = Some(window_bits(bits)?),
            (CLIENT_MAX_WINDOW_BITS, None) => agreement.client_window_bits = Some(WINDOW_BITS_MAX),
            (CLIENT_MAX_WINDOW_BITS, Some(bits)) => agreement.client_window_bits = Some(window_bits(bits)?),
            _ => return None,
        }
    }
    Some(agreement)
}

/// A decimal number from 8 to 15 without leading zeros (section 7.1.2).
fn window_bits(value: &str) -> Option<u8> {
    let bits = value.parse().ok().filter(|bits| (WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(bits))?;
    // `parse` would also take "+9" and "09".
    (bits.to_string() == value).then_some(bits)
}

/// An element of the list: a name with parameters.
#[derive(Debug)]
struct Extension<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

/// Parses one header field. Empty elements of the list are skipped (RFC 9110, section
/// 5.6.1); anything else that is not in the grammar makes the whole field malformed.
fn parse(value: &[u8]) -> Option<Vec<Extension<'_>>> {
    let mut text = Text(std::str::from_utf8(value).ok()?);
    let mut extensions = Vec::new();
    loop {
        while text.take(',') {}
        if text.is_at_end() {
            return Some(extensions);
        }
        let mut extension = Extension { name: text.token()?, parameters: Vec::new() };
        while text.take(';') {
            let name = text.token()?;
            let value = if text.take('=') { Some(text.value()?) } else { None };
            extension.parameters.push((name, value));
        }
        extensions.push(extension);
        if !text.is_at_end() && !text.0.starts_with(',') {
            return None;
        }
    }
}

/// What is left of a header field. Blanks around tokens have no meaning.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a character and the blanks around it, if it comes next.
    fn take(&mut self, wanted: char) -> bool {
        self.skip_blanks();
        let Some(rest) = self.0.strip_prefix(wanted) else { return false };
        self.0 = rest;
        self.skip_blanks();
        true
    }

    fn token(&mut self) -> Option<&'a str> {
        let end = self.0.find(|c| !is_token_char(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        self.skip_blanks();
        (!token.is_empty()).then_some(token)
    }

    /// A token, bare or in quotes; without its quotes it must be one all the same (RFC
    /// 6455, section 9.1).
    fn value(&mut self) -> Option<Cow<'a, str>> {
        let Some(quoted) = self.0.strip_prefix('"') else { return self.token().map(Cow::Borrowed) };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        loop {
            match characters.next()? {
                (at, '"') => {
                    self.0 = &quoted[at + 1..];
                    self.skip_blanks();
                    let is_token = !value.is_empty() && value.chars().all(is_token_char);
                    return is_token.then_some(Cow::Owned(value));
                }
                (_, '\\') => value.push(characters.next()?.1),
                (_, other) => value.push(other),
            }
        }
    }
}

/// RFC 9110, section 5.6.2.
fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
#[path = "extension_tests.rs"]
mod tests;
