//! The runs that this party knows.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use suf_control::{failure::CallFailure, v1};
use suf_party::Registration;
use suf_wire::{RunHash, RunId};
use tokio::sync::watch;
use tonic::Code;

use crate::{
    entry::{Entry, Outputs},
    loads::Use,
    need::output_elems,
    ownership::{Access, Owner, RunName, Viewer, unknown},
    reservation::RunReservation,
};

/// Ended runs that are remembered: a list of them is under 500 KB.
const REMEMBERED: usize = 1000;

/// Elements of output shares that are kept for one client, 8 bytes each. Its newest share is kept whatever the size, and the
/// oldest go first. No client's output makes room for another's.
const OUTPUT_ELEMS_KEPT: u64 = 1 << 22;

/// Runs that wait or are at work at once: each of the usual models holds some 100 MB of keys.
pub(crate) const ACTIVE: usize = 64;

/// Runs of one client that are registered or at work at once: a quarter, so that three more clients find room.
const ACTIVE_PER_CLIENT: usize = 16;

/// All runs.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
    /// Changes with every registration.
    news: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Inner {
    runs: HashMap<RunHash, Arc<Entry>>,
    /// Newest last.
    order: VecDeque<RunHash>,
}

impl Registry {
    /// Registers a run of the client `owner`, which holds `reservation` until it is over, and what it has of `weights`. Every run
    /// comes in here, whoever proposes it afterwards.
    ///
    /// # Errors
    /// When its id is known already or too many runs are at work, of this client or in all.
    pub(crate) fn register(
        &self,
        registration: Registration,
        owner: Owner,
        reservation: RunReservation,
        weights: Use,
    ) -> Result<Arc<Entry>, CallFailure> {
        let mut inner = self.lock();
        let entry = Entry::new(registration, owner, reservation, weights);
        if inner.runs.contains_key(&entry.hash()) {
            return Err(CallFailure::caller("this run id was used before; draw a fresh one")
                .with_code(Code::AlreadyExists));
        }
        let active: Vec<_> = inner.runs.values().filter(|entry| !entry.has_ended()).collect();
        let full = |whose: &str, count: usize| {
            let reason = format!("{count} runs{whose} are at work; wait for one to end");
            CallFailure::caller(reason).with_code(Code::ResourceExhausted)
        };
        if active.len() >= ACTIVE {
            return Err(full("", active.len()));
        }
        let own = active.iter().filter(|entry| entry.owner() == owner).count();
        if own >= ACTIVE_PER_CLIENT {
            return Err(full(" of this client", own));
        }
        let entry = Arc::new(entry);
        inner.order.push_back(entry.hash());
        inner.runs.insert(entry.hash(), Arc::clone(&entry));
        inner.forget();
        drop(inner);
        self.news.send_replace(());
        Ok(entry)
    }

    /// The run that `viewer` calls so, and what the caller is to it.
    ///
    /// # Errors
    /// When the name is malformed. When there is no such run, or it is not for this caller: the two are one answer.
    pub fn find(&self, viewer: Viewer, reference: &v1::RunRef) -> Result<(Arc<Entry>, Access), CallFailure> {
        let name = RunName::of(reference)?;
        let entry = self.lock().runs.get(&name.hash()).cloned().ok_or_else(unknown)?;
        let access = viewer.access_by(name, entry.owner()).ok_or_else(unknown)?;
        Ok((entry, access))
    }

    /// The run `id`, as soon as its client has registered it.
    pub(crate) async fn registered(&self, id: RunId) -> Arc<Entry> {
        let hash = id.public_hash();
        let mut news = self.news.subscribe();
        loop {
            if let Some(entry) = self.lock().runs.get(&hash) {
                return Arc::clone(entry);
            }
            news.changed().await.expect("the registry holds the sender");
        }
    }

