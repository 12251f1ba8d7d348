//! One party's evaluation of a gate's part. The turn, the key and this party's last message are kept here, once for all
//! gates. A gate says what its exchanges share and what they open.

use std::sync::Arc;

use bytes::Bytes;
use suf_gate::{BackendError, HostValue, PartEval, Span, Value, ring::WIRE};

use crate::{key::PartKey, pack};

/// What a gate does in its exchanges. What it holds has been opened, or is this party's share of something.
pub(crate) trait GateEval: Send {
    /// This party's message of exchange `step`. All exchanges before it are open.
    fn share(&mut self, key: &PartKey, step: usize) -> Vec<u8>;

    /// Opens exchange `step`, not the last one, from this party's message and the peer's.
    fn open(&mut self, key: &PartKey, step: usize, mine: &[u8], theirs: &[u8]);

    /// Opens y_hat from both messages of the last exchange.
    fn open_output(&mut self, key: &PartKey, mine: &[u8], theirs: &[u8]) -> Vec<u64> {
        let mut outputs = vec![0; key.elems()];
        pack::unpack_sum(WIRE.bits().into(), mine, theirs, &mut outputs);
        outputs
    }
}

/// A part in evaluation.
pub(crate) struct Evaluation {
    key: PartKey,
    gate: Box<dyn GateEval>,
    /// Exchanges whose message this party has made.
    shared: usize,
    /// This party's message of the last of them; its memory is also the one that is sent.
    sent: Bytes,
}

impl Evaluation {
    /// Starts `gate`, which holds the input.
    pub(crate) fn new(key: PartKey, gate: Box<dyn GateEval>) -> Self {
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

impl PartEval for Evaluation {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError> {
        if step >= self.key.job().node().exchanges() {
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

    fn finish(&mut self, incoming: &[u8]) -> Result<Arc<dyn Value>, BackendError> {
        let last = self.key.job().node().exchanges();
        self.check_turn(last, incoming)?;
        // Nothing is due after this.
        self.shared += 1;
        Ok(HostValue::shared(self.gate.open_output(&self.key, &self.sent, incoming)))
    }

    fn take_spans(&mut self) -> Vec<Span> {
        Vec::new()
    }

    fn is_prompt(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use suf_gate::{Backend, Gate, NodeId, Part, Party, Program, Seed, StagedPart, TwoParties, catalog};

    use super::*;
    use crate::CpuBackend;

    const ELEMS: usize = 9;

    /// Party 0, with its key of a gate.
    fn staged(gate: &Gate) -> Box<dyn StagedPart> {
        let program = Program::of_gate(Arc::new(gate.clone()), ELEMS as u64).expect("a program");
        let seeds = [1, 2, 3].map(|byte| Seed::new([byte; 32]));
        let parties = TwoParties::new(Arc::new(program), [7; 16], seeds);
        let (backend, part) = (CpuBackend::new(), Part::new(NodeId(1), 0));
        let [key, _] = parties.deal(&backend, part).expect("the processor deals");
        backend.stage(&parties.eval_job(Party::P0, part), key).expect("the key fits")
    }

    fn zeros(elems: usize) -> Vec<Arc<dyn Value>> {
        vec![HostValue::shared(vec![0; elems])]
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
            let mut eval = staged(&gate).begin(zeros(ELEMS)).expect("the input fits");
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
            assert_eq!(eval.finish(&due).expect("the last exchange is over").elems(), ELEMS);
            refused(eval.finish(&due), &gate, "finished twice");
        }
    }

    #[test]
    fn another_number_of_inputs_or_of_elements_is_refused() {
        for gate in catalog::builtin() {
            refused(staged(&gate).begin(zeros(ELEMS - 1)), &gate, "an element too few");
            refused(staged(&gate).begin(zeros(ELEMS + 1)), &gate, "an element too many");
            refused(staged(&gate).begin(Vec::new()), &gate, "no input");
            refused(staged(&gate).begin([zeros(ELEMS), zeros(ELEMS)].concat()), &gate, "two inputs");
        }
    }
}
