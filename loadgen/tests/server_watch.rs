//! What `--pid` and `--metrics` say of a server, against servers that know it themselves.
//!
//! The watched process is this test: its servers are threads here, and what they use
//! is what is measured.
#![allow(clippy::disallowed_methods)] // The watched server burns time by the clock, as threads.

mod common;

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::{Run, echo_server, loadgen_with, tcp_server};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use wsgate::address::ListenAddress;
use wsgate::config::Config;
use wsgate::server::Server;

/// Each test here watches this process, and would see what another one does in it.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn watched(server: SocketAddr, arguments: &str, watch: &[&str]) -> Run {
    loadgen_with("echo", server, "/", arguments, watch)
}

fn this_process() -> String {
    std::process::id().to_string()
}

/// Keeps the calling thread on a processor for that long, however often it is taken away.
fn burn(micros: i64) {
    let used = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
    };
    let from = used();
    while used() - from < micros {
        black_box(0);
    }
}

#[test]
fn processor_time_is_that_of_the_measured_messages() {
    let _alone = alone();
    // The first 200 messages, the warm-up, cost six times as much; even so the processor is idle for
    // most of it, so that none are left for what is measured where other tests run beside it.
    let count = AtomicUsize::new(0);
    let server = echo_server(move |_, message| {
        burn(if count.fetch_add(1, Ordering::Relaxed) < 200 { 3_000 } else { 500 });
        vec![message]
    });
    let arguments = "-c 4 -R 100 --warm-up 2s -d 2s --fail-if server.cpu_per_message<400us";
    let run = watched(server, arguments, &["--pid", &this_process()]);
    assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
    let server = &run.json["server"];
    let each = server["cpu_us_per_message"].as_f64().unwrap();
    // What else it costs to read, to answer and to be woken is beside it. The reading after the
    // warm-up may be a tick of 200 ms late, and no more than a few messages of it are slow.
    assert!((500.0..1_400.0).contains(&each), "{server}");
    assert!((120..=240).contains(&server["messages"].as_u64().unwrap()), "{server}");
    assert!((1.2..3.0).contains(&server["seconds"].as_f64().unwrap()), "{server}");
    assert!(server["sources"][0]["name"].as_str().unwrap().contains(&this_process()), "{server}");
}

#[test]
fn memory_files_and_threads_grow_with_connections() {
    let _alone = alone();
    const KEPT_BYTES: usize = 1 << 20;
    // As much as all connections together, which is not theirs.
    let _before = black_box(vec![1_u8; 100 * KEPT_BYTES]);
    let server = tcp_server(|stream| {
        // Touched, so that it is resident.
        let kept = black_box(vec![1_u8; KEPT_BYTES]);
        let mut socket = tungstenite::accept(stream).unwrap();
        while socket.read().is_ok() {}
        drop(kept);
    });
    let run = loadgen_with("idle", server, "/", "-c 100 -d 1s", &["--pid", &this_process()]);
    let server = &run.json["server"];
    let each = server["rss_bytes_per_connection"].as_f64().unwrap();
    assert!((1.0..1.4).contains(&(each / KEPT_BYTES as f64)), "{each} of {KEPT_BYTES}: {server}");
    let growth = |what: &str| server[what]["connected"].as_f64().unwrap() - server[what]["before"].as_f64().unwrap();
    // A socket and a thread for each. Some of earlier tests may end meanwhile.
    assert!((85.0..=115.0).contains(&growth("files")), "{server}");
    assert!((85.0..=115.0).contains(&growth("threads")), "{server}");
    assert!(server["cpu_us_per_message"].is_null(), "{server}");
}