    /// Newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Entry>> {
        let inner = self.lock();
        inner.order.iter().rev().filter_map(|hash| inner.runs.get(hash).cloned()).collect()
    }

    /// Keeps the output of a run that ended well, and drops the oldest of its client's that are too much.
    pub(crate) fn keep_outputs(&self, entry: &Entry, outputs: Outputs) {
        entry.keep_outputs(outputs);
        let mut kept = output_elems(&entry.registration().program);
        let others = self.list().into_iter().filter(|other| other.owner() == entry.owner());
        for other in others.filter(|other| other.hash() != entry.hash() && other.has_output()) {
            kept += output_elems(&other.registration().program);
            if kept > OUTPUT_ELEMS_KEPT {
                other.drop_outputs();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget(&mut self) {
        while self.order.len() > REMEMBERED {
            let Some(at) = self.order.iter().position(|hash| self.runs[hash].has_ended()) else { return };
            if let Some(entry) = self.order.remove(at).and_then(|hash| self.runs.remove(&hash)) {
                entry.drop_outputs();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use suf_gate::{Program, Protocol, catalog, gatefile::GateFile};
    use suf_wire::{NodeId, Party};

    use super::*;
    use crate::reservation::tests::no_reservation;

    fn registration(id: u128, elems: u64) -> Registration {
        let file = GateFile::builtin("gelu").expect("built in");
        let gate = Arc::new(catalog::gate(&file, Protocol::Onehot, None).expect("in the file"));
        let program = Arc::new(Program::of_gate(gate, elems).expect("of a size"));
        Registration { run: RunId(id.to_le_bytes()), program, deadline_ms: 1, me: Party::P1, load: None }
    }

    fn end(entry: &Entry, state: v1::RunState) {
        entry.finish(v1::Run { state: state.into(), ..entry.shown(Access::Other) });
    }

    #[test]
    fn one_clients_flood_of_runs_leaves_room_for_others() {
        let registry = Registry::default();
        let mut ids = 0_u128..;
        let mut ask = |owner| {
            registry.register(
                registration(ids.next().expect("without end"), 1),
                owner,
                no_reservation(),
                Use::Nothing,
            )
        };
        let client = |number: u8| Owner::of(&[number]);
        let first = ask(client(0)).expect("the first");
        for _ in 1..ACTIVE_PER_CLIENT {
            ask(client(0))
                .expect("within the client's limit, though the other party has proposed none of them");
        }
        let refused = ask(client(0)).expect_err("one too many");
        assert!(refused.to_string().contains("of this client"), "{refused}");
        ask(client(1)).expect("another client has its own places");
        // A place that is free again is given again.
        end(&first, v1::RunState::Failed);
        ask(client(0)).expect("one of its runs has ended");

        let refused = (2..).find_map(|number| ask(client(number)).err()).expect("there is an end");
        assert!(refused.to_string().contains(&format!("{ACTIVE} runs are at work")), "{refused}");
    }

    #[test]
    fn a_run_is_found_by_its_client_alone_and_by_hash_by_operators() {
        let registry = Registry::default();
        let (owner, other) = (Owner::of(b"one"), Owner::of(b"another"));
        let entry =
            registry.register(registration(1, 9), owner, no_reservation(), Use::Nothing).expect("the first");
        let id = v1::RunRef { run_id: entry.registration().run.0.to_vec().into(), ..v1::RunRef::default() };
        let hash = v1::RunRef { run_hash: entry.hash().0.to_vec().into(), ..v1::RunRef::default() };
        let never = v1::RunRef { run_id: vec![9; 16].into(), ..v1::RunRef::default() };
        let find =
            |viewer, reference| registry.find(viewer, reference).map(|(entry, access)| entry.shown(access));
        for reference in [&id, &hash] {
            let shown = find(Viewer::Client(owner), reference).expect("its own");
            assert_eq!(shown.run_id, id.run_id);
            let refused = find(Viewer::Client(other), reference).expect_err("of another");
            assert_eq!(refused, find(Viewer::Client(other), &never).expect_err("there is none"));
        }
        assert_eq!(find(Viewer::Host, &hash).expect("any run").run_id, "");
        let refused = find(Viewer::Host, &id).expect_err("by id");
        assert_eq!(refused, find(Viewer::Host, &never).expect_err("there is none"));
    }

    #[test]
    fn a_clients_outputs_make_room_for_its_own_only() {
        let registry = Registry::default();
        let (greedy, modest) = (Owner::of(b"greedy"), Owner::of(b"modest"));
        let done = |id, elems, owner| {
            let entry = registry
                .register(registration(id, elems), owner, no_reservation(), Use::Nothing)
                .expect("room");
            registry.keep_outputs(&entry, Outputs::from([(NodeId(2), vec![vec![1]])]));
            end(&entry, v1::RunState::Done);
            entry
        };
        let theirs = done(1, 9, modest);
        let first = done(2, OUTPUT_ELEMS_KEPT, greedy);
        assert!(first.has_output());
        let second = done(3, 2 * OUTPUT_ELEMS_KEPT, greedy);
        assert!(!first.has_output(), "the older makes room");
        assert!(second.has_output() && theirs.has_output());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_runs_while_no_call_is_open_and_any_call_renews_it() {
        const LEASE: Duration = Duration::from_secs(60);
        let registry = Registry::default();
        let entry = registry
            .register(registration(1, 9), Owner::of(b"one"), no_reservation(), Use::Nothing)
            .expect("the first");
        let begun = tokio::time::Instant::now();
        let calls = async {
            tokio::time::sleep(LEASE / 2).await;
            let watching = entry.call();
            tokio::time::sleep(10 * LEASE).await;
            drop(watching);
            tokio::time::sleep(LEASE / 2).await;
            // Over before anybody looks, and a sign of life all the same.
            drop(entry.call());
        };
        tokio::join!(calls, entry.deserted(LEASE));
        assert_eq!(begun.elapsed(), 12 * LEASE);
    }

    #[tokio::test]
    async fn a_proposal_waits_for_the_registration() {
        let registry = Registry::default();
        let registration = registration(1, 9);
        let run = registration.run;
        let (found, registered) = tokio::join!(registry.registered(run), async {
            registry
                .register(registration, Owner::of(b"one"), no_reservation(), Use::Nothing)
                .expect("the first")
        });
        assert!(Arc::ptr_eq(&found, &registered));
    }
}
