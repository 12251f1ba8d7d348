//! One run that a client has registered: its state, its output shares, and whether its client is there.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use suf_control::{failure::CallFailure, shares, v1};
use suf_gate::load::Kept;
use suf_party::{Plan, Registration};
use suf_wire::{NodeId, Party, RunHash};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    active::ActiveRun,
    budget::Reservation,
    ledger::unix_ms,
    loads::{Making, Use},
    need::Need,
    ownership::{Access, Owner},
    reservation::{KeyReservation, RunReservation},
    tensor::Tensor,
};

/// One run.
#[derive(Debug)]
pub struct Entry {
    registration: Registration,
    hash: RunHash,
    owner: Owner,
    /// Its state as everybody may see it: without its id.
    view: watch::Sender<v1::Run>,
    stage: Mutex<Stage>,
    /// What it holds: given up part by part, as its keys and shares are.
    held: Mutex<Held>,
    outputs: Mutex<Outputs>,
    /// Inputs that a call feeds or has fed.
    inputs_taken: Mutex<HashSet<NodeId>>,
    calls: watch::Sender<Calls>,
    /// Changes with each part of the input.
    fed: watch::Sender<()>,
    /// The output shares are gone, or there will be none.
    released: CancellationToken,
}

/// Output shares, tile by tile.
pub(crate) type Outputs = BTreeMap<NodeId, Vec<Vec<u64>>>;

/// What a run holds of this party's budgets.
#[derive(Debug)]
struct Held {
    /// Until the keys have a place, which holds it from then on.
    keys: Option<KeyReservation>,
    /// Until the run is over and its output shares are gone.
    shares: Option<Reservation>,
    /// The place of the load that it makes.
    making: Option<Making>,
    /// The load that it takes, until it is at work.
    load: Option<Arc<Kept>>,
}

/// How far a run has come.
#[derive(Debug)]
enum Stage {
    /// The other party has not proposed it yet.
    Registered,
    /// The machine is at work.
    Active(Arc<ActiveRun>),
    Ended,
}

/// Calls of the run's client.
#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    open: usize,
}

/// A call of the run's client that is open. It ends with this.
#[derive(Debug)]
pub(crate) struct Call(Arc<Entry>);

impl Entry {
    pub(crate) fn new(
        registration: Registration,
        owner: Owner,
        reservation: RunReservation,
        weights: Use,
    ) -> Self {
        let RunReservation { shares, keys } = reservation;
        let (making, load) = match weights {
            Use::Nothing => (None, None),
            Use::Makes(making) => (Some(making), None),
            Use::Takes(taken) => (None, Some(taken.kept)),
        };
        let hash = registration.run.public_hash();
        let program = &registration.program;
        let gate = program.only_gate();
        let view = v1::Run {
            run_hash: hash.0.to_vec().into(),
            gate: gate.map(|gate| gate.name().to_owned()).unwrap_or_default(),
            protocol: gate.map(|gate| gate.protocol().name().to_owned()).unwrap_or_default(),
            gate_digest: gate.map(|gate| gate.digest().to_vec().into()).unwrap_or_default(),
            program_digest: program.digest().to_vec().into(),
            elements: program.input_elems(),
            state: v1::RunState::Proposed.into(),
            started_unix_ms: unix_ms(),
            load: registration.load.map(|load| load.digest.0.to_vec().into()).unwrap_or_default(),
            ..v1::Run::default()
        };
        Self {
            registration,
            hash,
            owner,
            view: watch::Sender::new(view),
            stage: Mutex::new(Stage::Registered),
            held: Mutex::new(Held { keys: Some(keys), shares: Some(shares), making, load }),
            outputs: Mutex::default(),
            inputs_taken: Mutex::default(),
            calls: watch::Sender::default(),
            fed: watch::Sender::default(),
            released: CancellationToken::new(),
        }
    }

    /// What its client asked for.
    #[must_use]
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// What the run is called in logs, listings and errors.
    #[must_use]
    pub fn hash(&self) -> RunHash {
        self.hash
    }

    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Which party serves it.
    #[must_use]
    pub fn me(&self) -> Party {
        self.registration.me
    }

