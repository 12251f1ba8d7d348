//! The dealer: its limits, its callers, and the batches at work.

use std::{sync::Arc, time::Duration};

use suf_deal::{Batch, Entropy, Order};
use suf_gate::{Backend, Program, ProgramError, Seed, catalog::AllowedGates, load::Dealt};
use suf_link::{Channel, Connection, Endpoint, Incoming};
use suf_process::{Description, LoadedModel, ProgramDecoder, listed, weights};
use suf_wire::{BatchId, DealerMessage, Digest, Fault, Part, Party};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use zeroize::Zeroize;

use crate::{
    budget::Budget,
    callers::Callers,
    delivery::Delivery,
    loads::{Loads, Place},
    records::{BatchRecords, Entry},
    requester::{self, BatchFailure, Requester},
    requests::{Answer, Entered, Partner, Requests},
};

/// How long batches may take to tell the parties that the dealer shuts down.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// What a dealer allows itself and the parties.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most elements of a batch.
    pub max_elems: u64,
    /// Keys in memory, in bytes: at least both parties' keys of the largest part that is asked for.
    pub memory_bytes: u64,
    /// Threads that make keys, at least 1.
    pub threads: usize,
    /// Loaded models whose masks it keeps.
    pub max_loads: usize,
    /// How long a request waits for the other party's.
    pub wait_for_peer: Duration,
    /// Gates that it makes keys for; none stands for all.
    pub gates: Option<Arc<AllowedGates>>,
    /// Weights that programs may name, and their models.
    pub weights: weights::Loaded,
}

