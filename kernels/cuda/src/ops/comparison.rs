//! Row exponents and splines: rotations and comparisons, at the dealer and at a party.

use suf_gate::{
    BackendError, EvalJob, Party,
    ops::{Exp2, RowExponent, Spline, row_exponent},
    prg::FixedKeys,
    rotation::{FRACTION, Rotation},
};

use super::{
    lane::Lane,
    tasks::{Exponentials, Lines, Rotations, Trees},
};
use crate::cipher;

/// Bytes of a payload (1, r).
pub(super) const LINE_BYTES: usize = 16;

/// The trees of some rows, with their words at `nodes` and `payloads`.
pub(super) fn trees(
    keys: &FixedKeys,
    roots: [u64; 2],
    [nodes, payloads]: [u64; 2],
    (levels, payload_bytes): (usize, usize),
) -> Trees {
    Trees {
        roots,
        nodes,
        payloads,
        node_keys: cipher::expand(keys.node),
        leaf_keys: cipher::expand(keys.leaf),
        levels: levels as u32,
        payload_bytes: payload_bytes as u32,
    }
}

/// The rotation of what stands at `scores`, of `elems` elements in rows of `cols`. Bits that are dropped of them come first.
pub(super) fn rotations(
    rotation: &Rotation,
    drop: u32,
    scores: u64,
    shares: u64,
    (elems, cols): (usize, u32),
) -> Rotations {
    Rotations {
        out: 0,
        scores,
        exponents: 0,
        shares,
        sum_masks: 0,
        message: 0,
        elems: elems as u32,
        cols,
        words: rotation.bits / 64,
        drop,
        precision: rotation.precision,
        offset: rotation.offset,
        dropped: 0,
        party: 0,
    }
}

/// The rotation of an exponential of scores with `frac` fractional bits minus the exponents at `exponents`.
pub(super) fn exponentials(
    op: &Exp2,
    frac: u8,
    [scores, exponents, shares]: [u64; 3],
    size: (usize, u32),
) -> Rotations {
    let drop = u32::from(frac) - FRACTION;
    Rotations { exponents, dropped: op.dropped(), ..rotations(&op.rotation(), drop, scores, shares, size) }
}

/// Queues a party's shares of exponentials, to `out`. `taken` are scores and exponents.
///
/// # Safety
/// The addresses are those of this part, and there is room for what it makes.
pub(super) unsafe fn share_exponentials(
    lane: &Lane,
    job: &EvalJob,
    op: &Exp2,
    out: u64,
    [scores, exponents, shares]: [u64; 3],
) -> Result<(), BackendError> {
    let wire = job.program.node(job.node().inputs()[0]).wire();
    let frac = wire.ok_or(BackendError::Misuse("scores that are no wire"))?.frac;
    let size = (job.elems(), job.node().shape().cols());
    let party = job.party.index() as u32;
    let rotations = exponentials(op, frac, [scores, exponents, shares], size);
    // SAFETY: by the caller's promise.
    unsafe { lane.start(&Exponentials(Rotations { out, party, ..rotations })) }
}

/// The rotation of the halves of scores with `frac` fractional bits.
pub(super) fn halves(op: &RowExponent, frac: u8, scores: u64, shares: u64, elems: usize) -> Rotations {
    rotations(&op.rotation(), RowExponent::dropped(frac), scores, shares, (elems, op.scores().cols))
}

/// The trees of a row exponent's rows.
pub(super) fn powers_trees(op: &RowExponent, keys: &FixedKeys, roots: [u64; 2], words: [u64; 2]) -> Trees {
    trees(keys, roots, words, (op.scores().levels(), op.scores().count_bytes()))
}

/// What is added to the number of powers of two that a row's sum reaches: the least power, less the bias.
pub(super) fn base(scores: &row_exponent::Scores) -> u64 {
    (scores.least() as u64).wrapping_sub(i64::from(scores.bias()).cast_unsigned())
}

/// A spline's public numbers, as words: ends, changes at each depth, and pieces.
pub(super) struct Table {
    words: Vec<u64>,
    depths: usize,
    pieces: usize,
    count: usize,
}

impl Table {
    pub(super) fn new(op: &Spline) -> Self {
        let of = op.pieces();
        let number = i64::cast_unsigned;
        let mut depths = vec![[0u64; 2]; of.compared_bits() + 1];
        let mut words = Vec::new();
        for (end, pair) in of.ends().zip(of.pieces().windows(2)) {
            let slope = number(pair[0].slope.wrapping_sub(pair[1].slope));
            let offset = number(pair[0].offset.wrapping_sub(pair[1].offset));
            let sum = &mut depths[of.depth(end)];
            *sum = [sum[0].wrapping_add(slope), sum[1].wrapping_add(offset)];
            words.extend([of.compared(end), of.depth(end) as u64, slope, offset]);
        }
        let (count, depths_at) = (words.len() / 4, words.len());
        words.extend(depths.into_flattened());
        let pieces_at = words.len();
        words.extend(of.pieces().iter().flat_map(|piece| [number(piece.slope), number(piece.offset)]));
        Self { words, depths: depths_at, pieces: pieces_at, count }
    }

    /// Queues its upload; where it stands.
    pub(super) fn upload(&self, lane: &mut Lane) -> Result<u64, BackendError> {
        let to = lane.words(self.words.len())?;
        // SAFETY: there is room for as many words.
        unsafe { lane.upload_words(&self.words, to) }?;
        Ok(to)
    }

    /// The function of the elements at `x`. `masks` are this party's shares of their masks, `table` is where this stands.
    pub(super) fn lines(
        &self,
        job: &EvalJob,
        trees: Trees,
        [out, x, masks, table]: [u64; 4],
        cut: u32,
    ) -> Lines {
        let at = |word: usize| table + 8 * word as u64;
        Lines {
            trees,
            out,
            x,
            masks,
            ends: table,
            depths: at(self.depths),
            pieces: at(self.pieces),
            count: self.count as u32,
            cut,
            party: match job.party {
                Party::P0 => 0,
                Party::P1 => 1,
            },
            elems: job.elems() as u32,
        }
    }
}
