//! One option's value: how it is written, which values are allowed, how it is shown.
//!
//! Whatever wrote it (file, environment, flag, the default), it comes as [`Given`],
//! is checked against the option's [`Kind`] once, and is a [`Value`] from then on.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

use super::secret::ApiKey;
use crate::policy::{SlowConsumerPolicy, TopicPolicies};

/// Bytes of an API key, so that guessing is hopeless.
const KEY_BYTES_MIN: usize = 16;
/// Bytes of an API key, so that the header which carries it stays small.
const KEY_BYTES_MAX: usize = 256;

const KIB: u64 = 1024;
const UNITS: [(&str, u64); 3] = [("GiB", KIB * KIB * KIB), ("MiB", KIB * KIB), ("KiB", KIB)];

/// What a number counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Things, as the key names them.
    Count,
    /// Bytes; may be written with a unit, as in `"64 KiB"`.
    Bytes,
    /// Milliseconds.
    Milliseconds,
}

/// Which values an option takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// An IP address with a port.
    Address,
    /// A whole number.
    Whole {
        /// The smallest that is allowed.
        min: u64,
        /// The largest that is allowed.
        max: u64,
        /// What it counts.
        unit: Unit,
    },
    /// True or false.
    Switch,
    /// Any of these words, each once at most.
    Subset(&'static [&'static str]),
    /// Host names; with `any`, also `*`.
    Hosts {
        /// Whether `*` is allowed, for all hosts.
        any: bool,
    },
    /// Rules of `topics.slow_consumers`.
    Policies,
    /// Files of certificates with their keys.
    Certificates,
    /// Text that is never shown. Given by file or environment only: flags are seen by
    /// everybody who may list processes.
    Secret,
}

/// A value as somebody wrote it, unchecked.
pub(super) enum Given {
    Text(String),
    Number(i64),
    Switch(bool),
    List(Vec<String>),
    /// Something that no option takes (a float, a date, a list of lists), as text.
    Other(String),
}

/// A value that its option allows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    Auto,
    Word(&'static str),
    Address(SocketAddr),
    Whole(u64),
    Switch(bool),
    List(Vec<String>),
    Secret(Option<ApiKey>),
}

impl Kind {
    /// The value, if it is allowed. Text stands for any kind: environment and flags
    /// have nothing else.
    pub(super) fn read(&self, given: &Given) -> Option<Value> {
        match (*self, given) {
            (Self::Choice(words), Given::Text(text)) => words.iter().find(|word| *word == text).map(|w| Value::Word(w)),
            (Self::Address, Given::Text(text)) => text.parse().ok().map(Value::Address),
            (Self::Whole { min, max, unit }, Given::Text(_) | Given::Number(_)) => {
                let number = match given {
                    Given::Number(number) => u64::try_from(*number).ok(),
                    Given::Text(text) => parse_whole(text, unit),
                    _ => None,
                }?;
                (min..=max).contains(&number).then_some(Value::Whole(number))
            }
            (Self::Switch, Given::Switch(on)) => Some(Value::Switch(*on)),
            (Self::Switch, Given::Text(text)) => text.parse().ok().map(Value::Switch),
            (Self::Subset(words), _) => {
                let list = items(given)?;
                let allowed = list
                    .iter()
                    .enumerate()
                    .all(|(at, item)| words.contains(&item.as_str()) && !list[..at].contains(item));
                allowed.then_some(Value::List(list))
            }
            (Self::Hosts { any }, _) => {
                let hosts: Option<Vec<_>> = items(given)?.iter().map(|item| host(item, any)).collect();
                hosts.map(Value::List)
            }
            (Self::Policies, _) => {
                let rules = items(given)?;
                rules.iter().all(|rule| TopicPolicies::parse_rule(rule).is_some()).then_some(Value::List(rules))
            }
            (Self::Certificates, _) => {
                let pairs = items(given)?;
                pairs.iter().all(|pair| certificate_pair(pair).is_some()).then_some(Value::List(pairs))
            }
            (Self::Secret, Given::Text(text)) if text.is_empty() => Some(Value::Secret(None)),
            (Self::Secret, Given::Text(text)) => {
                let allowed = (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&text.len())
                    && text.bytes().all(|byte| byte.is_ascii_graphic());
                allowed.then(|| Value::Secret(Some(ApiKey::new(text))))
            }
            _ => None,
        }
    }

