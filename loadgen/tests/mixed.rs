//! Several populations in one run, as a file says.

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Run, echo_server, topic_server};
use serde_json::Value;
use wsgate::config::Config;
use wsgate::driver::machine;
use wsgate::server::Server;

/// Runs `loadgen mixed FILE ws://ADDRESS ARGUMENTS --json --allow-invalid`.
fn mixed(file: &Path, server: SocketAddr, arguments: &str) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .arg("mixed")
        .arg(file)
        .args([&format!("ws://{server}"), "--json", "--allow-invalid"])
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let json = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error} in {stdout:?}, {stderr}"));
    Run { code: output.status.code().unwrap(), json, stderr }
}

/// A file of the test's own that reads so.
fn file(test: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}.toml"));
    std::fs::write(&path, text).unwrap();
    path
}

/// The report of one population, as a run.
fn population(run: &Run, name: &str) -> Run {
    let populations = run.json["populations"].as_array().unwrap();
    let json = populations.iter().find(|population| population["name"] == name).unwrap_or_else(|| panic!("no {name}"));
    Run { code: run.code, json: json.clone(), stderr: String::new() }
}

fn phase<'a>(run: &'a Run, name: &str) -> &'a Value {
    let phases = run.json["phases"].as_array().unwrap();
    phases.iter().find(|phase| phase["phase"] == name).unwrap_or_else(|| panic!("no {name} in {}", run.json))
}

#[test]
fn the_examples_that_are_shipped_run_without_a_fault_against_wsgate() {
    machine::raise_descriptor_limit();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server =
        Server::start(&Config { listen: vec![any.into()], admin: any, shards: 2, ..Config::default() }).unwrap();
    let address = server.clients_addresses()[0].tcp().unwrap();
    for (name, populations) in [
        ("chat", &["rooms", "visitors", "readers"][..]),
        ("iot", &["telemetry", "pings", "sleeping"]),
        ("market", &["prices", "trades", "orders"]),
    ] {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.toml"));
        let run = mixed(&path, address, "-d 2s --fail-if lost>0");
        let faults: Vec<_> = run.faults().into_iter().filter(|&(name, _)| name != "foreign").collect();
        assert_eq!((run.code, faults), (0, vec![]), "{name}: {}", run.stderr);
        for name in populations {
            let part = population(&run, name);
            assert!(part.count("opened") > 0, "{name}: {}", part.json);
            let sends = part.json["scenario"] != "idle";
            assert_eq!(
                part.count("received") > 0 && part.json["latency_us"].is_object(),
                sends,
                "{name}: {}",
                part.json
            );
        }
    }
}

#[test]
fn each_population_has_figures_of_its_own_and_the_whole_their_sum() {
    let good = echo_server(|_, message| vec![message]);
    let lossy = echo_server(|number, message| if number == 3 { vec![] } else { vec![message] });
    let text = format!(
        "[[population]]\nname = \"good\"\nscenario = \"echo\"\nconnections = 3\nrate = 100\n\
         [[population]]\nname = \"lossy\"\nscenario = \"echo\"\nurl = \"ws://{lossy}/\"\nconnections = 1\nrate = 50\n\
         payload = 100\nthreads = 1\n\
         [[population]]\nname = \"still\"\nscenario = \"idle\"\nconnections = 5\n"
    );
    let run = mixed(&file("figures", &text), good, "-d 400ms --grace 200ms");
    let [good, lossy, still] = ["good", "lossy", "still"].map(|name| population(&run, name));
    assert_eq!((run.code, run.faults()), (1, vec![("lost", 1)]), "{}", run.json);
    assert_eq!((good.faults(), lossy.faults(), still.faults()), (vec![], vec![("lost", 1)], vec![]));
    assert_eq!([&good, &lossy, &still].map(|part| part.json["verdict"].as_str().unwrap()), ["ok", "faults", "ok"]);
    assert_eq!((good.count("sent"), lossy.count("sent"), still.count("sent"), run.count("sent")), (40, 20, 0, 60));
    assert_eq!((good.count("received"), lossy.count("received"), run.count("received")), (40, 19, 59));
    assert_eq!((still.count("opened"), run.count("opened"), run.count("connections")), (5, 9, 9));
    assert_eq!((lossy.count("payload_bytes"), good.count("payload_bytes")), (100, 64));
    assert_eq!((good.json["target_rate"].as_f64(), run.json["target_rate"].as_f64()), (Some(100.0), Some(150.0)));
    assert_eq!((&run.json["scenario"], &good.json["scenario"]), (&"mixed".into(), &"echo".into()));
    for part in [&run, &good, &lossy] {
        let seconds = part.json["series"].as_array().unwrap();
        let received: u64 = seconds.iter().map(|second| second["received"].as_u64().unwrap()).sum();
        assert_eq!(received, part.count("received"));
        assert!(part.json["latency_us"]["p99"].as_f64().is_some_and(|p99| p99 > 0.0));
    }
    assert_eq!(still.json["latency_us"], Value::Null);
    let threads = run.json["workers"].as_array().unwrap();
    assert_eq!(threads.len() as u64, run.count("threads"));
    assert_eq!(threads.last().unwrap()["worker"].as_u64(), Some(threads.len() as u64 - 1), "numbered over all");
}

