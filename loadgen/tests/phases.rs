//! Warm-up, cool-down and arrivals, as a whole run tells of them.

mod common;

use common::{echo_server, loadgen};

#[test]
fn only_the_measured_phase_is_in_the_figures() {
    let server = echo_server(|_, message| vec![message]);
    let run = loadgen("echo", server, "-c 2 -R 100 --warm-up 300ms -d 500ms --cool-down 200ms");
    assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
    assert_eq!((run.count("sent"), run.count("received")), (50, 50));
    run.expect_seconds(0.5, 100.0);
}

#[test]
fn a_loss_in_the_warm_up_is_a_fault_all_the_same() {
    let server = echo_server(|number, message| if number == 3 { vec![] } else { vec![message] });
    let run = loadgen("echo", server, "-c 1 -R 100 --warm-up 300ms -d 300ms --grace 200ms");
    assert_eq!((run.code, run.faults()), (1, vec![("lost", 1)]));
    assert_eq!((run.count("sent"), run.count("received")), (30, 30));
}

#[test]
fn a_closed_loop_has_phases_too() {
    let server = echo_server(|_, message| vec![message]);
    let run = loadgen("echo", server, "-c 2 --warm-up 200ms -d 300ms --cool-down 100ms");
    assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
    assert_eq!(run.json["seconds"].as_f64(), Some(0.3));
    assert!(run.count("sent") > 0);
}

#[test]
fn a_seed_fixes_the_times_of_poisson_arrivals() {
    let server = echo_server(|_, message| vec![message]);
    let sent: Vec<_> = [1, 1, 2]
        .map(|seed| {
            let arguments = format!("-c 3 -t 2 -R 1000 --arrivals poisson --seed {seed} -d 400ms");
            let run = loadgen("echo", server, &arguments);
            assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
            run.count("sent")
        })
        .to_vec();
    assert_eq!(sent[0], sent[1]);
    // 400 on average, with a deviation of 20.
    assert!(sent.iter().all(|&sent| (280..520).contains(&sent)), "{sent:?}");
    assert_ne!(sent[0], sent[2], "another seed");
}
