//! A party's side of a spline.

use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::{LINE_CW, NODE_CW, ROOT, Spline, points::Ends};
use crate::{
    BackendError, EvalJob, HostValue, KeyBytes, Part, PartEval, Party, Span, StagedPart, Value,
    dcf::{self, Keys, Point, TreeHash},
    ops::{
        Op,
        fields::{FieldBytes, field_bytes},
        host::EvalHost,
    },
    packing,
};

/// A tile at one party.
pub(in crate::ops) fn stage(
    job: &EvalJob,
    key: &KeyBytes,
    host: &dyn EvalHost,
) -> Result<Box<dyn StagedPart>, BackendError> {
    let Op::Spline(op) = job.node().op() else { unreachable!("asked of splines alone") };
    let field = |id| field_bytes(job, key, host, id);
    Ok(Box::new(Evaluation {
        op: op.clone(),
        hash: host.loops().tree_hash(&job.domain().fixed_keys()),
        root: field(ROOT)?,
        node_words: field(NODE_CW)?,
        line_words: field(LINE_CW)?,
        taken_mask: host.mask(Part { node: job.node().inputs()[0], ..job.part })?,
        mask: host.mask(job.part)?,
        input: None,
        job: job.clone(),
    }))
}

struct Evaluation {
    op: Spline,
    job: EvalJob,
    hash: Box<dyn TreeHash + Send>,
    root: FieldBytes,
    node_words: FieldBytes,
    line_words: FieldBytes,
    /// This party's share of r.
    taken_mask: Zeroizing<Vec<u64>>,
    /// Its share of the mask of y, then of y under it.
    mask: Zeroizing<Vec<u64>>,
    /// x_hat, until the message is made.
    input: Option<Vec<u64>>,
}

impl StagedPart for Evaluation {
    fn begin(mut self: Box<Self>, inputs: Vec<Arc<dyn Value>>) -> Result<Box<dyn PartEval>, BackendError> {
        self.input = Some(self.job.only_input(inputs)?);
        Ok(self)
    }
}

impl PartEval for Evaluation {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError> {
        let input = self.input.take().filter(|_| step == 0 && incoming.is_empty());
        let input = input.ok_or(BackendError::Misuse("a spline is opened once"))?;
        self.add_shares(&input);
        Ok(packing::pack(self.op.ring, &self.mask).into())
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Arc<dyn Value>, BackendError> {
        let ring = self.op.ring;
        let due = packing::packed_bytes(ring, self.mask.len());
        if self.input.is_some() || self.mask.is_empty() || incoming.len() != due {
            return Err(BackendError::Misuse("a message out of turn or of another length than the spline's"));
        }
        // Opened, they are no secret any more.
        let mut opened = std::mem::take(&mut *self.mask);
        packing::add_packed(ring, incoming, &mut opened);
        Ok(HostValue::shared(opened))
    }

    fn take_spans(&mut self) -> Vec<Span> {
        Vec::new()
    }

    fn is_prompt(&self) -> bool {
        false
    }
}

impl Evaluation {
    /// Adds this party's shares of y to those of its mask. y is the last piece's line, and for each end a > x the line before it minus
    /// the line after it.
    fn add_shares(&mut self, input: &[u64]) {
        let Self { op, job, hash, root, node_words, line_words, taken_mask, mask, .. } = self;
        let pieces = op.pieces.pieces();
        let number = i64::cast_unsigned;
        let changes: Vec<[u64; 2]> = pieces
            .windows(2)
            .map(|pair| {
                let [before, after] = [pair[0], pair[1]];
                [
                    number(before.slope.wrapping_sub(after.slope)),
                    number(before.offset.wrapping_sub(after.offset)),
                ]
            })
            .collect();
        // The value's own comparison is subtracted for each end, where the end's is over.
        let mut all = vec![[0u64; 2]; op.pieces.compared_bits() + 1];
        for (end, change) in op.pieces.ends().zip(&changes) {
            let sum = &mut all[op.pieces.depth(end)];
            *sum = [sum[0].wrapping_add(change[0]), sum[1].wrapping_add(change[1])];
        }
        let keys = Keys {
            party: job.party,
            levels: op.pieces.compared_bits(),
            roots: root.expose(),
            nodes: node_words.expose(),
            payloads: line_words.expose(),
        };
        let ends = Ends::new(&op.pieces, input);
        dcf::evaluate(&**hash, &keys, &ends, |element, point, depth, [one, r]: [u64; 2]| {
            let line = |[slope, offset]: [u64; 2]| {
                let x = input[element].wrapping_mul(one).wrapping_sub(r);
                slope.wrapping_mul(x).wrapping_add(offset.wrapping_mul(one))
            };
            mask[element] = match point {
                Point::Value => mask[element].wrapping_sub(line(all[depth])),
                Point::Threshold(end) => mask[element].wrapping_add(line(changes[end])),
            };
        });
        // The public bits 1[x_hat < a] take the line of x_hat's own piece, with this party's share of x.
        for (element, ((x_hat, r), sum)) in
            input.iter().zip(taken_mask.iter()).zip(mask.iter_mut()).enumerate()
        {
            let piece = pieces[ends.at_most(element)];
            let (x, one) = match job.party {
                Party::P0 => (x_hat.wrapping_sub(*r), 1),
                Party::P1 => (r.wrapping_neg(), 0),
            };
            let line = number(piece.slope).wrapping_mul(x).wrapping_add(number(piece.offset) * one);
            *sum = op.ring.reduce(sum.wrapping_add(line));
        }
    }
}
