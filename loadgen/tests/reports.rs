//! What loadgen makes of a run: files, tools that read them, figures while it lasts.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{echo_server, loadgen, server};

/// Runs loadgen with these words.
fn run(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen")).args(words).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A folder of the test's own.
fn folder(test: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_run_leaves_the_files_that_were_asked_for() {
    let server = echo_server(|_, message| vec![message]);
    let folder = folder("files");
    let path = |name: &str| folder.join(name).display().to_string();
    let (html, log, hgrm) = (path("a.html"), path("a.hlog"), path("a.hgrm"));
    let run = loadgen("echo", server, &format!("-c 2 -R 200 -d 2s --html {html} --hdr-log {log} --hgrm {hgrm}"));
    assert_eq!(run.code, 0, "{}", run.json);
    assert!(fs::read_to_string(html).unwrap().contains("Latency by percentile"));
    let log = fs::read_to_string(log).unwrap();
    for tag in ["corrected", "uncorrected"] {
        let lines = log.lines().filter(|line| line.starts_with(&format!("Tag={tag},"))).count();
        assert!(lines >= 2, "{lines} lines of {tag} in {log}");
    }
    for hgrm in ["a.hgrm", "a.uncorrected.hgrm"] {
        let text = fs::read_to_string(folder.join(hgrm)).unwrap();
        assert!(text.contains("Total count    =          400]"), "{text}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_the_run() {
    let server = echo_server(|_, message| vec![message]);
    let output = run(&["echo", &format!("ws://{server}/"), "-d", "1h", "--html", "/nowhere/a.html"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("cannot write /nowhere/a.html"), "{error}");
}

#[test]
fn a_full_disk_under_one_file_does_not_cost_the_others() {
    let server = echo_server(|_, message| vec![message]);
    let hgrm = folder("full").join("run.hgrm");
    let arguments = ["echo", &format!("ws://{server}/"), "-c", "1", "-d", "200ms", "--html", "/dev/full"];
    let output = run(&[&arguments[..], &["--hgrm", &hgrm.display().to_string()]].concat());
    assert_eq!(output.status.code(), Some(4));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("/dev/full"), "{error}");
    assert!(fs::read_to_string(&hgrm).unwrap().contains("TotalCount"), "what comes after is written");
}

#[test]
fn reports_are_merged_and_compared() {
    let echo = echo_server(|_, message| vec![message]);
    let lossy = echo_server(|number, message| if number == 7 { vec![] } else { vec![message] });
    let folder = folder("tools");
    let path = |name: &str| folder.join(name).display().to_string();
    let files: Vec<_> = [(echo, "good"), (echo, "good"), (lossy, "lossy"), (lossy, "lossy")]
        .iter()
        .enumerate()
        .map(|(i, (server, label))| {
            let run = loadgen("echo", *server, &format!("-c 1 -R 100 -d 500ms --grace 100ms --label {label}"));
            let path = path(&format!("{i}.json"));
            fs::write(&path, run.json.to_string()).unwrap();
            path
        })
        .collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();

    let merged = run(&["merge", files[0], files[1], "--json", "--allow-invalid"]);
    let json: serde_json::Value = serde_json::from_str(&stdout(&merged)).unwrap();
    assert_eq!((json["sent"].as_u64(), json["merged"]["reports"].as_u64()), (Some(100), Some(2)));
    assert_eq!(merged.status.code(), Some(0));
    let judged = run(&["merge", files[0], files[1], "--allow-invalid", "--fail-if", "sent >= 100"]);
    assert_eq!(judged.status.code(), Some(5), "{}", stdout(&judged));
    assert_eq!(run(&["merge", files[0], files[2], "--allow-invalid"]).status.code(), Some(1));

    let (again, both) = (path("again.json"), path("both.json"));
    fs::copy(files[0], &again).unwrap();
    fs::write(&both, stdout(&merged)).unwrap();
    for (given, named) in [
        ([files[0], files[1], &again], [files[0], &again]),
        ([files[1], files[0], files[0]], [files[0], files[0]]),
        ([files[2], &both, files[1]], [&both, files[1]]),
    ] {
        let output = run(&[&["merge", "--allow-invalid"], &given[..]].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        let expected = format!("{} and {} are reports of the same run", named[0], named[1]);
        assert!(output.status.code() == Some(2) && stderr.contains(&expected), "{given:?}: {stderr}");
    }

    let html = path("compare.html");
    let by_group = run(&["compare", "--base", files[0], files[1], "--new", files[2], files[3], "--html", &html]);
    let by_label = run(&["compare", files[0], files[1], files[2], files[3]]);
    assert_eq!(stdout(&by_group), stdout(&by_label));
    let text = stdout(&by_label);
    assert!(text.starts_with("good (2 runs): echo ws://") && text.contains("\nlossy (2 runs): "), "{text}");
    let lost = text.lines().find(|line| line.trim_start().starts_with("lost")).unwrap();
    assert_eq!(lost.split_whitespace().collect::<Vec<_>>(), ["lost", "0", "1", "differs"]);
    let page = fs::read_to_string(html).unwrap();
    assert!(page.contains("Latency by percentile, all runs of each") && page.contains("What changed"));

    let third = path("third.json");
    let run_of = |path: &str| {
        serde_json::from_str::<serde_json::Value>(&fs::read_to_string(path).unwrap()).unwrap()["origin"]["run"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    fs::write(&third, fs::read_to_string(&again).unwrap().replace(&run_of(&again), "0123456789abcdef")).unwrap();
    for (words, error) in [
        (&["compare", files[0], "/nowhere.json"][..], "cannot read /nowhere.json"),
        (&["compare", files[0], files[1], &third][..], "the reports have 1 labels (good)"),
        (&["compare", files[0], files[0]][..], "are reports of the same run"),
        (&["compare", files[0], files[2], &again][..], &format!("{} and {again} are reports of the same", files[0])),
        (&["compare", "--base", files[0], "--new", &again][..], "are reports of the same run"),
        (&["compare", files[0], env!("CARGO_BIN_EXE_loadgen")][..], "cannot read"),
        (&["compare", files[0]][..], "2 values required"),
    ] {
        let output = run(words);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {stderr}");
        assert!(stderr.contains(error), "{words:?}: {stderr}");
    }
}

#[test]
fn manual_and_completions_come_from_the_flags() {
    let manual = stdout(&run(&["man"]));
    for part in [".TH loadgen", ".TH loadgen-fanout", ".TH loadgen-compare", "fail\\-if", "Exit codes"] {
        assert!(manual.contains(part), "{part}");
    }
    for (shell, part) in
        [("bash", "complete -F _loadgen"), ("zsh", "#compdef loadgen"), ("fish", "complete -c loadgen")]
    {
        let completions = stdout(&run(&["completions", shell]));
        assert!(completions.contains(part) && completions.contains("fail-if"), "{shell}");
    }
}

/// Where it says that Prometheus finds its figures.
fn metrics_address(loadgen: &mut Child) -> SocketAddr {
    let mut line = String::new();
    BufReader::new(loadgen.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("loadgen: metrics at http://").unwrap().strip_suffix("/metrics").unwrap();
    address.parse().unwrap()
}

#[test]
fn scrapes_end_while_workers_start() {
    let server = echo_server(|_, message| vec![message]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["echo", &format!("ws://{server}/"), "-c", "200", "-t", "200", "-d", "1h", "--prometheus", "127.0.0.1:0"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let address = metrics_address(&mut child);
    let ended = (0..200).all(|_| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).is_ok()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ended, "somebody else keeps a scraper's connection open");
}

#[test]
fn prometheus_sees_the_run_while_it_lasts() {
    // The server ends the run, so that the scrape cannot come too late.
    let (scraped, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = server(move |mut socket| {
        for _ in 0..3 {
            let message = socket.read().unwrap();
            let _ = socket.send(message);
        }
        let _ = wait.lock().unwrap().recv();
    });
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["echo", &format!("ws://{server}/"), "-c", "1", "-d", "1h", "--prometheus", "127.0.0.1:0", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let address = metrics_address(&mut child);
    let get = |path: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(get("/").starts_with("HTTP/1.1 404"));
    // Until the first second with messages is complete.
    let answer = std::iter::repeat_with(|| get("/metrics")).find(|page| page.contains("quantile=")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{answer}");
    for line in [
        "loadgen_connections_opened_total 1",
        "loadgen_messages_received_total 3",
        "loadgen_messages_misdelivered_total 0",
        "# TYPE loadgen_latency_seconds summary",
        "loadgen_latency_seconds_count 3",
    ] {
        assert!(answer.contains(&format!("\n{line}\n")), "{line} in {answer}");
    }
    drop(scraped);
    assert!(child.wait().unwrap().code().is_some(), "the server left, so the run is over");
}
