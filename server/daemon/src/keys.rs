//! Fetching a batch from the dealer: asked for, checked part by part, stored, acknowledged. Each segment is announced to the
//! run when its keys are stored, while later ones are on their way.

use std::{
    ops::Range,
    pin::Pin,
    sync::{Arc, PoisonError},
    time::Instant,
};

use suf_control::v1;
use suf_link::{Connection, Endpoint, LinkError, PayloadMemory, Receiver, Sender};
use suf_party::{Event, Plan, RunFailure};
use suf_process::{KeyMemory, hardening::scrub_stack};
use suf_wire::{
    BatchId, CommonParts, DealerMessage, Fault, Header, KeyPart, KeyPartHead, KeyRequest, PREFIX_BYTES, Part,
    Role,
};
use tokio::{sync::Mutex, task::JoinHandle};

use crate::{
    active::ActiveRun, arrivals::LEAST_MEASURED_BYTES, host::Host, peer::RETRY, store::BatchStore, timing::ms,
};

/// Bytes of a key's message before the key.
const KEY_OVERHEAD: u64 = (PREFIX_BYTES + KeyPartHead::BYTES) as u64;

/// Bytes of the header's message.
const HEADER_BYTES: u64 = (PREFIX_BYTES + Header::BYTES) as u64;

/// The link to the dealer, with an endpoint of its own: bulk keys never queue before evaluation messages.
#[derive(Debug)]
pub(crate) struct DealerLink {
    endpoint: Endpoint,
    address: String,
    connection: Mutex<Slot>,
    /// Bits per second at which the last batch that was large enough came; 0 before.
    rate_bps: std::sync::Mutex<f64>,
}

/// The connection to the dealer.
#[derive(Debug, Default)]
struct Slot {
    connection: Option<Connection>,
    /// The dealer knows that this process has started: it keeps no load that an earlier one had a part in.
    introduced: bool,
}

/// What came from the dealer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    /// Bytes of the container: keys, seed, headers.
    pub(crate) bytes: u64,
    /// From the header to the last key stored and checked.
    pub(crate) ship_ms: f64,
}

impl DealerLink {
    pub(crate) fn new(endpoint: Endpoint, address: String) -> Self {
        Self { endpoint, address, connection: Mutex::default(), rate_bps: std::sync::Mutex::default() }
    }

    /// The connection, made anew if it is lost, and whether it was made just now.
    async fn connection(&self) -> Result<(Connection, bool), RunFailure> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.connection.as_ref().filter(|connection| connection.ended().is_none()) {
            return Ok((connection.clone(), false));
        }
        let connection = self.endpoint.connect_to(&self.address, Role::Dealer.name(), Role::Dealer).await;
        let connection = connection.map_err(from_dealer)?;
        if !slot.introduced {
            forget_over(&connection, None).await?;
            slot.introduced = true;
        }
        slot.connection = Some(connection.clone());
        Ok((connection, true))
    }

    /// Tells the dealer that the load of `batch` was dropped.
    pub(crate) async fn forget(&self, batch: BatchId) -> Result<(), RunFailure> {
        let (connection, _) = self.connection().await?;
        forget_over(&connection, Some(batch)).await
    }

    /// Keeps a connection to the dealer, and makes it anew when it is lost, so that its loss is known before a run needs keys.
    pub(crate) async fn keep(&self) {
        let mut pause = RETRY.0;
        loop {
            match self.connection().await {
                Ok((connection, _)) => {
                    pause = RETRY.0;
                    connection.closed().await;
                }
                // The check of readiness says so.
                Err(failure) => tracing::debug!(%failure, "the dealer is out of reach"),
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(RETRY.1);
        }
    }

    /// The link as measured: the rate at which the dealer made and sent keys, and the connection's round trip; none while
    /// there is no connection.
    pub(crate) fn measured(&self) -> Option<v1::Link> {
        // Held while a connection is made: then there is none yet.
        let slot = self.connection.try_lock().ok()?;
        let connection = slot.connection.as_ref().filter(|connection| connection.ended().is_none())?;
        let moved = connection.udp_stats();
        let rate_bps = *self.rate_bps.lock().unwrap_or_else(PoisonError::into_inner);
        Some(v1::Link {
            kind: self.endpoint.kind().to_string(),
            rtt_ms: ms(connection.rtt()),
            least_rtt_ms: ms(connection.path().min_rtt),
            rate_bps,
            lanes: connection.lanes(),
            rate_measured: rate_bps > 0.0,
            bytes_sent: moved.bytes_sent,
            bytes_received: moved.bytes_received,
            datagrams_sent: moved.datagrams_sent,
            datagrams_received: moved.datagrams_received,
        })
    }

    fn measure(&self, received: Received) {
        if received.bytes >= LEAST_MEASURED_BYTES && received.ship_ms > 0.0 {
            let rate = received.bytes as f64 * 8e3 / received.ship_ms;
            *self.rate_bps.lock().unwrap_or_else(PoisonError::into_inner) = rate;
        }
    }

    pub(crate) async fn close(&self) {
        self.endpoint.close("the party shuts down").await;
    }
}