    /// Its state, as a caller with `access` may see it.
    #[must_use]
    pub fn shown(&self, access: Access) -> v1::Run {
        self.show(self.view.borrow().clone(), access)
    }

    /// A state of this run, as a caller with `access` may see it.
    pub(crate) fn show(&self, state: v1::Run, access: Access) -> v1::Run {
        match access {
            Access::Owner => v1::Run { run_id: self.registration.run.0.to_vec().into(), ..state },
            Access::Other => state,
        }
    }

    /// Its states from now on.
    pub(crate) fn states(&self) -> watch::Receiver<v1::Run> {
        self.view.subscribe()
    }

    pub(crate) fn state(&self) -> v1::RunState {
        self.view.borrow().state()
    }

    pub(crate) fn set_state(&self, state: v1::RunState) {
        self.view.send_modify(|view| {
            view.state = state.into();
            view.position = 0;
        });
    }

    /// It waits for its turn, and so many runs are before it. One that is at work or has ended stays as it is.
    pub(crate) fn wait_behind(&self, ahead: u16) {
        self.view.send_modify(|view| {
            if matches!(view.state(), v1::RunState::Proposed | v1::RunState::Queued) && self.is_registered() {
                view.state = v1::RunState::Queued.into();
                view.position = u32::from(ahead) + 1;
            }
        });
    }

