//! What the system's service manager is told: that the daemon is ready, that it lives, that it ends.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::{runtime::Handle, time::interval};

/// Tells the service manager that the daemon is ready, and that it lives as long as each of `runtimes` does its work. A daemon
/// that no service manager has started says nothing. Must be called within a tokio runtime.
pub fn tell_ready(runtimes: Vec<Handle>) {
    tell(&[NotifyState::Ready]);
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
    tokio::spawn(async move {
        // Half the time, as the manager's manual has it.
        let mut beats = interval(limit / 2);
        loop {
            beats.tick().await;
            if all_work(&runtimes, limit).await {
                tell(&[NotifyState::Watchdog]);
            } else {
                tracing::error!("a runtime of this daemon stands still: the service manager is told nothing");
            }
        }
    });
}

/// Tells the service manager that the daemon ends.
pub fn tell_stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Whether each of `runtimes` carries out a task within `limit`.
async fn all_work(runtimes: &[Handle], limit: Duration) -> bool {
    for runtime in runtimes {
        if tokio::time::timeout(limit, runtime.spawn(async {})).await.is_err() {
            return false;
        }
    }
    true
}

fn tell(news: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(news) {
        tracing::warn!(%error, "the service manager cannot be told of this daemon's state");
    }
}
