//! Who may use the API, what it has, and how long it is there.

use std::path::PathBuf;
use std::time::Duration;

use wsgate::config::cli::{Command, Surroundings, parse_in};
use wsgate::config::{ApiKey, Machine};

use crate::common::{PATIENCE, RawClient, TestServer};
use crate::{HOST, ask, get, post};

const KEY: &str = "sixteen-bytes-or-more";

/// The key as the environment sets it.
fn api_key() -> Option<ApiKey> {
    let environment = vec![("WSGATE_ADMIN_API_KEY".into(), KEY.into())];
    let surroundings = Surroundings { directory: PathBuf::new(), environment, machine: Machine::here() };
    match parse_in(["wsgate".into()], &surroundings) {
        Ok(Command::Serve(config)) => config.api_key,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_api_wants_its_key_and_health_does_not() {
    let server = TestServer::with(|config| config.api_key = api_key());
    let admin = server.admin;
    let wrong = KEY.replace('m', "M");
    for line in ["POST /topics/a", "GET /metrics", "GET /topics/a"] {
        ask(admin, line, &[HOST], b"").expect_error(401, "X-API-Key is missing");
        ask(admin, line, &[HOST, ("X-API-Key", "")], b"").expect_error(401, "is not the API key");
        ask(admin, line, &[HOST, ("X-API-Key", &wrong)], b"").expect_error(401, "is not the API key");
        ask(admin, line, &[HOST, ("X-API-Key", &KEY[1..])], b"").expect_error(401, "is not the API key");
    }
    assert_eq!(server.sum(|stats| &stats.published), 0);
    assert_eq!(post(admin, "a", &[("x-api-key", KEY)], b"m").status, 200);
    assert_eq!(ask(admin, "GET /metrics", &[HOST, ("X-API-Key", KEY)], b"").status, 200);
    assert_eq!(server.sum(|stats| &stats.published), 1);
    assert_eq!(get(admin, "/health").status, 200);
}

#[test]
fn names_that_were_rebound_to_this_machine_are_refused() {
    let server = TestServer::with(|config| config.security.allowed_hosts = vec!["gateway.example".into()]);
    for line in ["POST /topics/a", "GET /metrics", "GET /health", "GET /nothing"] {
        for host in ["evil.example", "127.0.0.1.evil.example:8001", "localhost.evil.example", "192.0.2.1", ""] {
            ask(server.admin, line, &[("Host", host)], b"").expect_error(403, "is not served here");
        }
        ask(server.admin, line, &[], b"").expect_error(400, "Host is missing");
    }
    let own = server.admin.to_string();
    for host in [own.as_str(), "localhost", "LOCALHOST:1", "[::1]:8001", "gateway.example:8001"] {
        assert_eq!(ask(server.admin, "GET /health", &[("Host", host)], b"").status, 200, "{host}");
    }
    assert_eq!(server.sum(|stats| &stats.published), 0);
}

#[test]
fn pages_of_elsewhere_are_refused() {
    let server = TestServer::with(|config| config.security.allowed_origins = vec!["page.example".into()]);
    for origin in ["http://evil.example", "null", "http://localhost.evil.example", "http://page.example.evil.example"] {
        let headers = [HOST, ("Origin", origin)];
        ask(server.admin, "POST /topics/a", &headers, b"m").expect_error(403, "may not use the API");
        ask(server.admin, "GET /metrics", &headers, b"").expect_error(403, "security.allowed_origins");
    }
    assert_eq!(server.sum(|stats| &stats.published), 0);
    for origin in ["http://localhost:3000", "https://page.example"] {
        assert_eq!(post(server.admin, "a", &[("Origin", origin)], b"m").status, 200, "{origin}");
    }
}

#[test]
fn production_answers_for_any_host_and_still_not_for_any_page() {
    let server = TestServer::with(|config| config.security.check_host = false);
    let host = ("Host", "gateway.example");
    assert_eq!(ask(server.admin, "GET /health", &[host], b"").status, 200);
    ask(server.admin, "POST /topics/a", &[host, ("Origin", "http://evil.example")], b"m").expect_error(403, "origin");
}

#[test]
fn what_is_not_served_is_said_so() {
    let server = TestServer::start();
    for line in ["GET /topics/a", "PUT /topics/a", "DELETE /topics/a"] {
        let answer = ask(server.admin, line, &[HOST], b"");
        assert_eq!((answer.status, answer.header("Allow")), (405, Some("POST")), "{line}: {answer:?}");
    }
    for line in ["POST /metrics", "POST /health"] {
        let answer = ask(server.admin, line, &[HOST], b"");
        assert_eq!((answer.status, answer.header("Allow")), (405, Some("GET,HEAD")), "{line}: {answer:?}");
    }
    for path in ["/", "/topics", "/nothing", "/metrics/", "/health/x"] {
        get(server.admin, path).expect_error(404, &format!("{path:?}"));
    }
}

#[test]
fn health_says_ok_and_while_draining_not() {
    let server = TestServer::with(|config| {
        (config.drain.deadline, config.timeouts.close) = (PATIENCE, PATIENCE);
    });
    // Keeps the gateway from being done, until it answers.
    let mut client = server.raw_open("/echo");
    assert_eq!(get(server.admin, "/health").body, "ok\n");
    server.drain();
    get(server.admin, "/health").expect_error(503, "draining");
    client.answer_close(1001);
    client.expect_end();
    drop(client);
    server.wait();
}

/// Clients that keep their HTTP connection open must not keep the gateway from ending.
#[test]
fn an_idle_http_connection_does_not_hold_up_the_end() {
    let server = TestServer::start();
    let mut client = RawClient::connect(server.admin);
    client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(client.read_head().starts_with("HTTP/1.1 200 "));
    client.expect(b"ok\n");
    server.drain();
    server.wait();
    client.0.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.expect_gone();
}
