use std::net::IpAddr;
use std::time::Duration;

use wsgate::proto::frame::MessageKind;

use super::*;
use crate::plan::Kind;
use crate::scenario::Pace;
use crate::schedule::Arrivals;

fn plan(arguments: &str) -> Result<Plan, String> {
    let words = std::iter::once("loadgen").chain(arguments.split_whitespace());
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    cli.into_plan().map_err(|error| error.to_string())
}

#[test]
fn flags_are_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn without_arguments_it_is_a_short_fan_out_against_the_defaults() {
    let plan = plan("").unwrap();
    assert_eq!(plan.kind, Kind::Fanout { publishers: 1 });
    assert_eq!(plan.target.to_string(), "ws://127.0.0.1:8000/topics/loadgen");
    assert_eq!((plan.connections, plan.course.measured()), (100, Duration::from_secs(5)));
    assert_eq!(plan.pace, Some(Pace::Open { rate: 200.0 }));
    assert!(plan.is_default);
}

#[test]
fn a_rate_makes_an_open_loop_and_none_a_closed_one() {
    let open = plan("echo ws://a/ -R 0.5 -s 24 -c 7 -d 500ms").unwrap();
    assert_eq!((open.pace, open.payload_bytes), (Some(Pace::Open { rate: 0.5 }), 24));
    assert_eq!((open.connections, open.course.measured()), (7, Duration::from_millis(500)));
    let closed = plan("echo ws://a/ --in-flight 16 --binary --threads 3").unwrap();
    assert_eq!(closed.pace, Some(Pace::Closed { in_flight: 16 }));
    assert_eq!((closed.threads, closed.message_kind), (3, MessageKind::Binary));
    assert_eq!(plan("idle ws://a/").unwrap().pace, None);
}

