//! What a client asks for, and how it spells the request.

use fastrand::Rng;

use crate::deflate::Offer;
use crate::plan::{Plan, pick};

/// The key of every request; the answer to it is known.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Why a client connects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// A topic's path.
    Plain {
        topic: usize,
        subscribes: bool,
        echo: bool,
        gaps: bool,
    },
    Echo,
    Greeting,
    /// No upgrade: a request, and the status of its answer.
    Http(&'static str, u16),
    /// A request that never ends.
    Silent,
}

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";

const NO_UPGRADES: [Purpose; 14] = [
    Purpose::Http("GET /health HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    Purpose::Http("GET /topics/a HTTP/1.1\r\nHost: a\r\n\r\n", 426),
    Purpose::Http("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    Purpose::Http("POST /topics/a HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    Purpose::Http("GET /topics/a%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    Purpose::Http("GET /topics/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    Purpose::Http("GET /topics/a?echo=maybe HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    Purpose::Http("GET /echo HTTP/1.1\r\n\r\n", 400),
    Purpose::Http("GET /echo HTTP/1.1\r\nHost: a\nUpgrade: websocket\r\n\r\n", 426),
    Purpose::Http("\u{16}\u{3}\u{1}", 400),
    Purpose::Http("GET /echo HTTP/1.1\r\nHost: a\r\nno header\r\n\r\n", 400),
    Purpose::Http(
        "GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        426,
    ),
    Purpose::Http(
        "GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2hvcnQ=\r\n\r\n",
        400,
    ),
    Purpose::Silent,
];

impl Purpose {
    pub(crate) fn choose(plan: &Plan, rng: &mut Rng) -> Self {
        match rng.u32(0..20) {
            0 if plan.bad_requests => *pick(rng, &NO_UPGRADES),
            0..=2 => Self::Echo,
            3 => Self::Greeting,
            _ => Self::Plain {
                topic: rng.usize(0..plan.topics.len()),
                subscribes: !plan.may_publish() || rng.u32(0..6) > 0,
                echo: rng.u32(0..3) > 0,
                gaps: rng.bool(),
            },
        }
    }

    pub(crate) fn request(&self, plan: &Plan, offer: Option<Offer>) -> String {
        let path = match self {
            Self::Http(request, _) => return (*request).to_owned(),
            Self::Silent => return "GET /echo HTTP/1.1\r\nHost:".to_owned(),
            Self::Echo => "/echo".to_owned(),
            Self::Greeting => "/chat".to_owned(),
            Self::Plain { topic, subscribes, echo, gaps } => {
                let name = plan.topics[*topic].0.replace(' ', "%20");
                let word = |on: bool| if on { "on" } else { "off" };
                format!("/topics/{name}?subscribe={}&echo={}&gaps={}", word(*subscribes), word(*echo), word(*gaps))
            }
        };
        let extensions = offer.map(|offer| format!("Sec-WebSocket-Extensions: {}\r\n", offer.text)).unwrap_or_default();
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}{extensions}Sec-WebSocket-Key: {KEY}\r\n\r\n")
    }
}
