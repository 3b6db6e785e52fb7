//! Names as options select them.

/// Whether a name is what a pattern says: itself, or any text in place of one `*`.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name
            .strip_prefix(head)
            .is_some_and(|tail| (0..=tail.len()).any(|from| tail.get(from..).is_some_and(|tail| matches(rest, tail)))),
    }
}
