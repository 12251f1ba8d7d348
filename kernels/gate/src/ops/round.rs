//! One round that opens the wire that a node makes: each party sends its shares under its share of the wire's fresh mask.

use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::host::EvalHost;
use crate::{
    BackendError, EvalJob, HostValue, PartEval, Ring, Segment, Span, StagedPart, Value, Wire, packing,
};

/// One party's shares of what a part makes, modulo 2^64.
pub(crate) trait Share: Send {
    /// From what the part takes of each wire.
    fn share(&self, job: &EvalJob, taken: Vec<Vec<u64>>) -> Vec<u64>;
}

/// The exchange of a node that opens a wire of `ring`.
pub(crate) fn exchange(ring: Ring) -> Vec<Vec<Segment>> {
    vec![vec![Segment::new("x_hat", ring.bits())]]
}

/// A part at one party.
pub(crate) fn stage(
    job: &EvalJob,
    host: &dyn EvalHost,
    share: impl Share + 'static,
) -> Result<Box<dyn StagedPart>, BackendError> {
    let ring = job.node().wire().map(|wire: &Wire| wire.ring).expect("it opens the wire that it makes");
    let mask = host.mask(job.part)?;
    Ok(Box::new(Opening { job: job.clone(), ring, mask, share, taken: Vec::new(), sent: None }))
}

struct Opening<S> {
    job: EvalJob,
    ring: Ring,
    /// This party's share of the mask of the wire that is made.
    mask: Zeroizing<Vec<u64>>,
    share: S,
    taken: Vec<Vec<u64>>,
    /// What this party sent.
    sent: Option<Vec<u64>>,
}

impl<S: Share + 'static> StagedPart for Opening<S> {
    fn begin(mut self: Box<Self>, inputs: Vec<Arc<dyn Value>>) -> Result<Box<dyn PartEval>, BackendError> {
        self.taken = self.job.inputs(inputs)?;
        Ok(self)
    }
}

impl<S: Share> PartEval for Opening<S> {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError> {
        if step != 0 || !incoming.is_empty() || self.taken.is_empty() {
            return Err(BackendError::Misuse("a wire is opened once"));
        }
        let mut shares = self.share.share(&self.job, std::mem::take(&mut self.taken));
        shares
            .iter_mut()
            .zip(self.mask.iter())
            .for_each(|(share, mask)| *share = self.ring.add(*share, *mask));
        let message = packing::pack(self.ring, &shares);
        self.sent = Some(shares);
        Ok(message.into())
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Arc<dyn Value>, BackendError> {
        let due = packing::packed_bytes(self.ring, self.mask.len());
        let sent = self.sent.take_if(|_| incoming.len() == due);
        let mut opened = sent.ok_or(BackendError::Misuse("a message out of turn or of another length"))?;
        packing::add_packed(self.ring, incoming, &mut opened);
        Ok(HostValue::shared(opened))
    }

    fn take_spans(&mut self) -> Vec<Span> {
        Vec::new()
    }

    fn is_prompt(&self) -> bool {
        false
    }
}
