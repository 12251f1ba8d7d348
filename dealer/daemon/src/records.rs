//! Records of batches: what the control API shows, and nothing of the keys.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use suf_control::{failure, v1};
use suf_gate::Program;
use suf_wire::{BatchId, Party};

use crate::requester::BatchFailure;

/// Batches that are remembered, the limit of one reply of the control API. One takes under 1 KiB.
const REMEMBERED: usize = 1000;

/// The latest batches, and sums over all.
#[derive(Debug, Default)]
pub struct BatchRecords {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: VecDeque<Arc<Entry>>,
    totals: Totals,
}

/// Sums since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Batches that both parties stored.
    pub batches_dealt: u64,
    /// Their elements.
    pub elements_dealt: u64,
    /// Batches that failed, also before they were dealt.
    pub batches_failed: u64,
    /// Bytes sent to both parties, those of failed batches included.
    pub bytes_shipped: u64,
    /// Batches being dealt now.
    pub active_batches: u32,
}

/// One batch.
#[derive(Debug)]
pub(crate) struct Entry {
    view: Mutex<v1::Batch>,
}

impl BatchRecords {
    /// Opens an entry for a batch of `program` that one party has asked for.
    pub(crate) fn open(&self, batch: BatchId, program: &Program) -> Arc<Entry> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let entry = Arc::new(Entry {
            view: Mutex::new(v1::Batch {
                batch_id: batch.0.to_vec().into(),
                gate_digest: program
                    .only_gate()
                    .map(|gate| gate.digest().to_vec().into())
                    .unwrap_or_default(),
                program_digest: program.digest().to_vec().into(),
                elements: program.input_elems(),
                state: v1::BatchState::Waiting.into(),
                started_unix_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
                ..v1::Batch::default()
            }),
        });
        let mut inner = self.lock();
        if inner.entries.len() == REMEMBERED {
            inner.entries.pop_front();
        }
        inner.entries.push_back(Arc::clone(&entry));
        entry
    }

    /// The latest `limit` batches, newest first.
    #[must_use]
    pub fn list(&self, limit: usize) -> Vec<v1::Batch> {
        let inner = self.lock();
        inner.entries.iter().rev().take(limit).map(|entry| entry.lock().clone()).collect()
    }

    /// The sums.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.lock().totals
    }

    /// Both parties have asked.
    pub(crate) fn dealing(&self, entry: &Entry) {
        self.lock().totals.active_batches += 1;
        entry.lock().state = v1::BatchState::Dealing.into();
    }

    /// The batch failed before it was dealt.
    pub(crate) fn refused(&self, entry: &Entry, failure: &BatchFailure) {
        fail(&mut entry.lock(), failure, "waiting");
        self.lock().totals.batches_failed += 1;
    }

    /// The batch that was [`BatchRecords::dealing`] is over. Both parties stored it `ship` after its first key byte left, or it
    /// failed.
    pub(crate) fn over(&self, entry: &Entry, outcome: &Result<Duration, BatchFailure>) {
        let view = {
            let mut view = entry.lock();
            match outcome {
                Ok(ship) => {
                    view.state = v1::BatchState::Stored.into();
                    view.ship_ms = ms(*ship);
                }
                Err(failure) => fail(&mut view, failure, "dealing"),
            }
            view.clone()
        };
        let totals = &mut self.lock().totals;
        totals.active_batches -= 1;
        totals.bytes_shipped += view.bytes_p0 + view.bytes_p1;
        if outcome.is_ok() {
            totals.batches_dealt += 1;
            totals.elements_dealt += view.elements;
        } else {
            totals.batches_failed += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// The keys of a part are made: it took `making`, `since_request` after the second request.
    pub(crate) fn made(&self, making: Duration, since_request: Duration) {
        let mut view = self.lock();
        view.deal_ms += ms(making);
        // Parts are reported in order, but may be made out of order.
        view.key_ms = view.key_ms.max(ms(since_request));
    }

    /// `bytes` of the container were sent to `party`.
    pub(crate) fn sent(&self, party: Party, bytes: u64) {
        let mut view = self.lock();
        match party {
            Party::P0 => view.bytes_p0 += bytes,
            Party::P1 => view.bytes_p1 += bytes,
        }
    }

    /// The entry as it stands.
    pub(crate) fn view(&self) -> v1::Batch {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, v1::Batch> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fail(view: &mut v1::Batch, failure: &BatchFailure, step: &str) {
    view.state = v1::BatchState::Failed.into();
    view.failure = Some(
        failure::CallFailure::new(suf_process::at_fault(failure.fault), failure.reason.clone()).at_step(step),
    );
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use suf_gate::{Protocol, catalog};

    use super::*;

    /// Nine elements of a gate.
    fn program() -> Program {
        let onehot = catalog::builtin().find(|gate| gate.protocol() == Protocol::Onehot);
        Program::of_gate(Arc::new(onehot.expect("built in")), 9).expect("of a size")
    }

    #[test]
    fn the_latest_thousand_are_remembered_newest_first() {
        let (records, program) = (BatchRecords::default(), program());
        for id in 0..1003_u128 {
            records.open(BatchId(id.to_be_bytes()), &program);
        }
        let list = records.list(2000);
        assert_eq!(list.len(), REMEMBERED);
        assert_eq!(list[0].batch_id[..], 1002u128.to_be_bytes());
        assert_eq!(list[999].batch_id[..], 3u128.to_be_bytes());
        assert_eq!(records.list(2).len(), 2);
    }

    #[test]
    fn sums_count_what_was_stored_and_all_that_was_sent() {
        let records = BatchRecords::default();
        for outcome in [Ok(Duration::from_millis(5)), Err(BatchFailure::new(suf_wire::Fault::Peer, "gone"))] {
            let entry = records.open(BatchId([1; 16]), &program());
            records.dealing(&entry);
            assert_eq!(records.totals().active_batches, 1);
            entry.made(Duration::from_millis(2), Duration::from_millis(4));
            entry.made(Duration::from_millis(2), Duration::from_millis(3));
            entry.sent(Party::P1, 100);
            records.over(&entry, &outcome);
        }
        let expected = Totals {
            batches_dealt: 1,
            elements_dealt: 9,
            batches_failed: 1,
            bytes_shipped: 200,
            active_batches: 0,
        };
        assert_eq!(records.totals(), expected);
        let [failed, stored] = &records.list(2)[..] else { panic!("two entries") };
        assert_eq!(
            (stored.state(), stored.deal_ms, stored.key_ms, stored.ship_ms),
            (v1::BatchState::Stored, 4.0, 4.0, 5.0)
        );
        assert_eq!(failed.failure.as_ref().expect("why").fault(), v1::Fault::Peer);
    }
}
