//! The limit of open files: one per connection, and some for the event loops. Where the
//! kernel lets them, workers have tables of their own, and each may have as many.

use wsgate::driver::{descriptors, machine};

use crate::mix::Mix;

/// Files beside the connections: standard streams, and what the libraries hold.
const FILES_BASE: u64 = 32;
/// Files of one worker: event queue, waker, alarm, random source.
const FILES_PER_WORKER: u64 = 4;

/// The limit is too low and cannot be raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{connections} connections need {needed} open files{where_}, but {limit} are allowed at most; \
     raise the hard limit (ulimit -Hn, LimitNOFILE= in a systemd unit), {more_threads}ask for at most {possible} connections",
    where_ = if *.of_each { " in one of the threads" } else { "" },
    more_threads = if *.of_each { "use more --threads, or " } else { "or " }
)]
pub struct TooFewFiles {
    connections: usize,
    needed: u64,
    limit: u64,
    possible: u64,
    /// Each worker has a table of its own.
    of_each: bool,
}

/// Raises the limit of open files as far as allowed, and checks that it is enough.
pub fn raise_limit(mix: &Mix) -> Result<(), TooFewFiles> {
    let limit = machine::raise_descriptor_limit();
    // Rounded up twice, for those who publish and those who do not.
    let share = mix.plans().map(|plan| plan.connections_total().div_ceil(plan.threads) + 1).max();
    let of_each = share.filter(|_| descriptors::can_unshare());
    check(mix.connections_total(), of_each, mix.threads(), limit)
}

/// `of_each`: the most that one worker has, if it has a table of its own.
fn check(connections: usize, of_each: Option<usize>, workers: usize, limit: u64) -> Result<(), TooFewFiles> {
    let own = FILES_BASE + FILES_PER_WORKER * workers as u64;
    let needed = of_each.unwrap_or(connections) as u64 + own;
    if needed <= limit {
        return Ok(());
    }
    let in_a_table = limit.saturating_sub(own);
    let possible = match of_each {
        Some(_) => in_a_table.saturating_sub(1) * workers as u64,
        None => in_a_table,
    };
    Err(TooFewFiles { connections, needed, limit, possible, of_each: of_each.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_too_low_is_told_with_what_is_possible() {
        assert_eq!(check(15_000, None, 2, 20_000), Ok(()));
        let error = check(20_000, None, 2, 20_000).unwrap_err();
        assert_eq!((error.needed, error.possible), (20_040, 19_960));
        assert_eq!(check(error.possible as usize, None, 2, 20_000), Ok(()));
        let said = "20000 connections need 20040 open files, but 20000 are allowed at most; raise the hard limit";
        assert!(error.to_string().starts_with(said) && !error.to_string().contains("threads"), "{error}");
    }

    #[test]
    fn workers_with_tables_of_their_own_have_the_limit_each() {
        assert_eq!(check(30_000, Some(15_001), 2, 20_000), Ok(()));
        let error = check(50_000, Some(25_001), 2, 20_000).unwrap_err();
        assert_eq!((error.needed, error.possible), (25_041, 39_918));
        let said = "50000 connections need 25041 open files in one of the threads, but 20000 are allowed at most";
        assert!(error.to_string().starts_with(said), "{error}");
        assert!(error.to_string().ends_with("use more --threads, or ask for at most 39918 connections"), "{error}");
    }
}
