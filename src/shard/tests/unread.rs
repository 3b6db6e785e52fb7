//! What inflates to much more than was read.

use super::pair::Peer;
use super::*;
use crate::limits::INFLATED_BYTES_PER_READ;

const MESSAGE_BYTES: usize = 50 * 1024;
const MESSAGES: usize = 40;
const MS: Duration = Duration::from_millis(1);

fn pair() -> Pair {
    Pair::with(|settings| settings.compression.enabled = true)
}

/// A peer to which nothing is sent compressed, since its window is too small.
fn open(pair: &mut Pair, path: &str) -> Peer {
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8\r\n\r\n";
    let mut head = String::from_utf8(request(path)).unwrap();
    head.truncate(head.len() - 2);
    let peer = pair.accept(OWNER);
    pair.send(peer, (head + offer).as_bytes());
    pair.settle();
    assert!(String::from_utf8(pair.take(peer)).unwrap().contains("permessage-deflate"));
    peer
}

/// One read that inflates to [`MESSAGES`] messages of [`MESSAGE_BYTES`].
fn large_input() -> Vec<u8> {
    let deflated = miniz_oxide::deflate::compress_to_vec(&[0; MESSAGE_BYTES], 9);
    // A final block is followed by an empty one, as RFC 7692, section 7.2.3.4, shows.
    let input = masked(0xc2, &[&deflated[..], &[0]].concat()).repeat(MESSAGES);
    assert!(input.len() < crate::limits::RECEIVE_BUFFER_BYTES);
    input
}

fn expected() -> Vec<u8> {
    unmasked(0x82, &[0; MESSAGE_BYTES]).repeat(MESSAGES)
}

#[test]
fn replies_to_what_inflates_stay_near_their_watermark() {
    let mut pair = pair();
    let peer = open(&mut pair, "/echo");
    pair.transport(peer).room = Some(0);
    pair.send(peer, &large_input());
    let queued = |pair: &Pair| pair.sum(|stats| &stats.queue_bytes);
    let bound = (REPLY_BYTES_WATERMARK + MESSAGE_BYTES + 4) as u64;
    assert!(queued(&pair) <= bound, "{} bytes wait", queued(&pair));
    assert!(pair.sum(|stats| &stats.assembly_memory_bytes) > 0, "what is kept is counted");
    pair.pass(MS);
    assert!(queued(&pair) <= bound, "{} bytes wait", queued(&pair));
    // What comes meanwhile comes behind it.
    pair.send(peer, &masked(0x82, b"last"));
    pair.unblock(peer);
    pair.pass(MS);
    assert!(pair.take(peer) == [expected(), unmasked(0x82, b"last")].concat());
    assert_eq!((queued(&pair), pair.sum(|stats| &stats.assembly_memory_bytes)), (0, 0));
}

#[test]
fn what_inflates_to_much_is_read_in_parts() {
    let mut pair = pair();
    let subscriber = pair.open(OWNER, &path(""));
    let publisher = open(&mut pair, &path("?subscribe=off"));
    pair.send(publisher, &large_input());
    let read = || (INFLATED_BYTES_PER_READ.div_ceil(MESSAGE_BYTES)) as u64;
    assert_eq!(pair.sum(|stats| &stats.messages_in), read());
    pair.shards[OWNER].receive_unread(pair.now);
    assert_eq!(pair.sum(|stats| &stats.messages_in), 2 * read());
    pair.pass(MS);
    assert!(pair.take(subscriber) == expected());
}

#[test]
fn the_end_of_the_input_comes_behind_what_is_kept() {
    let mut pair = pair();
    let peer = open(&mut pair, "/echo");
    pair.send(peer, &large_input());
    pair.shards[OWNER].peer_ended(peer.id, pair.now);
    pair.settle();
    pair.pass(MS);
    assert!(pair.take(peer) == expected());
    assert!(pair.transport(peer).closed.is_some());
    pair.assert_empty();
}
