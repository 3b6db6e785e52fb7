//! The timer wheel at its usual work: everybody is silent and is pinged.

use wsgate::proto::compression::CompressionSettings;

use crate::counted::Counted;
use crate::gateway::{Gateway, PING_INTERVAL, upgrade_request};

/// Connections are pinged, twice each, and answer.
pub(crate) fn ping(connections: usize) -> Counted {
    const ROUNDS: u32 = 3;
    /// An empty pong, masked with zeros.
    const PONG: &[u8] = &[0x8a, 0x80, 0, 0, 0, 0];
    let mut gateway = Gateway::new(connections, CompressionSettings::default());
    let request = upgrade_request("/echo", "");
    let ids = gateway.open_all(&request, connections);
    let mut round = || {
        gateway.now = gateway.now + PING_INTERVAL;
        gateway.take_sent();
        gateway.shard.handle_timeouts(gateway.now);
        gateway.flush();
        assert!(gateway.take_sent() >= 2 * connections, "everybody is pinged");
        ids.iter().for_each(|id| gateway.receive(*id, PONG));
        gateway.flush();
    };
    round();
    Counted::of(connections * (ROUNDS as usize - 1), || (1..ROUNDS).for_each(|_| round()))
}