/// A page for Prometheus whose process uses 2 ms by echo and 1,000 bytes by connection.
fn exporter(echoes: &'static AtomicUsize, connections: &'static AtomicUsize) -> SocketAddr {
    tcp_server(move |stream| {
        answer(stream, || {
            let (echoes, connections) = (echoes.load(Ordering::SeqCst), connections.load(Ordering::SeqCst));
            format!(
                "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total {}\n\
                 process_resident_memory_bytes {}\nprocess_open_fds {}\n# TYPE echoes counter\n\
                 echoes_total{{shard=\"0\"}} {echoes}\nechoes_total{{shard=\"1\"}} {echoes}\n",
                echoes as f64 * 0.002,
                5_000_000 + 1_000 * connections,
                10 + connections,
            )
        });
    })
}

/// Answers one request with a page.
fn answer(mut stream: TcpStream, page: impl Fn() -> String) {
    let mut request = [0; 4096];
    if stream.read(&mut request).is_ok_and(|len| len > 0) {
        let body = page();
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).unwrap();
    }
}

#[test]
fn a_server_that_exports_its_figures_is_watched_by_them() {
    let _alone = alone();
    static ECHOES: AtomicUsize = AtomicUsize::new(0);
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    let server = common::server(|mut socket| {
        CONNECTIONS.fetch_add(1, Ordering::SeqCst);
        while let Ok(message) = socket.read() {
            ECHOES.fetch_add(1, Ordering::SeqCst);
            let _ = socket.send(message);
        }
    });
    let url = format!("http://{}/metrics", exporter(&ECHOES, &CONNECTIONS));
    let arguments = "-c 10 -R 100 -d 1s --fail-if server.rss_per_connection>1000";
    let run = watched(server, arguments, &["--metrics", &url, "--fail-if", "server.cpu_per_message > 3ms"]);
    assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
    let server = &run.json["server"];
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{server}"));
    // Both are read at nearly one moment; of 100 messages a few may lie between, and those of the
    // time for which the machine stopped.
    let near = |value: f64, expected: f64| (value / expected - 1.0).abs() <= 0.05 + run.lag_seconds();
    assert!(near(number(&server["cpu_us_per_message"]), 2_000.0), "{server}");
    let per_message = number(&server["counters"]["echoes_total"]) / number(&server["messages"]);
    assert!(near(per_message, 2.0), "{server}");
    assert_eq!(number(&server["rss_bytes"]["before"]), 5_000_000.0);
    assert_eq!((number(&server["rss_bytes_per_connection"]), number(&server["files"]["connected"])), (1_000.0, 20.0));
}

#[test]
fn a_wsgate_is_watched_by_its_address_alone() {
    let _alone = alone();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config { listen: vec![any.into()], admin: any, shards: 1, ..Config::default() };
    let wsgate = Server::start(&config).unwrap();
    let clients = wsgate.clients_addresses().iter().find_map(ListenAddress::tcp).unwrap();
    let url = format!("http://{}/metrics", wsgate.admin_address());
    let conditions = ["--fail-if", "server.cpu_per_message > 1s", "--fail-if", "server.rss > 100GB"];
    let watch = [&["--metrics", url.as_str()], &conditions[..]].concat();
    let run = loadgen_with("echo", clients, "/echo", "-c 10 -R 500 -d 1s", &watch);
    assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
    let server = &run.json["server"];
    assert_eq!(server["sources"][0]["remark"], Value::Null, "{server}");
    assert!(server["cpu_us_per_message"].as_f64().unwrap() > 1.0, "{server}");
    // Its process is this one.
    let rss = server["rss_bytes"]["end"].as_f64().unwrap();
    assert!((1e6..1e11).contains(&rss) && server["rss_bytes_per_connection"].is_number(), "{server}");
    assert!(server["files"]["connected"].as_f64().unwrap() >= 10.0, "{server}");
    assert!(server["threads"]["end"].as_f64().unwrap() >= 3.0, "{server}");
    let per_message = server["counters"]["wsgate_messages_received_total"].as_f64().unwrap() / 500.0;
    assert!((0.5..1.5).contains(&per_message), "{server}");
}

/// A process that lives until it is killed.
fn mortal() -> (Child, Pid) {
    let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    (child, pid)
}

