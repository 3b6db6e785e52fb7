//! The gauge of what has arrived in part.

use super::*;
use crate::address::Networks;
use crate::admission::{Admission, AdmissionSettings};

/// A gauge that never says less than what is kept, nor more than a vector has to spare.
fn assert_counted(pair: &Pair, shard: usize, bytes: usize, spare: usize) {
    let counted = pair.stats[shard].input_memory_bytes.get();
    assert!((bytes as u64..=(2 * bytes + spare) as u64).contains(&counted), "{counted} counted of {bytes}");
}

#[test]
fn a_request_head_in_part_is_counted_until_it_is_complete() {
    let mut pair = Pair::new();
    let (first, second) = (pair.accept(OWNER), pair.accept(OWNER));
    let head = request("/echo");
    let (start, end) = head.split_at(60);
    pair.send(first, start);
    assert_counted(&pair, OWNER, 60, 64);
    pair.send(second, &head[..40]);
    assert_counted(&pair, OWNER, 100, 64);
    pair.send(first, end);
    assert_counted(&pair, OWNER, 40, 64);
    pair.shards[OWNER].transport_failed(second.id);
    assert_counted(&pair, OWNER, 0, 0);
}

#[test]
fn a_head_that_ends_its_connection_is_counted_no_more() {
    let mut pair = Pair::new();
    let long = pair.accept(OWNER);
    let mut head = b"GET / HTTP/1.1\r\nX: ".to_vec();
    pair.send(long, &head);
    head.resize(100_000, b'a');
    pair.send(long, &head);
    assert_counted(&pair, OWNER, 0, 0);
    let late = pair.accept(OWNER);
    pair.send(late, b"GET / HTTP/1.1\r\n");
    assert_counted(&pair, OWNER, 16, 64);
    pair.pass(DEADLINES.handshake + STEP);
    assert_counted(&pair, OWNER, 0, 0);
}

#[test]
fn frames_that_came_before_their_answer_are_counted_until_they_are_read() {
    let mut pair = Pair::new();
    let peer = pair.accept(OTHER);
    let early = text(&"early".repeat(100));
    pair.send(peer, &[request(&path("")), early.clone()].concat());
    assert_counted(&pair, OTHER, early.len(), 0);
    pair.settle();
    assert_counted(&pair, OTHER, 0, 0);
}

#[test]
fn a_proxy_header_in_part_is_counted_until_it_is_complete() {
    let mut pair = Pair::with(|settings| {
        let proxies = Networks::new(vec![Networks::parse_block("127.0.0.1/32").unwrap()]);
        let admission = AdmissionSettings { proxies, proxy_header_bytes_max: 536, ..AdmissionSettings::default() };
        settings.admission = Arc::new(Admission::new(admission, 7));
    });
    let id = pair.shards[OWNER].accept_from(Some([127, 0, 0, 1].into()), pair.now).expect("the table has room");
    for (bytes, counted) in [("PROXY TCP4 192.0.2.7 ", 21), ("192.0.2.8 1000 80\r\n", 0), ("GET", 3)] {
        let replies = pair.shards[OWNER].receive(id, &mut bytes.as_bytes().to_vec(), pair.now);
        assert!(replies.is_empty());
        assert_counted(&pair, OWNER, counted, if counted > 0 { 64 } else { 0 });
    }
    pair.shards[OWNER].remove(id);
    assert_counted(&pair, OWNER, 0, 0);
}
