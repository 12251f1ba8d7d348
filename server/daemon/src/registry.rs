//! The runs that this party knows: their state for the control API, and their output shares until they are fetched.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use aws_lc_rs::digest;
use suf_control::{failure::Failure, v1};
use suf_party::Plan;
use suf_wire::{PartyId, RunId};
use tokio::sync::watch;
use tonic::Code;

use crate::{active::ActiveRun, ledger::unix_ms};

/// Ended runs that are remembered: a list of them is under 500 KB.
const REMEMBERED: usize = 1000;

/// Elements of output shares that are kept for fetching, 8 bytes each. The newest run's share is kept whatever its size: a
/// client fetches right after the run. Once it has, and if it is larger than all that is kept, it goes when the next run
/// begins, which needs the memory.
const OUTPUT_ELEMS_KEPT: u64 = 1 << 22;

/// Runs at work at once: each of the usual models holds some 100 MB of keys.
const ACTIVE: usize = 64;

/// Runs of one client at work at once: a quarter, so that one that asks both parties for all it may leaves half of them to
/// others. The other party's runs are its clients', which it holds to this limit itself.
const ACTIVE_PER_CLIENT: usize = 16;

/// Who asked for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A client of this party, by the SHA-256 of its certificate.
    Client([u8; 32]),
    /// The other party.
    Peer,
}

/// All runs.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    runs: HashMap<RunId, Arc<Entry>>,
    /// Newest last.
    order: VecDeque<RunId>,
    with_output: VecDeque<RunId>,
}

/// One run.
#[derive(Debug)]
pub struct Entry {
    /// What it is about.
    pub plan: Plan,
    asker: Asker,
    /// Its state, for the control API.
    pub view: watch::Sender<v1::Run>,
    /// The machine at work, until the run ends.
    active: Mutex<Option<Arc<ActiveRun>>>,
    output: Mutex<Vec<Vec<u64>>>,
    /// Whether a client was sent the whole output share.
    fetched: AtomicBool,
    input_taken: Mutex<bool>,
}

impl Registry {
    /// Registers a run that `asker` wants.
    ///
    /// # Errors
    /// When its id is known already or too many runs are at work, of this client or in all.
    pub fn insert(&self, plan: Plan, asker: Asker) -> Result<Arc<Entry>, Failure> {
        let mut inner = self.lock();
        if inner.runs.contains_key(&plan.run) {
            return Err(Failure::caller("this run id was used before; draw a fresh one")
                .with_code(Code::AlreadyExists));
        }
        let active: Vec<_> = inner.runs.values().filter(|entry| !entry.has_ended()).collect();
        let full = |whose: &str, count: usize| {
            let reason = format!("{count} runs{whose} are at work; wait for one to end");
            Failure::caller(reason).with_code(Code::ResourceExhausted)
        };
        if active.len() >= ACTIVE {
            return Err(full("", active.len()));
        }
        let own = active.iter().filter(|entry| entry.asker == asker).count();
        if matches!(asker, Asker::Client(_)) && own >= ACTIVE_PER_CLIENT {
            return Err(full(" of this client", own));
        }
        inner.drop_large_outputs();
        let entry = Arc::new(Entry::new(plan, asker));
        inner.order.push_back(entry.plan.run);
        inner.runs.insert(entry.plan.run, Arc::clone(&entry));
        inner.forget();
        Ok(entry)
    }

    /// The run `id`.
    ///
    /// # Errors
    /// When it is not known.
    pub fn get(&self, id: RunId) -> Result<Arc<Entry>, Failure> {
        self.lock()
            .runs
            .get(&id)
            .cloned()
            .ok_or_else(|| Failure::caller(format!("no run {id} is known here")).with_code(Code::NotFound))
    }

