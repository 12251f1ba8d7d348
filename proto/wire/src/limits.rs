//! Every limit on what a peer may say, each with its reason.

/// Elements of a full tile, at most: 2^16. Keys and messages are made tile by tile, so this bounds the memory of every stage.
pub const TILE_ELEMS: usize = 1 << 16;

/// Nodes of a program: 24 layers of 40 nodes, four times over.
pub const MAX_NODES: usize = 4096;

/// Bytes of a canonical program: nodes of 32 bytes, and gates of 2 KiB, as a GELU of 2^9 entries has.
pub const MAX_PROGRAM_BYTES: usize = 256 << 10;

/// Elements of a chunk: 2^16. Keys and messages are made chunk by chunk, so this bounds the memory of every stage.
pub const CHUNK_ELEMS: u32 = 1 << 16;

/// Elements of one batch: 10^8, the largest size the system promises; 1526 chunks.
pub const MAX_ELEMS: u64 = 100_000_000;

/// Chunks of one batch: what [`MAX_ELEMS`] elements need.
pub const MAX_CHUNKS: u32 = MAX_ELEMS.div_ceil(CHUNK_ELEMS as u64) as u32;

/// Bytes of a canonical gate description: 64 KiB holds a table of 2^13 entries of 8 bytes; the widest gate here has 2^10.
pub const MAX_GATE_BYTES: usize = 64 << 10;

/// Bytes of the software's name and version in a greeting.
pub const MAX_SOFTWARE_BYTES: usize = 64;

/// Bytes of the sentence in a refusal or an abort: a few lines of a log.
pub const MAX_REASON_BYTES: usize = 512;

/// Bytes of one data frame's payload: 320 bits for each element of a chunk. The widest exchange of any gate opens four
/// coefficients of 48 bits, a table entry of 24 and [`MAX_SEGMENTS`] values in all, 275 bits. A gate that needs more is refused
/// when it is made.
pub const MAX_DATA_BYTES: usize = CHUNK_ELEMS as usize * 320 / 8;

/// Segments of one data frame. Each pads its end to a whole byte, so this bounds the bits that a frame carries but does
/// not count. The built-in gates need at most 14; a gate that needs more than 64 is refused when it is made.
pub const MAX_SEGMENTS: usize = 64;

/// Bytes of one key chunk: 1 KiB for each element. The largest key of a built-in gate, SIGMA's for SiLU, has 616 and its
/// masks; a gate that needs more than 1024 is refused when it is made.
pub const MAX_KEY_CHUNK_BYTES: usize = CHUNK_ELEMS as usize * 1024;

/// Milliseconds that a run may be given: one day.
pub const MAX_DEADLINE_MS: u32 = 86_400_000;