/// Fetches the batch of `request` and tells the run.
pub(crate) async fn fetch(host: &Arc<Host>, active: &Arc<ActiveRun>, request: KeyRequest) {
    let event = tokio::select! {
        () = active.over().cancelled() => return,
        fetched = receive(host, active, request) => fetched.unwrap_or_else(Event::Failed),
    };
    active.feed(event);
}

/// Carries `work` out, and scrubs the stack whenever it pauses or ends: whatever thread it is on, it may have left a seed
/// there.
pub(crate) async fn scrubbed(work: impl Future<Output = ()> + Send) {
    // Called through a pointer, so that its frame is below this one's, and dead when the scrubbing comes.
    let mut work: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(work);
    std::future::poll_fn(move |context| {
        let polled = work.as_mut().poll(context);
        scrub_stack();
        polled
    })
    .await;
}

async fn receive(
    host: &Arc<Host>,
    active: &Arc<ActiveRun>,
    request: KeyRequest,
) -> Result<Event, RunFailure> {
    let plan = active.plan();
    let (answer, mut sender, mut receiver) = ask(host.dealer(), request).await?;
    let header = match answer {
        DealerMessage::Header(header) => checked(header, plan)?,
        other => {
            let mut failure = refusal(&other);
            if let Some(model) = host.models().find(|model| model.has(&plan.program)) {
                failure.reason = format!("the run is of the model {model}; {}", failure.reason);
            }
            return Err(failure);
        }
    };
    let begun = Instant::now();
    let over = || RunFailure::new(Fault::Caller, "the run is over");
    let reservation = active.entry().take_key_reservation().ok_or_else(over)?;
    let store = host.store().batch(plan.batch, reservation);
    let store = Arc::new(store.map_err(|error| RunFailure::new(Fault::Device, error.to_string()))?);
    active.keep_keys(&store);
    let stored = |segment, common| {
        let seed = header.seed.clone();
        Event::KeysStored { segment, seed, common, on_disk: store.is_spooled() }
    };

    let last = plan.program.segments() - 1;
    for segment in 0..last {
        let common = receive_segment(plan, segment, &store, &mut receiver).await?;
        active.feed(stored(segment, common));
    }
    let common = receive_segment(plan, last, &store, &mut receiver).await?;
    match receiver.recv(|_| None).await.map_err(from_dealer)? {
        DealerMessage::End { batch } if batch == plan.batch => {}
        other => return Err(refusal(&other)),
    }
    let keys = plan.program.key_bytes(plan.me);
    let bytes = keys + u64::from(header.parts) * KEY_OVERHEAD + HEADER_BYTES;
    let received = Received { bytes, ship_ms: ms(begun.elapsed()) };
    host.dealer().measure(received);
    active.received_keys(received);
    sender.send(&DealerMessage::Stored { batch: plan.batch }).await.map_err(from_dealer)?;
    sender.finish();
    Ok(stored(last, common))
}

/// Receives, checks and stores the keys of one segment; the hash of what both parties' have in common.
async fn receive_segment(
    plan: &Plan,
    segment: u16,
    store: &Arc<BatchStore>,
    receiver: &mut Receiver<DealerMessage>,
) -> Result<[u8; 32], RunFailure> {
    let mut common = CommonParts::new(plan.batch, plan.digest(), segment);
    let mut pending: Option<JoinHandle<Result<CommonParts, RunFailure>>> = None;
    for part in plan.program.segment_parts(segment) {
        let due = plan.program.key_bytes_of(plan.me, part);
        let expected = |head: &KeyPartHead| (head.part == part).then_some(due);
        let message =
            receiver.recv_into(expected, |_, bytes| memory_for_key(bytes)).await.map_err(from_dealer)?;
        let DealerMessage::Key(key) = message else { return Err(refusal(&message)) };
        let before = settle(pending.take()).await?.unwrap_or_else(|| common.clone());
        // One key is checked, hashed and stored while the next is received.
        let (store, plan) = (Arc::clone(store), plan.clone());
        pending = Some(tokio::task::spawn_blocking(move || {
            let kept = keep(&store, &plan, key, before);
            scrub_stack();
            kept
        }));
    }
    if let Some(all) = settle(pending).await? {
        common = all;
    }
    Ok(common.digest())
}

