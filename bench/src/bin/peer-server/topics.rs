//! Who gets what: a broadcast channel for each topic.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bench::IN_FLIGHT_MAX;
use hyper::body::Bytes;
use tokio::sync::broadcast::{self, Receiver, Sender};

/// What a connection's path asks for.
#[derive(Debug)]
pub(crate) enum Does {
    /// Every message comes back.
    Echo,
    /// What it sends is published.
    Publish(Sender<Bytes>),
    /// The same, and it gets what is published.
    Subscribe(Sender<Bytes>, Receiver<Bytes>),
}

/// The channels by path, made when first used. A channel takes memory for each message
/// that a subscriber may be behind, so it is made for what the load has under way.
#[derive(Default, Debug)]
pub(crate) struct Topics {
    by_path: Mutex<HashMap<String, Sender<Bytes>>>,
}

impl Topics {
    /// What a request's path and query ask for.
    pub(crate) fn connect(&self, path: &str, query: Option<&str>) -> Does {
        if path == "/echo" {
            return Does::Echo;
        }
        let mut by_path = self.by_path.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = by_path.entry(path.to_owned()).or_insert_with(|| broadcast::channel(IN_FLIGHT_MAX).0).clone();
        if query == Some("subscribe=off") {
            return Does::Publish(sender);
        }
        let receiver = sender.subscribe();
        Does::Subscribe(sender, receiver)
    }
}
