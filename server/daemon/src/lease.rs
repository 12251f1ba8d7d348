//! Ends runs that are not proposed, whose client is gone, or whose output is not fetched.

use std::{sync::Arc, time::Duration};

use suf_control::{failure::CallFailure, v1};
use suf_party::Event;
use suf_wire::{Fault, Party};

use crate::{entry::Entry, host::Host};

/// Watches over `entry` until nothing of it is left but its last state.
pub(crate) fn keep(host: &Arc<Host>, entry: &Arc<Entry>) {
    let (host, entry) = (Arc::clone(host), Arc::clone(entry));
    host.clone().runtime().spawn(async move {
        let config = host.config();
        let lease_s = config.lease_s;
        tokio::select! {
            _ = entry.ended() => {}
            () = entry.deserted(seconds(lease_s)) => {
                entry.cancel(&format!("its client is gone: it had no call open for {lease_s} s"));
            }
            () = entry.starved(seconds(config.input_wait_s)) => {
                let wait_s = config.input_wait_s;
                let reason = format!("no input came for {wait_s} s (input_wait_s): send it as soon as the run is ready");
                if let Some(active) = entry.active() {
                    active.feed(Event::Failed(suf_party::RunFailure::new(Fault::Caller, reason)));
                }
            }
            failure = unproposed(&host, &entry) => {
                // One that was proposed at the last moment goes on.
                let _at_work = entry.end_early(v1::RunState::Failed, failure);
            }
        }
        entry.ended().await;
        if entry.has_output() {
            tokio::select! {
                () = entry.released() => {}
                () = tokio::time::sleep(seconds(config.output_keep_s)) => {
                    tracing::info!(run = %entry.hash(), "output share dropped: nobody acknowledged it");
                    entry.drop_outputs();
                }
            }
        }
    });
}

/// Returns when party 0 has had its time to propose the run to this party, and has not. Nor has it said that the run is queued.
async fn unproposed(host: &Host, entry: &Entry) -> CallFailure {
    let wait_s = host.config().register_wait_s;
    tokio::time::sleep(seconds(wait_s)).await;
    if entry.me() == Party::P0 || !entry.is_registered() || entry.state() == v1::RunState::Queued {
        return std::future::pending().await;
    }
    let proposer = entry.me().other();
    if host.peer().now().is_none() {
        let reason =
            format!("{proposer} is not connected; see that its daemon runs and that the addresses fit");
        return CallFailure::new(v1::Fault::Peer, reason);
    }
    CallFailure::caller(format!(
        "{proposer} has not proposed the run within {wait_s} s: a client starts its run at both parties"
    ))
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

#[cfg(test)]
mod tests {
    use suf_control::limits::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT};

    use super::*;

    #[test]
    fn keepalive_and_the_default_lease_add_up_to_75_s() {
        let lease = seconds(crate::config::tests::good().lease_s);
        let noticed = KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT;
        assert_eq!((noticed, noticed + lease), (seconds(15), seconds(75)));
    }
}
