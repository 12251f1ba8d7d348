//! What a backend does: deal the parts of a program, and evaluate them step by step. Backends agree bit for bit. No method
//! has a default: whoever wraps a backend passes all of them on.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::{
    Counts, Gate, KeyBytes, KeyShape, Node, NodeId, Part, Party, Program, SecretBytes, Seed, Side, Value,
    load::{Dealt, Kept},
    ops::{MaskCache, host::DealHost},
    prg::Domain,
    secret::SecretMemory,
    value::Words,
};

/// A kind of device that makes and evaluates keys.
pub trait Backend: Send + Sync {
    /// Which device, for records and logs.
    fn info(&self) -> BackendInfo;

    /// Makes the keys of `job.part`: the bytes for party 0 and for party 1, as the node's [`KeyShape`] lays them out.
    ///
    /// # Errors
    /// When the device fails; nothing of the part may be used then.
    fn deal(&self, job: &DealJob<'_>) -> Result<[SecretBytes; 2], BackendError>;

    /// Takes the key of a part to where it will be used. `key` has the length that the layout says, which is 0 for a node
    /// without a key.
    ///
    /// # Errors
    /// When the device fails or is out of memory.
    fn stage(&self, job: &EvalJob, key: KeyBytes) -> Result<Box<dyn StagedPart>, BackendError>;

    /// Whether the device still answers. Takes far less than a millisecond, and disturbs no work.
    ///
    /// # Errors
    /// [`BackendError::Lost`] when it is gone for as long as this process lives, or how it failed.
    fn check(&self) -> Result<(), BackendError>;

    /// Memory for a message of the peer's of `bytes` bytes, from which the device takes it without a copy of the host's. None:
    /// any memory will do.
    fn message_room(&self, bytes: usize) -> Option<Box<dyn SecretMemory>>;
}

/// A part whose key is on its device, waiting for its inputs.
pub trait StagedPart: Send {
    /// Takes the tiles that the part takes, in the order of [`Program::taken`], to where the key is. A node `input` takes the
    /// client's shares.
    ///
    /// # Errors
    /// When the device fails.
    fn begin(self: Box<Self>, inputs: Vec<Arc<dyn Value>>) -> Result<Box<dyn PartEval>, BackendError>;
}

/// One part in evaluation. Exchange i's message is made from the peer's message of exchange i - 1.
pub trait PartEval: Send {
    /// The message of exchange `step`, in memory that its device wrote it to: it is not copied on its way to the peer.
    /// `incoming` is the peer's message of the exchange before, empty for the first.
    ///
    /// # Errors
    /// When the device fails.
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError>;

    /// What the node makes, after the last exchange: a tile of its wire, or this party's shares for the client. `incoming` is
    /// empty where the node has no exchange.
    ///
    /// # Errors
    /// When the device fails.
    fn finish(&mut self, incoming: &[u8]) -> Result<Arc<dyn Value>, BackendError>;

    /// What the device did since the last call. Empty where the calling thread does the work itself: then its time is the
    /// kernels'.
    fn take_spans(&mut self) -> Vec<Span>;

    /// Whether an exchange takes the calling thread only microseconds. Then the thread that has the peer's message goes
    /// on with it. That costs less than waking another.
    fn is_prompt(&self) -> bool;
}

/// A stretch of a part's evaluation, as the device's clock has it.
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

/// One part to deal.
#[derive(Clone, Debug)]
pub struct DealJob<'a> {
    /// The program.
    pub program: &'a Program,
    /// The batch's id.
    pub batch: [u8; 16],
    /// The part.
    pub part: Part,
    /// The seeds of party 0 and party 1.
    pub party_seeds: &'a [Seed; 2],
    /// The seed of what the dealer alone knows.
    pub dealer_seed: &'a Seed,
    /// Masks of the batch's wires that were derived before.
    pub masks: &'a MaskCache,
    /// The load whose matrices the program takes; none if it takes none.
    pub load: Option<&'a Dealt>,
}

/// One part to evaluate.
#[derive(Clone, Debug)]
pub struct EvalJob {
    /// The program.
    pub program: Arc<Program>,
    /// The batch's id.
    pub batch: [u8; 16],
    /// The part.
    pub part: Part,
    /// Which party evaluates.
    pub party: Party,
    /// This party's seed of the batch.
    pub seed: Seed,
    /// The load whose matrices the program takes; none if it takes none.
    pub load: Option<Arc<Kept>>,
}

