//! Everything that the runs of one party share.

use std::sync::Arc;

use suf_admin::Collector;
use suf_control::{failure::CallFailure, v1};
use suf_gate::{Backend, BackendInfo, Program, load::Kept};
use suf_link::{Identity, LinkKind, LinkProfile};
use suf_party::{Ledger, Policy, Registration, Summary};
use suf_process::{LoadedModel, ProgramDecoder, weights};
use suf_wire::{BatchId, LoadName, Party};
use tokio::runtime::Handle;

use crate::{
    checker::Checker,
    config::Config,
    entry::Entry,
    keys::DealerLink,
    lease,
    ledger::RedbLog,
    loads::{Loads, Use},
    need::Need,
    observed::{self, Observed},
    ownership::{Owner, Viewer},
    peer::PeerLink,
    proposals,
    queue::{Queue, Ticket},
    registry::Registry,
    reservation::Budgets,
    store::KeyStore,
    workers::Workers,
};

/// Why runs end whose load is dropped.
const DROPPED: &str = "the model that it uses was dropped";

/// One party.
#[derive(Debug)]
pub struct Host {
    pub(crate) parts: HostParts,
    pub(crate) registry: Registry,
    pub(crate) peer: PeerLink,
    observed: Observed,
    queue: Arc<Queue>,
    loads: Arc<Loads>,
    programs: ProgramDecoder,
}

/// What a party is made of.
pub(crate) struct HostParts {
    pub(crate) config: Config,
    /// Who hears what was made of each part; none but in benchmarks and tests.
    pub(crate) checker: Option<Checker>,
    pub(crate) policy: Policy,
    pub(crate) identity: Identity,
    pub(crate) profile: LinkProfile,
    pub(crate) link_kind: LinkKind,
    pub(crate) ledger: Ledger<RedbLog>,
    pub(crate) store: KeyStore,
    pub(crate) budgets: Budgets,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) workers: Workers,
    pub(crate) dealer: DealerLink,
    /// Who gets the traces of runs; nobody, as a rule.
    pub(crate) collector: Option<Collector>,
    /// The weights that programs may name, and their models.
    pub(crate) weights: weights::Loaded,
    /// Control API, keys, disk.
    pub(crate) runtime: Handle,
    /// The peer link, on threads of its own.
    pub(crate) evaluation: Handle,
}

impl Host {
    pub(crate) fn new(parts: HostParts) -> Self {
        let peer = PeerLink::new(&parts.profile);
        let programs = ProgramDecoder::new(&parts.weights.store);
        let queue = Queue::new(parts.config.model_runs);
        let (registry, observed) = Default::default();
        let loads = Loads::new(parts.config.party());
        Self { parts, registry, peer, observed, queue, loads, programs }
    }

    /// Registers a run of the client `owner`, which does with `weights` what its registration says. Party 0 proposes it to party 1, which waits for that.
    ///
    /// # Errors
    /// When it cannot be registered, or has no room.
    pub(crate) fn register(
        self: &Arc<Self>,
        registration: Registration,
        owner: Owner,
        weights: Use,
    ) -> Result<Arc<Entry>, CallFailure> {
        let need = Need::of(&registration.program, registration.me);
        let reservation = self.parts.budgets.admit(owner, &need)?;
        let entry = self.registry.register(registration, owner, reservation, weights)?;
        let elems = entry.registration().program.input_elems();
        tracing::info!(run = %entry.hash(), elems, "run registered");
        lease::keep(self, &entry);
        if self.config().admin.is_some() {
            observed::count_when_over(self, &entry);
        }
        let taken = entry.registration().load.filter(|load| load.batch.is_some());
        if taken.is_some_and(|load| !self.loads.count(load)) {
            entry.cancel(DROPPED);
        }
        if entry.me() == Party::P0 {
            proposals::propose(self, &entry);
        }
        Ok(entry)
    }

    /// Keeps what the run of `entry` has loaded.
    pub(crate) fn keep_load(&self, entry: &Entry, kept: Kept, summary: &Summary) {
        let program = &entry.registration().program;
        let opened = summary.measured.nodes.iter().filter(|node| program.node(node.node).is_input());
        let load_bytes = opened.map(|node| node.bits_sent).sum::<u64>() / 8;
        let Some((making, shares)) = entry.take_making() else { return };
        let (load, bytes) = (entry.registration().load.map(|load| load.digest), shares.bytes());
        making.keep(kept, shares, load_bytes);
        tracing::info!(run = %entry.hash(), ?load, bytes, load_bytes, "model loaded");
    }

    /// Loads that `viewer` may know of, newest first.
    pub(crate) fn list_loads(&self, viewer: Viewer) -> Vec<v1::Load> {
        let known = self.loads.list(viewer).into_iter();
        known
            .map(|(load, shown)| v1::Load { active_runs: self.runs_on(load).count() as u32, ..shown })
            .collect()
    }