#[test]
fn publishers_are_counted_for_each_topic() {
    let plan = plan("fanout ws://a/{topic} -c 6 --topics 3 --publishers 2").unwrap();
    assert_eq!((plan.topics, plan.publishers(), plan.connections_total()), (3, 6, 12));
    let topics: Vec<_> = (0..12).map(|number| Plan { threads: 1, ..plan.clone() }.values(0, number).topic).collect();
    assert_eq!(topics, [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_publish_url_takes_the_place_of_publishing_clients_or_stands_beside_them() {
    let url = "fanout ws://a/{topic} -c 6 --topics 3 --publish-url http://a/{topic}";
    let plan = plan(url).unwrap();
    assert_eq!((plan.publishers(), plan.client_publishers), (3, 0));
    let both = self::plan(&format!("{url} --publishers 1 --http-publishers 2")).unwrap();
    assert_eq!((both.publishers(), both.client_publishers), (9, 1));
    let over_http: Vec<_> = (0..15).map(|number| both.publishes_over_http(number)).collect();
    assert_eq!(over_http.iter().filter(|&&is| is).count(), 6);
    assert!(!over_http[..9].contains(&true), "subscribers, then one client for each topic");
}

#[test]
fn arrivals_and_phases_are_taken_over() {
    let plan = plan("echo ws://a/ -R 5 --arrivals poisson --seed 7 --warm-up 2s --cool-down 500ms -d 1s").unwrap();
    assert_eq!(plan.arrivals, Arrivals::Poisson { seed: 7 });
    assert_eq!((plan.course.warm_up(), plan.course.sending()), (Duration::from_secs(2), Duration::from_millis(3_500)));
    assert_eq!(self::plan("echo ws://a/ -R 5").unwrap().arrivals, Arrivals::Constant);
}

#[test]
fn there_are_never_more_threads_than_connections() {
    assert_eq!(plan("echo ws://a/ -c 1").unwrap().threads, 1);
    assert_eq!(plan("fanout ws://a/ -c 1 --publishers 2 -t 9").unwrap().threads, 3);
}

#[test]
fn wrong_values_are_refused_with_what_is_allowed() {
    for (arguments, part) in [
        ("echo http://a/", "does not begin with ws://"),
        ("echo ws://a/ -c 0", "from 1 to 262144"),
        ("echo ws://a/ -s 19", "from 20 to 16777216"),
        ("echo ws://a/ -R 5 -s 23", "24 bytes with --rate"),
        ("echo ws://a/ --arrivals poisson", "--rate"),
        ("echo ws://a/ -R 0", "above 0"),
        ("echo ws://a/ -R nan", "above 0"),
        ("echo ws://a/ -R 5 --in-flight 2", "cannot be used with"),
        ("echo ws://a/ --in-flight 65536 -s 16777216", "over the limit of 268435456"),
        ("echo ws://a/ -c 1 -R 1000000 -d 24h", "messages per sender"),
        ("echo ws://a/ -d 10x", "no unit"),
        ("echo ws://a/ -d 25h", "up to 24 h"),
        ("echo ws://a/ --header nothing", "Name: value"),
        ("echo ws://a/ --source 10.0.0.9-10.0.0.1", "the lower one first"),
        ("fanout ws://a/ --publishers 0", "nobody to publish"),
        ("fanout ws://a/ --publish-url ws://b/", "does not begin with http://"),
        ("fanout ws://a/ --publish-header X:1", "--publish-url"),
        ("slow ws://a/ --stalled 101%", "0% to 100%"),
        ("slow ws://a/ -c 2 --stalled 80%", "leaves none of 2"),
        ("storm ws://a/ --times 0", "1..=1000"),
        ("fanout ws://a/ --topics 2", "{topic} stands neither"),
        ("fanout ws://a/{topic} -c 3 --topics 4", "leaves topics without"),
        ("fanout ws://a/ -c 262144", "over the limit of 262144"),
        ("fanout ws://a/ --publisher-query a#b", "cannot stand in a query"),
        ("stress ws://a/", "unrecognized subcommand"),
    ] {
        let error = plan(arguments).unwrap_err();
        assert!(error.contains(part), "{arguments}: {error}");
    }
}

#[test]
fn a_range_of_sources_is_every_address_in_it() {
    let plan = plan("idle ws://a/ --source 127.0.0.254-127.0.1.1").unwrap();
    let shown: Vec<_> = plan.sources.iter().map(IpAddr::to_string).collect();
    assert_eq!(shown, ["127.0.0.254", "127.0.0.255", "127.0.1.0", "127.0.1.1"]);
}

#[test]
fn every_example_in_the_help_parses() {
    let scenarios = [
        echo::EXAMPLES,
        fanout::EXAMPLES,
        idle::EXAMPLES,
        churn::EXAMPLES,
        storm::EXAMPLES,
        slow::EXAMPLES,
        mixed::EXAMPLES,
    ];
    let tools = [tools::COMPARE_EXAMPLES, tools::MERGE_EXAMPLES];
    for line in [EXAMPLES].iter().chain(&scenarios).chain(&tools).flat_map(|text| text.lines()) {
        let mut words = shell_words(line);
        // The examples that are shipped, wherever the test runs.
        for word in words.iter_mut().filter(|word| word.ends_with(".toml")) {
            let name = word.rsplit('/').next().unwrap();
            *word = format!("{}/examples/{name}", env!("CARGO_MANIFEST_DIR"));
        }
        if words.first().is_none_or(|first| first != "loadgen") {
            continue;
        }
        match Cli::try_parse_from(&words) {
            Err(help) if line.ends_with("--help") => assert!(help.to_string().contains("Usage: loadgen"), "{help}"),
            Err(error) => panic!("{line}: {error}"),
            Ok(cli) => {
                let run = cli.into_tool().err();
                run.map(|cli| cli.into_mix().unwrap_or_else(|error| panic!("{line}: {error}")));
            }
        }
    }
}

/// The words of a command as a shell reads them, up to a pipe or a redirection.
fn shell_words(line: &str) -> Vec<String> {
    let quoted = |(i, part): (usize, &str)| match i % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
        _ => vec![format!("'{part}")],
    };
    let words = line.split('\'').enumerate().flat_map(quoted).take_while(|word| word != "|" && word != ">");
    words.map(|word| word.trim_start_matches('\'').to_owned()).collect()
}

#[test]
fn a_wrong_condition_is_refused_before_the_run() {
    let error = plan_of(&["echo", "--fail-if", "latency > 5ms"]).unwrap_err();
    assert!(error.contains("p50, p99, p99.9") && error.contains("received_rate"), "{error}");
    let error = plan_of(&["echo", "--fail-if", "rate < 0.99 * target"]).unwrap_err();
    assert!(error.contains("needs a --rate"), "{error}");
    assert!(plan_of(&["echo", "-R", "5", "--fail-if", "rate < 0.99 * target", "--fail-if", "lost > 0"]).is_ok());
}

fn plan_of(words: &[&str]) -> Result<Mix, String> {
    let words = std::iter::once("loadgen").chain(words.iter().copied());
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    cli.into_mix().map_err(|error| error.to_string())
}
