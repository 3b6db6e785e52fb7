use std::time::Duration;

use clap::Parser as _;

use super::*;
use crate::cli::Cli;
use crate::course::Course;
use crate::plan::Kind;
use crate::scenario::Pace;
use crate::schedule::Arrivals;

fn mixed(words: &str) -> Mixed {
    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        mixed: Mixed,
    }
    let words = std::iter::once("mixed").chain(words.split_whitespace());
    Alone::try_parse_from(words).map(|alone| alone.mixed).unwrap()
}

/// The populations of a file that reads so.
fn populations(text: &str) -> Result<Vec<Population>, String> {
    populations_with("file.toml ws://host:7", text)
}

fn populations_with(words: &str, text: &str) -> Result<Vec<Population>, String> {
    mixed(words).populations(text).map_err(|Problem { line, text }| format!("{line}: {text}"))
}

const TWO: &str = r#"
[[phase]]
name = "up"
duration = "4s"
load = [0, 1]
measured = false

[[phase]]
name = "full"
duration = "6s"
loads = { still = 0.5 }

[[population]]
name = "people"
scenario = "fanout"
path = "/room/{topic}"
topics = 10
connections = 100
publishers = 2
think = "4s"
message = '{"text":"{payload}"}'
answer = [["PING", "PONG"], ["a", "b"]]
header = ["A: 1", "B: 2"]
binary = true
compression = false

[[population]]
name = "still"
scenario = "idle"
url = "ws://other/x"
threads = 2
"#;

#[test]
fn keys_are_the_flags_of_the_scenario() {
    let [people, still] = &populations(TWO).unwrap()[..] else { panic!() };
    assert_eq!((people.name.as_str(), still.name.as_str()), ("people", "still"));
    let plan = &people.plan;
    assert_eq!(plan.kind, Kind::Fanout { publishers: 20 });
    assert_eq!((plan.target.to_string(), plan.connections, plan.topics), ("ws://host:7/room/{topic}".into(), 100, 10));
    assert_eq!(plan.message_kind, wsgate::proto::frame::MessageKind::Binary);
    let answers: Vec<_> = plan.speech.answers.iter().map(|(text, answer)| (text.as_str(), answer.as_str())).collect();
    assert_eq!(answers, [("PING", "PONG"), ("a", "b")]);
    assert!(plan.speech.message.is_some() && !plan.request.offers_deflate);
    assert_eq!(still.plan.kind, Kind::Idle);
    assert_eq!((still.plan.target.to_string(), still.plan.threads), ("ws://other/x".into(), 2));
}

#[test]
fn who_thinks_sends_at_random_times_whatever_the_server_does() {
    let plan = &populations(TWO).unwrap()[0].plan;
    assert_eq!(plan.pace, Some(Pace::Open { rate: 5.0 }), "20 senders, one message each in 4 s");
    assert!(matches!(plan.arrivals, Arrivals::Poisson { .. }), "{:?}", plan.arrivals);
    let even = populations(&TWO.replace("think = \"4s\"", "think = \"4s\"\narrivals = \"constant\"")).unwrap();
    assert_eq!(even[0].plan.arrivals, Arrivals::Constant);
}

#[test]
fn phases_hold_for_all_and_some_populations_have_loads_of_their_own() {
    let [people, still] = &populations(TWO).unwrap()[..] else { panic!() };
    let seconds = Duration::from_secs;
    assert_eq!((people.plan.course.warm_up(), people.plan.course.measured()), (seconds(4), seconds(6)));
    let loads = |population: &Population| [1, 7].map(|at| population.plan.course.load_at(seconds(at)));
    assert_eq!((loads(people), loads(still)), ([0.25, 1.0], [0.25, 0.5]));
    assert_eq!(people.plan.target_rate(), Some(5.0), "in the mean over what is measured");
    let short = populations_with("file.toml ws://host:7 -d 1s", TWO).unwrap();
    let phases: Vec<_> = short[0].plan.course.phases().iter().map(|phase| phase.lasts.as_millis()).collect();
    assert_eq!(phases, [400, 600]);
}

