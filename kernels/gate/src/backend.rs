//! What a backend does: deal chunks, and evaluate them step by step. Backends agree bit for bit.

use std::{fmt, sync::Arc, time::Instant};

use bytes::Bytes;

use crate::{Gate, KeyBytes, Party, SecretBytes, Seed, secret::SecretMemory};

/// A kind of device that makes and evaluates keys.
pub trait Backend: Send + Sync {
    /// Which device, for records and logs.
    fn info(&self) -> BackendInfo;

    /// Makes chunk `job.chunk` of a batch: the bytes for party 0 and for party 1, as [`crate::KeyShape`] lays them out.
    ///
    /// # Errors
    /// When the device fails; nothing of the chunk may be used then.
    fn deal(&self, job: &DealJob<'_>) -> Result<[SecretBytes; 2], BackendError>;

    /// This party's shares of the wire mask `field` ([`crate::layout::R_IN`] or [`crate::layout::R_OUT`]) of a chunk.
    ///
    /// # Errors
    /// When the device fails.
    fn wire_mask(&self, job: &EvalJob, field: crate::layout::FieldId) -> Result<Vec<u64>, BackendError>;

    /// Takes the key of a chunk to where it will be used. `key` has the length the layout says.
    ///
    /// # Errors
    /// When the device fails or is out of memory.
    fn stage(&self, job: &EvalJob, key: KeyBytes) -> Result<Box<dyn StagedKey>, BackendError>;

    /// Memory for a message of the peer's of `bytes` bytes, from which the device takes it without a copy of the host's. None:
    /// any memory will do.
    fn message_room(&self, _bytes: usize) -> Option<Box<dyn SecretMemory>> {
        None
    }
}

/// A chunk's key on its device, waiting for the input.
pub trait StagedKey: Send {
    /// Takes the input to where the key is.
    ///
    /// # Errors
    /// When the device fails.
    fn begin(self: Box<Self>, input: Input) -> Result<Box<dyn ChunkEval>, BackendError>;
}

/// One chunk in evaluation. Exchange i's message is made from the peer's message of exchange i - 1.
pub trait ChunkEval: Send {
    /// The message of exchange `step`, in memory that its device wrote it to: it is not copied on its way to the peer.
    /// `incoming` is the peer's message of the exchange before, empty for the first.
    ///
    /// # Errors
    /// When the device fails.
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError>;

    /// The public y_hat, after the last exchange.
    ///
    /// # Errors
    /// When the device fails.
    fn finish(&mut self, incoming: &[u8]) -> Result<Vec<u64>, BackendError>;

    /// What the device did since the last call. None where the calling thread does the work itself: then its time is the
    /// kernels'.
    fn take_spans(&mut self) -> Vec<Span> {
        Vec::new()
    }

    /// Whether an exchange takes the calling thread microseconds: then the thread that has the peer's message goes on with it,
    /// which costs less than waking another.
    fn is_prompt(&self) -> bool {
        false
    }
}

/// A stretch of a chunk's evaluation, as the device's clock has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// What was done.
    pub activity: Activity,
    /// From when.
    pub start: Instant,
    /// Until when.
    pub end: Instant,
}

/// What a device does for an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It computes.
    Kernel,
    /// Bytes are moved between messages and the device.
    Copy,
}

/// What a chunk's evaluation starts from; the gate says which ([`Gate::takes_shares`]).
#[derive(Clone)]
pub enum Input {
    /// The public masked wire x_hat.
    Wire(Vec<u64>),
    /// This party's additive shares of x, for gates that open what they need themselves.
    Shares(Vec<u64>),
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(x) => write!(f, "Wire({} elements)", x.len()),
            Self::Shares(x) => write!(f, "Shares({} elements)", x.len()),
        }
    }
}

/// One chunk to deal.
#[derive(Clone, Debug)]
pub struct DealJob<'a> {
    /// The gate.
    pub gate: &'a Gate,
    /// The batch's id.
    pub batch: [u8; 16],
    /// The chunk's index.
    pub chunk: u32,
    /// Its elements, 1..=[`crate::CHUNK_ELEMS`].
    pub elems: usize,
    /// The seeds of party 0 and party 1.
    pub party_seeds: &'a [Seed; 2],
    /// The seed of what the dealer alone knows.
    pub dealer_seed: &'a Seed,
}

/// One chunk to evaluate.
#[derive(Clone, Debug)]
pub struct EvalJob {
    /// The gate.
    pub gate: Arc<Gate>,
    /// The batch's id.
    pub batch: [u8; 16],
    /// The chunk's index.
    pub chunk: u32,
    /// Its elements.
    pub elems: usize,
    /// Which party evaluates.
    pub party: Party,
    /// This party's seed of the batch.
    pub seed: Seed,
}

/// Which device a figure comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    /// "cpu" or "cuda".
    pub name: &'static str,
    /// Model and instruction level or driver.
    pub device: String,
    /// A GPU's clocks at the time of asking; none where they are not told.
    pub clocks: Option<Clocks>,
}

/// How fast a GPU runs at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// Of the multiprocessors, in MHz.
    pub processor_mhz: u32,
    /// Of the memory, in MHz.
    pub memory_mhz: u32,
}

/// A backend's failure.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The device is absent, too old or not usable.
    #[error("no usable device: {0}")]
    Unavailable(String),
    /// The device has too little memory left.
    #[error("device out of memory: {0}")]
    OutOfMemory(String),
    /// A kernel or a copy failed.
    #[error("device failed: {0}")]
    Failed(String),
    /// The device takes nothing more from this process.
    #[error("device lost: {0}")]
    Lost(String),
    /// The caller passed what the gate does not take.
    #[error("backend misused: {0}")]
    Misuse(&'static str),
}
