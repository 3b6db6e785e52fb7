//! What loadgen says about servers that fan out, well or badly.

mod common;

use common::{changed, loadgen, topic_server};

/// 50 messages of two publishers to five subscribers.
const LOAD: &str = "-c 5 --publishers 2 --publisher-query publisher -R 100 -d 500ms --grace 2s";

/// Something else than message `at` for one of the subscribers.
fn to_the_first(at: usize, make: fn(Vec<u8>) -> Vec<Vec<u8>>) -> std::net::SocketAddr {
    topic_server(
        move |connection, number, message| {
            if (connection, number) == (0, at) { make(message) } else { vec![message] }
        },
    )
}

#[test]
fn a_correct_server_gets_a_clean_report_and_exit_code_0() {
    let server = topic_server(|_, _, message| vec![message]);
    let run = loadgen("fanout", server, LOAD);
    assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
    assert_eq!((run.count("sent"), run.count("received")), (50, 250));
    assert_eq!((run.count("connections"), run.count("publishers"), run.count("opened")), (7, 2, 7));
}

#[test]
fn closed_loop_publishes_when_every_subscriber_has_the_last_message() {
    for arguments in ["-c 4 -d 300ms", "-c 4 --publishers 3 --in-flight 8 -t 3 -d 300ms"] {
        let server = topic_server(|_, _, message| vec![message]);
        let run = loadgen("fanout", server, arguments);
        assert_eq!((run.code, run.faults()), (0, vec![]), "{arguments}: {}", run.json);
        assert!(run.count("sent") > 1, "{}", run.json);
        assert_eq!(run.count("received"), 4 * run.count("sent"));
        assert_eq!(run.json["mode"], "closed loop, service time");
    }
}

#[test]
fn a_delivery_that_is_missing_is_lost() {
    let run = loadgen("fanout", to_the_first(7, |_| vec![]), LOAD);
    assert_eq!((run.code, run.faults()), (1, vec![("lost", 1)]));
    assert_eq!(run.count("received"), 249);
}

#[test]
fn the_last_deliveries_missing_are_lost_too() {
    let run = loadgen("fanout", to_the_first(49, |_| vec![]), LOAD);
    assert_eq!((run.code, run.faults()), (1, vec![("lost", 1)]));
}

#[test]
fn a_repeated_delivery_is_duplicated() {
    let run = loadgen("fanout", to_the_first(7, |message| vec![message.clone(), message]), LOAD);
    assert_eq!((run.code, run.faults()), (1, vec![("duplicated", 1)]));
    assert_eq!(run.count("received"), 250);
}

#[test]
fn a_late_delivery_is_reordered() {
    // One publisher: between publishers there is no order to break.
    let held = std::sync::Mutex::new(None);
    let server = topic_server(move |connection, number, message| match (connection, number) {
        (0, 7) => {
            *held.lock().unwrap() = Some(message);
            vec![]
        }
        (0, 8) => [Some(message), held.lock().unwrap().take()].into_iter().flatten().collect(),
        _ => vec![message],
    });
    let run = loadgen("fanout", server, "-c 5 --publisher-query publisher -R 100 -d 500ms");
    assert_eq!((run.code, run.faults()), (1, vec![("reordered", 1)]));
    assert_eq!(run.count("received"), 250);
}

#[test]
fn a_changed_delivery_is_corrupted() {
    let run = loadgen("fanout", to_the_first(7, |message| vec![changed(message, 63)]), LOAD);
    assert_eq!((run.code, run.faults()), (1, vec![("corrupted", 1)]));
}

#[test]
fn words_of_the_server_are_foreign_and_no_fault() {
    let server = to_the_first(7, |message| vec![b"{\"welcome\":true}".to_vec(), message]);
    let run = loadgen("fanout", server, LOAD);
    assert_eq!((run.code, run.faults()), (0, vec![("foreign", 1)]));
}