    /// Newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Entry>> {
        let inner = self.lock();
        inner.order.iter().rev().filter_map(|id| inner.runs.get(id).cloned()).collect()
    }

    /// Keeps the output of a run that ended well.
    pub(crate) fn keep_output(&self, entry: &Entry, output: Vec<Vec<u64>>) {
        *entry.output() = output;
        let mut inner = self.lock();
        inner.with_output.push_back(entry.plan.run);
        while inner.with_output.len() > 1 && inner.output_elems() > OUTPUT_ELEMS_KEPT {
            let oldest = inner.with_output.pop_front();
            if let Some(entry) = oldest.and_then(|id| inner.runs.get(&id)) {
                entry.output().clear();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder panics")
    }
}

impl Inner {
    /// Drops the output shares that were fetched and are larger than what is kept in all.
    fn drop_large_outputs(&mut self) {
        let runs = &self.runs;
        self.with_output.retain(|id| {
            let Some(entry) = runs.get(id) else { return false };
            let goes = entry.plan.elems > OUTPUT_ELEMS_KEPT && entry.fetched.load(Ordering::Relaxed);
            if goes {
                *entry.output() = Vec::new();
            }
            !goes
        });
    }

    fn output_elems(&self) -> u64 {
        self.with_output.iter().filter_map(|id| self.runs.get(id)).map(|entry| entry.plan.elems).sum()
    }

    fn forget(&mut self) {
        while self.order.len() > REMEMBERED {
            let Some(at) = self.order.iter().position(|id| self.runs[id].has_ended()) else { return };
            if let Some(id) = self.order.remove(at) {
                self.runs.remove(&id);
            }
        }
    }
}

impl Asker {
    /// The client with this certificate.
    #[must_use]
    pub fn client(certificate: &[u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, certificate);
        Self::Client(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl Entry {
    fn new(plan: Plan, asker: Asker) -> Self {
        let view = v1::Run {
            run_id: plan.run.0.to_vec().into(),
            batch_id: plan.batch.0.to_vec().into(),
            gate: plan.gate.name().into(),
            protocol: plan.gate.protocol().name().into(),
            gate_digest: plan.gate.digest().to_vec().into(),
            elements: plan.elems,
            state: v1::RunState::Proposed.into(),
            failure: None,
            figures: None,
            started_unix_ms: unix_ms(),
        };
        Self {
            plan,
            asker,
            view: watch::Sender::new(view),
            active: Mutex::default(),
            output: Mutex::default(),
            fetched: AtomicBool::new(false),
            input_taken: Mutex::default(),
        }
    }

    /// Whether the run is over.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        is_end(self.view.borrow().state())
    }

    /// The machine at work; none before it starts and after the end.
    #[must_use]
    pub fn active(&self) -> Option<Arc<ActiveRun>> {
        self.active.lock().expect("no holder panics").clone()
    }

    pub(crate) fn set_active(&self, active: Option<Arc<ActiveRun>>) {
        *self.active.lock().expect("no holder panics") = active;
    }

    /// The output shares, chunk by chunk.
    pub(crate) fn output(&self) -> MutexGuard<'_, Vec<Vec<u64>>> {
        self.output.lock().expect("no holder panics")
    }

    /// Notes that a client was sent the whole output share.
    pub(crate) fn set_fetched(&self) {
        self.fetched.store(true, Ordering::Relaxed);
    }

    /// Whether this caller is the first to feed the run.
    pub(crate) fn claim_input(&self) -> bool {
        !std::mem::replace(&mut *self.input_taken.lock().expect("no holder panics"), true)
    }

    /// Which party serves it.
    #[must_use]
    pub fn me(&self) -> PartyId {
        self.plan.me
    }
}

/// Whether a run in `state` is over.
#[must_use]
pub(crate) fn is_end(state: v1::RunState) -> bool {
    matches!(state, v1::RunState::Done | v1::RunState::Failed | v1::RunState::Cancelled)
}

#[cfg(test)]
mod tests {
    use suf_gate::{Protocol, catalog, gatefile::GateFile};
    use suf_wire::BatchId;

    use super::*;

    #[test]
    fn one_clients_flood_of_runs_leaves_room_for_others() {
        let file = GateFile::builtin("gelu").expect("built in");
        let gate = Arc::new(catalog::gate(&file, Protocol::Onehot, None).expect("in the file"));
        let registry = Registry::default();
        let mut ids = 0_u128..;
        let mut ask = |asker| {
            let id = ids.next().expect("without end").to_le_bytes();
            let (gate, me) = (Arc::clone(&gate), PartyId::P0);
            registry.insert(
                Plan { run: RunId(id), batch: BatchId(id), gate, elems: 1, deadline_ms: 1, me },
                asker,
            )
        };
        let [greedy, modest] = [&b"one"[..], b"another"].map(Asker::client);
        let first = ask(greedy).expect("the first");
        for _ in 1..ACTIVE_PER_CLIENT {
            ask(greedy).expect("within the client's limit");
        }
        let refused = ask(greedy).expect_err("one too many");
        assert!(refused.to_string().contains("of this client"), "{refused}");
        // The same flood at the other party, whose runs are not counted by client here.
        for _ in 0..ACTIVE_PER_CLIENT {
            ask(Asker::Peer).expect("within the limit");
        }
        ask(modest).expect("another client has its own places");
        // A place that is free again is given again.
        first.view.send_modify(|view| view.state = v1::RunState::Failed.into());
        ask(greedy).expect("one of its runs has ended");

        while ask(Asker::Peer).is_ok() {}
        let refused = ask(modest).expect_err("too many in all");
        assert!(refused.to_string().contains(&format!("{ACTIVE} runs are at work")), "{refused}");
    }
}
