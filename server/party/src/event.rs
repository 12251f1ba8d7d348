//! Events that a run handles, and actions that it asks for.

use suf_gate::{KeyBytes, load::Kept};
use suf_wire::{Causal, KeyRequest, NodeId, Part, PeerMessage, Seed};

use crate::{BurntBatch, Done, RunFailure, Work};

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A message of the peer. Those of one lane come in the order in which they were sent.
    Peer(PeerMessage),
    /// The keys of a segment of the batch are stored and checked. Segments come in order; a program without keys has one, too.
    KeysStored {
        /// Which segment.
        segment: u16,
        /// The seed of this party, which is the whole batch's.
        seed: Seed,
        /// The hash of what both parties' keys have in common, see [`suf_wire::CommonParts`].
        common: [u8; 32],
        /// Whether keys are loaded from a disk, for want of memory.
        on_disk: bool,
    },
    /// The client's shares of a tile of an input.
    Input {
        /// The part: a tile of a node `input`.
        part: Part,
        /// One share for each element, below 2^n in the ring of the node's wire.
        shares: Vec<u64>,
    },
    /// The ledger burnt the batch.
    Burnt(BurntBatch),
    /// The key that [`Action::LoadKey`] asked for.
    Key {
        /// Of which part.
        part: Part,
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
    Failed(RunFailure),
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
    /// Fetch a part's key from the store, for the only time.
    LoadKey(Part),
    /// Compute, on any thread; report with [`Event::Done`], or [`Event::Failed`].
    Compute(Work),
    /// Wait until the peer has had the time to hear that this party is ready; report with [`Event::Aligned`].
    Align,
    /// The output shares of a tile, for the client.
    Output {
        /// The part: a tile of a node `output`.
        part: Part,
        /// One share for each element.
        shares: Vec<u64>,
    },
    /// What a load program keeps: the matrices of a model. The run ends well with the next action.
    Keep(Kept),
    /// The run entered a phase: clocks start and stop here.
    Enter(Phase),
    /// Read the meter.
    Measure,
    /// The run is over; nothing follows.
    End(Result<Summary, RunFailure>),
}

/// Phases of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The peer has not agreed yet.
    Proposing,
    /// The dealer makes and ships keys.
    Dealing,
    /// The first segment's keys are stored; the client's shares are awaited.
    AwaitingInput,
    /// The parties open the inputs.
    Opening,
    /// Inputs are open; keys are loaded, and the peer is awaited.
    AwaitingPeer,
    /// The exchanges of all other nodes.
    Evaluating,
    /// Every wire is there; measures are compared, output shares made.
    Closing,
    /// Over.
    Ended,
}

/// What the link measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Deepest frame sent or received, those of inputs aside.
    pub rounds: u16,
    /// Payload bits sent, those of inputs aside.
    pub bits_sent: u64,
    /// Payload bits received, likewise.
    pub bits_received: u64,
    /// Hash of both directions, inputs included.
    pub transcript: [u8; 32],
    /// Each node that sent or received a frame, inputs among them, in any order.
    pub nodes: Vec<NodeMeasured>,
}

/// What the link measured of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeMeasured {
    /// Which node.
    pub node: NodeId,
    /// Depth of its deepest frame, sent or received.
    pub depth: u16,
    /// Payload bits sent.
    pub bits_sent: u64,
    /// Payload bits received.
    pub bits_received: u64,
}

/// What a run that succeeded leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Measured at the link, equal to the declaration and to the peer's.
    pub measured: Measured,
    /// Bytes of key for this party: its seed and its parts' keys.
    pub key_bytes: u64,
}
