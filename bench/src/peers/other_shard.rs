//! Connections to topics that another shard owns.
//!
//! Which shard a connection is on, and which one owns a topic, is wsgate's own affair
//! and differs from start to start. So each is tried: one message is published, and
//! the counters tell who received and who ordered it.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use crate::rig::client;
use crate::rig::metrics::{Metrics, Scrape};
use crate::rig::server::Server;

/// Opens connections, each to a topic of its own that belongs to another shard.
pub(super) fn open(server: &Server, count: usize, sent: &[u8], returned: &[u8]) -> io::Result<Vec<TcpStream>> {
    let admin = server.admin.ok_or_else(|| io::Error::other("only wsgate can say what its shards do"))?;
    let mut metrics = Metrics::connect(admin)?;
    let mut before = metrics.scrape()?;
    let mut open = Vec::with_capacity(count);
    let mut reply = vec![0; returned.len()];
    for index in 0.. {
        if open.len() == count {
            break;
        }
        let mut stream = client::open(server.clients, &[format!("/topics/{index:032}")])?.remove(0);
        stream.write_all(sent)?;
        stream.read_exact(&mut reply)?;
        let after = metrics.scrape()?;
        let receiver = grown(&before, &after, "wsgate_messages_received_total")?;
        let owner = grown(&before, &after, "wsgate_published_total")?;
        before = after;
        if receiver != owner {
            open.push(stream);
        }
    }
    Ok(open)
}

/// The one shard in which a counter has grown.
fn grown(before: &Scrape, after: &Scrape, name: &str) -> io::Result<usize> {
    let (before, after) = (before.by_shard(name), after.by_shard(name));
    let grown: Vec<_> =
        before.iter().zip(&after).enumerate().filter(|(_, (a, b))| a < b).map(|(shard, _)| shard).collect();
    match grown[..] {
        [shard] => Ok(shard),
        _ => Err(io::Error::other(format!("{name} grew in shards {grown:?}, not in one"))),
    }
}