impl DealJob<'_> {
    /// The part's node.
    #[must_use]
    pub fn node(&self) -> &Node {
        self.program.node(self.part.node)
    }

    /// Elements of the part.
    #[must_use]
    pub fn elems(&self) -> usize {
        self.program.elems(self.part)
    }

    /// Entries of each extent in the part.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.program.counts(self.part)
    }

    /// The layout of its key.
    #[must_use]
    pub fn key_shape(&self) -> &KeyShape {
        self.node().op().def().key_shape()
    }

    /// What the part takes of the masks of the node's first `count` wires.
    pub(crate) fn masks(
        &self,
        host: &dyn DealHost,
        count: usize,
    ) -> Result<Vec<Zeroizing<Vec<u64>>>, BackendError> {
        let taken = self.program.taken(self.part).take(count);
        let masks =
            taken.map(|taken| self.program.gather(&taken, |part| host.mask(part)).map(Zeroizing::new));
        masks.collect()
    }

    /// The side of `party`.
    #[must_use]
    pub fn side(&self, party: Party) -> Side {
        self.program.side(party, self.part)
    }

    /// The domain of its fields' streams.
    #[must_use]
    pub fn domain(&self) -> Domain<'_> {
        Domain { batch: &self.batch, program: self.program.digest(), part: self.part }
    }

    /// The domain of the mask of a wire's tile that this part takes or makes: `wire` is the node that makes it.
    #[must_use]
    pub fn mask_domain(&self, wire: NodeId) -> Domain<'_> {
        Domain { part: Part { node: wire, ..self.part }, ..self.domain() }
    }
}

impl EvalJob {
    /// The part's node.
    #[must_use]
    pub fn node(&self) -> &Node {
        self.program.node(self.part.node)
    }

    /// The part's gate.
    ///
    /// # Panics
    /// If the node is no gate.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        self.node().op().as_gate().expect("asked of gates alone").gate()
    }

    /// Elements of the part.
    #[must_use]
    pub fn elems(&self) -> usize {
        self.program.elems(self.part)
    }

    /// Entries of each extent in the part.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.program.counts(self.part)
    }

    /// The layout of its key.
    #[must_use]
    pub fn key_shape(&self) -> &KeyShape {
        self.node().op().def().key_shape()
    }

    /// This party's side.
    #[must_use]
    pub fn side(&self) -> Side {
        self.program.side(self.party, self.part)
    }

    /// The domain of its fields' streams.
    #[must_use]
    pub fn domain(&self) -> Domain<'_> {
        Domain { batch: &self.batch, program: self.program.digest(), part: self.part }
    }

    /// As [`DealJob::mask_domain`].
    #[must_use]
    pub fn mask_domain(&self, wire: NodeId) -> Domain<'_> {
        Domain { part: Part { node: wire, ..self.part }, ..self.domain() }
    }

    /// Whether `key` bytes are the length of the part's key for this party.
    ///
    /// # Errors
    /// [`BackendError::Misuse`] for a part that the program does not have, and for another length.
    pub fn check_key(&self, key: usize) -> Result<(), BackendError> {
        if !self.program.has(self.part) {
            return Err(BackendError::Misuse("a part that the program does not have"));
        }
        if key != self.program.key_bytes_of(self.party, self.part) {
            return Err(BackendError::Misuse("a key of another length than the layout's"));
        }
        Ok(())
    }

    /// The inputs of the part on the host: of each wire that the node takes the rows that the part reads, or the client's
    /// shares. `inputs` are the tiles that hold them, in the order of [`Program::taken`].
    ///
    /// # Errors
    /// [`BackendError::Misuse`] for another number of inputs or of elements, and what the inputs' device says.
    pub fn inputs(&self, inputs: Vec<Arc<dyn Value>>) -> Result<Vec<Vec<u64>>, BackendError> {
        self.check_inputs(&inputs)?;
        let mut inputs = inputs.into_iter();
        let mut next = || inputs.next().expect("as many as are due");
        if self.node().is_input() {
            return Ok(vec![next().words()?]);
        }
        let rows = |taken| {
            if self.program.is_whole_part(&taken) {
                return next().words();
            }
            self.program.gather(&taken, |_| Words::of(next()))
        };
        self.program.taken(self.part).map(rows).collect()
    }

    /// Whether `inputs` are what [`EvalJob::inputs`] takes.
    ///
    /// # Errors
    /// [`BackendError::Misuse`] for another number of inputs or of elements.
    pub fn check_inputs(&self, inputs: &[Arc<dyn Value>]) -> Result<(), BackendError> {
        let mut due: Vec<Part> = self.program.taken(self.part).flat_map(|taken| taken.parts()).collect();
        if self.node().is_input() {
            due.push(self.part);
        }
        if inputs.len() != due.len() {
            return Err(BackendError::Misuse("another number of inputs than the node's"));
        }
        if inputs.iter().zip(due).any(|(input, due)| input.elems() != self.program.elems(due)) {
            return Err(BackendError::Misuse("an input of another length than the part's"));
        }
        Ok(())
    }

    /// The one input of a part that takes one, as [`EvalJob::inputs`].
    ///
    /// # Errors
    /// As [`EvalJob::inputs`].
    pub fn only_input(&self, inputs: Vec<Arc<dyn Value>>) -> Result<Vec<u64>, BackendError> {
        match <[_; 1]>::try_from(self.inputs(inputs)?) {
            Ok([input]) => Ok(input),
            Err(_) => Err(BackendError::Misuse("another number of inputs than one")),
        }
    }
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
    /// The caller passed what the node does not take.
    #[error("backend misused: {0}")]
    Misuse(&'static str),
}
