//! One batch at work: made, shipped, acknowledged, forgotten.
//!
//! Four activities run at once and are joined by queues. One reserves memory and starts workers, one collects keys
//! in order, and each party has a writer. Memory bounds how far the first may run ahead of the last.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use suf_deal::Batch;
use suf_gate::{BackendError, Party};
use suf_link::{Receiver, Sender};
use suf_process::hardening::scrub_stack;
use suf_wire::{BatchId, DealerMessage, Fault, Header, KeyPart, KeyPartHead, PREFIX_BYTES};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    dealer::Dealer,
    loads::Place,
    records::Entry,
    requester::{self, BatchFailure, PATIENCE, Requester},
};

/// Bytes of the header's message.
const HEADER_BYTES: u64 = (PREFIX_BYTES + Header::BYTES) as u64;

/// Bytes of a key's message before the key.
const KEY_HEAD_BYTES: u64 = (PREFIX_BYTES + KeyPartHead::BYTES) as u64;

/// Bytes of the end's message, which names the batch.
const END_BYTES: u64 = (PREFIX_BYTES + size_of::<BatchId>()) as u64;

/// A batch that both parties asked for.
pub(crate) struct Delivery {
    dealer: Arc<Dealer>,
    entry: Arc<Entry>,
    batch: Arc<Batch>,
    /// When the second request was here.
    paired: Instant,
    /// When the first byte of a container left.
    shipping: OnceLock<Instant>,
    /// Set once: the first failure is the cause of the others.
    failed: OnceLock<BatchFailure>,
    /// Cancelled with `failed`.
    over: CancellationToken,
}

/// The keys of one part for both parties.
struct Made {
    keys: [KeyPart; 2],
    making: Duration,
    at: Instant,
}

type Making = JoinHandle<Result<Made, BackendError>>;

impl Delivery {
    pub(crate) fn new(dealer: Arc<Dealer>, entry: Arc<Entry>, batch: Batch, paired: Instant) -> Self {
        let over = dealer.stopping().child_token();
        let batch = Arc::new(batch);
        Self { dealer, entry, batch, paired, shipping: OnceLock::new(), failed: OnceLock::new(), over }
    }

    /// Makes the batch and ships it to both parties. When this returns, the dealer has forgotten the seeds. Only those of a load
    /// are kept, at `place`.
    pub(crate) async fn run(self, [requester_0, requester_1]: [Requester; 2], place: Option<Place>) {
        let batch = self.batch.id();
        self.dealer.records().dealing(&self.entry);
        let (making, made) = mpsc::unbounded_channel();
        let (to_0, for_0) = mpsc::unbounded_channel();
        let (to_1, for_1) = mpsc::unbounded_channel();
        let ((), (), stored_0, stored_1) = tokio::join!(
            self.make(making),
            self.collect(made, [to_0, to_1]),
            self.serve(requester_0, for_0),
            self.serve(requester_1, for_1),
        );
        let outcome = if stored_0 && stored_1 {
            if let Some(place) = place {
                place.keep(self.batch.dealt());
            }
            // A program without keys ships none.
            Ok(self.shipping.get().map_or(Duration::ZERO, Instant::elapsed))
        } else {
            Err(self.cause())
        };
        self.dealer.records().over(&self.entry, &outcome);
        let view = self.entry.view();
        match outcome {
            Ok(_) => {
                tracing::info!(%batch, elems = view.elements, key_ms = view.key_ms, deal_ms = view.deal_ms,
                ship_ms = view.ship_ms, bytes_p0 = view.bytes_p0, bytes_p1 = view.bytes_p1, "batch dealt")
            }
            Err(failure) => tracing::warn!(%batch, elems = view.elements, %failure, "batch given up"),
        }
    }

    /// Starts a worker for each part that has keys, in order, as memory and cores become free.
    async fn make(&self, making: mpsc::UnboundedSender<Making>) {
        let program = self.batch.program();
        for part in program.keyed_parts() {
            let bytes = Party::BOTH.map(|party| program.key_bytes_of(party, part));
            let ready = async { (self.dealer.budget().reserve(bytes).await, self.dealer.core().await) };
            let ([memory_0, memory_1], core) = tokio::select! {
                ready = ready => ready,
                () = self.over.cancelled() => return,
            };
            let (batch, backend) = (Arc::clone(&self.batch), Arc::clone(self.dealer.backend()));
            let worker = tokio::task::spawn_blocking(move || {
                let _until_made = core;
                let begun = Instant::now();
                let made = batch.deal(part, &*backend);
                scrub_stack();
                let [for_0, for_1] = made?;
                let keys = [memory_0.hold(for_0), memory_1.hold(for_1)];
                Ok(Made { keys, making: begun.elapsed(), at: Instant::now() })
            });
            if making.send(worker).is_err() {
                return;
            }
        }
    }

