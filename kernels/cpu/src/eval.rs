//! One party's evaluation of a chunk. The turn, the key and this party's last message are kept here, once for all gates; a
//! gate says what its exchanges share and what they open.

use bytes::Bytes;
use suf_gate::{BackendError, ChunkEval, ring::WIRE};

use crate::{key::ChunkKey, pack};

/// What a gate does in its exchanges. What it holds has been opened, or is this party's share of something.
pub(crate) trait GateEval: Send {
    /// This party's message of exchange `step`. All exchanges before it are open.
    fn share(&mut self, key: &ChunkKey, step: usize) -> Vec<u8>;

    /// Opens exchange `step`, not the last one, from this party's message and the peer's.
    fn open(&mut self, key: &ChunkKey, step: usize, mine: &[u8], theirs: &[u8]);

    /// Opens y_hat from both messages of the last exchange.
    fn open_output(&mut self, key: &ChunkKey, mine: &[u8], theirs: &[u8]) -> Vec<u64> {
        let mut outputs = vec![0; key.job().elems];
        pack::unpack_sum(WIRE.bits().into(), mine, theirs, &mut outputs);
        outputs
    }
}

/// A chunk in evaluation.
pub(crate) struct Evaluation {
    key: ChunkKey,
    gate: Box<dyn GateEval>,
    /// Exchanges whose message this party has made.
    shared: usize,
    /// This party's message of the last of them; its memory is also the one that is sent.
    sent: Bytes,
}

impl Evaluation {
    /// Starts `gate`, which holds the input.
    pub(crate) fn new(key: ChunkKey, gate: Box<dyn GateEval>) -> Self {
        Self { key, gate, shared: 0, sent: Bytes::new() }
    }

    /// Checks that `incoming` is the peer's message of the exchange before `step`, and that `step` is due.
    fn check_turn(&self, step: usize, incoming: &[u8]) -> Result<(), BackendError> {
        if step != self.shared || incoming.len() != self.sent.len() {
            return Err(BackendError::Misuse("a message out of turn or of another length than the gate's"));
        }
        Ok(())
    }
}

impl ChunkEval for Evaluation {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError> {
        if step >= self.key.job().gate.exchanges().len() {
            return Err(BackendError::Misuse("a step that the gate does not have"));
        }
        self.check_turn(step, incoming)?;
        if let Some(before) = step.checked_sub(1) {
            self.gate.open(&self.key, before, &self.sent, incoming);
        }
        self.sent = self.gate.share(&self.key, step).into();
        self.shared += 1;
        Ok(self.sent.clone())
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Vec<u64>, BackendError> {
        let last = self.key.job().gate.exchanges().len();
        self.check_turn(last, incoming)?;
        // Nothing is due after this.
        self.shared += 1;
        Ok(self.gate.open_output(&self.key, &self.sent, incoming))
    }
}
