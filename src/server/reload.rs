//! Taking over a changed configuration while the gateway runs.
//!
//! The one place where that happens: whatever can change without a restart is handed
//! on from here. What can fail comes first, so that a configuration is taken over whole
//! or not at all.

use std::sync::Arc;

use super::{Server, TlsError};
use crate::command::LiveOptions;
use crate::config::Config;
use crate::control::ApiOptions;
use crate::origin::OriginPolicy;
use crate::stats::ReloadResult;

impl Server {
    /// Follows what `config` says where that needs no restart (the table of options says
    /// which do), without touching a connection that is open. The files of certificates
    /// and keys are read anew.
    ///
    /// # Errors
    /// What is wrong with which file; then nothing has changed.
    pub fn reload(&self, config: &Config) -> Result<(), TlsError> {
        if let Some(certificates) = &self.certificates {
            certificates.reload()?;
        }
        self.control.reload(api_options(config));
        self.process.reloads[ReloadResult::Taken as usize].add(1);
        Ok(())
    }

    /// Counts a configuration that was wrong: nothing has changed.
    pub fn reload_refused(&self) {
        self.process.reloads[ReloadResult::Refused as usize].add(1);
    }
}

/// What the control plane follows, and hands on to the shards.
pub(super) fn api_options(config: &Config) -> ApiOptions {
    ApiOptions { api_key: config.api_key.clone(), shards: Arc::new(live_options(config)) }
}

fn live_options(config: &Config) -> LiveOptions {
    LiveOptions {
        origin: Arc::new(OriginPolicy {
            check_host: config.security.check_host,
            allowed_hosts: config.security.allowed_hosts.clone(),
            allowed_origins: config.security.allowed_origins.clone(),
        }),
        policies: Arc::new(config.slow_consumers.clone()),
        anonymous_subscribe: config.security.anonymous_subscribe,
        anonymous_publish: config.security.anonymous_publish,
    }
}
