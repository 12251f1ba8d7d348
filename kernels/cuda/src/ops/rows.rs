//! A row exponent at one party: the sums of rows, and the powers of two that they reach.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use suf_gate::{
    Activity, BackendError, EvalJob, KeyBytes, PartEval, Span, StagedPart, Value, ops::RowExponent, packing,
};

use super::{
    comparison,
    lane::Lane,
    masks::Masks,
    party::{OUT_OF_TURN, addresses, fields},
    tasks::{How, Powers, Rotations, RowSums},
    value::DeviceValue,
};
use crate::{backend::Shared, memory::Pinned};

/// A part whose key is on the GPU.
pub(super) fn stage(
    shared: &Arc<Shared>,
    job: &EvalJob,
    op: &RowExponent,
    key: &KeyBytes,
) -> Result<Box<dyn StagedPart>, BackendError> {
    let mut lane = Lane::new(shared)?;
    let fields = fields(&mut lane, job, key)?;
    let fields = fields.try_into().map_err(|_| BackendError::Misuse("a key of other fields"))?;
    let mut masks = Masks::new(&job.program, job.domain(), vec![&job.seed]);
    let mask = masks.of(&mut lane, job.part)?;
    Ok(Box::new(Part {
        job: job.clone(),
        op: op.clone(),
        lane,
        fields,
        mask,
        turn: Turn::Inputs,
        spans: Vec::new(),
    }))
}

struct Part {
    job: EvalJob,
    op: RowExponent,
    lane: Lane,
    /// Shares of beta, masks of sums, roots, words of nodes, words of counts.
    fields: [u64; 5],
    /// Shares of the mask of k / 2.
    mask: u64,
    turn: Turn,
    spans: Vec<Span>,
}

/// What is due.
enum Turn {
    Inputs,
    /// The sums of rows; they are queued, and so is their message.
    Sums(Sums),
    /// The peer's sums.
    Opened(u64),
    /// The peer's exponents.
    Exponents(DeviceValue),
    Over,
}

struct Sums {
    /// Row after row.
    at: u64,
    message: Pinned,
}

impl Part {
    /// Rows, and words of a sum.
    fn size(&self) -> (usize, usize) {
        (self.job.elems(), self.op.scores().sum_bits() / 64)
    }

    /// Queues the sums of the rows of `inputs`.
    fn sums(&mut self, inputs: &[Arc<dyn Value>]) -> Result<Sums, BackendError> {
        let (rows, words) = self.size();
        let Self { job, op, lane, fields, .. } = self;
        let taken = addresses(lane, job, inputs)?;
        let wire = job.program.node(job.node().inputs()[0]).wire();
        let frac = wire.ok_or(BackendError::Misuse("scores that are no wire"))?.frac;
        let at = lane.words(rows * words)?;
        let message = lane.shared().memory.pinned(8 * rows * words)?;
        let [shares, sum_masks, ..] = *fields;
        let rotations = comparison::halves(op, frac, taken[0], shares, job.counts().taken);
        let task = RowSums(Rotations { out: at, sum_masks, message: message.address(), ..rotations });
        // SAFETY: the addresses are those of what the part takes, of its key, and of room for a number of each row.
        unsafe { lane.start(&task) }?;
        Ok(Sums { at, message })
    }

    /// Queues this party's shares of the exponents, of its sums at `mine` and the peer's message, to `value`, and their packing.
    fn exponents(&mut self, value: &DeviceValue, mine: u64, incoming: &[u8]) -> Result<Pinned, BackendError> {
        let (rows, words) = self.size();
        let Self { job, op, lane, fields, mask, .. } = self;
        let (scores, ring) = (op.scores(), op.to());
        let [_, _, roots, nodes, payloads] = *fields;
        let theirs = lane.upload(incoming)?;
        let thresholds = scores.thresholds();
        let task = Powers {
            trees: comparison::powers_trees(op, &job.domain().fixed_keys(), [roots, 0], [nodes, payloads]),
            out: value.address(),
            mine,
            theirs,
            base: comparison::base(scores),
            rows: rows as u32,
            words: words as u32,
            party: job.party.index() as u32,
            first: thresholds.start as u32,
            end: thresholds.end as u32,
        };
        // SAFETY: the message has a number for each row; the rest is the part's key and room for its value.
        unsafe {
            lane.start(&task)?;
            lane.plus(value.address(), *mask, ring.bits(), rows)?;
            lane.pack(value.address(), ring.bits(), rows)
        }
    }

    /// Waits for what is queued, since `begun`.
    fn wait(&mut self, begun: Instant) -> Result<(), BackendError> {
        self.lane.wait()?;
        self.spans.push(Span { activity: Activity::Kernel, start: begun, end: Instant::now() });
        Ok(())
    }
}

impl StagedPart for Part {
    fn begin(mut self: Box<Self>, inputs: Vec<Arc<dyn Value>>) -> Result<Box<dyn PartEval>, BackendError> {
        self.lane.shared().device.bind()?;
        self.job.check_inputs(&inputs)?;
        self.turn = Turn::Sums(self.sums(&inputs)?);
        Ok(self)
    }
}

impl PartEval for Part {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError> {
        let (rows, words) = self.size();
        self.lane.shared().device.bind()?;
        let begun = Instant::now();
        match (step, std::mem::replace(&mut self.turn, Turn::Over)) {
            (0, Turn::Sums(Sums { at, message })) if incoming.is_empty() => {
                self.wait(begun)?;
                self.turn = Turn::Opened(at);
                Ok(message.share(8 * rows * words))
            }
            (1, Turn::Opened(mine)) if incoming.len() == 8 * rows * words => {
                let value = DeviceValue::room(self.lane.shared(), rows, false)?;
                let queued = self.exponents(&value, mine, incoming);
                // Before the value goes, whether all was queued or not.
                let waited = self.wait(begun);
                let message = queued?;
                waited?;
                self.turn = Turn::Exponents(value);
                Ok(message.share(packing::packed_bytes(self.op.to(), rows)))
            }
            (_, turn) => {
                self.turn = turn;
                Err(OUT_OF_TURN)
            }
        }
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Arc<dyn Value>, BackendError> {
        let (rows, _) = self.size();
        let ring = self.op.to();
        let value = match std::mem::replace(&mut self.turn, Turn::Over) {
            Turn::Exponents(value) if incoming.len() == packing::packed_bytes(ring, rows) => value,
            turn => {
                self.turn = turn;
                return Err(OUT_OF_TURN);
            }
        };
        self.lane.shared().device.bind()?;
        let theirs = self.lane.upload(incoming)?;
        let bits = (ring.bits(), ring.bits());
        // SAFETY: the message has an entry for each word of the value.
        unsafe { self.lane.unpack((value.address(), How::Add), theirs, bits, rows) }?;
        Ok(value.made(self.lane.point()?))
    }

    fn take_spans(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.spans)
    }

    fn is_prompt(&self) -> bool {
        true
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // What is queued may still write to it.
        if let Turn::Exponents(value) = std::mem::replace(&mut self.turn, Turn::Over) {
            self.lane.hold(Arc::new(value));
        }
    }
}
