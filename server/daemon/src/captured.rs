//! What a party sends, in its log: at level TRACE, off unless asked for (`RUST_LOG=info,suf_server::captured=trace`). With
//! it a check from outside, `tests/key_reuse.py`, sees whether a key was used twice. A payload is what the other party sees
//! anyway; the log has its hash.

use suf_party::Plan;
use suf_wire::DataFrame;

/// Writes a line for `frame`, about to be sent.
pub(crate) fn sent(plan: &Plan, frame: &DataFrame) {
    if !tracing::enabled!(tracing::Level::TRACE) {
        return;
    }
    let hash = blake3::hash(&frame.payload).to_hex();
    tracing::trace!(run = %plan.run.public_hash(), batch = %plan.batch, node = frame.part.node.0,
        tile = frame.part.tile, step = frame.step, bytes = frame.payload.len(), hash = hash.as_str(), "sent");
}