    /// Whether the run is over.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        is_end(self.state())
    }

    /// Returns when the run is over: its last state.
    pub(crate) async fn ended(&self) -> v1::Run {
        let mut states = self.view.subscribe();
        let last = states.wait_for(|view| is_end(view.state())).await;
        last.expect("the entry holds the sender").clone()
    }

    /// The machine at work; none before it starts and after the end.
    #[must_use]
    pub fn active(&self) -> Option<Arc<ActiveRun>> {
        match &*self.stage() {
            Stage::Active(active) => Some(Arc::clone(active)),
            Stage::Registered | Stage::Ended => None,
        }
    }

    /// Whether the other party has yet to propose it.
    pub(crate) fn is_registered(&self) -> bool {
        matches!(*self.stage(), Stage::Registered)
    }

    /// Puts `active` to work under `plan`. False if the run has ended, or is at work already.
    pub(crate) fn activate(&self, active: &Arc<ActiveRun>, plan: &Plan) -> bool {
        let mut stage = self.stage();
        if !matches!(*stage, Stage::Registered) {
            return false;
        }
        *stage = Stage::Active(Arc::clone(active));
        drop(stage);
        self.view.send_modify(|view| view.batch_id = plan.batch.0.to_vec().into());
        true
    }

    /// Ends the run for a reason without fault.
    pub(crate) fn cancel(&self, reason: &str) {
        let reason = format!("{} ended the run: {reason}", self.me());
        if let Some(active) = self.end_early(v1::RunState::Cancelled, CallFailure::caller(reason.clone())) {
            active.cancel(reason);
        }
    }

    /// Ends a run that was never at work. One that is at work is handed back, and goes on.
    pub(crate) fn end_early(&self, state: v1::RunState, failure: CallFailure) -> Option<Arc<ActiveRun>> {
        let mut stage = self.stage();
        match &*stage {
            Stage::Registered => *stage = Stage::Ended,
            Stage::Active(active) => return Some(Arc::clone(active)),
            Stage::Ended => return None,
        }
        drop(stage);
        tracing::warn!(run = %self.hash, %failure, "run ended before it was agreed on");
        let view = self.view.borrow().clone();
        let failure = Some(failure.at_step(step_name(view.state())));
        self.finish(v1::Run { state: state.into(), position: 0, failure, ..view });
        None
    }

    /// The end of every run. Nothing is at work for it any more; what is left are its output shares, if it ended well.
    pub(crate) fn finish(&self, last: v1::Run) {
        *self.stage() = Stage::Ended;
        let mut held = self.held();
        held.keys = None;
        held.making = None;
        held.load = None;
        if self.has_output() {
            let Need { outputs, .. } = Need::of(&self.registration.program, self.me());
            held.shares.iter_mut().for_each(|shares| shares.shrink_to(outputs));
        } else {
            held.shares = None;
        }
        drop(held);
        self.view.send_replace(last);
    }

    /// Keeps the output shares for the client to fetch.
    pub(crate) fn keep_outputs(&self, outputs: Outputs) {
        *self.outputs() = outputs;
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.outputs().is_empty()
    }

    /// One tile of an output share, packed; none if the share was dropped.
    pub(crate) fn output_tile(&self, output: &Tensor, tile: u32) -> Option<Bytes> {
        let outputs = self.outputs();
        let shares = outputs.get(&output.node)?.get(tile as usize)?;
        Some(shares::pack(output.ring.bits(), shares))
    }

    /// Drops the output shares; the allocator wipes what is freed.
    pub(crate) fn drop_outputs(&self) {
        *self.outputs() = Outputs::new();
        if self.has_ended() {
            self.held().shares = None;
        }
        self.released.cancel();
    }

    /// Returns when the output shares were dropped.
    pub(crate) async fn released(&self) {
        self.released.cancelled().await;
    }

    /// The reservation for the keys; none if the run is over.
    pub(crate) fn take_key_reservation(&self) -> Option<KeyReservation> {
        self.held().keys.take()
    }

    /// The load that the run takes, for the machine that holds it from then on.
    pub(crate) fn take_load(&self) -> Option<Arc<Kept>> {
        self.held().load.take()
    }

    /// The place of the load that the run has made, and the memory that it keeps.
    pub(crate) fn take_making(&self) -> Option<(Making, Reservation)> {
        let mut held = self.held();
        let (making, mut shares) = (held.making.take()?, held.shares.take()?);
        shares.shrink_to(Need::of(&self.registration.program, self.me()).kept);
        Some((making, shares))
    }

    /// A part of the input is here.
    pub(crate) fn was_fed(&self) {
        self.fed.send_replace(());
    }

    /// Returns when the run has waited for the next part of its input for `wait`.
    pub(crate) async fn starved(&self, wait: Duration) {
        let mut states = self.view.subscribe();
        let ready = states.wait_for(|view| view.state() == v1::RunState::ReadyForInput);
        ready.await.expect("the entry holds the sender");
        let mut fed = self.fed.subscribe();
        loop {
            let moved = async {
                tokio::select! {
                    _ = fed.changed() => true,
                    _ = async { states.wait_for(|view| view.state() != v1::RunState::ReadyForInput).await.is_ok() } => false,
                }
            };
            match tokio::time::timeout(wait, moved).await {
                Ok(true) => {}
                Ok(false) => std::future::pending().await,
                Err(_) => return,
            }
        }
    }

    /// Whether this caller is the first to feed this input of the run.
    pub(crate) fn claim_input(&self, input: NodeId) -> bool {
        self.inputs_taken.lock().unwrap_or_else(PoisonError::into_inner).insert(input)
    }

    /// A call of the client begins.
    pub(crate) fn call(self: &Arc<Self>) -> Call {
        self.calls.send_modify(|calls| calls.open += 1);
        Call(Arc::clone(self))
    }

    /// Returns when no call of the client has been open for `lease`.
    pub(crate) async fn deserted(&self, lease: Duration) {
        let mut calls = self.calls.subscribe();
        loop {
            calls.wait_for(|calls| calls.open == 0).await.expect("the entry holds the sender");
            // Any call renews the lease, however short it is.
            if tokio::time::timeout(lease, calls.changed()).await.is_err() {
                return;
            }
        }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outputs(&self) -> MutexGuard<'_, Outputs> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls.send_modify(|calls| calls.open -= 1);
    }
}

/// Whether a run in `state` is over.
#[must_use]
pub(crate) fn is_end(state: v1::RunState) -> bool {
    matches!(state, v1::RunState::Done | v1::RunState::Failed | v1::RunState::Cancelled)
}

/// The state in which a run failed, as its failure names it.
pub(crate) fn step_name(state: v1::RunState) -> String {
    state.as_str_name().trim_start_matches("RUN_STATE_").to_lowercase()
}
