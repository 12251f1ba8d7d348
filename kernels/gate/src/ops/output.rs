//! `output`: each party turns the masked wire into its additive share of the value, for the client. Party 0's is x_hat
//! minus its share of the mask, party 1's minus its share of the mask. Nothing is sent.

use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::{OpDef, only};
use crate::{
    BackendError, EvalJob, Form, HostValue, PartEval, Party, Ring, Span, StagedPart, Value, Wire, wire::Mask,
};

/// A wire that the client receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output;

impl OpDef for Output {
    fn name(&self) -> String {
        "output".into()
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let wire = only(inputs)?;
        if wire.form != Form::Masked {
            return Err("the wire is shared, but an output takes a masked wire".into());
        }
        if wire.mask == Mask::Dropped {
            return Err("the parties hold no shares of the wire's mask: put `open` before it".into());
        }
        Ok(None)
    }
}

/// A tile of an output at one party. `mask` is this party's share of the mask of the wire that the node takes.
pub(crate) fn stage(job: EvalJob, mask: Zeroizing<Vec<u64>>) -> Box<dyn StagedPart> {
    let wire = job.program.node(job.node().inputs()[0]);
    let ring = wire.ring().expect("an output takes a wire");
    Box::new(Unmasking { ring, job, mask, wire: Vec::new() })
}

struct Unmasking {
    ring: Ring,
    job: EvalJob,
    mask: Zeroizing<Vec<u64>>,
    wire: Vec<u64>,
}

impl StagedPart for Unmasking {
    fn begin(mut self: Box<Self>, inputs: Vec<Arc<dyn Value>>) -> Result<Box<dyn PartEval>, BackendError> {
        self.wire = self.job.only_input(inputs)?;
        Ok(self)
    }
}

impl PartEval for Unmasking {
    fn step(&mut self, _: usize, _: &[u8]) -> Result<Bytes, BackendError> {
        Err(BackendError::Misuse("an output has no exchange"))
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Arc<dyn Value>, BackendError> {
        if self.wire.is_empty() || !incoming.is_empty() {
            return Err(BackendError::Misuse("an output ends once, without a message"));
        }
        let mut words = std::mem::take(&mut self.wire);
        for (word, mask) in words.iter_mut().zip(self.mask.iter()) {
            *word = match self.job.party {
                Party::P0 => self.ring.sub(*word, *mask),
                Party::P1 => self.ring.sub(0, *mask),
            };
        }
        Ok(HostValue::shared(words))
    }

    fn take_spans(&mut self) -> Vec<Span> {
        Vec::new()
    }

    fn is_prompt(&self) -> bool {
        false
    }
}
