//! What clients offer: the first offer that is legal is accepted, and the answer is one
//! that RFC 7692 allows to it.
//!
//! Input: a byte with the takeover that is allowed, then header fields with line feeds
//! between them.

use crate::proto::extension::{DeflateAgreement, Takeover, negotiate};

const BLANKS: [char; 2] = [' ', '\t'];

/// An element of the list: names with their values, the extension's own first.
type Element = Vec<(String, Option<String>)>;

/// A legal offer of permessage-deflate.
#[derive(Default)]
struct Offer {
    server_forgets: bool,
    client_forgets: bool,
    server_bits: Option<u8>,
    /// Offered, and perhaps with a value.
    client_bits: Option<Option<u8>>,
}

pub(super) fn run(data: &[u8]) {
    let Some((&setup, text)) = data.split_first() else { return };
    let allowed = Takeover { server: setup & 1 != 0, client: setup & 2 != 0 };
    let fields = || text.split(|byte| *byte == b'\n');
    let read = fields().map(elements).collect::<Option<Vec<_>>>();
    match (negotiate(fields(), allowed), read) {
        (Ok(agreed), Some(read)) => {
            let offer = read.iter().flatten().find_map(Offer::of);
            assert_eq!(agreed.is_some(), offer.is_some(), "the first legal offer is accepted, and no other");
            if let (Some(agreed), Some(offer)) = (agreed, offer) {
                check(&agreed, &offer, allowed);
            }
        }
        (Ok(_), None) => panic!("this is no list, and was read as one"),
        // What stands in quotes is not looked into by this reading.
        (Err(_), Some(_)) => assert!(text.contains(&b'"') || text.contains(&b'\\'), "this is a list, and was refused"),
        (Err(_), None) => {}
    }
}

/// Reads a field by splitting it. That is right where no separator stands in quotes, and
/// none does in a field that is well-formed: what is in quotes is a token, too.
fn elements(field: &[u8]) -> Option<Vec<Element>> {
    let field = std::str::from_utf8(field).ok()?.replace(['"', '\\'], "");
    let elements = field.split(',').map(|element| element.trim_matches(BLANKS)).filter(|element| !element.is_empty());
    elements.map(element).collect()
}

fn element(text: &str) -> Option<Element> {
    let parts = text.split(';').map(|part| match part.split_once('=') {
        Some((name, value)) => Some((token(name)?, Some(token(value)?))),
        None => Some((token(part)?, None)),
    });
    let parts = parts.collect::<Option<Element>>()?;
    parts[0].1.is_none().then_some(parts)
}

fn token(text: &str) -> Option<String> {
    let text = text.trim_matches(BLANKS);
    let is_token = |c: char| c.is_ascii_graphic() && !"\"(),/:;<=>?@[\\]{}".contains(c);
    (!text.is_empty() && text.chars().all(is_token)).then(|| text.to_owned())
}

impl Offer {
    fn of(element: &Element) -> Option<Self> {
        let (extension, parameters) = element.split_first()?;
        if extension.0 != "permessage-deflate" {
            return None;
        }
        let mut offer = Self::default();
        for (name, value) in parameters {
            let bits = match value {
                Some(value) => Some(window_bits(value)?),
                None => None,
            };
            match (name.as_str(), bits) {
                ("server_no_context_takeover", None) if !offer.server_forgets => offer.server_forgets = true,
                ("client_no_context_takeover", None) if !offer.client_forgets => offer.client_forgets = true,
                ("server_max_window_bits", Some(_)) if offer.server_bits.is_none() => offer.server_bits = bits,
                ("client_max_window_bits", _) if offer.client_bits.is_none() => offer.client_bits = Some(bits),
                _ => return None,
            }
        }
        Some(offer)
    }
}

fn window_bits(value: &str) -> Option<u8> {
    ["8", "9", "10", "11", "12", "13", "14", "15"].iter().position(|bits| *bits == value).map(|at| at as u8 + 8)
}

/// Section 7.1.1 and 7.1.2, one parameter after the other.
fn check(agreed: &DeflateAgreement, offer: &Offer, allowed: Takeover) {
    let mut answer = Vec::new();
    agreed.append_header_value(&mut answer);
    let answer = elements(&answer).expect("the answer is a list");
    let [answer] = &answer[..] else { panic!("the answer names one extension: {answer:?}") };
    let answer = Offer::of(answer).expect("the answer would be a legal offer");
    assert!(answer.server_forgets || !offer.server_forgets, "a client that asks the server to forget is obeyed");
    assert!(answer.client_forgets || !offer.client_forgets, "a client that will forget is not asked to remember");
    assert_eq!(agreed.takeover, Takeover { server: !answer.server_forgets, client: !answer.client_forgets });
    assert!((allowed.server || answer.server_forgets) && (allowed.client || answer.client_forgets));
    if let Some(most) = offer.server_bits {
        assert!(answer.server_bits.is_some_and(|bits| bits <= most), "the server's window is as asked for");
    }
    assert_eq!(agreed.server_window_bits(), answer.server_bits.unwrap_or(15));
    let client_bits = answer.client_bits.map(|bits| bits.expect("the answer has a value"));
    match offer.client_bits {
        None => assert_eq!(client_bits, None, "who has not offered a smaller window is not asked for one"),
        Some(most) => assert!(client_bits.is_none_or(|bits| bits <= most.unwrap_or(15))),
    }
    // One that the client may use without having been told.
    assert_eq!(agreed.client_window_bits(), client_bits.unwrap_or(15));
}
