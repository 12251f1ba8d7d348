//! What a party does alone with values, and all do with masks: `linear`, `add`, `shift`, `drop`, `slice`, `gain`, `subtract row`.

use std::sync::Arc;

use suf_gate::{
    BackendError, NodeId, Program,
    ops::{Op, Weights},
};

use super::{
    lane::Lane,
    tasks::{Linear, Local, What},
};

/// Whether [`apply`] does it.
pub(super) fn is_local(op: &Op) -> bool {
    matches!(
        op,
        Op::Linear(_)
            | Op::Add(_)
            | Op::Shift(_)
            | Op::Drop(_)
            | Op::Slice(_)
            | Op::Gain(_)
            | Op::SubtractRow(_)
    )
}

/// Queues what the node `made` makes of tiles at the addresses `taken`, as `elems` words at `out`. Biases are added if `with_bias`.
///
/// # Safety
/// The tiles are those that a part of so many elements takes, and there is room for what it makes.
pub(super) unsafe fn apply(
    lane: &mut Lane,
    program: &Program,
    made: NodeId,
    taken: &[u64],
    (out, elems): (u64, usize),
    with_bias: bool,
) -> Result<(), BackendError> {
    let node = program.node(made);
    let (Some(ring), [a, ..]) = (node.ring(), taken) else {
        return Err(BackendError::Misuse("an operation that makes no wire, or takes none"));
    };
    let cols = node.shape().cols();
    let taken_cols = program.node(node.inputs()[0]).shape().cols();
    let mut task = Local {
        out,
        a: *a,
        b: taken.get(1).copied().unwrap_or(0),
        factors: 0,
        bias: 0,
        elems: elems as u32,
        cols,
        taken_cols,
        first: 0,
        ring: ring.bits().into(),
        what: What::Copy,
        shift: 0,
    };
    let mut of = |weights: &Arc<Weights>| {
        let weights = lane.shared().weights(weights)?;
        lane.hold(Arc::clone(&weights) as _);
        Ok::<_, BackendError>(weights)
    };
    match node.op() {
        Op::Linear(op) => {
            let weights = of(op.weights())?;
            let task = Linear {
                out,
                x: *a,
                weights: weights.values(),
                bias: if with_bias { weights.bias() } else { 0 },
                rows: elems as u32 / cols,
                inner: taken_cols,
                cols,
                ring: ring.bits().into(),
            };
            // SAFETY: by the caller's promise; the weights have the node's shape.
            return unsafe { lane.start(&task) };
        }
        Op::Gain(op) => {
            let weights = of(op.weights())?;
            task = Local {
                what: What::Gain,
                factors: weights.values(),
                bias: if with_bias { weights.bias() } else { 0 },
                ..task
            };
        }
        Op::Add(_) => task.what = What::Add,
        Op::Shift(op) => task = Local { what: What::Shift, shift: op.0.into(), ..task },
        Op::Drop(op) => task = Local { what: What::Drop, shift: op.0.into(), ..task },
        Op::Slice(op) => task.first = op.first,
        Op::SubtractRow(_) => task.what = What::SubtractRow,
        _ => return Err(BackendError::Misuse("an operation that no party does alone")),
    }
    // SAFETY: by the caller's promise.
    unsafe { lane.start(&task) }
}
