//! What a host does for any backend: all operations but gates. A backend brings the streams and the loops that take long.

use std::{ops::Range, sync::Arc};

use zeroize::Zeroizing;

use super::{
    Op, Product, Weights, derived::Local, exp2, input, keep, open, output, pads, private, product,
    row_exponent, scale, spline,
};
use crate::{
    BackendError, DealJob, EvalJob, Form, KeyBytes, Part, Party, SecretBytes, StagedPart,
    dcf::{LibraryHash, TreeHash},
    layout::FieldId,
    prg::{self, FixedKeys, StreamKey},
};

/// The loops that take long, for the instructions of a backend's host. All numbers are modulo 2^64.
pub trait Loops: Send + Sync {
    /// X W for the rows of a tile, as [`Weights::multiply`].
    fn linear(&self, weights: &Weights, tile: &[u64]) -> Vec<u64>;

    /// The `elems` elements of `rows` of what `op` makes from what they read of x and y, as [`Product::multiply`].
    fn product(&self, op: &Product, rows: Range<u32>, elems: usize, x: &[u64], y: &[u64]) -> Vec<u64>;

    /// Adds the product of `x` with the rows of `y` to `out`.
    fn matrix(&self, x: Rows<'_>, y: &[u64], out: &mut [u64]);

    /// The first bytes of a stream.
    fn stream(&self, key: &StreamKey, bytes: usize) -> Zeroizing<Vec<u8>>;

    /// The hashes of a tile's trees under its fixed keys.
    fn tree_hash(&self, keys: &FixedKeys) -> Box<dyn TreeHash + Send>;
}

/// Some neighbouring columns of rows.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// All elements of all rows.
    pub values: &'a [u64],
    /// Elements of a row.
    pub stride: usize,
    /// The first column.
    pub first: usize,
    /// How many.
    pub count: usize,
}

impl<'a> Rows<'a> {
    /// Each row's columns.
    pub fn each(self) -> impl Iterator<Item = &'a [u64]> {
        let Self { values, stride, first, count } = self;
        values.chunks_exact(stride).map(move |row| &row[first..][..count])
    }

    /// Adds the product with the rows of `y` to `out`: the definition.
    pub fn multiply(self, y: &[u64], out: &mut [u64]) {
        let cols = y.len() / self.count;
        for (x, out) in self.each().zip(out.chunks_exact_mut(cols)) {
            for (x, row) in x.iter().zip(y.chunks_exact(cols)) {
                out.iter_mut().zip(row).for_each(|(out, y)| *out = out.wrapping_add(x.wrapping_mul(*y)));
            }
        }
    }
}

/// The definitions as they stand.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Loops for Plain {
    fn linear(&self, weights: &Weights, tile: &[u64]) -> Vec<u64> {
        weights.multiply(tile)
    }

    fn product(&self, op: &Product, rows: Range<u32>, elems: usize, x: &[u64], y: &[u64]) -> Vec<u64> {
        let mut out = vec![0; elems];
        op.multiply(rows, x, y, &mut out);
        out
    }

    fn matrix(&self, x: Rows<'_>, y: &[u64], out: &mut [u64]) {
        x.multiply(y, out);
    }

    fn stream(&self, key: &StreamKey, bytes: usize) -> Zeroizing<Vec<u8>> {
        prg::expand(key, bytes)
    }

    fn tree_hash(&self, keys: &FixedKeys) -> Box<dyn TreeHash + Send> {
        Box::new(LibraryHash::new(keys))
    }
}

/// Bytes of a stream.
pub type StreamBytes = Result<Zeroizing<Vec<u8>>, BackendError>;

/// A tile of a mask, or of one party's share of it, in the wire's ring.
pub type MaskTile = Result<Zeroizing<Vec<u64>>, BackendError>;

