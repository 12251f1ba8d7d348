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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use suf_gate::{Backend, DealJob, EvalJob, Gate, Input, Party, Seed, StagedKey, catalog};

    use super::*;
    use crate::CpuBackend;

    const ELEMS: usize = 9;

    /// Party 0's key of a chunk.
    fn staged(gate: &Gate) -> Box<dyn StagedKey> {
        let (backend, batch) = (CpuBackend::new(), [7; 16]);
        let [first, second, dealer_seed] = [1, 2, 3].map(|byte| Seed::new([byte; 32]));
        let party_seeds = [first, second];
        let job = DealJob {
            gate,
            batch,
            chunk: 0,
            elems: ELEMS,
            party_seeds: &party_seeds,
            dealer_seed: &dealer_seed,
        };
        let [key, _] = backend.deal(&job).expect("the processor deals");
        let [seed, _] = party_seeds;
        let gate = Arc::new(gate.clone());
        let job = EvalJob { gate, batch, chunk: 0, elems: ELEMS, party: Party::P0, seed };
        backend.stage(&job, key.into()).expect("the key fits")
    }

    fn input(is_shares: bool, elems: usize) -> Input {
        if is_shares { Input::Shares(vec![0; elems]) } else { Input::Wire(vec![0; elems]) }
    }

    #[track_caller]
    fn refused<T>(result: Result<T, BackendError>, gate: &Gate, what: &str) {
        let is_misuse = matches!(result, Err(BackendError::Misuse(_)));
        assert!(is_misuse, "{} {}: {what}", gate.protocol(), gate.name());
    }

    #[test]
    fn a_message_out_of_turn_or_of_another_length_is_refused() {
        for gate in catalog::builtin() {
            let last = gate.exchanges().len();
            let of = |step: usize| vec![0; gate.message_bytes(step, ELEMS)];
            let mut eval = staged(&gate).begin(input(gate.takes_shares(), ELEMS)).expect("the input fits");
            for step in 0..last {
                let due = step.checked_sub(1).map_or_else(Vec::new, of);
                refused(eval.step(step + 1, &due), &gate, "a step too early");
                refused(eval.finish(&of(last - 1)), &gate, "finished before the last exchange");
                refused(eval.step(step, &[&due[..], &[0]].concat()), &gate, "a byte too many");
                if let Some((_, shorter)) = due.split_last() {
                    refused(eval.step(step, shorter), &gate, "a byte too few");
                }
                // What was refused has changed nothing.
                let message = eval.step(step, &due).expect("its turn");
                assert_eq!(message.len(), gate.message_bytes(step, ELEMS));
                refused(eval.step(step, &due), &gate, "a step twice");
            }
            let due = of(last - 1);
            refused(eval.step(last, &due), &gate, "a step that there is not");
            assert_eq!(eval.finish(&due).expect("the last exchange is over").len(), ELEMS);
            refused(eval.finish(&due), &gate, "finished twice");
        }
    }

    #[test]
    fn an_input_of_another_kind_or_length_is_refused() {
        for gate in catalog::builtin() {
            let shares = gate.takes_shares();
            refused(staged(&gate).begin(input(shares, ELEMS - 1)), &gate, "an element too few");
            refused(staged(&gate).begin(input(shares, ELEMS + 1)), &gate, "an element too many");
            refused(staged(&gate).begin(input(!shares, ELEMS)), &gate, "another kind");
        }
    }
}