#[test]
fn phases_change_the_load_and_those_that_are_not_measured_are_in_no_figure() {
    let server = echo_server(|_, message| vec![message]);
    let text = "[[phase]]\nname = \"up\"\nduration = \"500ms\"\nload = [0, 1]\nmeasured = false\n\
                [[phase]]\nname = \"full\"\nduration = \"500ms\"\n\
                [[phase]]\nname = \"half\"\nduration = \"500ms\"\nload = 0.5\nloads = { steady = 1 }\n\
                [[population]]\nname = \"follows\"\nscenario = \"echo\"\nconnections = 2\nrate = 200\n\
                [[population]]\nname = \"steady\"\nscenario = \"echo\"\nconnections = 2\nrate = 100\n";
    let run = mixed(&file("phases", text), server, "");
    assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
    let sent = |part: &Run| ["up", "full", "half"].map(|name| phase(part, name)["sent"].as_u64().unwrap());
    let [follows, steady] = ["follows", "steady"].map(|name| population(&run, name));
    // What is due at a border may count on either side of it, and what left late beyond it.
    let late = 2 + (300.0 * run.lag_seconds()) as u64;
    for (part, expected) in [(&follows, [50, 100, 50]), (&steady, [25, 50, 50]), (&run, [75, 150, 100])] {
        let sent = sent(part);
        let is_near = sent.iter().zip(expected).all(|(&sent, expected): (&u64, u64)| sent.abs_diff(expected) <= late);
        assert!(is_near, "{sent:?} for {expected:?}");
    }
    assert_eq!((follows.count("sent"), steady.count("sent"), run.count("sent")), (150, 100, 250));
    run.expect_seconds(1.0, 200.0);
    assert_eq!(follows.json["target_rate"].as_f64(), Some(150.0));
    let asked = |part: &Run, name: &str| phase(part, name)["asked"].to_string();
    assert_eq!([asked(&run, "up"), asked(&run, "half")], ["[0.0,300.0]", "[200.0,200.0]"]);
    assert_eq!([asked(&steady, "half"), asked(&run, "drain")], ["[100.0,100.0]", "null"]);
    let measured = ["connect", "up", "full", "half", "drain"].map(|name| phase(&run, name)["measured"] == true);
    assert_eq!(measured, [false, false, true, true, false]);
}

