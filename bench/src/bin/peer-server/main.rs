//! Servers of other WebSocket crates, written as their users would, for `bench peers`.
//!
//! `peer-server NAME` listens on a free port of the loopback address, prints
//! `ready clients=ADDRESS`, and serves `/echo`, `/topics/NAME` and
//! `/topics/NAME?subscribe=off` on one thread until it is killed.

mod fastwebsockets;
mod topics;
mod tungstenite;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;

use topics::Topics;

fn main() -> ExitCode {
    wsgate::driver::machine::raise_descriptor_limit();
    let served = match std::env::args().nth(1).as_deref() {
        Some("fastwebsockets") => serve(fastwebsockets::spawn),
        Some("tungstenite") => serve(tungstenite::spawn),
        other => Err(io::Error::other(format!("no server is called {other:?}; there are fastwebsockets, tungstenite"))),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer-server: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Accepts for ever; `spawn` starts the task of a connection.
fn serve(spawn: fn(TcpStream, Arc<Topics>)) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("ready clients={}", listener.local_addr()?);
        let topics = Arc::new(Topics::default());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            spawn(stream, topics.clone());
        }
    })
}
