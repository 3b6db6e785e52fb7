//! The loads against the floor. With no time to run, each keeps its messages under way
//! once and stops.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::*;
use crate::floor::Floor;
use crate::rig::client;
use crate::rig::frames::{client_frame, server_frame};

/// A floor for messages of so many bytes; its thread ends with the tests.
fn start_floor(bytes: usize) -> SocketAddr {
    let floor = Floor::bind(client_frame(bytes).len(), server_frame(bytes).len()).unwrap();
    let address = floor.address().unwrap();
    thread::spawn(|| floor.run());
    address
}

fn echo(connections: usize, bytes: usize, next: Next) -> Echo {
    let streams = client::open(start_floor(bytes), &vec!["/echo".to_owned(); connections]).unwrap();
    Echo::new(streams, &client_frame(bytes), &client_frame(bytes), next).unwrap()
}

fn fan_out(subscribers: usize, pace: Pace) -> FanOut {
    let server = start_floor(64);
    let publisher = client::open(server, &["/topics/room?subscribe=off".to_owned()]).unwrap().remove(0);
    let subscribers = client::open(server, &vec!["/topics/room".to_owned(); subscribers]).unwrap();
    FanOut::new(publisher, subscribers, &client_frame(64), &server_frame(64), pace).unwrap()
}

#[test]
fn an_echo_ends_when_everything_is_back() {
    let mut load = echo(5, 20, Next::Same { in_flight: 16 });
    for runs in 1..4 {
        run(&mut load, Duration::ZERO).unwrap();
        assert_eq!((load.arrived(), load.under_way()), (runs * 5 * 16, 0));
    }
}

#[test]
fn an_echo_of_more_than_sockets_hold_at_once_is_whole() {
    let mut load = echo(2, 1 << 20, Next::Same { in_flight: 16 });
    run(&mut load, Duration::ZERO).unwrap();
    assert_eq!(load.arrived(), 32);
}

#[test]
fn a_load_goes_on_until_its_time_is_over() {
    let mut load = echo(3, 20, Next::Random { in_flight: 7 });
    let took = run(&mut load, Duration::from_millis(50)).unwrap();
    assert!(took >= Duration::from_millis(50));
    assert!(load.arrived() > 7 && load.under_way() == 0);
}

#[test]
fn a_fan_out_ends_when_every_subscriber_has_every_message() {
    for pace in [Pace::InFlight(64), Pace::Bursts(64)] {
        let mut load = fan_out(30, pace);
        for runs in 1..4 {
            run(&mut load, Duration::ZERO).unwrap();
            assert_eq!((load.arrived(), load.under_way()), (runs * 30 * 64, 0), "{pace:?}");
        }
    }
}

#[test]
fn bursts_follow_each_other_whole() {
    let mut load = fan_out(3, Pace::Bursts(500));
    run(&mut load, Duration::from_millis(50)).unwrap();
    assert!(load.arrived() > 3 * 500, "{}", load.arrived());
    assert_eq!(load.arrived() % (3 * 500), 0);
}

#[test]
fn a_server_that_sends_something_else_is_an_error() {
    let streams = client::open(start_floor(20), &["/echo".to_owned()]).unwrap();
    // The floor returns the masked frame, which is not what servers send.
    let next = Next::Same { in_flight: 1 };
    let mut load = Echo::new(streams, &client_frame(20), &server_frame(20), next).unwrap();
    let error = run(&mut load, Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("another frame"), "{error}");
}

#[test]
fn a_path_that_is_refused_is_an_error_that_names_it() {
    let error = client::open(start_floor(20), &["".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("upgrade at"), "{error}");
}
