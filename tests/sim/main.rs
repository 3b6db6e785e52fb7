//! Deterministic simulation: several shards and many clients on one thread, with one
//! seed and one virtual clock, and an oracle that knows what each client must receive.
//!
//! `scripts/sim` runs it; a seed that fails prints how to run it again. `world` takes the
//! steps, `host` drives a shard as the event loop does, `network` carries bytes, `client`
//! decodes them, `workload` says what clients say, `oracle`, `subscription` and `ending`
//! say what must be true. Not simulated: sockets and their readiness (the drivers),
//! threads, HTTP, and TLS, which draws randomness of its own.
#![allow(missing_docs)]

mod books;
mod client;
mod control;
mod deflate;
mod drain;
mod ending;
mod flush;
mod host;
mod lending;
mod malformed;
mod network;
mod oracle;
mod plan;
mod request;
mod rest;
mod run;
mod scene;
mod subscription;
mod workload;
mod world;

use run::{Environment, run_seed, run_seeds};

/// Seeds that find mistakes which the simulator once found.
const FOUND: [u64; 2] = [
    // Clients that read were closed when the queues of others were over their bound.
    7, // An answer to a ping came behind that to a newer one.
    141,
];

/// Seeds of an ordinary test run; CI runs more, see `scripts/test`.
const SEEDS: u64 = 20;

#[test]
fn nobody_loses_anything_untold_whatever_the_seed() {
    let environment = Environment::read();
    match environment.seed {
        Some(seed) => run_seeds(&[seed], environment.prints),
        None => {
            let first = environment.first;
            let seeds: Vec<u64> = (first..first + environment.seeds.unwrap_or(SEEDS)).chain(FOUND).collect();
            run_seeds(&seeds, false);
        }
    }
}

#[test]
fn the_commit_is_a_seed_too() {
    run_seeds(&[Environment::read().commit_seed()], false);
}

#[test]
fn a_seed_replays_to_the_last_byte() {
    for seed in [1, 2, Environment::read().commit_seed()] {
        let [first, second] = [(); 2].map(|()| run_seed(seed, false).expect("the seed passes"));
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed} differs from itself");
        assert!(first.events >= plan::EVENTS, "seed {seed} has {} events", first.events);
    }
}
