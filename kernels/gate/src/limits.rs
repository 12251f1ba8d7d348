//! Bounds on programs and gates, each with its reason. Those of messages are the wire's own.

pub use suf_wire::limits::{
    MAX_DATA_BYTES, MAX_ELEMS, MAX_GATE_BYTES, MAX_KEY_PART_BYTES, MAX_NODES, MAX_PROGRAM_BYTES, TILE_ELEMS,
};

/// Most gates that differ in a program: a transformer has one for each layer at most, and reading one takes up to a
/// millisecond.
pub const MAX_GATES: usize = 64;

/// Most opened values of one exchange: the segments that one frame may have.
pub const MAX_EXCHANGE_SEGMENTS: usize = 64;

/// Most bits per element of one exchange's message: what a frame holds for a full tile.
pub const MAX_EXCHANGE_BITS: u32 = 320;

/// Most key bytes per element of one party: what a key message holds for a full tile.
pub const MAX_KEY_BYTES: u32 = 1024;
