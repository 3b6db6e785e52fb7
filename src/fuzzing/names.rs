//! Names that peers and operators choose: topics in paths, patterns, hosts and origins.
//!
//! Input: UTF-8; a pattern, a line feed, a name.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::limits::TOPIC_NAME_BYTES_MAX;
use crate::origin::OriginPolicy;
use crate::policy::{TopicPattern, TopicPolicies};
use crate::topic_name;

/// A comparison takes the product of the lengths.
const TEXT_BYTES_MAX: usize = 512;

pub(super) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(&data[..data.len().min(TEXT_BYTES_MAX)]) else { return };
    let (pattern, name) = text.split_once('\n').unwrap_or(("*", text));
    check_topic_name(name);
    assert_eq!(TopicPattern::new(pattern).matches(name), matches(pattern.as_bytes(), name.as_bytes()));
    TopicPolicies::parse_rule(text);
    check_origins(pattern, name);
}

fn check_topic_name(path: &str) {
    let Ok(name) = topic_name::from_path(path) else { return };
    assert!((1..=TOPIC_NAME_BYTES_MAX).contains(&name.len()));
    assert!(!name.contains(char::is_control));
    let encoded = utf8_percent_encode(&name, NON_ALPHANUMERIC).to_string();
    assert_eq!(topic_name::from_path(&encoded), Ok(name));
}

/// The plain way: which prefixes of the name does the pattern so far have?
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut had = vec![false; name.len() + 1];
    had[0] = true;
    for &byte in pattern {
        if byte == b'*' {
            let first = had.iter().position(|had| *had).unwrap_or(had.len());
            had[first..].fill(true);
        } else {
            had.rotate_right(1);
            had[0] = false;
            for (had, at) in had[1..].iter_mut().zip(name) {
                *had &= *at == byte;
            }
        }
    }
    had[name.len()]
}

fn check_origins(host: &str, origin: &str) {
    let open = OriginPolicy::default();
    assert!(open.allows_host(host));
    // A page of the host itself may always connect; what a host is may not depend on its case.
    let same = open.allows_origin(origin, host);
    assert_eq!(same, open.allows_origin(origin, &host.to_ascii_uppercase()));
    let any = OriginPolicy { allowed_origins: vec!["*".to_owned()], ..OriginPolicy::default() };
    assert!(any.allows_origin(origin, host));
    let own = OriginPolicy { check_host: true, ..OriginPolicy::default() };
    let listed = OriginPolicy { allowed_hosts: vec![host.to_owned()], ..own.clone() };
    assert!(!own.allows_host(host) || listed.allows_host(host), "a list only adds");
}
