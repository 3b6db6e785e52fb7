use clap::Parser as _;

use super::*;
use crate::cli::Cli;
use crate::server_watch::ServerReport;
use crate::tally::Outcome;

/// A run with 1,000 messages of 1 to 1,000 ms, 10 of them lost, at 500 per second.
fn report() -> Report {
    let plan = Cli::parse_from(["loadgen", "echo", "-c", "1", "-R", "600"]).into_plan().unwrap();
    let mut outcome = Outcome::default();
    outcome.connections.opened = 1;
    (outcome.tally.sent, outcome.tally.received, outcome.tally.lost) = (1_000, 990, 10);
    (1..=1_000).for_each(|millis| outcome.tally.latency.record(millis * 1_000_000));
    Report::new(&plan, &outcome, 2.0)
}

#[test]
fn a_run_is_judged_by_its_figures() {
    let report = report();
    for (text, failed, is) in [
        ("p99 > 980ms", true, "990 ms"),
        ("p99 > 1s", false, "990 ms"),
        ("p50<0.4s", false, "500 ms"),
        ("p99.85 >= 998000us", true, "999 ms"),
        ("p999 > 2.1 * p50", false, "1.00 s"),
        ("p99 / p50 > 1.9", true, "1.979253"),
        ("max == 0ms", false, "1.00 s"),
        ("lost > 0", true, "10"),
        ("lost > 1% * sent", false, "10"),
        ("lost >= 1% * sent", true, "10"),
        ("rate < 0.99 * target", true, "500"),
        ("rate != 500", false, "500"),
        ("received_rate <= 495", true, "495"),
    ] {
        let judgement = text.parse::<Threshold>().unwrap_or_else(|error| panic!("{text}: {error}")).judge(&report);
        assert_eq!((judgement.failed, judgement.fail_if.as_str()), (failed, text), "{judgement:?}");
        let is_close = is == judgement.is || text.contains('/') && judgement.is.starts_with("1.9");
        assert!(is_close, "{text} is {}", judgement.is);
    }
}

#[test]
fn memory_is_compared_in_bytes_and_in_their_multiples() {
    let mut report = report();
    let mut server = ServerReport { rss_bytes_per_connection: Some(2_048.0), ..ServerReport::default() };
    server.rss_bytes.most = Some(1.05e9);
    report.server = Some(server);
    for (text, failed, is) in [
        ("server.rss > 1GB", true, "1.05 GB"),
        ("server.rss > 1 GiB", false, "1.05 GB"),
        ("server.rss > 1050 MB", false, "1.05 GB"),
        ("server.rss >= 1050000KB", true, "1.05 GB"),
        ("server.rss < 1001.4 MiB", true, "1.05 GB"),
        ("server.rss > 1050000000", false, "1.05 GB"),
        ("server.rss_per_connection > 2KiB", false, "2.05 KB"),
        ("server.rss_per_connection >= 2048B", true, "2.05 KB"),
        ("server.rss / connections > 1 GB", true, "1.05 GB"),
        ("server.rss / server.rss_per_connection > 500000", true, "512695.3125"),
    ] {
        let judgement = text.parse::<Threshold>().unwrap_or_else(|error| panic!("{text}: {error}")).judge(&report);
        assert_eq!((judgement.failed, judgement.is.as_str()), (failed, is), "{text}");
    }
}

#[test]
fn what_is_not_known_fails() {
    // No latency from the actual send was recorded, and one direction is as unknown as the other.
    for text in ["service.p99 > 1s", "service.p99 < 1s", "errors / dropped > 1"] {
        let judgement = text.parse::<Threshold>().unwrap().judge(&report());
        assert!(judgement.failed, "{judgement:?}");
    }
}

#[test]
fn a_wrong_condition_is_refused_with_what_would_be_right() {
    for (text, advice) in [
        ("p99", "no comparison"),
        ("p99 = 5ms", "one of > >="),
        ("p99 > 5", "a time needs a unit"),
        ("lost > 5ms", "one side is a time"),
        ("p99 * p50 > 5ms", "one side is a time"),
        ("p99 > 5min", "\"min\" is no unit"),
        ("server.rss > 1TB", "\"TB\" is no unit; there are ns, us, ms, s, B, KB, MB, GB, KiB, MiB, GiB, %"),
        ("server.rss > 5ms", "one side is a time"),
        ("lost > 1GB", "server.rss and server.rss_per_connection are"),
        ("server.rss > 1GB * 1GB", "one side is a size"),
        ("latency > 5ms", "p50, p99, p99.9"),
        ("p101 > 5ms", "\"p101\" is no figure"),
        ("pinf > 5ms", "\"pinf\" is no figure"),
        ("loss > 0", "lost"),
        ("lost > ", "\"\" is no figure"),
        ("lost > 1.2.3", "\"1.2.3\" is not a number"),
    ] {
        let error = text.parse::<Threshold>().unwrap_err();
        assert!(error.contains(advice), "{text}: {error}");
    }
}

#[test]
fn no_population_takes_the_place_of_other_figures() {
    assert!(["server", "service", "lag", "handshake", "a.b", "1st", ""].iter().all(|name| !is_population_name(name)));
    assert!(is_population_name("rooms") && is_population_name("servers"));
    assert!("server.rss > 1".parse::<Threshold>().unwrap().needs_server());
    assert!(!"rooms.p99 > 1s".parse::<Threshold>().unwrap().needs_server());
}

#[test]
fn only_a_target_needs_a_rate() {
    let needs = |text: &str, of| text.parse::<Threshold>().unwrap().needs_rate(of);
    assert!(needs("rate < 0.99 * target", None) && !needs("rate < 0.99 * target", Some("chat")));
    assert!(needs("chat.rate < chat.target", Some("chat")) && !needs("chat.rate < chat.target", None));
    assert!(!needs("p99 / p50 > 3", None));
}
