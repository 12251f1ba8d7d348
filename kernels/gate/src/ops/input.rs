//! `input`: the client's shares of x enter the program. A masked wire is opened at once: x_hat = x + r, one exchange of n
//! bits. A shared wire stays as it is; the gate that takes it opens what it needs.

use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::OpDef;
use crate::{
    BackendError, Counts, EvalJob, Form, HostValue, NodeCost, PartEval, Ring, Segment, Span, StagedPart,
    TensorShape, Value, Wire, packing,
};

/// A tensor that the client shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    wire: Wire,
    exchanges: Vec<Vec<Segment>>,
}

impl Input {
    /// A tensor of `shape` in `ring`, with `frac` fractional bits, that the parties hold in `form`.
    #[must_use]
    pub fn new(shape: TensorShape, ring: Ring, frac: u8, form: Form) -> Self {
        let exchanges = match form {
            Form::Masked => vec![vec![Segment::new("x_hat", ring.bits())]],
            Form::Shared | Form::Pad => Vec::new(),
        };
        Self { wire: Wire { form, ..Wire::fresh(shape, ring, frac) }, exchanges }
    }

    /// What it makes.
    #[must_use]
    pub fn made(&self) -> &Wire {
        &self.wire
    }
}

impl OpDef for Input {
    fn name(&self) -> String {
        "input".into()
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        if self.wire.form == Form::Pad {
            return Err("a client shares no mask".into());
        }
        if inputs.is_empty() { Ok(Some(self.wire)) } else { Err("it takes no wire".into()) }
    }

    fn exchanges(&self) -> &[Vec<Segment>] {
        &self.exchanges
    }

    fn declared(&self, size: Counts) -> NodeCost {
        match self.wire.form {
            Form::Masked => NodeCost {
                rounds: 1,
                bits: u64::from(self.wire.ring.bits()) * size.elems as u64,
                ..NodeCost::NONE
            },
            Form::Shared | Form::Pad => NodeCost::NONE,
        }
    }
}

/// A tile of an input at one party. `mask` is this party's share of the wire's mask, which only a masked wire needs.
pub(crate) fn stage(job: EvalJob, mask: Option<Zeroizing<Vec<u64>>>) -> Box<dyn StagedPart> {
    let wire = *job.node().wire().expect("an input makes a wire");
    Box::new(Opening { ring: wire.ring, job, mask, shares: Vec::new(), is_sent: false })
}

struct Opening {
    ring: Ring,
    job: EvalJob,
    mask: Option<Zeroizing<Vec<u64>>>,
    /// The client's, then this party's half of x_hat.
    shares: Vec<u64>,
    is_sent: bool,
}

impl StagedPart for Opening {
    fn begin(mut self: Box<Self>, inputs: Vec<Arc<dyn Value>>) -> Result<Box<dyn PartEval>, BackendError> {
        self.shares = self.job.only_input(inputs)?;
        Ok(self)
    }
}

impl PartEval for Opening {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError> {
        if step != 0 || !incoming.is_empty() {
            return Err(BackendError::Misuse("an input opens once"));
        }
        let mask = self.mask.take().ok_or(BackendError::Misuse("an input opens once, if it is masked"))?;
        for (share, mask) in self.shares.iter_mut().zip(mask.iter()) {
            *share = self.ring.add(*share, *mask);
        }
        self.is_sent = true;
        Ok(packing::pack(self.ring, &self.shares).into())
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Arc<dyn Value>, BackendError> {
        if self.mask.is_some() {
            return Err(BackendError::Misuse("an input ends after it was opened"));
        }
        let due = if self.is_sent { packing::packed_bytes(self.ring, self.shares.len()) } else { 0 };
        if self.shares.is_empty() || incoming.len() != due {
            return Err(BackendError::Misuse("a message out of turn or of another length than the input's"));
        }
        let mut words = std::mem::take(&mut self.shares);
        if self.is_sent {
            packing::add_packed(self.ring, incoming, &mut words);
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
