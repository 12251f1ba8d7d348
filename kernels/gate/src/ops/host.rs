//! What a host does for any backend: all operations but gates. A backend brings the streams and the loops that take long.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use bytes::Bytes;
use zeroize::Zeroizing;

use super::{
    Add, Op, Product, SubtractRow, Weights, exp2, input, linear, open, output, pads, product, row_exponent,
    scale, spline,
};
use crate::{
    BackendError, DealJob, EvalJob, Form, HostValue, KeyBytes, NodeId, Part, PartEval, Party, Program,
    SecretBytes, Span, StagedPart, Value,
    dcf::{LibraryHash, TreeHash},
    layout::FieldId,
    prg::FixedKeys,
    wire::Mask,
};

/// The loops that take long, for the instructions of a backend's host. All numbers are modulo 2^64.
pub trait Loops: Send + Sync {
    /// X W for the rows of a tile, as [`Weights::multiply`].
    fn linear(&self, weights: &Weights, tile: &[u64]) -> Vec<u64>;

    /// The `elems` elements of `rows` of what `op` makes from what they read of x and y, as [`Product::multiply`].
    fn product(&self, op: &Product, rows: Range<u32>, elems: usize, x: &[u64], y: &[u64]) -> Vec<u64>;

    /// The hashes of a tile's trees under its fixed keys.
    fn tree_hash(&self, keys: &FixedKeys) -> Box<dyn TreeHash + Send>;
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
        Op::Scale(op) => op.deal(job, host),
        Op::SquareSum(op) => op.deal(job, host),
        Op::RowExponent(op) => op.deal(job, host),
        Op::Exp2(op) => op.deal(job, host),
        Op::Spline(op) => op.deal(job, host),
        Op::Input(_)
        | Op::Output(_)
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
        Op::Open(_) => open::stage(job, key, host)?,
        Op::Pads(_) => pads::stage(job, key, host)?,
        Op::Product(_) => product::stage(job, key, host)?,
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
        | Op::SubtractRow(_) => Box::new(Local { job: job.clone(), loops: host.loops(), taken: Vec::new() }),
        Op::Gate(_) => return Err(BackendError::Misuse("gates are the backend's")),
    })
}

/// If the node makes no wire.
pub fn mask(
    program: &Program,
    wire: NodeId,
    loops: &dyn Loops,
    fresh: &dyn Fn(NodeId) -> Vec<u64>,
) -> Vec<u64> {
    let mut known = BTreeMap::new();
    derive(program, wire, loops, fresh, &mut known);
    known.remove(&wire).expect("it was derived last")
}

/// Adds the mask of `wire` to those that are known. Each wire is derived once, however often it is taken: a program may double a
/// wire at each of its nodes.
fn derive(
    program: &Program,
    wire: NodeId,
    loops: &dyn Loops,
    fresh: &dyn Fn(NodeId) -> Vec<u64>,
    known: &mut BTreeMap<NodeId, Vec<u64>>,
) {
    if known.contains_key(&wire) {
        return;
    }
    let node = program.node(wire);
    let made = node.wire().expect("who asks for a mask knows that the wire is there");
    let mask = if made.mask == Mask::Fresh {
        fresh(wire)
    } else {
        for input in node.inputs() {
            derive(program, *input, loops, fresh, known);
        }
        let taken = node.inputs().iter().map(|input| known[input].clone());
        apply(node.op(), program, wire, taken.collect(), loops)
    };
    known.insert(wire, mask);
}

/// What a local operation makes of tiles, of values or of masks; a bias is not added.
fn apply(op: &Op, program: &Program, made: NodeId, taken: Vec<Vec<u64>>, loops: &dyn Loops) -> Vec<u64> {
    let ring = program.node(made).ring().expect("a local operation makes a wire");
    let mut taken = taken.into_iter();
    let mut next = || taken.next().expect("as many wires as the operation takes");
    match op {
        Op::Add(_) => Add::apply(ring, next(), &next()),
        Op::Shift(op) => op.apply(ring, next()),
        Op::Drop(op) => op.apply(next()),
        Op::Linear(op) => {
            let mut made = loops.linear(op.weights(), &next());
            made.iter_mut().for_each(|y| *y = ring.reduce(*y));
            made
        }
        Op::Slice(op) => {
            let cols = program.node(program.node(made).inputs()[0]).shape().cols();
            op.apply(cols, &next())
        }
        Op::Gain(op) => op.apply(ring, next()),
        Op::SubtractRow(_) => SubtractRow::apply(ring, next(), &next()),
        Op::Input(_)
        | Op::Output(_)
        | Op::Gate(_)
        | Op::Open(_)
        | Op::RowExponent(_)
        | Op::Exp2(_)
        | Op::Spline(_)
        | Op::Pads(_)
        | Op::Product(_)
        | Op::Scale(_)
        | Op::SquareSum(_) => unreachable!("its mask is fresh, or it has none"),
    }
}

/// A tile of a local operation at one party.
struct Local {
    job: EvalJob,
    loops: Arc<dyn Loops>,
    taken: Vec<Vec<u64>>,
}

impl StagedPart for Local {
    fn begin(mut self: Box<Self>, inputs: Vec<Arc<dyn Value>>) -> Result<Box<dyn PartEval>, BackendError> {
        self.taken = self.job.inputs(inputs)?;
        Ok(self)
    }
}

impl PartEval for Local {
    fn step(&mut self, _: usize, _: &[u8]) -> Result<Bytes, BackendError> {
        Err(BackendError::Misuse("a local operation has no exchange"))
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Arc<dyn Value>, BackendError> {
        if self.taken.is_empty() || !incoming.is_empty() {
            return Err(BackendError::Misuse("a local operation ends once, without a message"));
        }
        let taken = std::mem::take(&mut self.taken);
        let Self { job, loops, .. } = self;
        let mut made = apply(job.node().op(), &job.program, job.part.node, taken, &**loops);
        let weights = match job.node().op() {
            Op::Linear(op) => Some(op.weights()),
            Op::Gain(op) => Some(op.weights()),
            _ => None,
        };
        if let (Some(weights), Some(wire)) = (weights, job.node().wire())
            && linear::adds_bias(wire.form, job.party)
        {
            weights.add_bias(wire.ring, &mut made);
        }
        Ok(HostValue::shared(made))
    }

    fn take_spans(&mut self) -> Vec<Span> {
        Vec::new()
    }

    fn is_prompt(&self) -> bool {
        false
    }
}
