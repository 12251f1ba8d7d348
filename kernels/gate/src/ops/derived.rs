//! Operations without a message: what they make of values at a party, and of masks.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{Add, MaskCache, Op, SubtractRow, host::Loops, linear};
use crate::{
    BackendError, EvalJob, HostValue, NodeId, Part, PartEval, Program, Span, StagedPart, Value, wire::Mask,
};

/// The mask of what `part` makes, or one party's shares of it: `fresh` gives the same tile of a wire with a fresh mask. The masks
/// that `cache` keeps must be of the same owners.
///
/// # Panics
/// If the node makes no wire.
pub fn mask(
    program: &Program,
    part: Part,
    loops: &dyn Loops,
    cache: Option<&MaskCache>,
    fresh: &dyn Fn(NodeId) -> Vec<u64>,
) -> Vec<u64> {
    let mut masks = Masks { program, tile: part.tile, loops, cache, fresh, known: BTreeMap::new() };
    masks.derive(part.node);
    masks.known.remove(&part.node).expect("it was derived last")
}

/// The masks of a tile of several wires.
struct Masks<'a> {
    program: &'a Program,
    tile: u32,
    loops: &'a dyn Loops,
    cache: Option<&'a MaskCache>,
    fresh: &'a dyn Fn(NodeId) -> Vec<u64>,
    /// Each wire is derived once, however often it is taken: a program may double a wire at each of its nodes.
    known: BTreeMap<NodeId, Vec<u64>>,
}

impl Masks<'_> {
    fn derive(&mut self, wire: NodeId) {
        if self.known.contains_key(&wire) {
            return;
        }
        let node = self.program.node(wire);
        let made = node.wire().expect("who asks for a mask knows that the wire is there");
        let mask = match (node.op(), self.cache) {
            _ if made.mask == Mask::Fresh => (self.fresh)(wire),
            (Op::Linear(_), Some(cache)) => {
                let part = Part::new(wire, self.tile);
                cache.get(part).unwrap_or_else(|| {
                    let mask = self.apply(wire);
                    cache.keep(part, &mask);
                    mask
                })
            }
            _ => self.apply(wire),
        };
        self.known.insert(wire, mask);
    }

    fn apply(&mut self, wire: NodeId) -> Vec<u64> {
        let node = self.program.node(wire);
        node.inputs().iter().for_each(|input| self.derive(*input));
        let taken = node.inputs().iter().map(|input| self.known[input].clone());
        apply(node.op(), self.program, wire, taken.collect(), self.loops)
    }
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
        | Op::Keep(_)
        | Op::Gate(_)
        | Op::Open(_)
        | Op::RowExponent(_)
        | Op::Exp2(_)
        | Op::Spline(_)
        | Op::Pads(_)
        | Op::Product(_)
        | Op::Private(_)
        | Op::Scale(_)
        | Op::SquareSum(_) => unreachable!("its mask is fresh, or it has none"),
    }
}

/// A tile of a local operation at one party.
pub(super) struct Local {
    job: EvalJob,
    loops: Arc<dyn Loops>,
    taken: Vec<Vec<u64>>,
}

impl Local {
    pub(super) fn new(job: &EvalJob, loops: Arc<dyn Loops>) -> Self {
        Self { job: job.clone(), loops, taken: Vec::new() }
    }
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
