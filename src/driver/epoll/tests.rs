//! Steps of a turn one by one, with sockets of this machine.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;

use socket2::{Domain, Socket as RawSocket, Type};

use super::*;
use crate::driver::clock::Clock;
use crate::driver::event_loop::LoopSettings;
use crate::driver::listener::Listener;
use crate::driver::mailbox::post_offices;
use crate::limits::{ACCEPTS_PER_TURN_MAX, HASTE};
use crate::shard::Shard;
use crate::shard::tests::pair;
use crate::stats::ShardStats;

const HOUR: Duration = Duration::from_secs(3600);

/// A loop that nobody turns, and where it listens.
fn event_loop() -> (EpollLoop, SocketAddr) {
    let stats = Arc::new(ShardStats::default());
    let clock = Clock::start();
    let shard = Shard::new(pair::settings(0), stats.clone(), clock.now());
    let socket = RawSocket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    socket.listen(2 * ACCEPTS_PER_TURN_MAX as i32).expect("it is bound");
    socket.set_nonblocking(true).expect("an option of every socket");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("it is of TCP");
    let mut posts = post_offices(pair::SHARDS, 8, Box::new(|| ())).expect("a descriptor");
    let settings = LoopSettings {
        overflow_bytes_max: u64::MAX,
        drain: HOUR,
        connections_max: u64::MAX,
        queue_bytes_total_max: u64::MAX,
    };
    let listener = Listener::new(socket, false);
    let core = LoopCore::new(shard, vec![listener], posts.remove(0), clock, settings, Arc::new([stats]));
    (EpollLoop::new(core).expect("a selector"), address)
}

#[test]
fn a_turn_takes_in_less_while_flushes_of_the_last_one_are_left() {
    for (flush_is_left, expected) in [(false, ACCEPTS_PER_TURN_MAX), (true, ACCEPTS_PER_TURN_MAX / HASTE)] {
        let (mut event_loop, address) = event_loop();
        let now = event_loop.core.clock.now();
        if flush_is_left {
            let id = event_loop.core.shard.accept(now).expect("the table has room");
            let replies = event_loop.core.shard.receive(id, &mut b"\0".to_vec(), now);
            assert!(replies.is_empty() && event_loop.core.shard.has_flushes(), "the answer waits");
        }
        let before = event_loop.core.shard.connections_len();
        let clients: Vec<_> = (0..=ACCEPTS_PER_TURN_MAX).map(|_| TcpStream::connect(address)).collect();
        assert!(clients.iter().all(Result::is_ok));
        event_loop.accept(now);
        assert_eq!((event_loop.core.shard.connections_len() - before) as u64, expected);
    }
}
