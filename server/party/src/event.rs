//! What a run is told and what it asks for.

use suf_gate::{KeyBytes, Seed};
use suf_wire::{Causal, KeyRequest, PeerMessage};

use crate::{BurntBatch, Done, Failure, Work};

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A message of the peer, in the order it was sent.
    Peer(PeerMessage),
    /// The batch's keys are stored and checked.
    KeysStored {
        /// The seed of this party.
        seed: Seed,
        /// The hash of what both parties' keys have in common, see [`suf_wire::CommonParts`].
        common: [u8; 32],
        /// Whether chunks are loaded from a disk, for want of memory.
        on_disk: bool,
    },
    /// The client's shares of one chunk.
    Input {
        /// Which chunk.
        chunk: u32,
        /// One share for each element, below 2^48.
        shares: Vec<u64>,
    },
    /// The ledger burnt the batch.
    Burnt(BurntBatch),
    /// The key that [`Action::LoadKey`] asked for.
    Key {
        /// Which chunk.
        chunk: u32,
        /// Its bytes.
        key: KeyBytes,
    },
    /// Half a round trip has passed since [`Action::Align`].
    Aligned,
    /// Work is done.
    Done(Done),
    /// The link's meter, read after the last exchange.
    Measured(Measured),
    /// Something outside the run failed: the peer or the dealer is gone, the deadline passed, the client cancelled.
    Failed(Failure),
}

/// What the run wants done.
#[derive(Debug)]
pub enum Action {
    /// Send to the peer. The frame depends on all that `after` stands for.
    Send(PeerMessage, Causal),
    /// Ask the dealer for keys, and store them.
    RequestKeys(KeyRequest),
    /// Burn the batch.
    Burn,
    /// Fetch a chunk's key from the store, for the only time.
    LoadKey(u32),
    /// Compute, on any thread; report with [`Event::Done`], or [`Event::Failed`].
    Compute(Work),
    /// Wait until the peer has had the time to hear that this party is ready; report with [`Event::Aligned`].
    Align,
    /// A chunk's output shares, for the client.
    Output {
        /// Which chunk.
        chunk: u32,
        /// One share for each element.
        shares: Vec<u64>,
    },
    /// The run entered a phase: clocks start and stop here.
    Enter(Phase),
    /// Read the meter.
    Measure,
    /// The run is over; nothing follows.
    End(Result<Summary, Failure>),
}

/// Phases of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The peer has not agreed yet.
    Proposing,
    /// The dealer makes and ships keys.
    Dealing,
    /// Keys are stored; the client's shares are awaited.
    AwaitingInput,
    /// The parties open x_hat.
    Opening,
    /// Keys and inputs are loaded here; the peer is awaited.
    AwaitingPeer,
    /// The gate's exchanges.
    Evaluating,
    /// y_hat is known; measures are compared, output shares made.
    Closing,
    /// Over.
    Ended,
}

/// What the link measured over the gate's exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Deepest frame sent or received.
    pub rounds: u8,
    /// Payload bits sent.
    pub bits_sent: u64,
    /// Payload bits received.
    pub bits_received: u64,
    /// Hash of both directions.
    pub transcript: [u8; 32],
}

/// What a run that succeeded leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Measured at the link, equal to the declaration and to the peer's.
    pub measured: Measured,
    /// Bytes of key for this party: its seed and its chunks.
    pub key_bytes: u64,
}