/// Memory for a key, which is returned to the system after its run. None where the system has no more: then the
/// allocator's memory is used.
fn memory_for_key(bytes: usize) -> Option<Box<dyn PayloadMemory>> {
    KeyMemory::zeroed(bytes).ok().map(|memory| Box::new(memory) as Box<dyn PayloadMemory>)
}

/// Sends the request and waits for the first answer. A connection of an earlier batch may be dead, because the dealer
/// was restarted. Then the request is repeated once over a new connection.
async fn ask(
    dealer: &DealerLink,
    request: KeyRequest,
) -> Result<(DealerMessage, Sender<DealerMessage>, Receiver<DealerMessage>), RunFailure> {
    let request = DealerMessage::Request(request);
    loop {
        let (connection, fresh) = dealer.connection().await?;
        let asked = async {
            let (mut sender, mut receiver) = connection.open::<DealerMessage>().await?.split();
            sender.send(&request).await?;
            Ok((receiver.recv(|_| None).await?, sender, receiver))
        };
        match asked.await {
            Ok(answered) => return Ok(answered),
            Err(error) if fresh => return Err(from_dealer(error)),
            Err(error) => {
                tracing::info!(%error, "the dealer's connection was dead; asking again");
                connection.close("dead");
            }
        }
    }
}

/// Has the dealer wipe the load of `batch`, or all loads, and waits until it has.
async fn forget_over(connection: &Connection, batch: Option<BatchId>) -> Result<(), RunFailure> {
    let told = async {
        let (mut sender, mut receiver) = connection.open::<DealerMessage>().await?.split();
        sender.send(&DealerMessage::Forget { batch }).await?;
        let answer = receiver.recv(|_| None).await?;
        sender.finish();
        Ok(answer)
    };
    match told.await.map_err(from_dealer)? {
        DealerMessage::End { .. } => Ok(()),
        other => Err(refusal(&other)),
    }
}

fn checked(header: Header, plan: &Plan) -> Result<Header, RunFailure> {
    let digest = plan.digest();
    let parts = plan.program.nodes().filter(|(_, node)| node.is_keyed()).map(|(_, node)| node.tiles()).sum();
    if (header.batch, header.digest, header.parts) != (plan.batch, digest, parts) {
        let reason = format!(
            "it deals {} keys of program {} as batch {}, but {parts} of {digest} as {} were asked for",
            header.parts, header.digest, header.batch, plan.batch
        );
        return Err(RunFailure::new(Fault::Dealer, reason));
    }
    Ok(header)
}

/// Checks, hashes and stores one key; `common` is the hash of those before it.
fn keep(
    store: &BatchStore,
    plan: &Plan,
    key: KeyPart,
    mut common: CommonParts,
) -> Result<CommonParts, RunFailure> {
    let KeyPart { part, .. } = key;
    if !key.is_intact(plan.batch, plan.me) {
        let reason = format!("the integrity tag of the key of {part} does not fit");
        return Err(RunFailure::new(Fault::Dealer, reason));
    }
    common.absorb(part, common_fields(plan, part).map(|range| &key.bytes[range]));
    let stored = store.put(part, key.bytes);
    stored.map_err(|error| RunFailure::new(Fault::Device, error.to_string()))?;
    Ok(common)
}

/// Where the fields that both parties hold in equal bytes stand in a key.
fn common_fields(plan: &Plan, part: Part) -> impl Iterator<Item = Range<usize>> + use<'_> {
    let shape = plan.program.node(part.node).op().def().key_shape();
    shape.common_ranges(plan.program.side(plan.me, part), plan.program.counts(part))
}

async fn settle<T>(pending: Option<JoinHandle<Result<T, RunFailure>>>) -> Result<Option<T>, RunFailure> {
    let Some(handle) = pending else { return Ok(None) };
    let settled = handle
        .await
        .unwrap_or_else(|error| Err(RunFailure::new(Fault::Bug, format!("storing a key: {error}"))));
    settled.map(Some)
}

fn refusal(message: &DealerMessage) -> RunFailure {
    match message {
        DealerMessage::Refuse { fault, reason, .. } => {
            RunFailure::new(*fault, format!("the dealer refused the batch: {}", reason.as_str()))
        }
        DealerMessage::Abort { fault, reason, .. } => {
            RunFailure::new(*fault, format!("the dealer gave the batch up: {}", reason.as_str()))
        }
        other => RunFailure::new(Fault::Dealer, format!("the dealer sent {} out of turn", other.name())),
    }
}

fn from_dealer(error: LinkError) -> RunFailure {
    RunFailure::new(error.fault(), format!("keys: {error}"))
}
