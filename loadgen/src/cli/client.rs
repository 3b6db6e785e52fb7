//! Flags of connections: how they are opened, and as whom.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values::{Sources, duration, rate, sources, token};
use crate::limits::RAMP_DEFAULT;
use crate::speech::Speech;
use crate::target::{Header, Target};
use crate::template::{Table, Template};
use crate::tls::{TlsPlan, Trust};

#[derive(Args, Debug)]
pub(super) struct Clients {
    /// Connects per second; never exceeded
    #[arg(long, value_name = "PER_SECOND", default_value_t = RAMP_DEFAULT, value_parser = rate)]
    pub(super) ramp: f64,
    /// How long a connection may take to open
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) timeout: Duration,
    /// Header to send with the upgrade, such as 'Authorization: Bearer abc'; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    pub(super) header: Vec<Header>,
    /// File of values for {csv.NAME}: a line of names, then a row for each client; used again from the top
    #[arg(long, value_name = "FILE")]
    pub(super) csv: Option<PathBuf>,
    /// Message that every connection sends when it opens; may be repeated
    #[arg(long, value_name = "MESSAGE")]
    pub(super) first: Vec<String>,
    /// Message that subscribers send after that; may be repeated
    #[arg(long, value_name = "MESSAGE")]
    pub(super) subscribe: Vec<String>,
    /// What a message from the server contains when a subscriber is ready [default: ready at once]
    #[arg(long, value_name = "TEXT", requires = "subscribe")]
    pub(super) subscribed: Option<String>,
    /// What to answer to every message that contains a text, such as: --answer PING PONG
    #[arg(long, num_args = 2, value_names = ["TEXT", "ANSWER"])]
    pub(super) answer: Vec<String>,
    /// Subprotocol to ask for
    #[arg(long, value_name = "NAME", value_parser = token)]
    pub(super) subprotocol: Option<String>,
    /// Offer permessage-deflate; messages are compressed both ways where the server accepts
    #[arg(long)]
    pub(super) compression: bool,
    /// Address to connect from, or an IPv4 range such as 127.0.0.2-127.0.0.20; each has about 28,000 ports
    #[arg(long, value_name = "IP[-IP]", value_parser = sources)]
    pub(super) source: Option<Sources>,
    /// For wss://: file of the certificates (PEM) to trust, in place of the system's authorities
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(super) ca: Option<PathBuf>,
    /// For wss://: name to ask for and to look for in the certificate [default: the URL's host]
    #[arg(long, value_name = "NAME")]
    pub(super) sni: Option<String>,
    /// For wss://: accept any certificate
    #[arg(long)]
    pub(super) insecure: bool,
}

impl Clients {
    /// What clients say, and the values that they fill in. `message` is around each payload.
    pub(super) fn speech(&self, message: Option<&str>) -> Result<Speech, String> {
        let table = self.csv.as_deref().map(Table::read).transpose()?.unwrap_or_default();
        let parse =
            |texts: &[String]| texts.iter().map(|text| Template::parse(text, &table)).collect::<Result<Vec<_>, _>>();
        let (first, subscribe) = (parse(&self.first)?, parse(&self.subscribe)?);
        let message = message.map(|text| Template::parse(text, &table)).transpose()?;
        match message.as_ref().map_or(1, Template::payloads) {
            1 => {}
            others => return Err(format!("--message has {{payload}} {others} times; it must have it once")),
        }
        if first.iter().chain(&subscribe).any(|template| template.payloads() > 0) {
            return Err("{payload} has no meaning in --first and --subscribe".to_owned());
        }
        let answers = self.answer.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        Ok(Speech { first, subscribe, subscribed: self.subscribed.clone(), message, answers, table })
    }

    /// How TLS is spoken, if it is.
    pub(super) fn tls_plan(&self, target: &Target) -> Result<Option<TlsPlan>, String> {
        if !target.is_secure() {
            let given = self.ca.is_some() || self.sni.is_some() || self.insecure;
            return if given { Err("--ca, --sni and --insecure are for wss:// URLs\n".to_owned()) } else { Ok(None) };
        }
        let trust = match &self.ca {
            Some(path) => Trust::File(path),
            None if self.insecure => Trust::Anybody,
            None => Trust::System,
        };
        let name = self.sni.as_deref().unwrap_or(target.host());
        TlsPlan::new(trust, name).map(Some).map_err(|text| text + "\n")
    }
}