#[test]
fn idle_connections_come_and_go_with_the_load() {
    let server = echo_server(|_, message| vec![message]);
    let text = "[[phase]]\nname = \"half\"\nduration = \"300ms\"\nload = 0.5\n\
                [[phase]]\nname = \"all\"\nduration = \"900ms\"\n\
                [[phase]]\nname = \"none\"\nduration = \"300ms\"\nload = 0\n\
                [[population]]\nname = \"still\"\nscenario = \"idle\"\nconnections = 40\nthreads = 2\n";
    let run = mixed(&file("idle", text), server, "--ramp 50");
    assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
    let opened = |name: &str| {
        let seconds = run.json["series"].as_array().unwrap().iter().filter(|second| second["phase"] == name);
        seconds.map(|second| second["opened"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((opened("connect"), opened("half"), opened("all"), opened("none")), (20, 0, 20, 0));
    assert_eq!(run.count("dropped"), 0, "who leaves is not dropped");
}

#[test]
fn populations_on_one_topic_do_not_count_each_others_messages() {
    let server = topic_server(|_, _, message| vec![message]);
    let population = |name| {
        format!(
            "[[population]]\nname = \"{name}\"\nscenario = \"fanout\"\nconnections = 2\npublisher-query = \"publisher\"\nrate = 50\n"
        )
    };
    let run = mixed(&file("topic", &(population("a") + &population("b"))), server, "-d 400ms");
    assert_eq!((run.code, run.faults()), (0, vec![("foreign", 80)]), "{}", run.json);
    assert_eq!((run.count("sent"), run.count("received")), (40, 80));
}

#[test]
fn a_condition_is_judged_on_the_population_that_it_names() {
    let server = echo_server(|_, message| vec![message]);
    let text = "[[population]]\nname = \"a\"\nscenario = \"echo\"\nconnections = 1\nrate = 100\n\
                [[population]]\nname = \"b\"\nscenario = \"echo\"\nconnections = 1\nrate = 20\n";
    let file = file("condition", text);
    let run = mixed(&file, server, "-d 300ms --fail-if a.sent!=30 --fail-if b.rate<0.9*b.target --fail-if b.sent>5");
    assert_eq!(run.code, 5, "{}", run.json);
    let judged = run.json["thresholds"].as_array().unwrap().iter();
    let judged: Vec<_> = judged.map(|one| (one["is"].as_str().unwrap(), one["failed"].as_bool().unwrap())).collect();
    assert_eq!(judged, [("30", false), ("20", false), ("6", true)]);
}

#[test]
fn a_population_that_cannot_connect_is_named_and_the_others_go_on() {
    let server = echo_server(|_, message| vec![message]);
    // Nobody listens there any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "[[population]]\nname = \"here\"\nscenario = \"echo\"\nconnections = 1\nrate = 100\n\
         [[population]]\nname = \"away\"\nscenario = \"echo\"\nconnections = 2\nrate = 100\nurl = \"ws://{gone}/\"\n"
    );
    let run = mixed(&file("away", &text), server, "-d 200ms");
    assert_eq!((run.code, run.faults()), (1, vec![("errors", 2)]), "{}", run.json);
    assert_eq!(population(&run, "here").count("received"), 20);
    assert_eq!(population(&run, "away").json["verdict"], "not_connected");
    assert_eq!(run.json["notes"][0], "away: none of 2 connections could be opened");
}

#[test]
fn text_and_page_show_each_population_and_each_phase() {
    let server = echo_server(|_, message| vec![message]);
    let text = "[[phase]]\nname = \"one\"\nduration = \"200ms\"\n[[phase]]\nname = \"two\"\nduration = \"200ms\"\n\
                [[population]]\nname = \"quick\"\nscenario = \"echo\"\nconnections = 1\nrate = 100\n\
                [[population]]\nname = \"still\"\nscenario = \"idle\"\nconnections = 1\n";
    let path = file("shown", text);
    let html = path.with_extension("html");
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["mixed", path.to_str().unwrap(), &format!("ws://{server}"), "--html", html.to_str().unwrap()])
        .arg("--allow-invalid")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let row = |name: &str| {
        let line = text.lines().rfind(|line| line.trim_start().starts_with(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).split_whitespace().collect::<Vec<_>>()
    };
    assert!(text.contains("2 populations, 2 connections, "), "{text}");
    assert_eq!(row("two"), ["two,", "0.2", "s"], "{text}");
    // Name, sent and received per second, lost. A slow machine sends and receives late.
    assert!(matches!(row("quick")[..4], ["quick", _, _, "0"]), "{text}");
    assert_eq!(row("still"), ["still", "-", "-", "0", "-", "-", "-", "-"]);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let page = std::fs::read_to_string(html).unwrap();
    for part in ["<h2>Populations</h2>", "<h2>Phases</h2>", ">quick</th>", ">two</th>"] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn several_machines_runs_are_merged_and_compared_by_population() {
    let server = echo_server(|_, message| vec![message]);
    let text = "[[population]]\nname = \"a\"\nscenario = \"echo\"\nconnections = 1\nrate = 100\n\
                [[population]]\nname = \"b\"\nscenario = \"echo\"\nconnections = 1\n";
    let path = file("merge", text);
    let reports = [1, 2].map(|number| {
        let run = mixed(&path, server, "-d 200ms");
        let report = path.with_extension(format!("{number}.json"));
        std::fs::write(&report, run.json.to_string()).unwrap();
        report
    });
    let tool = |name: &str, more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).arg(name).args(&reports).args(more).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let json: Value = serde_json::from_str(&tool("merge", &["--json", "--allow-invalid"])).unwrap();
    let merged = Run { code: 0, json, stderr: String::new() };
    assert_eq!(population(&merged, "a").count("sent"), 40);
    assert_eq!(merged.count("sent"), 40 + population(&merged, "b").count("sent"));
    let compared = tool("compare", &[]);
    for row in ["a p99", "b p99", "b sent", "p99"] {
        assert!(compared.lines().any(|line| line.trim_start().starts_with(row)), "{row} in {compared}");
    }
}