    /// The value as TOML writes it, except that a secret stays one.
    pub(super) fn show(&self, value: &Value) -> String {
        match (value, self) {
            (Value::Auto, _) => quote("auto"),
            (Value::Word(word), _) => quote(word),
            (Value::Address(address), _) => quote(&address.to_string()),
            (Value::Whole(number), Self::Whole { unit: Unit::Bytes, .. }) => match bytes(*number) {
                text if text.contains(' ') => quote(&text),
                plain => plain,
            },
            (Value::Whole(number), _) => number.to_string(),
            (Value::Switch(on), _) => on.to_string(),
            (Value::List(list), _) => show_list(list),
            (Value::Secret(None), _) => quote(""),
            (Value::Secret(Some(_)), _) => quote("(set)"),
        }
    }

    /// What a wrong value looked like, for the message about it.
    pub(super) fn show_given(&self, given: &Given) -> String {
        match given {
            _ if matches!(self, Self::Secret) => "(hidden)".to_owned(),
            Given::Text(text) => format!("{text:?}"),
            Given::Number(number) => number.to_string(),
            Given::Switch(on) => on.to_string(),
            Given::List(list) => show_list(list),
            Given::Other(text) => text.clone(),
        }
    }
}

impl fmt::Display for Kind {
    /// Which values are allowed, to follow the words "it takes".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |words: &[&str]| words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(", ");
        match self {
            Self::Choice(list) => write!(f, "one of {}", words(list)),
            Self::Address => write!(f, "an IP address with a port, as \"127.0.0.1:8000\" or \"[::1]:8000\""),
            Self::Whole { min, max, unit: Unit::Count } => write!(f, "a whole number from {min} to {max}"),
            Self::Whole { min, max, unit: Unit::Milliseconds } => write!(f, "milliseconds from {min} to {max}"),
            Self::Whole { min, max, unit: Unit::Bytes } => {
                write!(f, "bytes from {} to {}, as 65536 or \"64 KiB\"", bytes(*min), bytes(*max))
            }
            Self::Switch => write!(f, "true or false"),
            Self::Subset(list) => write!(f, "a list of any of {}", words(list)),
            Self::Hosts { any: false } => write!(f, "a list of host names without scheme and port"),
            Self::Hosts { any: true } => write!(f, "a list of host names without scheme and port, or \"*\" for any"),
            Self::Policies => write!(
                f,
                "a list of \"PATTERN = POLICY\", where * in a pattern stands for any characters and the policy is one of {}",
                words(&SlowConsumerPolicy::WORDS)
            ),
            Self::Certificates => {
                write!(
                    f,
                    "a list of \"CERTIFICATES = KEY\", two paths of PEM files, or of one path to both in one file"
                )
            }
            Self::Secret => write!(
                f,
                "{KEY_BYTES_MIN} to {KEY_BYTES_MAX} visible ASCII characters in quotes, without spaces; \"\" is none"
            ),
        }
    }
}

/// A list as text has commas between its items.
fn items(given: &Given) -> Option<Vec<String>> {
    match given {
        Given::List(list) => Some(list.clone()),
        Given::Text(text) if text.trim().is_empty() => Some(Vec::new()),
        Given::Text(text) => Some(text_items(text)),
        _ => None,
    }
}

/// Items with commas between them. The way in which lists are shown and written in the
/// file, `["a", "b"]`, is understood too.
fn text_items(text: &str) -> Vec<String> {
    let as_toml = text.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match as_toml.filter(|inner| inner.is_empty() || inner.contains('"')) {
        Some(inner) => {
            inner.split(',').map(|item| item.trim().trim_matches('"').to_owned()).filter(|i| !i.is_empty()).collect()
        }
        None => text.split(',').map(|item| item.trim().to_owned()).collect(),
    }
}

/// The paths of certificates and key: `"chain.pem = key.pem"`, or one file with both.
pub(super) fn certificate_pair(text: &str) -> Option<(&str, &str)> {
    let (certificates, key) = text.split_once(" = ").map_or((text, text), |(a, b)| (a.trim(), b.trim()));
    (!certificates.trim().is_empty() && !key.is_empty()).then_some((certificates, key))
}

/// A host as requests are compared with it: in lower case, IPv6 without brackets.
fn host(text: &str, any: bool) -> Option<String> {
    if text == "*" && any {
        return Some(text.to_owned());
    }
    let address = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = address.parse::<Ipv6Addr>() {
        return Some(address.to_string());
    }
    let is_name = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    is_name.then(|| text.to_ascii_lowercase())
}

