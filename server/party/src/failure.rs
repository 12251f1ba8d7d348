//! Why a run ended badly, and whose fault it was.

use std::fmt;

use suf_gate::BackendError;
use suf_wire::{BatchId, Fault, NodeId, Part, Reason};

use crate::Phase;

/// The end of a run that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFailure {
    /// Who is at fault.
    pub fault: Fault,
    /// What happened, where, and what to do about it.
    pub reason: String,
    /// Which rule of the protocol was broken; none if something else happened.
    pub breach: Option<Breach>,
}

/// A rule of the protocol that somebody broke, as this party saw it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// The public parts of the keys differ.
    #[error(
        "the dealer gave the parties unequal public parts of the keys of batch {batch}, segment {segment}"
    )]
    UnequalKeys {
        /// The batch.
        batch: BatchId,
        /// The segment of its keys.
        segment: u16,
    },
    /// A message that was not due.
    #[error("{message} while {phase:?}")]
    Message {
        /// Its name.
        message: &'static str,
        /// Where the run stood.
        phase: Phase,
    },
    /// A frame that was not due.
    #[error("a frame of step {step} for {part} out of order: step {received} is due, {sent} were sent")]
    Frame {
        /// Its part.
        part: Part,
        /// Its exchange.
        step: u8,
        /// Exchanges of the part whose message arrived before.
        received: usize,
        /// Exchanges of the part whose message was sent.
        sent: usize,
    },
    /// A frame for what the program does not have.
    #[error("a frame of step {step} for {part}, which the program does not have")]
    NoSuchFrame {
        /// Its part.
        part: Part,
        /// Its exchange.
        step: u8,
    },
    /// A frame whose payload does not fit the program.
    #[error("the frame of step {step} for {part}: {problem}")]
    Payload {
        /// Its part.
        part: Part,
        /// Its exchange.
        step: u8,
        /// What is wrong with it.
        problem: String,
    },
    /// A node that sent or received another number of bits than it declares.
    #[error(
        "{node} ({op}): measured bits (sent, received) {measured:?} differ from the declared {declared} each way"
    )]
    NodeCost {
        /// Which node.
        node: NodeId,
        /// What it does.
        op: String,
        /// Measured bits: sent and received.
        measured: (u64, u64),
        /// Declared bits, each way.
        declared: u64,
    },
    /// Measured costs of a program that differ from the declared ones.
    #[error("measured (rounds, bits sent, bits received) {measured:?} differ from the declared {declared:?}")]
    Cost {
        /// Rounds, bits sent, bits received.
        measured: (u16, u64, u64),
        /// The same, as declared.
        declared: (u16, u64, u64),
    },
    /// The peer measured something else.
    #[error("it finished with {theirs}, this party with {ours}")]
    OtherEnd {
        /// What the peer said.
        theirs: String,
        /// What this party says.
        ours: String,
    },
}

impl RunFailure {
    /// A failure.
    pub fn new(fault: Fault, reason: impl Into<String>) -> Self {
        Self { fault, reason: reason.into(), breach: None }
    }

    /// The reason, shortened to what the wire carries.
    #[must_use]
    pub fn wire_reason(&self) -> Reason {
        Reason::new(&self.reason)
    }
}

impl fmt::Display for RunFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at fault: {}", self.fault, self.reason)
    }
}

impl std::error::Error for RunFailure {}

impl From<Breach> for RunFailure {
    fn from(breach: Breach) -> Self {
        let fault = match breach {
            Breach::UnequalKeys { .. } => Fault::Dealer,
            Breach::NodeCost { .. } | Breach::Cost { .. } => Fault::Bug,
            Breach::Message { .. }
            | Breach::Frame { .. }
            | Breach::NoSuchFrame { .. }
            | Breach::Payload { .. }
            | Breach::OtherEnd { .. } => Fault::Peer,
        };
        Self { fault, reason: breach.to_string(), breach: Some(breach) }
    }
}

impl From<BackendError> for RunFailure {
    fn from(error: BackendError) -> Self {
        let fault = match error {
            BackendError::Misuse(_) => Fault::Bug,
            BackendError::Unavailable(_)
            | BackendError::OutOfMemory(_)
            | BackendError::Failed(_)
            | BackendError::Lost(_) => Fault::Device,
        };
        Self::new(fault, error.to_string())
    }
}
