//! One party's stream for one batch.

use std::time::Duration;

use suf_link::{Channel, LinkError, Receiver, Sender};
use suf_wire::{BatchId, DealerMessage, Fault, Party};

/// How long one message may take to be taken over by the QUIC stack, or an answer to come. The largest, a key of 64 MiB,
/// takes 54 s at 10 Mbit/s. A party that is slower than that holds memory which other batches wait for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Why a batch is not made, or given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchFailure {
    /// Whose fault, seen from the party that is told.
    pub(crate) fault: Fault,
    /// What happened, and what to do.
    pub(crate) reason: String,
}

impl BatchFailure {
    pub(crate) fn new(fault: Fault, reason: impl Into<String>) -> Self {
        Self { fault, reason: reason.into() }
    }
}

impl std::fmt::Display for BatchFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

/// The failure of all batches at the end of the process.
pub(crate) fn stopping() -> BatchFailure {
    BatchFailure::new(Fault::Dealer, "the dealer shuts down; ask again when it is back")
}

/// A party that has asked for a batch, and the stream on which it waits.
#[derive(Debug)]
pub(crate) struct Requester {
    pub(crate) party: Party,
    pub(crate) sender: Sender<DealerMessage>,
    pub(crate) receiver: Receiver<DealerMessage>,
}

impl Requester {
    pub(crate) fn new(party: Party, channel: Channel<DealerMessage>) -> Self {
        let (sender, receiver) = channel.split();
        Self { party, sender, receiver }
    }

    /// Tells the party that no keys are made.
    pub(crate) async fn refuse(self, batch: BatchId, failure: &BatchFailure) {
        let BatchFailure { fault, reason } = failure;
        part(self.sender, DealerMessage::Refuse { batch, fault: *fault, reason: reason.into() }).await;
    }
}

/// Sends `message` within [`PATIENCE`]. After an error the stream is broken.
pub(crate) async fn send(sender: &mut Sender<DealerMessage>, message: &DealerMessage) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, sender.send(message)).await {
        Ok(sent) => sent.map_err(|error| error.to_string()),
        Err(_) => Err(format!("did not take {} within {} s", message.name(), PATIENCE.as_secs())),
    }
}

/// Sends a last message, and waits until it has arrived or the party is gone.
pub(crate) async fn part(mut sender: Sender<DealerMessage>, message: DealerMessage) {
    if let Err(error) = send(&mut sender, &message).await {
        tracing::debug!(message = message.name(), error, "a last message could not be sent");
        return;
    }
    sender.finish();
    if tokio::time::timeout(PATIENCE, sender.flushed()).await.is_err() {
        tracing::debug!(message = message.name(), "a last message was not received in time");
    }
}

/// What it means that `party` sent this, or nothing, where nothing but its patience was due.
pub(crate) fn departure(party: Party, received: Result<DealerMessage, LinkError>) -> String {
    match received {
        Ok(DealerMessage::Abort { reason, .. }) => format!("{party} gave the batch up: {reason}"),
        Ok(message) => format!("{party} sent {} out of turn", message.name()),
        Err(error) => format!("{party} is gone: {error}"),
    }
}