#[test]
fn without_phases_all_are_under_full_load() {
    let text = "[[population]]\nname = \"a\"\nscenario = \"echo\"\n";
    let of = |words| populations_with(words, text).unwrap().remove(0).plan;
    assert_eq!(of("f ws://a/").course, Course::steady(Duration::from_secs(10)));
    assert_eq!(of("f ws://a/ -d 2s").course, Course::steady(Duration::from_secs(2)));
    assert_eq!(of("f ws://a/ --grace 1s").grace, Duration::from_secs(1));
}

#[test]
fn flags_after_the_dashes_are_for_everybody() {
    let populations = populations_with("f ws://host:7 -- --timeout 2s --first hello", TWO).unwrap();
    for Population { plan, .. } in &populations {
        assert_eq!((plan.handshake_timeout, plan.speech.first.len()), (Duration::from_secs(2), 1));
    }
}

#[test]
fn a_wrong_file_is_refused_with_the_line_the_value_and_what_to_do() {
    let changed = |from: &str, to: &str| {
        assert!(TWO.contains(from), "{from}");
        populations(&TWO.replacen(from, to, 1)).map(|_| ()).unwrap_err()
    };
    for (from, to, line, parts) in [
        ("topics = 10", "topic = 10", 17, &["people", "'--topic'", "'--topics'"][..]),
        ("topics = 10", "topics = 1000", 17, &["--topics 1000 leaves topics without any of 100 subscribers"]),
        ("connections = 100", "connections = 0", 18, &["'0'", "--connections", "from 1 to 262144"]),
        ("connections = 100", "connections = 1979-05-27", 18, &["1979-05-27 is neither text"]),
        ("think = \"4s\"", "think = 4", 20, &["think = 4 is no text; write it in quotes"]),
        ("think = \"4s\"", "think = \"4x\"", 20, &["\"4x\"", "use ms, s, m or h"]),
        ("think = \"4s\"", "think = \"4s\"\nrate = 3", 21, &["leave out rate"]),
        ("path = \"/room/{topic}\"", "path = \"/a b\"", 16, &["' '", "percent-encode"]),
        ("path = \"/room/{topic}\"", "path = \"/room\"", 17, &["{topic} stands neither"]),
        ("url = \"ws://other/x\"", "url = \"http://other/x\"", 30, &["http://other/x", "ws:// or wss://"]),
        ("scenario = \"idle\"", "scenario = \"idel\"", 29, &["\"idel\" is none of echo, fanout, idle"]),
        ("scenario = \"idle\"\n", "", 27, &["scenario is missing"]),
        ("name = \"still\"", "name = \"lag\"", 28, &["\"lag\" is no name"]),
        (
            "name = \"still\"",
            "name = \"server\"",
            28,
            &["\"server\" is no name", "none of service, handshake, lag, server,"],
        ),
        ("name = \"still\"", "name = \"people\"", 28, &["there is a population \"people\" already"]),
        ("name = \"still\"\n", "", 27, &["needs a name"]),
        ("threads = 2", "html = \"a.html\"", 31, &["html is a matter of the whole run", "--html"]),
        ("threads = 2", "duration = \"5s\"", 31, &["see [[phase]]"]),
        ("threads = 2", "help = true", 31, &["help is no key"]),
        ("threads = 2", "threads = 300", 31, &["300", "1..=256"]),
        ("load = [0, 1]", "load = [0, 1.5]", 5, &["a load of 1.5", "rate"]),
        ("load = [0, 1]", "load = \"all\"", 5, &["such as 0.5, or from one to another: [0.1, 1]"]),
        ("load = [0, 1]", "lod = 1", 5, &["unknown field `lod`", "`load`"]),
        ("duration = \"4s\"", "duration = 4", 4, &["invalid type: integer `4`, expected a string"]),
        ("duration = \"4s\"", "duration = \"4\u{fc}\"", 4, &["\"4\u{fc}\""]),
        ("name = \"full\"", "name = \"up\"", 8, &["there is a phase \"up\" already"]),
        ("name = \"full\"", "name = \"drain\"", 9, &["every run has a phase \"drain\""]),
        ("loads = { still = 0.5 }", "loads = { stil = 0.5 }", 11, &["no population \"stil\", only people, still"]),
        ("loads = { still = 0.5 }", "measured = false", 1, &["no phase is measured"]),
        ("name = \"up\"", "name = \"up", 3, &["invalid basic string"]),
    ] {
        let error = changed(from, to);
        let (at, text) = error.split_once(": ").unwrap();
        for part in parts {
            assert!(text.contains(part), "{to}: {error}");
        }
        assert_eq!(at.parse(), Ok(line), "{to}: {error}");
        assert!(!text.contains("Usage"), "{to}: {error}");
    }
    assert!(populations("").unwrap_err().contains("no [[population]]"));
}

