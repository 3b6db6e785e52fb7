use super::*;

const BOTH: Takeover = Takeover { server: true, client: true };
const NONE: Takeover = Takeover { server: false, client: false };

/// The answer to these header fields; "" where none is given.
fn answer_to(fields: &[&str], allowed: Takeover) -> String {
    let agreed = negotiate(fields.iter().map(|field| field.as_bytes()), allowed).expect("well-formed");
    let mut value = Vec::new();
    if let Some(agreement) = agreed {
        agreement.append_header_value(&mut value);
    }
    String::from_utf8(value).unwrap()
}

fn is_malformed(field: &str) -> bool {
    negotiate([field.as_bytes()].into_iter(), BOTH).is_err()
}

#[test]
fn every_parameter_of_an_offer_is_answered() {
    for (offer, answer) in [
        ("permessage-deflate", "permessage-deflate"),
        ("permessage-deflate; server_no_context_takeover", "permessage-deflate; server_no_context_takeover"),
        ("permessage-deflate; client_no_context_takeover", "permessage-deflate; client_no_context_takeover"),
        ("permessage-deflate; server_max_window_bits=10", "permessage-deflate; server_max_window_bits=10"),
        ("permessage-deflate; server_max_window_bits=8", "permessage-deflate; server_max_window_bits=8"),
        ("permessage-deflate; client_max_window_bits", "permessage-deflate; client_max_window_bits=15"),
        ("permessage-deflate; client_max_window_bits=9", "permessage-deflate; client_max_window_bits=9"),
        (
            "permessage-deflate; client_max_window_bits; server_max_window_bits=15",
            "permessage-deflate; server_max_window_bits=15; client_max_window_bits=15",
        ),
        (
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover; client_max_window_bits=12; \
             server_max_window_bits=11",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=11; \
             client_max_window_bits=12",
        ),
    ] {
        assert_eq!(answer_to(&[offer], BOTH), answer, "{offer}");
    }
}

#[test]
fn takeover_that_is_not_allowed_is_ruled_out_though_nobody_asked() {
    let answer = answer_to(&["permessage-deflate; client_max_window_bits"], NONE);
    let expected =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=15";
    assert_eq!(answer, expected);
}

#[test]
fn a_window_is_never_named_to_a_client_that_does_not_know_it() {
    assert!(!answer_to(&["permessage-deflate"], NONE).contains("window"));
    assert!(!answer_to(&["permessage-deflate; server_max_window_bits=9"], NONE).contains("client_max"));
}

#[test]
fn an_offer_with_anything_odd_is_declined() {
    for parameters in [
        "unknown",
        "unknown=1",
        "server_no_context_takeover=1",
        "client_no_context_takeover=true",
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=08",
        "server_max_window_bits=+9",
        "server_max_window_bits=9x",
        "server_max_window_bits=4294967305",
        "client_max_window_bits=0",
        "client_max_window_bits=\"016\"",
        "server_no_context_takeover; server_no_context_takeover",
        "client_max_window_bits; client_max_window_bits=9",
        "Server_no_context_takeover",
    ] {
        assert_eq!(answer_to(&[&format!("permessage-deflate; {parameters}")], BOTH), "", "{parameters}");
    }
    for name in ["permessage-bzip2", "x-webkit-deflate-frame", "permessage-deflat", "PERMESSAGE-DEFLATE"] {
        assert_eq!(answer_to(&[name], BOTH), "", "{name}");
    }
}

#[test]
fn the_first_offer_that_is_understood_is_taken() {
    let declined = "permessage-deflate; unknown";
    let first = "permessage-deflate; server_max_window_bits=10";
    let second = "permessage-deflate; server_no_context_takeover";
    for fields in [
        vec![format!("{declined}, {first}, {second}")],
        vec![declined.to_owned(), first.to_owned(), second.to_owned()],
        vec![format!("mux; max-channels=4; flow-control, {declined}"), format!(" , {first},,{second} ,")],
        vec![String::new(), "x-a; b=\"c\"".to_owned(), format!("{first},{second}")],
    ] {
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        assert_eq!(answer_to(&fields, BOTH), first, "{fields:?}");
    }
}

#[test]
fn values_may_be_quoted_and_blanks_stand_anywhere_between() {
    for offer in [
        "permessage-deflate;server_max_window_bits=10",
        "permessage-deflate ;\tserver_max_window_bits = \"10\"",
        "permessage-deflate; server_max_window_bits=\"1\\0\" ",
    ] {
        assert_eq!(answer_to(&[offer], BOTH), "permessage-deflate; server_max_window_bits=10", "{offer}");
    }
}

#[test]
fn what_is_no_list_of_extensions_is_malformed() {
    for field in [
        "permessage-deflate;",
        "permessage-deflate; =1",
        "permessage-deflate; a=",
        "permessage-deflate; a=\"1",
        "permessage-deflate; a=\"\"",
        "permessage-deflate; a=\"1 2\"",
        "permessage-deflate; a=\"1\\",
        "permessage-deflate a",
        "permessage-deflate; a b",
        ";",
        "=",
        "a, (b)",
        "a\u{e9}",
    ] {
        assert!(is_malformed(field), "{field}");
    }
    assert!(negotiate([b"a\xff".as_slice()].into_iter(), BOTH).is_err());
    // Also behind an offer that was good, and in another field.
    assert!(is_malformed("permessage-deflate, ;"));
    assert!(!is_malformed(""));
}
