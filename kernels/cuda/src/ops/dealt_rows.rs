//! Keys of row exponents, exponentials and splines: shares of rotations, and words of trees.

use std::sync::Arc;

use suf_gate::{
    BackendError, DealJob, Party, SecretBytes, Seed,
    layout::FieldId,
    ops::{Exp2, Op, RowExponent, Spline, exp2, row_exponent, spline},
};

use super::{
    comparison::{self, LINE_BYTES},
    dealer::seeded,
    lane::Lane,
    masks::{Masks, taken_part},
    tasks::{Betas, DealtTrees, Local, Points, What},
};
use crate::{backend::Shared, memory::Pinned};

/// Both parties' keys of a part.
pub(super) fn deal(shared: &Arc<Shared>, job: &DealJob<'_>) -> Result<[SecretBytes; 2], BackendError> {
    let mut dealing = Dealing { lane: Lane::new(shared)?, job, made: Vec::new() };
    let common = match job.node().op() {
        Op::Exp2(op) => dealing.exponentials(op),
        Op::RowExponent(op) => dealing.row_exponent(op),
        Op::Spline(op) => dealing.spline(op),
        _ => Err(BackendError::Misuse("keys of another operation")),
    };
    dealing.finish(common?)
}

struct Dealing<'a> {
    lane: Lane,
    job: &'a DealJob<'a>,
    /// Fields in their order, whole after a wait, and their bytes.
    made: Vec<(Pinned, usize)>,
}

