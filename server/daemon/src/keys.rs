//! Fetching a batch from the dealer: asked for, checked chunk by chunk, stored, acknowledged.

use std::{
    pin::Pin,
    sync::{Arc, PoisonError},
    time::Instant,
};

use suf_control::v1;
use suf_gate::{Seed, layout};
use suf_link::{Connection, Endpoint, LinkError, Receiver, Room, Sender};
use suf_party::{Event, Failure, Plan};
use suf_process::{KeyMemory, hardening::scrub_stack};
use suf_wire::{CommonParts, DealerMessage, Fault, Header, KeyChunk, KeyChunkHead, KeyRequest, Role};
use tokio::{sync::Mutex, task::JoinHandle};

use crate::{active::ActiveRun, arrivals::LEAST_MEASURED_BYTES, host::Host, store::BatchStore, timing::ms};

/// Bytes of a chunk's message before the key: length, kind, index, tag.
const CHUNK_OVERHEAD: u64 = (suf_wire::PREFIX_BYTES + 20) as u64;

/// The link to the dealer, with an endpoint of its own: bulk keys never queue before evaluation messages.
#[derive(Debug)]
pub(crate) struct DealerLink {
    endpoint: Endpoint,
    address: String,
    connection: Mutex<Option<Connection>>,
    /// Bits per second at which the last batch that was large enough came; 0 before.
    rate_bps: std::sync::Mutex<f64>,
}

/// What came from the dealer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    /// Bytes of the container: keys, seed, headers.
    pub(crate) bytes: u64,
    /// From the header to the last chunk stored and checked.
    pub(crate) ship_ms: f64,
}

impl DealerLink {
    pub(crate) fn new(endpoint: Endpoint, address: String) -> Self {
        Self { endpoint, address, connection: Mutex::default(), rate_bps: std::sync::Mutex::default() }
    }

