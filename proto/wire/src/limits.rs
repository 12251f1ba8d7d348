//! Every limit on what a peer may say, each with its reason.

/// Elements of a full tile, at most: 2^16. Keys and messages are made tile by tile, so this bounds the memory of every stage.
pub const TILE_ELEMS: usize = 1 << 16;

/// Elements of one wire: 10^8, the largest size the system promises.
pub const MAX_ELEMS: u64 = 100_000_000;

/// Tiles of one wire: a tile has whole rows, so that each but the last holds more than half of [`TILE_ELEMS`].
pub const MAX_TILES: u32 = MAX_ELEMS.div_ceil(TILE_ELEMS as u64 / 2) as u32;

/// Nodes of a program: 24 layers of 40 nodes, four times over.
pub const MAX_NODES: usize = 4096;

/// Parts of a program: all tiles of all nodes. Memory for parts is set aside by the agreed program, never by this number.
pub const MAX_PARTS: u32 = MAX_NODES as u32 * MAX_TILES;

/// Bytes of a canonical program: nodes of 32 bytes, and gates of 2 KiB, as a GELU of 2^9 entries has.
pub const MAX_PROGRAM_BYTES: usize = 256 << 10;

/// Bytes of a canonical gate description: 64 KiB holds a table of 2^13 entries of 8 bytes; the widest gate here has 2^10.
pub const MAX_GATE_BYTES: usize = 64 << 10;

/// Bytes of the software's name and version in a greeting.
pub const MAX_SOFTWARE_BYTES: usize = 64;

/// Bytes of the sentence in a refusal or an abort: a few lines of a log.
pub const MAX_REASON_BYTES: usize = 512;

/// Bytes of one data frame's payload: 320 bits for each element of a tile. The widest exchange of any gate opens four
/// coefficients of 48 bits, a table entry of 24 and [`MAX_SEGMENTS`] values in all, 275 bits. A gate that needs more is refused
/// when it is made.
pub const MAX_DATA_BYTES: usize = TILE_ELEMS * 320 / 8;

/// Segments of one data frame. Each pads its end to a whole byte, so this bounds the bits that a frame carries but does
/// not count. The built-in gates need at most 14; a gate that needs more than 64 is refused when it is made.
pub const MAX_SEGMENTS: usize = 64;

/// Bytes of the key of one part: 1 KiB for each element. The largest key of a built-in gate, SIGMA's for SiLU, has 616;
/// a gate that needs more than 1024 is refused when it is made.
pub const MAX_KEY_PART_BYTES: usize = TILE_ELEMS * 1024;

/// Milliseconds that a run may be given: one day.
pub const MAX_DEADLINE_MS: u32 = 86_400_000;
