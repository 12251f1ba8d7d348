//! A distributed point function of one-bit leaves, one element at a time: the definition that fast backends follow.
//!
//! Half-tree (Guo et al., EUROCRYPT 2023) in the random-permutation model: `left = H(s) ^ t * CW`, `right = left ^ s`.
//! Here t is the lowest bit of a node. The tree ends 7 levels early in blocks of 128 leaves. The two roots are
//! independent but for their lowest bits, 0 and 1. So each party takes its own root from its seed, and only the
//! correction words are delivered. See `docs/protocols/trees.md`.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A node of the tree, or 128 leaves: leaf j is bit j.
pub type Block = u128;

/// log2 of the leaves in a block.
pub const LEAF_BITS: u8 = 7;

/// The two hash functions of the tree.
pub trait TreePrg {
    /// H: circular correlation robust, from a node to its left child before correction.
    fn node(&self, seed: Block) -> Block;
    /// From a last node to its block of leaves before correction.
    fn leaf(&self, seed: Block) -> Block;
}

/// [`TreePrg`] by BLAKE3: slow, and independent of every fast one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Blake3Prg;

impl TreePrg for Blake3Prg {
    fn node(&self, seed: Block) -> Block {
        hash("suf/v1/tree-key!", seed)
    }

    fn leaf(&self, seed: Block) -> Block {
        hash("suf/v1/leaf-key!", seed)
    }
}

fn hash(domain: &str, seed: Block) -> Block {
    let mut out = [0; 16];
    blake3::Hasher::new().update(domain.as_bytes()).update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    Block::from_le_bytes(out)
}

/// Levels of the tree over `bits` input bits, blocks of leaves aside.
#[must_use]
pub const fn levels(bits: u8) -> u8 {
    bits.saturating_sub(LEAF_BITS)
}

/// The correction words, the same for both parties.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Corrections {
    /// One per level, from the root down.
    pub nodes: Vec<Block>,
    /// Of the block of leaves.
    pub leaf: Block,
}

/// One party's key of a point function on `bits` bits: its value is 1 at one secret point alpha.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DpfKey {
    bits: u8,
    root: Block,
    corrections: Corrections,
}

impl std::fmt::Debug for DpfKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DpfKey({} bytes)", 16 * (2 + self.corrections.nodes.len()))
    }
}

/// Makes both keys from the parties' random roots, whose lowest bits are overwritten. Also returns party 0's share of
/// the leaf at alpha, as 0 or 1. This is the sign of integer sums over leaves.
#[must_use]
pub fn deal(prg: &impl TreePrg, bits: u8, alpha: u64, roots: [Block; 2]) -> ([DpfKey; 2], u64) {
    let roots = [roots[0] & !1, roots[1] | 1];
    let delta = roots[0] ^ roots[1];
    let mut nodes = Vec::with_capacity(usize::from(levels(bits)));
    let mut path = roots;
    for level in 0..levels(bits) {
        let go_right = Block::from(alpha >> (bits - 1 - level) & 1);
        let hashed = path.map(|s| prg.node(s));
        // The left children differ by delta if alpha goes left, and not at all if it goes right.
        let correction = hashed[0] ^ hashed[1] ^ (select(go_right ^ 1) & delta);
        for (s, h) in path.iter_mut().zip(hashed) {
            *s = h ^ (select(*s & 1) & correction) ^ (select(go_right) & *s);
        }
        nodes.push(correction);
    }
    let hashed = path.map(|s| prg.leaf(s));
    let position = alpha & 127;
    let leaf = hashed[0] ^ hashed[1] ^ (1 << position);
    let leaf_0 = (hashed[0] ^ (select(path[0] & 1) & leaf)) >> position & 1;
    let corrections = Corrections { nodes, leaf };
    (roots.map(|root| DpfKey { bits, root, corrections: corrections.clone() }), leaf_0 as u64)
}

impl DpfKey {
    /// A key from its parts.
    ///
    /// # Panics
    /// When the number of correction words is not that of the levels: the caller sizes them by [`levels`].
    #[must_use]
    pub fn new(bits: u8, root: Block, corrections: Corrections) -> Self {
        assert_eq!(corrections.nodes.len(), usize::from(levels(bits)), "one correction word per level");
        Self { bits, root, corrections }
    }

    /// The root: party 0's is even, party 1's odd.
    #[must_use]
    pub fn root(&self) -> Block {
        self.root
    }

    /// The correction words.
    #[must_use]
    pub fn corrections(&self) -> &Corrections {
        &self.corrections
    }

    /// XOR share of 1\[x = alpha\], as 0 or 1.
    #[must_use]
    pub fn leaf(&self, prg: &impl TreePrg, x: u64) -> u64 {
        (self.walk(prg, x).0 >> (x & 127)) as u64 & 1
    }

    /// XOR share of 1\[alpha < x\], as 0 or 1, for 0 <= x <= 2^bits: the parity of all leaves below x. It takes only
    /// the control bits on the way to x. Where the way goes right, the left sibling's bit is the parent's xor the right
    /// child's.
    #[must_use]
    pub fn below(&self, prg: &impl TreePrg, x: u64) -> u64 {
        if x >> self.bits != 0 {
            return self.root as u64 & 1;
        }
        let (leaves, parity) = self.walk(prg, x);
        let before = leaves & ((1 << (x & 127)) - 1);
        parity ^ u64::from(before.count_ones() & 1)
    }

    /// The block of leaves that holds x, and the parity of all blocks before it.
    fn walk(&self, prg: &impl TreePrg, x: u64) -> (Block, u64) {
        let mut s = self.root;
        let mut parity = 0;
        for (level, correction) in (0..).zip(&self.corrections.nodes) {
            let left = prg.node(s) ^ (select(s & 1) & correction);
            // x is public.
            if x >> (self.bits - 1 - level) & 1 == 1 {
                parity ^= left as u64 & 1;
                s ^= left;
            } else {
                s = left;
            }
        }
        (prg.leaf(s) ^ (select(s & 1) & self.corrections.leaf), parity)
    }
}

/// All ones for 1, zero for 0.
fn select(bit: Block) -> Block {
    bit.wrapping_neg()
}
