//! The limit of open files: one per connection, and some for the event loops.

use wsgate::driver::machine;

/// Files beside the connections: standard streams, and what the libraries hold.
const FILES_BASE: u64 = 32;
/// Files of one worker: event queue, waker, alarm, random source.
const FILES_PER_WORKER: u64 = 4;

/// The limit is too low and cannot be raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{connections} connections need {needed} open files, but this process may have {limit} at most; \
     raise the hard limit (ulimit -Hn, LimitNOFILE= in a systemd unit) or ask for at most {possible} connections"
)]
pub struct TooFewFiles {
    connections: usize,
    needed: u64,
    limit: u64,
    possible: u64,
}

/// Raises the limit of open files as far as allowed, and checks that it is enough.
pub fn raise_limit(connections: usize, workers: usize) -> Result<(), TooFewFiles> {
    check(connections, workers, machine::raise_descriptor_limit())
}

fn check(connections: usize, workers: usize, limit: u64) -> Result<(), TooFewFiles> {
    let own = FILES_BASE + FILES_PER_WORKER * workers as u64;
    let needed = connections as u64 + own;
    if needed <= limit {
        return Ok(());
    }
    Err(TooFewFiles { connections, needed, limit, possible: limit.saturating_sub(own) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_too_low_is_told_with_what_is_possible() {
        assert_eq!(check(15_000, 2, 20_000), Ok(()));
        let error = check(20_000, 2, 20_000).unwrap_err();
        assert_eq!((error.needed, error.possible), (20_040, 19_960));
        assert_eq!(check(error.possible as usize, 2, 20_000), Ok(()));
    }
}
