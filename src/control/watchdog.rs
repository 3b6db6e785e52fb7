//! The service manager's watchdog (systemd's WatchdogSec): told in time, as long as every
//! event loop turns. A gateway that is stuck is so restarted.

use sd_notify::NotifyState;

use super::shards::Shards;

/// Tells the watchdog for as long as the process lives; returns at once if nobody wants it.
pub(super) async fn run(shards: Shards) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval(patience / 2);
    loop {
        ticks.tick().await;
        let stuck = shards.find_stuck().await;
        if !stuck.is_empty() {
            tracing::error!(?stuck, "the watchdog is not told, since event loops do not turn");
        } else if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
            tracing::warn!(%error, "the watchdog cannot be told (NOTIFY_SOCKET)");
        }
    }
}