    /// The connection, made anew if it is lost, and whether it was made just now.
    async fn connection(&self) -> Result<(Connection, bool), Failure> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| connection.ended().is_none()) {
            return Ok((connection.clone(), false));
        }
        let connection = self.endpoint.connect_to(&self.address, Role::Dealer.name(), Role::Dealer).await;
        let connection = connection.map_err(from_dealer)?;
        *slot = Some(connection.clone());
        Ok((connection, true))
    }

    /// The link as measured: the rate at which the dealer made and sent keys, and the connection's round trip; none while
    /// there is no connection.
    pub(crate) fn measured(&self) -> Option<v1::Link> {
        // Held while a connection is made: then there is none yet.
        let slot = self.connection.try_lock().ok()?;
        let connection = slot.as_ref().filter(|connection| connection.ended().is_none())?;
        let moved = connection.udp_stats();
        let rate_bps = *self.rate_bps.lock().unwrap_or_else(PoisonError::into_inner);
        Some(v1::Link {
            kind: self.endpoint.kind().to_string(),
            rtt_ms: ms(connection.rtt()),
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

async fn receive(host: &Arc<Host>, active: &ActiveRun, request: KeyRequest) -> Result<Event, Failure> {
    let plan = active.plan();
    let (answer, mut sender, mut receiver) = ask(host.dealer(), request).await?;
    let header = match answer {
        DealerMessage::Header(header) => checked(header, plan)?,
        other => return Err(refusal(&other)),
    };
    let begun = Instant::now();
    let total = plan.gate.batch_key_bytes(plan.party(), plan.elems);
    let over = || Failure::new(Fault::Caller, "the run is over");
    let room = active.entry().take_key_room().ok_or_else(over)?;
    let store = host.store().batch(plan.batch, room);
    let store = Arc::new(store.map_err(|error| Failure::new(Fault::Device, error.to_string()))?);

    let shape = plan.gate.key_shape();
    let due = |chunk| shape.chunk_bytes(plan.party().role(chunk), layout::chunk_elems(plan.elems, chunk));
    let mut common = CommonParts::new(plan.batch, plan.digest(), plan.elems);
    let mut pending: Option<JoinHandle<Result<CommonParts, Failure>>> = None;
    for index in 0..header.chunks {
        let expected = |head: &KeyChunkHead| (head.index == index).then(|| due(index));
        let message = receiver.recv_into(expected, room_for_key).await.map_err(from_dealer)?;
        let DealerMessage::Chunk(chunk) = message else { return Err(refusal(&message)) };
        let before = settle(pending.take()).await?.unwrap_or_else(|| common.clone());
        // One chunk is checked, hashed and stored while the next is on its way.
        let (store, plan) = (Arc::clone(&store), plan.clone());
        pending = Some(tokio::task::spawn_blocking(move || {
            let kept = keep(&store, &plan, chunk, before);
            scrub_stack();
            kept
        }));
    }
    if let Some(all) = settle(pending).await? {
        common = all;
    }
    match receiver.recv(|_| None).await.map_err(from_dealer)? {
        DealerMessage::End { batch } if batch == plan.batch => {}
        other => return Err(refusal(&other)),
    }
    let received = Received {
        bytes: total + u64::from(header.chunks) * CHUNK_OVERHEAD + HEADER_BYTES,
        ship_ms: ms(begun.elapsed()),
    };
    host.dealer().measure(received);
    let on_disk = store.is_spooled();
    active.keep_keys(store, received);
    sender.send(&DealerMessage::Stored { batch: plan.batch }).await.map_err(from_dealer)?;
    sender.finish();
    Ok(Event::KeysStored { seed: Seed::new(*header.seed.expose()), common: common.digest(), on_disk })
}

/// Memory for a key's chunk, which is returned to the system after its run; none where the system has no more: what comes
/// then is the allocator's to answer.
fn room_for_key(bytes: usize) -> Option<Box<dyn Room>> {
    KeyMemory::zeroed(bytes).ok().map(|memory| Box::new(memory) as Box<dyn Room>)
}

/// Sends the request and waits for the first answer. A connection that was made for an earlier batch may turn out to be
/// dead, when the dealer was started anew: then it is asked once more, over a fresh one.
async fn ask(
    dealer: &DealerLink,
    request: KeyRequest,
) -> Result<(DealerMessage, Sender<DealerMessage>, Receiver<DealerMessage>), Failure> {
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

/// The header's message: length, kind, batch, digest, elements, chunks, seed.
const HEADER_BYTES: u64 = suf_wire::PREFIX_BYTES as u64 + 92;

fn checked(header: Header, plan: &Plan) -> Result<Header, Failure> {
    let asked = (plan.batch, plan.digest(), plan.elems);
    if (header.batch, header.digest, header.elems) != asked {
        let reason = format!(
            "it deals {} elements of gate {} as batch {}, but {} of {} as {} were asked for",
            header.elems,
            header.digest,
            header.batch,
            plan.elems,
            plan.digest(),
            plan.batch
        );
        return Err(Failure::new(Fault::Dealer, reason));
    }
    Ok(header)
}

/// Checks, hashes and stores one chunk; `common` is the hash of those before it.
fn keep(
    store: &BatchStore,
    plan: &Plan,
    chunk: KeyChunk,
    mut common: CommonParts,
) -> Result<CommonParts, Failure> {
    if !chunk.is_intact(plan.batch, plan.me) {
        let reason = format!("the integrity tag of key chunk {} does not fit", chunk.index);
        return Err(Failure::new(Fault::Dealer, reason));
    }
    let (role, elems) = (plan.party().role(chunk.index), layout::chunk_elems(plan.elems, chunk.index));
    let ranges = plan.gate.key_shape().common_ranges(role, elems);
    common.absorb(chunk.index, ranges.map(|range| &chunk.bytes[range]));
    let stored = store.put(chunk.index, chunk.bytes);
    stored.map_err(|error| Failure::new(Fault::Device, error.to_string()))?;
    Ok(common)
}

async fn settle<T>(pending: Option<JoinHandle<Result<T, Failure>>>) -> Result<Option<T>, Failure> {
    let Some(handle) = pending else { return Ok(None) };
    let settled =
        handle.await.unwrap_or_else(|error| Err(Failure::new(Fault::Bug, format!("storing a key: {error}"))));
    settled.map(Some)
}

fn refusal(message: &DealerMessage) -> Failure {
    match message {
        DealerMessage::Refuse { fault, reason, .. } => {
            Failure::new(*fault, format!("the dealer refused the batch: {}", reason.as_str()))
        }
        DealerMessage::Abort { fault, reason, .. } => {
            Failure::new(*fault, format!("the dealer gave the batch up: {}", reason.as_str()))
        }
        other => Failure::new(Fault::Dealer, format!("the dealer sent {} out of turn", other.name())),
    }
}

fn from_dealer(error: LinkError) -> Failure {
    Failure::new(error.fault(), format!("keys: {error}"))
}
