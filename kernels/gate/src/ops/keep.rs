//! `keep`: both parties keep the masked wire of an input as a matrix of a loaded model. Nothing is sent, and nobody is given
//! anything. A program with this operation has inputs besides, and nothing else: see [`crate::load`].

use std::sync::Arc;

use bytes::Bytes;

use super::{OpDef, only};
use crate::{BackendError, EvalJob, Form, HostValue, PartEval, Span, StagedPart, Value, Wire};

/// An input that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep;

impl OpDef for Keep {
    fn name(&self) -> String {
        "keep".into()
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        match only(inputs)?.form {
            Form::Masked => Ok(None),
            Form::Shared | Form::Pad => Err("the wire is shared, but a matrix is kept masked".into()),
        }
    }
}

/// A tile of a matrix at one party.
pub(crate) fn stage(job: EvalJob) -> Box<dyn StagedPart> {
    Box::new(Keeping { job, wire: Vec::new() })
}

struct Keeping {
    job: EvalJob,
    wire: Vec<u64>,
}

impl StagedPart for Keeping {
    fn begin(mut self: Box<Self>, inputs: Vec<Arc<dyn Value>>) -> Result<Box<dyn PartEval>, BackendError> {
        self.wire = self.job.only_input(inputs)?;
        Ok(self)
    }
}

impl PartEval for Keeping {
    fn step(&mut self, _: usize, _: &[u8]) -> Result<Bytes, BackendError> {
        Err(BackendError::Misuse("what is kept has no exchange"))
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Arc<dyn Value>, BackendError> {
        if self.wire.is_empty() || !incoming.is_empty() {
            return Err(BackendError::Misuse("a matrix is kept once, without a message"));
        }
        Ok(HostValue::shared(std::mem::take(&mut self.wire)))
    }

    fn take_spans(&mut self) -> Vec<Span> {
        Vec::new()
    }

    fn is_prompt(&self) -> bool {
        false
    }
}