/// What a backend gives to the dealer of a part.
pub trait DealHost {
    /// The first bytes of the stream of a field of the part under the seed of `party`.
    ///
    /// # Errors
    /// When the device fails.
    fn field(&self, party: Party, id: FieldId, bytes: usize) -> StreamBytes;

    /// The mask of the masked wire's tile that `part` makes.
    ///
    /// # Errors
    /// When the device fails.
    fn mask(&self, part: Part) -> MaskTile;

    /// The host's loops.
    fn loops(&self) -> Arc<dyn Loops>;
}

/// What a backend gives to a party that evaluates a part.
pub trait EvalHost {
    /// The first bytes of the party's own stream of a field of the part.
    ///
    /// # Errors
    /// When the device fails.
    fn field(&self, id: FieldId, bytes: usize) -> StreamBytes;

    /// The party's share of the mask of the masked wire's tile that `part` makes.
    ///
    /// # Errors
    /// When the device fails.
    fn mask(&self, part: Part) -> MaskTile;

    /// The host's loops.
    fn loops(&self) -> Arc<dyn Loops>;
}

/// Both parties' keys of a part of any operation but a gate.
///
/// # Errors
/// When the device of the streams fails.
pub fn deal(job: &DealJob<'_>, host: &dyn DealHost) -> Result<[SecretBytes; 2], BackendError> {
    match job.node().op() {
        Op::Open(op) => op.deal(job, host),
        Op::Pads(op) => op.deal(job, host),
        Op::Product(op) => op.deal(job, host),
        Op::Private(op) => op.deal(job, host),
        Op::Scale(op) => op.deal(job, host),
        Op::SquareSum(op) => op.deal(job, host),
        Op::RowExponent(op) => op.deal(job, host),
        Op::Exp2(op) => op.deal(job, host),
        Op::Spline(op) => op.deal(job, host),
        Op::Input(_)
        | Op::Output(_)
        | Op::Keep(_)
        | Op::Linear(_)
        | Op::Add(_)
        | Op::Shift(_)
        | Op::Drop(_)
        | Op::Slice(_)
        | Op::Gain(_)
        | Op::SubtractRow(_) => Ok([SecretBytes::default(), SecretBytes::default()]),
        Op::Gate(_) => Err(BackendError::Misuse("gates are the backend's")),
    }
}

/// A part of any operation but a gate at one party, whose key has the layout's length.
///
/// # Errors
/// When the device of the streams fails.
pub fn stage(
    job: &EvalJob,
    key: &KeyBytes,
    host: &dyn EvalHost,
) -> Result<Box<dyn StagedPart>, BackendError> {
    let taken = |index: usize| Part { node: job.node().inputs()[index], ..job.part };
    Ok(match job.node().op() {
        Op::Input(input) => {
            let is_masked = input.made().form == Form::Masked;
            let mask = is_masked.then(|| host.mask(job.part)).transpose()?;
            input::stage(job.clone(), mask)
        }
        Op::Output(_) => output::stage(job.clone(), host.mask(taken(0))?),
        Op::Keep(_) => keep::stage(job.clone()),
        Op::Open(_) => open::stage(job, key, host)?,
        Op::Pads(_) => pads::stage(job, key, host)?,
        Op::Product(_) => product::stage(job, key, host)?,
        Op::Private(_) => private::stage(job, key, host)?,
        Op::Scale(_) => scale::stage(job, key, host)?,
        Op::SquareSum(_) => scale::stage_squares(job, key, host)?,
        Op::RowExponent(_) => row_exponent::stage(job, key, host)?,
        Op::Exp2(_) => exp2::stage(job, key, host)?,
        Op::Spline(_) => spline::stage(job, key, host)?,
        Op::Linear(_)
        | Op::Add(_)
        | Op::Shift(_)
        | Op::Drop(_)
        | Op::Slice(_)
        | Op::Gain(_)
        | Op::SubtractRow(_) => Box::new(Local::new(job, host.loops())),
        Op::Gate(_) => return Err(BackendError::Misuse("gates are the backend's")),
    })
}