/// A dealer.
pub struct Dealer {
    limits: Limits,
    backend: Arc<dyn Backend>,
    budget: Budget,
    cores: Arc<Semaphore>,
    programs: ProgramDecoder,
    requests: Requests,
    loads: Arc<Loads>,
    records: BatchRecords,
    callers: Callers,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Dealer {
    /// A dealer that makes keys with `backend`.
    #[must_use]
    pub fn new(limits: Limits, backend: Arc<dyn Backend>) -> Arc<Self> {
        Arc::new(Self {
            budget: Budget::new(limits.memory_bytes),
            cores: Arc::new(Semaphore::new(limits.threads.max(1))),
            programs: ProgramDecoder::new(&limits.weights.store),
            loads: Loads::new(limits.max_loads),
            limits,
            backend,
            requests: Requests::default(),
            records: BatchRecords::default(),
            callers: Callers::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        })
    }

    /// The models for whose programs it makes keys.
    pub fn models(&self) -> impl Iterator<Item = &LoadedModel> {
        self.limits.weights.models.iter()
    }

    /// Serves the parties that call `endpoint`, until [`Dealer::stop`] or until the endpoint is closed.
    pub async fn serve(self: &Arc<Self>, endpoint: &Endpoint) {
        loop {
            let incoming = tokio::select! {
                incoming = endpoint.incoming() => incoming,
                () = self.stopping.cancelled() => return,
            };
            let Some(incoming) = incoming else { return };
            let this = Arc::clone(self);
            self.tasks.spawn(async move { this.serve_caller(incoming).await });
        }
    }

    /// Gives all batches up, and returns when the parties have been told or the grace is over.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(SHUTDOWN_GRACE, self.tasks.wait()).await.is_err() {
            tracing::warn!(grace = ?SHUTDOWN_GRACE, "batches cut: a party did not take its last message in time");
        }
    }

    /// What was dealt.
    #[must_use]
    pub fn records(&self) -> &BatchRecords {
        &self.records
    }

    /// What makes the keys.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Connections of `party` that are open.
    pub(crate) fn connections(&self, party: Party) -> usize {
        self.callers.open(party)
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// A thread's worth of computing, in turn.
    pub(crate) async fn core(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.cores).acquire_owned().await.expect("the cores are never closed")
    }

    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    async fn serve_caller(self: &Arc<Self>, incoming: Incoming) {
        let remote = incoming.remote();
        let connection = match incoming.establish(&Party::BOTH.map(Party::role)).await {
            Ok(Some(connection)) => connection,
            Ok(None) => return tracing::debug!(%remote, "a lane, and more to come"),
            Err(error) => return tracing::warn!(%remote, %error, "a caller was not admitted"),
        };
        let party = connection.role().party().expect("only parties are admitted");
        tracing::info!(%party, %remote, "connected");
        self.callers.admit(party, &connection);
        self.serve_connection(party, &connection).await;
    }

    async fn serve_connection(self: &Arc<Self>, party: Party, connection: &Connection) {
        loop {
            let channel = tokio::select! {
                channel = connection.accept() => channel,
                () = self.stopping.cancelled() => return,
            };
            let channel = match channel {
                Ok(channel) => channel,
                Err(error) => return tracing::info!(%party, %error, "disconnected"),
            };
            let this = Arc::clone(self);
            self.tasks.spawn(async move { this.serve_channel(party, channel).await });
        }
    }

    async fn serve_channel(self: Arc<Self>, party: Party, channel: Channel<DealerMessage>) {
        let mut requester = Requester::new(party, channel);
        let received = tokio::select! {
            received = requester.receiver.recv(|_| None) => received,
            () = self.stopping.cancelled() => return,
        };
        let request = match received {
            Ok(DealerMessage::Request(request)) => request,
            Ok(DealerMessage::Forget { batch }) => return self.forget(requester, batch).await,
            other => return tracing::warn!(reason = requester::departure(party, other), "no request"),
        };
        let batch = request.batch;
        if request.party != party {
            let reason = format!("the request is {}'s, but the certificate says {party}", request.party);
            return refuse(requester, batch, &BatchFailure::new(Fault::Caller, reason)).await;
        }
        let program = self.programs.decode(&Description::Program(request.program.clone())).await;
        let admitted = match &program {
            Ok(program) => match self.admit(program) {
                Ok(()) => self.load_of(program, request.load_batch).await.map(drop),
                refused => refused,
            },
            Err(ProgramError::Weights(digest)) => Err(self.lacks(digest)),
            Err(_) => Ok(()),
        };
        if let Err(failure) = admitted {
            return refuse(requester, batch, &failure).await;
        }
        let order = Order::new(&request, program.clone());
        match (self.requests.enter(batch, order, requester), program) {
            (Entered::First(requester, answer), Ok(program)) => {
                let entry = self.records.open(batch, &program);
                if let Err((requester, failure)) = self.deal(batch, requester, answer, &entry).await {
                    self.records.refused(&entry, &failure);
                    refuse(requester, batch, &failure).await;
                }
            }
            (Entered::First(..), Err(_)) => unreachable!("what is no program is refused"),
            (Entered::Second, _) => {}
            (Entered::Refused(requester, failure), _) => refuse(requester, batch, &failure).await,
        }
    }

    /// Whether this dealer makes keys for `program`.
    fn admit(&self, program: &Program) -> Result<(), BatchFailure> {
        let most = self.limits.max_elems;
        let largest = program.nodes().map(|(_, node)| node.shape().elems()).max().unwrap_or(0);
        if largest > most {
            let reason =
                format!("{largest} elements asked for; this dealer makes at most {most} (max_elems)");
            return Err(BatchFailure::new(Fault::Caller, reason));
        }
        let Some(allowed) = &self.limits.gates else { return Ok(()) };
        if let Some(other) = program.gates().iter().find(|gate| !allowed.allows(gate.digest())) {
            let digest = Digest(*other.digest());
            let reason = format!(
                "this dealer makes no keys for gate {digest}: `gates` in its configuration does not list it"
            );
            return Err(BatchFailure::new(Fault::Config, reason));
        }
        Ok(())
    }

    /// The load of `batch`, if `program` takes its matrices; none for a program that takes none.
    async fn load_of(
        &self,
        program: &Program,
        batch: Option<BatchId>,
    ) -> Result<Option<Arc<Dealt>>, BatchFailure> {
        let (wanted, batch) = match (program.load(), batch) {
            (None, None) => return Ok(None),
            (Some(wanted), Some(batch)) => (wanted, batch),
            (Some(_), None) => {
                return Err(BatchFailure::new(
                    Fault::Caller,
                    "the program takes a load, and the request names none",
                ));
            }
            (None, Some(_)) => {
                return Err(BatchFailure::new(
                    Fault::Caller,
                    "the request names a load that the program does not take",
                ));
            }
        };
        let Some(load) = self.loads.get(batch).await else {
            let reason = format!(
                "the dealer has no load {batch}: it was restarted, or the load was dropped; load the model again"
            );
            return Err(BatchFailure::new(Fault::Dealer, reason));
        };
        let digest = load.load().program.digest();
        if digest != wanted {
            let (theirs, wanted) = (Digest(*digest), Digest(*wanted));
            let reason = format!(
                "the load {batch} is of the load program {theirs}, but the program takes one of {wanted}"
            );
            return Err(BatchFailure::new(Fault::Caller, reason));
        }
        Ok(Some(load))
    }

    /// Wipes a load that a party has dropped, or all loads when a party has started.
    async fn forget(&self, requester: Requester, batch: Option<BatchId>) {
        let forgotten = self.loads.forget(batch);
        if forgotten > 0 {
            tracing::info!(party = %requester.party, forgotten, "loads forgotten");
        }
        requester::part(requester.sender, DealerMessage::End { batch: batch.unwrap_or(BatchId([0; 16])) })
            .await;
    }

    /// The program names weights with this digest, which are not here.
    fn lacks(&self, digest: &str) -> BatchFailure {
        let reason = format!(
            "the program names weights with the digest {digest}, which the dealer has not loaded; it has {}. Name the same folder \
             and plan in [[models]] of its configuration",
            listed(self.models())
        );
        BatchFailure::new(Fault::Dealer, reason)
    }

    /// Waits for the other party, then deals. An error returns the requester, which is told why.
    async fn deal(
        self: &Arc<Self>,
        batch: BatchId,
        mut requester: Requester,
        mut answer: oneshot::Receiver<Answer>,
        entry: &Arc<Entry>,
    ) -> Result<(), (Requester, BatchFailure)> {
        let wait = self.limits.wait_for_peer;
        let first = tokio::select! {
            answer = &mut answer => Ok(answer),
            received = requester.receiver.recv(|_| None) => {
                Err(BatchFailure::new(Fault::Caller, requester::departure(requester.party, received)))
            }
            () = tokio::time::sleep(wait) => {
                let other = requester.party.other();
                let reason = format!("{other} did not ask for batch {batch} within {wait:?}; is it running?");
                Err(BatchFailure::new(Fault::Peer, reason))
            }
            () = self.stopping.cancelled() => Err(requester::stopping()),
        };
        let answer = match first {
            Ok(answer) => answer,
            Err(failure) if self.requests.withdraw(batch) => return Err((requester, failure)),
            Err(_) => answer.await,
        };
        match answer {
            Ok(Answer::Partner(partner)) => {
                self.deliver(batch, requester, *partner, entry).await;
                Ok(())
            }
            Ok(Answer::Refused(failure)) => Err((requester, failure)),
            Err(_) => {
                let reason = format!("batch {batch} was asked for anew while its first request was leaving");
                Err((requester, BatchFailure::new(Fault::Caller, reason)))
            }
        }
    }

    async fn deliver(
        self: &Arc<Self>,
        batch: BatchId,
        requester: Requester,
        partner: Partner,
        entry: &Arc<Entry>,
    ) {
        let Partner { requester: other, program, load_batch, paired } = partner;
        let requesters = if requester.party == Party::P0 { [requester, other] } else { [other, requester] };
        match self.begin(batch, program, load_batch).await {
            Ok((batch, place)) => {
                Delivery::new(Arc::clone(self), Arc::clone(entry), batch, paired)
                    .run(requesters, place)
                    .await;
            }
            Err(failure) => {
                self.records.refused(entry, &failure);
                let [requester_0, requester_1] = requesters;
                tokio::join!(refuse(requester_0, batch, &failure), refuse(requester_1, batch, &failure));
            }
        }
    }

    /// The batch that both parties asked for, with the load whose matrices it takes, or a place for the one that it makes.
    async fn begin(
        &self,
        batch: BatchId,
        program: Arc<Program>,
        load_batch: Option<BatchId>,
    ) -> Result<(Batch, Option<Place>), BatchFailure> {
        self.check(&program)?;
        let load = self.load_of(&program, load_batch).await?;
        let place = program.loads().then(|| self.loads.begin(batch)).transpose()?;
        let made = Batch::new(batch, program, entropy()?);
        Ok((load.into_iter().fold(made, Batch::with_load), place))
    }

    /// Whether both parties' keys of each part fit in memory. Each fits in a message: the gate was made.
    fn check(&self, program: &Program) -> Result<(), BatchFailure> {
        // The first tile of a node is its largest.
        let pairs = program.nodes().map(|(id, _)| {
            let bytes = Party::BOTH.map(|party| program.key_bytes_of(party, Part::new(id, 0)));
            Budget::pair_bytes(bytes)
        });
        let (pair, most) = (pairs.max().unwrap_or(0), self.limits.memory_bytes);
        if pair > most {
            let reason =
                format!("a tile for both parties has {pair} bytes, the dealer's memory_mb allows {most}");
            return Err(BatchFailure::new(Fault::Dealer, reason));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Dealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dealer")
            .field("limits", &self.limits)
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

async fn refuse(requester: Requester, batch: BatchId, failure: &BatchFailure) {
    tracing::warn!(party = %requester.party, %batch, fault = %failure.fault, %failure, "refused");
    requester.refuse(batch, failure).await;
}

/// 256 bits of the operating system's entropy for each of the three.
fn entropy() -> Result<Entropy, BatchFailure> {
    let seed = || {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| {
            BatchFailure::new(Fault::Dealer, "the operating system gives the dealer no entropy")
        })?;
        let seed = Seed::new(bytes);
        bytes.zeroize();
        Ok(seed)
    };
    Ok(Entropy { parties: [seed()?, seed()?], dealer: seed()? })
}
