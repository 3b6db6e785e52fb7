//! loadgen against a server that speaks TLS: whom it trusts, and what it says of others.
#![allow(clippy::disallowed_methods)] // Servers of tests have threads.

mod common;

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use common::tcp_server;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const NAME: &str = "server.example";

/// An echo server with a certificate for [`NAME`], and the file of its authority.
fn server(test: &str) -> (SocketAddr, PathBuf) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![NAME.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let config = Arc::new(config);
    let address = tcp_server(move |stream: TcpStream| {
        let stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        while let Ok(message) = socket.read() {
            if message.is_text() || message.is_binary() {
                let _ = socket.send(message);
            }
        }
    });
    let file = std::env::temp_dir().join(format!("loadgen-{}-{test}.pem", std::process::id()));
    std::fs::write(&file, authority.pem()).unwrap();
    (address, file)
}

/// Exit code, standard output and standard error.
fn run(address: SocketAddr, arguments: &str) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["echo", &format!("wss://{address}/"), "--json", "-c", "3", "-d", "200ms"])
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_server_is_trusted_by_its_authority_and_name_or_blindly() {
    let (address, authority) = server("trusted");
    let with_authority = format!("--ca {} --sni {NAME}", authority.display());
    for arguments in [&with_authority, "--insecure", &format!("{with_authority} -s 100000 --in-flight 4")] {
        let (code, json, stderr) = run(address, arguments);
        assert_eq!(code, 0, "{arguments}: {json} {stderr}");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(json["received"].as_u64().unwrap() > 0 && json["sent"] == json["received"], "{json}");
    }
    std::fs::remove_file(authority).unwrap();
}

#[test]
fn a_certificate_that_is_refused_is_named_with_the_reason() {
    let (address, authority) = server("refused");
    let (code, _, stderr) = run(address, &format!("--ca {}", authority.display()));
    assert_eq!(code, 3);
    assert!(stderr.contains("tls: ") && stderr.contains("not valid for name"), "{stderr}");
    let other = server("other").1;
    let (code, _, stderr) = run(address, &format!("--ca {} --sni {NAME}", other.display()));
    assert_eq!(code, 3);
    assert!(stderr.contains("tls: ") && stderr.contains("invalid peer certificate"), "{stderr}");
    for file in [authority, other] {
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_the_run() {
    let (code, _, stderr) = run(([127, 0, 0, 1], 9).into(), "--ca /absent.pem");
    assert!(code == 2 && stderr.contains("/absent.pem"), "{stderr}");
    let (code, _, stderr) = run(([127, 0, 0, 1], 9).into(), "--insecure --sni not\\a\\name");
    assert!(code == 2 && stderr.contains("name"), "{stderr}");
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).args(["echo", "ws://127.0.0.1:9/", "--insecure"]).output();
    let stderr = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(stderr.contains("wss://"), "{stderr}");
}
