//! The loads against the floor. With no time to run, each keeps its messages under way
//! once and stops.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::super::client;
use super::super::row::Work;
use super::*;
use crate::floor::Floor;

/// A floor for this work; its thread ends with the tests.
fn start_floor(work: Work) -> SocketAddr {
    let floor = Floor::bind(work.client_frame().len(), work.server_frame().len()).unwrap();
    let address = floor.address().unwrap();
    thread::spawn(|| floor.run());
    address
}

fn echo(connections: usize, bytes: usize, next: Next) -> Echo {
    let work = Work::Echo { connections, bytes, in_flight: 1 };
    let streams = client::open(start_floor(work), &vec!["/echo".to_owned(); connections]).unwrap();
    Echo::new(streams, &work.client_frame(), &work.client_frame(), next).unwrap()
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
    let work = Work::FanOut { subscribers: 30, bytes: 64, in_flight: 64 };
    let server = start_floor(work);
    let publisher = client::open(server, &["/topics/room?subscribe=off".to_owned()]).unwrap().remove(0);
    let subscribers = client::open(server, &vec!["/topics/room".to_owned(); 30]).unwrap();
    let mut load = FanOut::new(publisher, subscribers, &work.client_frame(), &work.server_frame(), 64).unwrap();
    for runs in 1..4 {
        run(&mut load, Duration::ZERO).unwrap();
        assert_eq!((load.arrived(), load.under_way()), (runs * 30 * 64, 0));
    }
}

#[test]
fn a_server_that_sends_something_else_is_an_error() {
    let work = Work::Echo { connections: 1, bytes: 20, in_flight: 1 };
    let streams = client::open(start_floor(work), &["/echo".to_owned()]).unwrap();
    // The floor returns the masked frame, which is not what servers send.
    let next = Next::Same { in_flight: 1 };
    let mut load = Echo::new(streams, &work.client_frame(), &work.server_frame(), next).unwrap();
    let error = run(&mut load, Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("another frame"), "{error}");
}

#[test]
fn a_path_that_is_refused_is_an_error_that_names_it() {
    let work = Work::Echo { connections: 1, bytes: 20, in_flight: 1 };
    let error = client::open(start_floor(work), &["".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("upgrade at"), "{error}");
}
