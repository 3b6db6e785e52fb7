//! What loadgen says about servers that echo, well or badly.

mod common;

use common::{changed, echo_server, loadgen, swapped};

/// 200 messages over two connections, 100 on each.
const LOAD: &str = "-c 2 -R 200 -d 1s --grace 2s";

#[test]
fn a_correct_server_gets_a_clean_report_and_exit_code_0() {
    let server = echo_server(|_, message| vec![message]);
    for (arguments, sent) in [(LOAD, Some(200)), ("-c 3 --in-flight 4 -d 300ms -s 1000 -t 2", None)] {
        let run = loadgen("echo", server, arguments);
        assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
        assert_eq!(run.count("received"), run.count("sent"));
        assert!(run.count("sent") > 0 && sent.is_none_or(|sent| run.count("sent") == sent), "{}", run.json);
        assert_eq!(run.count("opened"), run.count("connections"));
        assert_eq!(run.json["verdict"], "ok");
    }
}

#[test]
fn a_dropped_message_is_lost() {
    let server = echo_server(|number, message| if number == 7 { vec![] } else { vec![message] });
    let run = loadgen("echo", server, LOAD);
    assert_eq!((run.code, run.faults()), (1, vec![("lost", 2)]));
    assert_eq!((run.count("sent"), run.count("received")), (200, 198));
    assert_eq!(run.json["verdict"], "faults");
}

#[test]
fn a_repeated_message_is_duplicated() {
    let repeat = |number, message: Vec<u8>| if number == 7 { vec![message.clone(), message] } else { vec![message] };
    let run = loadgen("echo", echo_server(repeat), LOAD);
    assert_eq!((run.code, run.faults()), (1, vec![("duplicated", 2)]));
    assert_eq!(run.count("received"), 200);
}

#[test]
fn a_late_message_is_reordered() {
    let run = loadgen("echo", echo_server(swapped(7)), LOAD);
    assert_eq!((run.code, run.faults()), (1, vec![("reordered", 2)]));
    assert_eq!(run.count("received"), 200);
}

#[test]
fn a_changed_message_is_corrupted() {
    for (at, faults) in [(63, vec![("corrupted", 2)]), (0, vec![("lost", 2), ("corrupted", 2)])] {
        // Without its number, a message cannot be told from one that is missing.
        let server = echo_server(move |number, message| vec![if number == 7 { changed(message, at) } else { message }]);
        let run = loadgen("echo", server, LOAD);
        assert_eq!((run.code, run.faults()), (1, faults), "byte {at}");
    }
}

#[test]
fn a_closed_loop_goes_on_beside_a_lost_message() {
    let server = echo_server(|number, message| if number == 0 { vec![] } else { vec![message] });
    let run = loadgen("echo", server, "-c 1 --in-flight 2 -d 300ms --grace 1s");
    assert_eq!((run.code, run.faults()), (1, vec![("lost", 1)]));
    assert!(run.count("received") > 1, "{}", run.json);
}

#[test]
fn the_seconds_of_a_run_add_up_to_its_totals() {
    let server = echo_server(|number, message| if number == 7 { vec![] } else { vec![message] });
    let run = loadgen("echo", server, "-c 2 -t 2 -R 200 -d 2500ms --grace 200ms");
    let seconds = run.json["series"].as_array().unwrap();
    for name in ["sent", "received", "lost", "opened", "errors"] {
        let sum: u64 = seconds.iter().map(|second| second[name].as_u64().unwrap()).sum();
        assert_eq!(sum, run.count(name), "{name} in {}", run.json);
    }
    let measured: Vec<_> = seconds.iter().filter(|second| second["phase"] == "measured").collect();
    let lengths: Vec<_> = measured.iter().map(|second| second["seconds"].as_f64().unwrap()).collect();
    assert_eq!(lengths, [1.0, 1.0, 0.5]);
    assert!(measured.iter().all(|second| second["latency_us"]["p50"].as_f64().unwrap() > 0.0), "{}", run.json);
}

#[test]
fn a_threshold_gates_by_its_exit_code() {
    let server = echo_server(|_, message| vec![message]);
    for (condition, code, verdict) in
        [("sent<200", 0, "ok"), ("sent>=200", 5, "threshold_failed"), ("rate<0.5*target", 0, "ok")]
    {
        let run = loadgen("echo", server, &format!("{LOAD} --fail-if {condition}"));
        assert_eq!(
            (run.code, &run.json["verdict"]),
            (code, &verdict.into()),
            "{condition}: {}",
            run.json["thresholds"]
        );
        assert_eq!(run.json["thresholds"][0]["fail_if"], condition);
    }
    let run = loadgen("echo", server, &format!("{LOAD} --label before"));
    assert_eq!(run.json["origin"]["label"], "before");
    assert!(
        run.json["origin"]["command"].as_str().unwrap().starts_with("loadgen echo ws://"),
        "{}",
        run.json["origin"]
    );
}
