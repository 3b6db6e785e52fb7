//! What loadgen says about servers that fan out, well or badly.

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};

use common::{changed, loadgen, loadgen_with, topic_server};

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

#[test]
fn topics_are_kept_apart() {
    let server = common::topics_server();
    for load in ["-R 100 -d 400ms", "-d 300ms --in-flight 2"] {
        let arguments = format!("-c 6 --topics 3 -t 2 --publisher-query publisher {load}");
        let run = loadgen_with("fanout", server, "/{topic}", &arguments, &[]);
        assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
        assert_eq!(run.count("received"), 2 * run.count("sent"));
        assert!(run.count("sent") > 2 && run.count("publishers") == 3, "{}", run.json);
    }
}

#[test]
fn a_delivery_of_another_topic_is_a_fault() {
    // A server that knows no topics delivers everything to everybody.
    let server = topic_server(|_, _, message| vec![message]);
    let arguments = "-c 2 --topics 2 --publisher-query publisher -R 20 -d 500ms";
    let run = loadgen_with("fanout", server, "/{topic}", arguments, &[]);
    assert_eq!((run.code, run.faults()), (1, vec![("misdelivered", 10)]), "{}", run.json);
    let seconds = run.json["series"].as_array().unwrap().iter();
    assert_eq!(seconds.map(|second| second["misdelivered"].as_u64().unwrap()).sum::<u64>(), 10);
    assert_eq!(run.count("received"), run.count("sent"));
}

/// A topic whose members get what is posted to the address that is returned second.
/// `answers` makes the answer to post `k` of its connection, and says whether it is delivered.
fn posted_topic(answers: fn(usize) -> (&'static str, bool)) -> (std::net::SocketAddr, std::net::SocketAddr) {
    let members = std::sync::Arc::new(std::sync::Mutex::new(Vec::<std::net::TcpStream>::new()));
    let subscribed = members.clone();
    let clients = common::tcp_server(move |stream| {
        subscribed.lock().unwrap().push(stream.try_clone().unwrap());
        let mut socket = tungstenite::accept(stream).unwrap();
        while socket.read().is_ok() {}
    });
    let posts = common::tcp_server(move |stream| {
        let mut reader = BufReader::new(stream);
        for number in 0.. {
            let mut len = 0;
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    len = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; len];
            if len == 0 || reader.read_exact(&mut body).is_err() {
                return;
            }
            let (answer, is_delivered) = answers(number);
            if is_delivered {
                let mut bytes = Vec::new();
                wsgate::proto::frame::append_server(&mut bytes, wsgate::proto::frame::OpCode::Text, &body);
                for member in &mut *members.lock().unwrap() {
                    let _ = member.write_all(&bytes);
                }
            }
            let _ = reader.get_mut().write_all(answer.as_bytes());
            if answer.contains("close") {
                return;
            }
        }
    });
    (clients, posts)
}

const ACCEPTED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

#[test]
fn publishing_over_http_is_a_fan_out_like_any_other() {
    for load in ["-R 100 -d 400ms", "-d 300ms --in-flight 2", "-R 100 -d 400ms --http-publishers 3 -t 2"] {
        let (clients, posts) = posted_topic(|_| (ACCEPTED, true));
        let run = loadgen("fanout", clients, &format!("-c 3 {load} --publish-url http://{posts}/publish"));
        assert_eq!((run.code, run.faults()), (0, vec![]), "{load}: {}", run.json);
        assert_eq!(run.count("received"), 3 * run.count("sent"));
        assert!(run.count("sent") > 4, "{}", run.json);
    }
}

#[test]
fn a_back_end_that_ends_each_connection_is_connected_to_again() {
    let (clients, posts) = posted_topic(|number| match number {
        2 => ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", true),
        _ => (ACCEPTED, true),
    });
    let run = loadgen("fanout", clients, &format!("-c 2 -R 100 -d 300ms --publish-url http://{posts}/"));
    assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
    assert_eq!((run.count("sent"), run.count("received")), (30, 60));
}

#[test]
fn a_refused_publish_is_named_with_its_status_and_its_message_is_lost() {
    let refusal = |number| match number {
        5 => ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\n\r\ntoo much\n", false),
        _ => (ACCEPTED, true),
    };
    let (clients, posts) = posted_topic(refusal);
    let run = loadgen("fanout", clients, &format!("-c 2 -R 100 -d 200ms --grace 300ms --publish-url http://{posts}/"));
    assert_eq!((run.code, run.faults()), (1, vec![("lost", 2), ("errors", 1)]), "{}", run.json);
    assert_eq!(run.json["errors_by_kind"].to_string(), "{\"publish status 503\":1}");
    assert!(run.json["error_examples"].to_string().contains("too much"));
}
