//! What a party sends, in its log: at level TRACE, off unless asked for (`RUST_LOG=info,suf_server::captured=trace`). With
//! it a check from outside, `tests/key_reuse.py`, sees whether a key was used twice. A payload is what the other party sees
//! anyway; the log has its hash. So it is with the masked matrices of a load, which both parties have.

use suf_gate::load::Kept;
use suf_party::Plan;
use suf_wire::{BatchId, DataFrame};

/// Writes a line for `frame`, about to be sent.
pub(crate) fn sent(plan: &Plan, frame: &DataFrame) {
    if !tracing::enabled!(tracing::Level::TRACE) {
        return;
    }
    let hash = blake3::hash(&frame.payload).to_hex();
    tracing::trace!(run = %plan.run.public_hash(), batch = %plan.batch, node = frame.part.node.0,
        tile = frame.part.tile, step = frame.step, bytes = frame.payload.len(), hash = hash.as_str(), "sent");
}

/// Writes a line for each matrix that a run of `plan` loads, or takes from a load.
pub(crate) fn kept(plan: &Plan, kept: &Kept) {
    if !tracing::enabled!(tracing::Level::TRACE) {
        return;
    }
    let load = kept.load();
    for input in load.program.inputs() {
        let mut hash = blake3::Hasher::new();
        let matrix = kept.matrix(input).unwrap_or_default();
        for word in matrix {
            hash.update(&word.to_le_bytes());
        }
        let hash = hash.finalize().to_hex();
        tracing::trace!(run = %plan.run.public_hash(), batch = %plan.batch, load = %BatchId(load.batch),
            matrix = input.0, hash = hash.as_str(), "kept");
    }
}
