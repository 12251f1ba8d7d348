//! What a host does for any backend: operations without a message, on values and on masks, and the opening of wires.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{Add, Op, Weights, linear};
use crate::{
    BackendError, EvalJob, HostValue, NodeId, PartEval, Program, Span, StagedPart, Value, wire::Mask,
};

/// X W modulo 2^64 for the rows of a tile, as [`Weights::multiply`].
pub type Multiply = Arc<dyn Fn(&Weights, &[u64]) -> Vec<u64> + Send + Sync>;

/// A tile of the mask of `wire`, or of one party's shares of it: `fresh` gives that of a wire with a fresh mask.
///
/// # Panics
/// If the node makes no wire.
pub fn mask(
    program: &Program,
    wire: NodeId,
    multiply: &Multiply,
    fresh: &dyn Fn(NodeId) -> Vec<u64>,
) -> Vec<u64> {
    let mut known = BTreeMap::new();
    derive(program, wire, multiply, fresh, &mut known);
    known.remove(&wire).expect("it was derived last")
}

/// Adds the mask of `wire` to those that are known. Each wire is derived once, however often it is taken: a program may double a
/// wire at each of its nodes.
fn derive(
    program: &Program,
    wire: NodeId,
    multiply: &Multiply,
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
            derive(program, *input, multiply, fresh, known);
        }
        let taken = node.inputs().iter().map(|input| known[input].clone());
        apply(node.op(), program, wire, taken.collect(), multiply)
    };
    known.insert(wire, mask);
}

/// What a local operation makes of tiles, of values or of masks; a bias is not added.
fn apply(op: &Op, program: &Program, made: NodeId, taken: Vec<Vec<u64>>, multiply: &Multiply) -> Vec<u64> {
    let ring = program.node(made).ring().expect("a local operation makes a wire");
    let mut taken = taken.into_iter();
    let mut next = || taken.next().expect("as many wires as the operation takes");
    match op {
        Op::Add(_) => Add::apply(ring, next(), &next()),
        Op::Shift(op) => op.apply(ring, next()),
        Op::Drop(op) => op.apply(next()),
        Op::Linear(op) => {
            let mut made = multiply(op.weights(), &next());
            made.iter_mut().for_each(|y| *y = ring.reduce(*y));
            made
        }
        Op::Input(_) | Op::Output(_) | Op::Gate(_) | Op::Open(_) => unreachable!("its mask is fresh"),
    }
}

/// A tile of a local operation at one party.
#[must_use]
pub fn stage(job: EvalJob, multiply: Multiply) -> Box<dyn StagedPart> {
    Box::new(Local { job, multiply, taken: Vec::new() })
}

struct Local {
    job: EvalJob,
    multiply: Multiply,
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
        let taken = std::mem::take(&mut self.taken);
        if taken.is_empty() || !incoming.is_empty() {
            return Err(BackendError::Misuse("a local operation ends once, without a message"));
        }
        let Self { job, multiply, .. } = self;
        let mut made = apply(job.node().op(), &job.program, job.part.node, taken, multiply);
        if let (Op::Linear(op), Some(wire)) = (job.node().op(), job.node().wire())
            && linear::adds_bias(wire.form, job.party)
        {
            op.weights().add_bias(wire.ring, &mut made);
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