fn parse_whole(text: &str, unit: Unit) -> Option<u64> {
    let (digits, factor) = UNITS
        .iter()
        .filter(|_| unit == Unit::Bytes)
        .find_map(|(name, factor)| text.strip_suffix(name).map(|digits| (digits.trim_end(), *factor)))
        .unwrap_or((text, 1));
    // `parse` would take a sign too.
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| plain)?.checked_mul(factor)
}

/// `65536` as `64 KiB`, `100` as `100`.
fn bytes(number: u64) -> String {
    match UNITS.iter().find(|(_, factor)| number > 0 && number.is_multiple_of(*factor)) {
        Some((name, factor)) => format!("{} {name}", number / factor),
        None => number.to_string(),
    }
}

fn quote(text: &str) -> String {
    format!("\"{text}\"")
}

fn show_list(list: &[String]) -> String {
    format!("[{}]", list.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Given {
        Given::Text(text.to_owned())
    }

    #[test]
    fn bytes_are_read_and_shown_with_their_unit() {
        let kind = Kind::Whole { min: 100, max: KIB * KIB * KIB, unit: Unit::Bytes };
        for (given, number, shown) in [
            ("65536", 65536, "\"64 KiB\""),
            ("64 KiB", 65536, "\"64 KiB\""),
            ("3MiB", 3 << 20, "\"3 MiB\""),
            ("1 GiB", 1 << 30, "\"1 GiB\""),
            ("1000", 1000, "1000"),
        ] {
            assert_eq!(kind.read(&text(given)), Some(Value::Whole(number)), "{given}");
            assert_eq!(kind.show(&Value::Whole(number)), shown);
        }
        for wrong in ["", "99", "+200", "-1", "1.5 MiB", "64 KB", "KiB", "2 GiB", "18446744073709551615 KiB"] {
            assert_eq!(kind.read(&text(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn milliseconds_and_counts_take_no_unit_of_bytes() {
        for unit in [Unit::Milliseconds, Unit::Count] {
            assert_eq!(Kind::Whole { min: 0, max: u64::MAX, unit }.read(&text("1 KiB")), None);
        }
    }

    #[test]
    fn a_file_may_write_true_and_numbers_without_quotes_but_no_number_for_a_secret() {
        assert_eq!(Kind::Switch.read(&Given::Switch(true)), Some(Value::Switch(true)));
        assert_eq!(Kind::Switch.read(&Given::Number(1)), None);
        let count = Kind::Whole { min: 1, max: 5, unit: Unit::Count };
        assert_eq!(count.read(&Given::Number(5)), Some(Value::Whole(5)));
        assert_eq!(count.read(&Given::Number(-1)), None);
        assert_eq!(Kind::Secret.read(&Given::Number(1_234_567_890_123_456_789)), None);
    }

    #[test]
    fn hosts_lose_case_and_brackets_and_may_have_neither_scheme_nor_port() {
        let kind = Kind::Hosts { any: false };
        let hosts = |list: &[&str]| Some(Value::List(list.iter().map(|&host| host.to_owned()).collect()));
        assert_eq!(kind.read(&text("Example.COM, [::1] ,10.0.0.1")), hosts(&["example.com", "::1", "10.0.0.1"]));
        assert_eq!(kind.read(&text("")), hosts(&[]));
        assert_eq!(Kind::Hosts { any: true }.read(&text("*")), hosts(&["*"]));
        for wrong in ["*", "https://example.com", "example.com:443", "a,,b", "a b", "[::1]:80"] {
            assert_eq!(kind.read(&text(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn certificates_have_their_keys_beside_them_or_in_the_same_file() {
        assert_eq!(certificate_pair("a b.pem = /k.pem"), Some(("a b.pem", "/k.pem")));
        assert_eq!(certificate_pair("both.pem"), Some(("both.pem", "both.pem")));
        assert_eq!(certificate_pair("a=b.pem"), Some(("a=b.pem", "a=b.pem")));
        for wrong in ["", " ", " = k.pem", "a.pem = "] {
            assert_eq!(certificate_pair(wrong), None, "{wrong:?}");
        }
        assert_eq!(Kind::Certificates.read(&text("")), Some(Value::List(Vec::new())));
    }

    #[test]
    fn a_subset_names_each_word_once_at_most() {
        let kind = Kind::Subset(&["subscribe", "publish"]);
        assert!(kind.read(&text("publish,subscribe")).is_some());
        assert_eq!(kind.read(&text("publish,publish")), None);
        assert_eq!(kind.read(&text("all")), None);
        assert_eq!(kind.read(&text("[\"subscribe\", \"publish\"]")), kind.read(&text("subscribe,publish")));
        assert_eq!(kind.read(&text("[]")), kind.read(&text("")));
    }
}