    /// Hands each part's keys to both writers, in order.
    async fn collect(
        &self,
        mut making: mpsc::UnboundedReceiver<Making>,
        writers: [mpsc::UnboundedSender<KeyPart>; 2],
    ) {
        while let Some(worker) = making.recv().await {
            let made = match worker.await {
                Ok(Ok(made)) => made,
                Ok(Err(error)) => return self.fail(Fault::Dealer, format!("making keys: {error}")),
                Err(error) => return self.fail(Fault::Dealer, format!("bug: making keys: {error}")),
            };
            self.entry.made(made.making, made.at.saturating_duration_since(self.paired));
            for (writer, key) in writers.iter().zip(made.keys) {
                // An error says that the party is gone, of which its writer tells.
                let _ = writer.send(key);
            }
        }
    }

    /// Ships to one party, until it has stored everything or the batch is over. Whether it has.
    async fn serve(&self, requester: Requester, keys: mpsc::UnboundedReceiver<KeyPart>) -> bool {
        let Requester { party, mut sender, mut receiver } = requester;
        let shipped = tokio::select! {
            shipped = self.ship(party, &mut sender, keys) => shipped,
            received = receiver.recv(|_| None) => Err(Some(requester::departure(party, received))),
        };
        let stored = match shipped {
            Ok(()) => self.stored(party, &mut receiver).await,
            Err(cause) => Err(cause),
        };
        match &stored {
            Ok(()) => {}
            Err(Some(reason)) => self.fail(Fault::Peer, reason.clone()),
            Err(None) => {
                let BatchFailure { fault, reason } = self.cause();
                let abort = DealerMessage::Abort { batch: self.batch.id(), fault, reason: reason.into() };
                requester::part(sender, abort).await;
            }
        }
        stored.is_ok()
    }

    /// Sends header, keys and end. An error without words says that the batch is over for another reason.
    async fn ship(
        &self,
        party: Party,
        sender: &mut Sender<DealerMessage>,
        mut keys: mpsc::UnboundedReceiver<KeyPart>,
    ) -> Result<(), Option<String>> {
        let batch = self.batch.id();
        let broken = |error| Some(format!("{party} is gone: {error}"));
        let header = DealerMessage::Header(self.batch.header(party));
        requester::send(sender, &header).await.map_err(broken)?;
        self.entry.sent(party, HEADER_BYTES);
        for _ in 0..self.batch.parts() {
            let key = tokio::select! {
                biased;
                () = self.over.cancelled() => return Err(None),
                // The queue ends early only when the batch is over.
                key = keys.recv() => key.ok_or(None)?,
            };
            self.shipping.get_or_init(Instant::now);
            let bytes = KEY_HEAD_BYTES + key.bytes.len() as u64;
            requester::send(sender, &DealerMessage::Key(key)).await.map_err(broken)?;
            self.entry.sent(party, bytes);
        }
        requester::send(sender, &DealerMessage::End { batch }).await.map_err(broken)?;
        self.entry.sent(party, END_BYTES);
        Ok(())
    }

    /// Waits until the party has stored everything.
    async fn stored(
        &self,
        party: Party,
        receiver: &mut Receiver<DealerMessage>,
    ) -> Result<(), Option<String>> {
        let answer = tokio::select! {
            answer = timeout(PATIENCE, receiver.recv(|_| None)) => answer,
            () = self.over.cancelled() => return Err(None),
        };
        match answer {
            Ok(Ok(DealerMessage::Stored { batch })) if batch == self.batch.id() => Ok(()),
            Ok(received) => Err(Some(requester::departure(party, received))),
            Err(_) => Err(Some(format!("{party} did not store its keys within {} s", PATIENCE.as_secs()))),
        }
    }

    /// Ends the batch. A party whose own stream failed is told nothing: the stream is broken.
    fn fail(&self, fault: Fault, reason: String) {
        // A second failure follows from the first.
        let _ = self.failed.set(BatchFailure::new(fault, reason));
        self.over.cancel();
    }

    /// Why the batch is over. Without a failure of its own, the whole dealer is.
    fn cause(&self) -> BatchFailure {
        self.failed.get().cloned().unwrap_or_else(requester::stopping)
    }
}