#[test]
fn the_figures_are_of_one_time_without_a_gap() {
    let phase =
        |name: &str, measured| format!("[[phase]]\nname = \"{name}\"\nduration = \"1s\"\nmeasured = {measured}\n");
    let phases = |measured: &[bool]| {
        let phases: String = measured.iter().enumerate().map(|(i, is)| phase(&format!("p{i}"), *is)).collect();
        populations(&(phases + "[[population]]\nname = \"a\"\nscenario = \"idle\"\n"))
    };
    assert!(phases(&[false, true, true, false, false]).is_ok());
    let error = phases(&[true, false, true]).unwrap_err();
    assert!(error.starts_with("9: ") && error.contains("phase \"p2\" is measured, the one before is not"), "{error}");
}

#[test]
fn a_load_needs_something_that_it_is_a_part_of() {
    let file = |scenario: &str| {
        format!(
            "[[phase]]\nname = \"p\"\nduration = \"1s\"\nload = 0.5\n[[population]]\nname = \"a\"\nscenario = {scenario}\n"
        )
    };
    for fits in ["\"idle\"", "\"churn\"", "\"echo\"\nrate = 5", "\"echo\"\nthink = \"1s\""] {
        assert!(populations(&file(fits)).is_ok(), "{fits}");
    }
    for odd in ["\"echo\"", "\"storm\"", "\"echo\"\nin-flight = 3"] {
        let error = populations(&file(odd)).unwrap_err();
        assert!(error.starts_with("5: ") && error.contains("loads = { a = 1 }"), "{odd}: {error}");
    }
}

#[test]
fn conditions_are_checked_against_the_populations() {
    let folder = std::env::temp_dir().join(format!("loadgen-mixed-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("mix.toml");
    std::fs::write(&path, TWO).unwrap();
    let check = |condition: &str| {
        let words = ["loadgen", "mixed", path.to_str().unwrap(), "--fail-if", condition];
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        cli.into_mix().map(|mix| mix.scenario()).map_err(|error| error.to_string())
    };
    assert_eq!(check("people.p99.9 > 5ms"), Ok("mixed"));
    assert_eq!(check("people.handshake.p99 > 5ms"), Ok("mixed"));
    assert_eq!(check("people.rate < 0.99 * people.target"), Ok("mixed"));
    for (condition, part) in [
        ("peple.p99 > 5ms", "a population \"peple\"; there are people, still"),
        ("people.latency > 5ms", "\"latency\" is no figure"),
        ("people.p99 > 5", "a time needs a unit"),
        ("still.rate < still.target", "needs a rate of still"),
    ] {
        let error = check(condition).unwrap_err();
        assert!(error.contains(part), "{condition}: {error}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_file_of_the_help_is_one() {
    let from = EXAMPLES.find("  [[phase]]").unwrap();
    let populations = populations(&EXAMPLES[from..]).unwrap();
    assert_eq!(populations.len(), 2);
}
