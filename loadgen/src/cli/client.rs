//! Flags of connections: how they are opened, and as whom.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values::{Sources, duration, rate, sources, token};
use crate::limits::RAMP_DEFAULT;
use crate::target::{Header, Target};
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
    /// Subprotocol to ask for
    #[arg(long, value_name = "NAME", value_parser = token)]
    pub(super) subprotocol: Option<String>,
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
