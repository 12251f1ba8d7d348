//! Comparison of a public number with a secret one, as additive shares: a distributed comparison function (DCF). It has a payload
//! at each level, so that it ends at any level (`docs/protocols/comparison.md`).
//!
//! The tree is the half-tree of [`crate::spec::dpf`] with the point r. Each level has one more word. It turns the leaf hashes of
//! both parties' nodes on the path into shares of the payload. Off the path the hashes cancel. y < r exactly if y goes left
//! somewhere where r goes right. So a party adds up the payloads of the right siblings where y goes left. Ended after d levels,
//! this compares the d highest bits.
//!
//! Payloads at each level are those of incremental DPFs (Boneh et al., IEEE S&P 2021). Comparisons as sums over a path are from
//! Boyle et al., EUROCRYPT 2021.

mod calls;
mod deal;
mod evaluate;
mod hash;
mod payload;
mod tails;

pub use calls::calls;
pub use deal::{Dealt, deal};
pub use evaluate::{Keys, Point, Points, evaluate};
pub use hash::{LibraryHash, TreeHash};
pub use payload::Payload;

/// A node of a tree, a little-endian number of 128 bits.
pub type Block = [u8; BLOCK_BYTES];

/// Bytes of a node.
pub const BLOCK_BYTES: usize = 16;

/// Rows whose trees are worked on together: their nodes stay in the first-level cache, and the hash has many at a time.
const ROWS: usize = 64;

/// Bit `index` of a number of several words.
#[inline(always)]
fn bit(words: &[u64], index: usize) -> u64 {
    words[index / 64] >> (index % 64) & 1
}

/// All ones for 1, zero for 0.
#[inline(always)]
fn select(bit: u128) -> u128 {
    bit.wrapping_neg()
}

#[cfg(test)]
mod tests;