/// The same, and an echo server that kills it at its 150th message.
fn dying() -> (Child, SocketAddr) {
    let (child, pid) = mortal();
    let count = AtomicUsize::new(0);
    let server = echo_server(move |_, message| {
        if count.fetch_add(1, Ordering::Relaxed) == 150 {
            kill_process(pid, Signal::KILL).unwrap();
        }
        vec![message]
    });
    (child, server)
}

#[test]
fn the_report_says_that_the_server_ended() {
    let _alone = alone();
    let (mut child, server) = dying();
    let run = watched(server, "-c 1 -R 100 -d 4s", &["--pid", &child.id().to_string()]);
    child.wait().unwrap();
    let source = &run.json["server"]["sources"][0];
    assert_eq!(source["failure"], "the process ended", "{source}");
    // It was killed after 1.5 s, and is looked at once a second.
    assert!((1.4..3.5).contains(&source["failed_at"].as_f64().unwrap()), "{source}");
    assert_eq!(run.json["server"]["rss_bytes"]["end"], Value::Null);
}

#[test]
fn a_server_that_goes_down_behind_the_last_message_is_seen_to_have_ended() {
    let _alone = alone();
    let (mut child, pid) = mortal();
    // It is killed when the client says goodbye, and is a zombie when that is answered.
    let server = common::server(move |mut socket| {
        while let Ok(message) = socket.read() {
            if message.is_close() {
                kill_process(pid, Signal::KILL).unwrap();
                waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
            }
            let _ = socket.send(message);
        }
    });
    let run = watched(server, "-c 1 -R 100 -d 300ms", &["--pid", &child.id().to_string()]);
    child.wait().unwrap();
    assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
    let source = &run.json["server"]["sources"][0];
    assert_eq!(source["failure"], "the process ended", "{source}");
    assert!(source["failed_at"].as_f64().unwrap() >= 0.3, "{source}");
    assert!(run.json["server"]["rss_bytes"]["end"].is_number(), "it was there until the last message");
}

#[test]
fn the_report_says_that_an_exporter_answers_no_more() {
    let _alone = alone();
    static SILENT: AtomicBool = AtomicBool::new(false);
    let exporter = tcp_server(|stream| {
        if !SILENT.load(Ordering::SeqCst) {
            answer(stream, || "# TYPE ups counter\nups 1\n".to_owned());
        }
    });
    let server = echo_server(|number, message| {
        SILENT.store(number > 50, Ordering::SeqCst);
        vec![message]
    });
    let run = watched(server, "-c 1 -R 100 -d 2s", &["--metrics", &format!("http://{exporter}/metrics")]);
    assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
    let source = &run.json["server"]["sources"][0];
    assert!(source["failure"].is_string() && source["failed_at"].as_f64().unwrap() > 0.4, "{source}");
    assert!(source["remark"].as_str().unwrap().contains("no process_cpu_seconds_total"), "{source}");
}

#[test]
fn who_cannot_be_watched_is_named_before_the_run() {
    let _alone = alone();
    let server = echo_server(|_, message| vec![message]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = format!("http://{nobody}/metrics");
    let page = tcp_server(|stream| answer(stream, || "<html>welcome</html>".to_owned()));
    let page = format!("http://{page}/");
    for (watch, parts) in [
        (["--pid", "4200000"], ["--pid 4200000", "no such process"]),
        (["--metrics", refused.as_str()], [refused.as_str(), "is the address right"]),
        (["--metrics", page.as_str()], [page.as_str(), "no figures in Prometheus' text format"]),
        (["--metrics", "ftp://a/"], ["ftp://a/", "only http://"]),
        (["--fail-if", "server.rss > 1"], ["server.rss > 1", "needs a --pid or --metrics"]),
    ] {
        let error = watched_error(server, &watch);
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

/// Standard error of a run that is refused.
fn watched_error(server: SocketAddr, watch: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    let output = command.args(["echo", &format!("ws://{server}/"), "-d", "1s"]).args(watch).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}