impl Dealing<'_> {
    /// Queues shares of beta. Number of fields that one side alone has.
    fn exponentials(&mut self, op: &Exp2) -> Result<usize, BackendError> {
        let job = self.job;
        let [scores, exponents] = self.masks([0, 1])?;
        let wire = job.program.node(job.node().inputs()[0]).wire();
        let frac = wire.ok_or(BackendError::Misuse("scores that are no wire"))?.frac;
        let shares = self.field(seed(job, seeded(job)), exp2::BETA)?;
        let size = (job.elems(), job.node().shape().cols());
        // SAFETY: the masks and the shares are as many as the part has elements.
        unsafe {
            self.lane.start(&Betas(comparison::exponentials(op, frac, [scores, exponents, shares], size)))
        }?;
        self.keep(exp2::BETA, shares)?;
        Ok(1)
    }

    /// Queues shares of beta, and the trees' words.
    fn row_exponent(&mut self, op: &RowExponent) -> Result<usize, BackendError> {
        use row_exponent::{BETA, COUNT_CW, NODE_CW, ROOT, SUM_MASK};
        let job = self.job;
        let [scores] = self.masks([0])?;
        let wire = job.program.node(job.node().inputs()[0]).wire();
        let frac = wire.ok_or(BackendError::Misuse("scores that are no wire"))?.frac;
        let shares = self.field(seed(job, seeded(job)), BETA)?;
        let rotations = comparison::halves(op, frac, scores, shares, job.counts().taken);
        // SAFETY: as above.
        unsafe { self.lane.start(&Betas(rotations)) }?;

        let (rows, words) = (job.elems(), op.scores().sum_bits() / 64);
        let [mine, theirs] = self.own(SUM_MASK)?;
        let points = self.lane.words(rows * words)?;
        let sum = Points { out: points, mine, theirs, rows: rows as u32, words: words as u32 };
        // SAFETY: a number for each row, of each.
        unsafe { self.lane.start(&sum) }?;
        let roots = self.own(ROOT)?;
        let [nodes, payloads] = [self.room(NODE_CW)?, self.room(COUNT_CW)?];
        let trees = DealtTrees {
            trees: comparison::powers_trees(op, &job.domain().fixed_keys(), roots, [nodes, payloads]),
            points,
            values: 0,
            rows: rows as u32,
            words: words as u32,
            bits: op.scores().sum_bits() as u32,
        };
        // SAFETY: a root and a point for each row, and room for its words.
        unsafe { self.lane.start(&trees) }?;
        self.keep(BETA, shares)?;
        self.keep(NODE_CW, nodes)?;
        self.keep(COUNT_CW, payloads)?;
        Ok(1)
    }

    /// Queues the trees' words.
    fn spline(&mut self, op: &Spline) -> Result<usize, BackendError> {
        use spline::{LINE_CW, NODE_CW, ROOT};
        let (job, elems, of) = (self.job, self.job.elems(), op.pieces());
        let [masks] = self.masks([0])?;
        let points = self.lane.words(elems)?;
        let compared = Local {
            out: points,
            a: masks,
            b: 0,
            factors: 0,
            bias: 0,
            elems: elems as u32,
            cols: 1,
            taken_cols: 1,
            first: 0,
            ring: of.compared_bits() as u32,
            what: What::Drop,
            shift: of.cut(),
        };
        // SAFETY: as many words of both.
        unsafe { self.lane.start(&compared) }?;
        let roots = self.own(ROOT)?;
        let [nodes, payloads] = [self.room(NODE_CW)?, self.room(LINE_CW)?];
        let size = (of.compared_bits(), LINE_BYTES);
        let trees = DealtTrees {
            trees: comparison::trees(&job.domain().fixed_keys(), roots, [nodes, payloads], size),
            points,
            values: masks,
            rows: elems as u32,
            words: 1,
            bits: of.compared_bits() as u32,
        };
        // SAFETY: as above.
        unsafe { self.lane.start(&trees) }?;
        self.keep(NODE_CW, nodes)?;
        self.keep(LINE_CW, payloads)?;
        Ok(0)
    }

    /// Queues the masks of the same tile of wires that the node takes.
    fn masks<const N: usize>(&mut self, wires: [usize; N]) -> Result<[u64; N], BackendError> {
        let Self { lane, job, .. } = self;
        let mut masks = Masks::new(job.program, job.domain(), job.party_seeds.iter().collect());
        let mut at = [0; N];
        for (at, wire) in at.iter_mut().zip(wires) {
            *at = masks.of(lane, taken_part(job.program, job.part, wire))?;
        }
        Ok(at)
    }

    /// Queues the stream of a field.
    fn field(&mut self, seed: &Seed, id: FieldId) -> Result<u64, BackendError> {
        let streams = self.lane.expand(&[(self.job.domain().stream(seed, id), self.bytes(id))])?;
        streams.first().copied().ok_or(BackendError::Misuse("a stream that was not expanded"))
    }

    /// Queues both parties' streams of a field.
    fn own(&mut self, id: FieldId) -> Result<[u64; 2], BackendError> {
        Ok([self.field(seed(self.job, Party::P0), id)?, self.field(seed(self.job, Party::P1), id)?])
    }

    /// Room for a field.
    fn room(&mut self, id: FieldId) -> Result<u64, BackendError> {
        self.lane.bytes(self.bytes(id))
    }

    fn bytes(&self, id: FieldId) -> usize {
        self.job.key_shape().field(id).bytes(self.job.counts())
    }

    /// Queues a copy of a field to the host.
    fn keep(&mut self, id: FieldId, at: u64) -> Result<(), BackendError> {
        let bytes = self.bytes(id);
        // SAFETY: the field has as many bytes, and spare ones behind it.
        let copy = unsafe { self.lane.download(at, bytes.div_ceil(8)) }?;
        self.made.push((copy, bytes));
        Ok(())
    }

    /// Both keys: the explicit side has all fields, the other all but the first `explicit`.
    fn finish(self, explicit: usize) -> Result<[SecretBytes; 2], BackendError> {
        let Self { mut lane, job, made } = self;
        lane.wait()?;
        let key = |fields: &[(Pinned, usize)]| {
            let mut key = SecretBytes::zeroed(fields.iter().map(|(_, bytes)| bytes).sum());
            let mut rest = key.expose_mut();
            for (field, bytes) in fields {
                let (place, after) = rest.split_at_mut(*bytes);
                place.copy_from_slice(&field.bytes()[..*bytes]);
                rest = after;
            }
            key
        };
        let (all, common) = (key(&made), key(&made[explicit..]));
        Ok(match seeded(job) {
            Party::P0 => [common, all],
            Party::P1 => [all, common],
        })
    }
}

fn seed<'a>(job: &'a DealJob<'_>, party: Party) -> &'a Seed {
    &job.party_seeds[party.index()]
}