    /// Drops a load for `viewer`, with the runs that use it.
    pub(crate) fn drop_load(
        self: &Arc<Self>,
        viewer: Viewer,
        digest: &[u8],
    ) -> Result<v1::Load, CallFailure> {
        let (load, shown) = self.loads.remove(viewer, digest)?;
        let runs: Vec<_> = self.runs_on(load).collect();
        tracing::info!(load = ?load.digest, active_runs = runs.len(), "model dropped");
        runs.iter().for_each(|entry| entry.cancel(DROPPED));
        load.batch.into_iter().for_each(|batch| self.forget_load(batch));
        Ok(v1::Load { active_runs: runs.len() as u32, ..shown })
    }

    /// Runs that take a load and have not ended.
    fn runs_on(&self, load: LoadName) -> impl Iterator<Item = Arc<Entry>> {
        let runs = self.registry.list().into_iter();
        runs.filter(move |entry| entry.registration().load == Some(load) && !entry.has_ended())
    }

    /// Has the dealer wipe what it keeps of a load. If it cannot be told now, its place there is in use until one of the three
    /// is restarted.
    pub(crate) fn forget_load(self: &Arc<Self>, batch: BatchId) {
        let this = Arc::clone(self);
        self.runtime().spawn(async move {
            if let Err(failure) = this.dealer().forget(batch).await {
                tracing::warn!(%batch, %failure, "the dealer was not told that a load is gone");
            }
        });
    }

    /// What is loaded.
    pub(crate) fn loads(&self) -> &Arc<Loads> {
        &self.loads
    }

    /// Ends all runs, for a shutdown.
    pub fn cancel_all(&self, reason: &str) {
        for entry in self.registry.list() {
            entry.cancel(reason);
        }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.parts.config
    }

    /// What this party takes part in.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.parts.policy
    }

    /// What decodes the programs that callers describe.
    #[must_use]
    pub fn programs(&self) -> &ProgramDecoder {
        &self.programs
    }

    /// All runs.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What computes.
    #[must_use]
    pub fn backend_info(&self) -> BackendInfo {
        self.parts.backend.info()
    }

    /// The models whose programs it evaluates.
    pub fn models(&self) -> impl Iterator<Item = &LoadedModel> {
        self.parts.weights.models.iter()
    }

    /// The link to the other party, by its profile.
    #[must_use]
    pub fn link_description(&self) -> v1::Link {
        v1::Link {
            kind: self.parts.link_kind.to_string(),
            rtt_ms: 0.0,
            rate_bps: self.parts.profile.rate_bps as f64,
            ..v1::Link::default()
        }
    }

    /// The link to the other party, as measured; none while it is down.
    #[must_use]
    pub fn peer_link(&self) -> Option<v1::Link> {
        let connection = self.peer.now()?;
        let moved = connection.udp_stats();
        let by_profile = self.link_description();
        let measured = self.peer.measured_bps();
        Some(v1::Link {
            rtt_ms: crate::timing::ms(connection.rtt()),
            least_rtt_ms: crate::timing::ms(connection.path().min_rtt),
            rate_bps: measured.unwrap_or(by_profile.rate_bps),
            rate_measured: measured.is_some(),
            lanes: connection.lanes(),
            bytes_sent: moved.bytes_sent,
            bytes_received: moved.bytes_received,
            datagrams_sent: moved.datagrams_sent,
            datagrams_received: moved.datagrams_received,
            ..by_profile
        })
    }

    /// When this party's certificate ends, in seconds since the Unix epoch.
    #[must_use]
    pub fn certificate_expires_unix_s(&self) -> i64 {
        self.parts.identity.expires_unix_s()
    }

    pub(crate) fn peer(&self) -> &PeerLink {
        &self.peer
    }

    /// Who gets the traces of runs.
    pub(crate) fn collector(&self) -> Option<&Collector> {
        self.parts.collector.as_ref()
    }

    /// What is counted of runs.
    pub(crate) fn observed(&self) -> &Observed {
        &self.observed
    }

    pub(crate) fn checker(&self) -> Option<&Checker> {
        self.parts.checker.as_ref()
    }

    /// A ticket for a run of `program`; none if it need not wait: models alone do. A load computes next to nothing.
    pub(crate) fn ticket(&self, program: &Program) -> Option<Ticket> {
        let waits = program.only_gate().is_none() && !program.loads();
        waits.then(|| self.queue.enter())
    }

    pub(crate) fn ledger(&self) -> &Ledger<RedbLog> {
        &self.parts.ledger
    }

    pub(crate) fn budgets(&self) -> &Budgets {
        &self.parts.budgets
    }

    pub(crate) fn store(&self) -> &KeyStore {
        &self.parts.store
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.parts.backend
    }

    pub(crate) fn workers(&self) -> &Workers {
        &self.parts.workers
    }

    pub(crate) fn dealer(&self) -> &DealerLink {
        &self.parts.dealer
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.parts.runtime
    }

    pub(crate) fn evaluation(&self) -> &Handle {
        &self.parts.evaluation
    }
}

impl std::fmt::Debug for HostParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostParts").field("party", &self.config.party()).finish_non_exhaustive()
    }
}
