//! A shard: connections that come and go, echoes, fan-out.

use wsgate::proto::compression::CompressionSettings;
use wsgate::proto::frame::{self, OpCode};

use crate::counted::Counted;
use crate::gateway::{Gateway, client_frames, upgrade_request};

/// Rounds before those that count: pools have their size then.
const WARM_UP: usize = 4;

/// A shard is made and so many clients connect: its table is part of what each costs.
pub(crate) fn connect(path: &str, count: usize) -> Counted {
    connect_all(&vec![upgrade_request(path, ""); count])
}

/// The same, each client to a topic of its own.
pub(crate) fn connect_own_topics(count: usize) -> Counted {
    let request = |index| upgrade_request(&format!("/topics/{index:032}"), "");
    connect_all(&(0..count).map(request).collect::<Vec<_>>())
}

fn connect_all(requests: &[String]) -> Counted {
    let mut kept = None;
    Counted::of(requests.len(), || {
        let gateway = kept.insert(gateway(requests.len()));
        for request in requests {
            gateway.open(request);
        }
    })
}

/// All subscribers of a topic leave, one after the other, from its middle outwards.
pub(crate) fn leave(count: usize) -> Counted {
    let request = upgrade_request("/topics/room", "");
    let mut gateway = gateway(count);
    let ids = gateway.open_all(&request, count);
    let (first, second) = ids.split_at(count / 2);
    let order: Vec<_> = first.iter().rev().zip(second).flat_map(|(a, b)| [*a, *b]).collect();
    let counted = Counted::of(count, || {
        for id in &order {
            gateway.shard.transport_failed(*id);
            gateway.flush();
        }
    });
    assert_eq!(gateway.shard.connections_len(), 0);
    counted
}

/// Ten connections are answered what they send, so many messages at once.
pub(crate) fn echo(bytes: usize, in_flight: usize, rounds: usize) -> Counted {
    const CONNECTIONS: usize = 10;
    let mut gateway = gateway(2 * CONNECTIONS);
    let request = upgrade_request("/echo", "");
    let ids = gateway.open_all(&request, CONNECTIONS);
    let frames = client_frames(OpCode::Binary, &vec![b'a'; bytes], in_flight);
    let mut answer = |rounds: usize| {
        gateway.take_sent();
        for _ in 0..rounds {
            for id in &ids {
                gateway.receive(*id, &frames);
                gateway.flush();
            }
        }
        gateway.take_sent()
    };
    answer(WARM_UP);
    let (messages, mut sent) = (CONNECTIONS * in_flight * rounds, 0);
    let counted = Counted::of(messages, || sent = answer(rounds));
    assert_eq!(sent, messages * server_frame_len(bytes), "everybody is answered");
    counted
}

/// One client publishes to all subscribers of a topic, so many messages at once.
pub(crate) fn publish(subscribers: usize, bytes: usize, in_flight: usize, rounds: usize) -> Counted {
    let mut gateway = gateway(subscribers + 2);
    let request = upgrade_request("/topics/room", "");
    gateway.open_all(&request, subscribers);
    let publisher = gateway.open(&upgrade_request("/topics/room?subscribe=off", ""));
    let frames = client_frames(OpCode::Binary, &vec![b'a'; bytes], in_flight);
    let deliveries = subscribers * in_flight * rounds;
    let mut publish = |rounds: usize| {
        gateway.take_sent();
        for _ in 0..rounds {
            gateway.receive(publisher, &frames);
            gateway.flush();
        }
        gateway.take_sent()
    };
    publish(WARM_UP);
    let mut sent = 0;
    let counted = Counted::of(deliveries, || sent = publish(rounds));
    assert_eq!(sent, deliveries * server_frame_len(bytes), "everybody gets everything");
    counted
}

/// Bytes of a frame with so many.
fn server_frame_len(bytes: usize) -> usize {
    let mut out = Vec::new();
    frame::append_server(&mut out, OpCode::Binary, &vec![0; bytes]);
    out.len()
}

fn gateway(connections_max: usize) -> Gateway {
    Gateway::new(connections_max, CompressionSettings::default())
}
