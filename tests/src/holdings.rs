//! What daemons hold: as they account for it themselves, and as the system counts it.

use std::fs;

use suf_control::v1::{InfoRequest, PartyInfo};
use suf_wire::Party;

use crate::caller::Caller;

/// What a party tells of itself.
///
/// # Panics
/// When it does not tell.
pub async fn info(caller: &Caller, party: Party) -> PartyInfo {
    caller.party(party).info(InfoRequest {}).await.expect("the party tells").into_inner()
}

/// Bytes of shares, keys and spool that a party accounts for.
///
/// # Panics
/// When it does not tell, or when they are more than the party's bounds.
#[must_use]
pub fn in_use(info: &PartyInfo) -> [u64; 3] {
    [&info.share_memory, &info.key_memory, &info.spool].map(|budget| {
        let budget = budget.as_ref().expect("the party tells");
        assert!(budget.in_use_bytes <= budget.bound_bytes, "{budget:?}");
        budget.in_use_bytes
    })
}

/// Returns when both parties account for nothing.
///
/// # Panics
/// When one does not tell.
pub async fn nothing_in_use(caller: &Caller) {
    for party in Party::BOTH {
        while in_use(&info(caller, party).await) != [0; 3] {
            tokio::task::yield_now().await;
        }
    }
}

/// A line of a process's status, such as `VmHWM:`, in bytes.
///
/// # Panics
/// When there is no such process or line.
#[must_use]
pub fn memory(pid: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let kib = status.lines().find_map(|found| found.strip_prefix(line)).expect("the system counts");
    kib.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
}
