//! The bound on key bytes in memory.
//!
//! The bytes of a part's keys are reserved before they are made. They are given back with the last reference to them, after
//! the QUIC stack has seen their receipt acknowledged. Requests are served in turn, so that batches share the memory part by
//! part. What is given back may be kept for the next keys: `suf_process::KeyMemory` holds that to the same bound.

use std::sync::Arc;

use bytes::Bytes;
use suf_wire::KeyPart;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Granularity of the account, that of the memory of keys. A semaphore counts in 32 bits, and 16 TiB are beyond any host.
const UNIT_BYTES: u64 = 4096;

/// Memory for keys, shared by all batches.
#[derive(Debug)]
pub(crate) struct Budget {
    free: Arc<Semaphore>,
    units: usize,
}

/// Memory that is paid for.
#[derive(Debug)]
pub(crate) struct Reserved(OwnedSemaphorePermit);

impl Budget {
    /// `bytes` of memory.
    pub(crate) fn new(bytes: u64) -> Self {
        let units = usize::try_from(bytes / UNIT_BYTES).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(units)), units }
    }

    /// Bytes in all.
    pub(crate) fn bound(&self) -> u64 {
        self.units as u64 * UNIT_BYTES
    }

    /// Bytes that are reserved.
    pub(crate) fn in_use(&self) -> u64 {
        self.units.saturating_sub(self.free.available_permits()) as u64 * UNIT_BYTES
    }

    /// Bytes that both parties' keys of a part take, `bytes` each.
    pub(crate) fn pair_bytes(bytes: [usize; 2]) -> u64 {
        bytes.map(|bytes| (bytes as u64).next_multiple_of(UNIT_BYTES)).iter().sum()
    }

    /// Waits for room for both parties' keys of a part, `bytes` each.
    pub(crate) async fn reserve(&self, bytes: [usize; 2]) -> [Reserved; 2] {
        let [first, second] = bytes.map(|bytes| {
            u32::try_from((bytes as u64).div_ceil(UNIT_BYTES)).expect("a key has at most 64 MiB")
        });
        // One request for both: two that each hold one half would wait for each other.
        let both = Arc::clone(&self.free).acquire_many_owned(first + second).await;
        let mut both = both.expect("the budget is never closed");
        let half = both.split(first as usize).expect("the sum has room for its part");
        [Reserved(half), Reserved(both)]
    }
}

impl Reserved {
    /// The same key, whose bytes keep their memory reserved for as long as they live.
    pub(crate) fn hold(self, key: KeyPart) -> KeyPart {
        let bytes = Bytes::from_owner(Held { bytes: key.bytes, _memory: self.0 });
        KeyPart { bytes, ..key }
    }
}

/// Fields are dropped in this order: the bytes are wiped and freed before their memory is given back.
struct Held {
    bytes: Bytes,
    _memory: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use suf_wire::{BatchId, NodeId, Part, Party};

    use super::*;

    #[tokio::test]
    async fn memory_comes_back_with_the_last_reference() {
        let budget = Budget::new(4 * UNIT_BYTES);
        let [first, second] = budget.reserve([1, 3 * UNIT_BYTES as usize]).await;
        assert_eq!(budget.free.available_permits(), 0);
        let part = Part::new(NodeId(1), 0);
        let key = KeyPart::new(BatchId([7; 16]), Party::P0, part, Bytes::from_static(b"key"));
        let held = first.hold(key.clone());
        assert_eq!(held, key);
        let tail = held.bytes.slice(2..);
        drop((held, second));
        assert_eq!(budget.free.available_permits(), 3);
        drop(tail);
        assert_eq!(budget.free.available_permits(), 4);
    }

    /// Many batches at once, each of whose parts waits for its place: what is reserved never passes the budget, and
    /// none waits for ever.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn parts_of_many_batches_never_hold_more_than_the_budget() {
        const UNITS: u64 = 64;
        let budget = Arc::new(Budget::new(UNITS * UNIT_BYTES));
        let held = Arc::new(AtomicU64::new(0));
        let batches = (1..=16_usize).map(|batch| {
            let (budget, held) = (Arc::clone(&budget), Arc::clone(&held));
            tokio::spawn(async move {
                for part in 0..200 {
                    let bytes = [batch * 7919, part * 401 + 1];
                    let reserved = budget.reserve(bytes).await;
                    let pair = Budget::pair_bytes(bytes);
                    assert!(held.fetch_add(pair, Ordering::SeqCst) + pair <= UNITS * UNIT_BYTES);
                    tokio::task::yield_now().await;
                    held.fetch_sub(pair, Ordering::SeqCst);
                    drop(reserved);
                }
            })
        });
        for batch in batches.collect::<Vec<_>>() {
            batch.await.expect("within the budget");
        }
        assert_eq!(budget.free.available_permits() as u64, UNITS);
    }
}
