//! DPF trees over blocks of 128 leaves, whole groups of elements at a time.
//!
//! A tree of `levels` levels has 2^`levels` leaf blocks, hence 2^(`levels` + 7) points. For each element, party 0 and
//! party 1 hold a root each and the same correction words. Their leaves differ at the point alpha alone, where the XOR
//! is 1. Early termination at 128 leaves is from Boyle, Gilboa, Ishai, CCS 2016, section 3.2.1. Reading a comparison
//! from the parity of a prefix is from Storrier et al. (Grotto), CCS 2023, section 4.
//!
//! Two rules for making two nodes of one: [`Rule::Bgi`] and [`Rule::HalfTree`]. Bits are taken from the highest down.
//!
//! Points of evaluation are public, and paths that share a prefix are walked once; alpha is secret, and no branch or
//! index depends on it. Formulas and assumptions: `docs/protocols/trees.md`.

mod bgi;
mod deal;
mod eval;
mod half;

use std::{fmt, ops::Range};

use suf_gate::prg::FixedKeys;

use crate::simd::{Aes128, BLOCK_BYTES, Level, MAX_LANES, Simd};

/// log2 of the leaves in a block.
pub const LEAF_BITS: u32 = 7;

/// The most levels that [`Tree::expand`] takes: tables of 2^10 entries.
pub const MAX_EXPANDED: u32 = 3;

/// The largest height of a [`Tree::window`]: windows of 2^12 points.
pub const MAX_HEIGHT: u32 = 5;

/// Groups of elements that are worked on in turn: while the AES units run through one group's rounds, the others prepare
/// the next group's.
const WAYS: usize = 2;

/// `[f(0), f(1)]`, unrolled and in this order: a closure would not inherit the instruction set of the kernel.
macro_rules! ways {
    ($w:ident => $e:expr) => {[
        { const $w: usize = 0; $e }, { const $w: usize = 1; $e },
    ]};
}
use ways;

/// Elements that are worked on together.
#[inline(always)]
const fn batch_lanes<S: Simd>(_: S) -> usize {
    WAYS * S::LANES
}

/// The bits of all groups.
#[inline(always)]
fn join<S: Simd>(_: S, bits: [u64; WAYS]) -> u64 {
    bits[0] | bits[1] << S::LANES
}

/// How a node becomes its two children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Boyle, Gilboa, Ishai, CCS 2016: one call of the cipher for each child, a correction word and two correction
    /// bits for each level. One child alone costs one call.
    Bgi,
    /// Guo et al., EUROCRYPT 2023 (ePrint 2022/1431): one call for both children, one correction word for each level.
    HalfTree,
}

/// A gate's trees, before their keys are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeShape {
    /// How a node becomes its two children.
    pub rule: Rule,
    /// Levels above the leaf blocks.
    pub levels: u32,
}

/// The trees of one part: their shape, and the two fixed keys.
#[derive(Debug)]
pub struct Tree {
    level: Level,
    rule: Rule,
    levels: u32,
    node_key: Aes128,
    leaf_key: Aes128,
}

/// What one party holds of the trees of `elems` elements.
#[derive(Clone, Copy)]
pub struct TreeKeys<'k> {
    /// 0 or 1: the control bit of this party's roots.
    pub party: u8,
    /// Number of elements.
    pub elems: usize,
    /// A root for each element, 16 bytes; bit 0 of each is ignored.
    pub roots: &'k [u8],
    /// Correction words: for each element those of all levels, 16 bytes each.
    pub words: &'k [u8],
    /// Correction bits of the right children. None under [`Rule::HalfTree`].
    pub right: RightBits<&'k [u8]>,
    /// Correction of the leaf block, 16 bytes for each element.
    pub leaves: &'k [u8],
}

/// Where the dealer puts the trees of `elems` elements.
pub struct DealtTrees<'k> {
    /// Correction words, as in [`TreeKeys::words`].
    pub words: &'k mut [u8],
    /// Correction bits of the right children, as in [`TreeKeys::right`].
    pub right: RightBits<&'k mut [u8]>,
    /// Corrections of the leaf blocks, as in [`TreeKeys::leaves`].
    pub leaves: &'k mut [u8],
    /// A plane of bits: party 0's share of the leaf at alpha. It says which of the parties holds the 1 there, and is
    /// the dealer's secret.
    pub hot: &'k mut [u8],
}

/// How the correction bits of the right children are laid out.
#[derive(Clone, Copy)]
pub enum RightBits<B> {
    /// There are none.
    None,
    /// A plane for each level, ceil(elems / 8) bytes each.
    Planes(B),
    /// Four bytes for each element, little endian: bit i for level i.
    Words(B),
}

impl Tree {
    /// Trees of `shape` under `fixed` with the instructions of `level`.
    ///
    /// # Panics
    /// If the machine does not have that level, or there are more than 57 tree levels: points are 64-bit numbers.
    #[must_use]
    pub fn new(level: Level, shape: TreeShape, fixed: &FixedKeys) -> Self {
        let TreeShape { rule, levels } = shape;
        assert!(levels + LEAF_BITS <= u64::BITS, "points are 64-bit numbers");
        let [node_key, leaf_key] = [fixed.node, fixed.leaf].map(|key| Aes128::at(level, key));
        Self { level, rule, levels, node_key, leaf_key }
    }

    /// Levels above the leaf blocks.
    #[must_use]
    pub fn levels(&self) -> u32 {
        self.levels
    }

    /// Bytes of the correction words of one element.
    #[must_use]
    pub fn word_bytes(&self) -> usize {
        self.levels as usize * BLOCK_BYTES
    }

    /// The bit of a point that decides the step from `level` to `level` + 1.
    fn point_bit(&self, level: u32) -> u32 {
        self.levels + LEAF_BITS - 1 - level
    }

    fn check(&self, keys: &TreeKeys<'_>, range: &Range<usize>) {
        assert!(range.start.is_multiple_of(8), "a strip starts at a whole byte of every plane");
        assert!(range.end <= keys.elems, "a strip lies in its tile");
        assert!(keys.party < 2, "there are two parties");
        assert_eq!(keys.roots.len(), keys.elems * BLOCK_BYTES, "a root for each element");
        self.check_corrections(keys.elems, keys.words, keys.leaves, keys.right.is_none());
    }

    fn check_corrections(&self, elems: usize, words: &[u8], leaves: &[u8], no_right_bits: bool) {
        assert_eq!(words.len(), elems * self.word_bytes(), "a correction word for each element and level");
        assert_eq!(leaves.len(), elems * BLOCK_BYTES, "a leaf correction for each element");
        assert_eq!(
            no_right_bits,
            self.rule == Rule::HalfTree,
            "the BGI tree has right bits, the half-tree none"
        );
    }
}

impl<B> RightBits<B> {
    fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

impl RightBits<&[u8]> {
    /// Those of level `level` for elements `first..first + count` of `elems`, as bits of an integer.
    #[inline(always)]
    fn get<S: Simd>(&self, s: S, level: u32, first: usize, count: usize, elems: usize) -> u64 {
        match self {
            Self::None => 0,
            Self::Planes(bytes) => get_bits(plane(bytes, level, elems), first, count),
            Self::Words(bytes) => {
                let mut lanes = [0; MAX_LANES];
                let words = bytes[4 * first..4 * (first + count)].as_chunks::<4>().0;
                for (lane, word) in lanes.iter_mut().zip(words) {
                    *lane = u32::from_le_bytes(*word).into();
                }
                join(s, ways!(W => s.bits_of(&lanes[W * S::LANES..], level)))
            }
        }
    }
}

impl RightBits<&mut [u8]> {
    /// The reverse of [`RightBits::get`]; the words must be zero at first.
    #[inline(always)]
    fn put(&mut self, bits: u64, level: u32, first: usize, count: usize, elems: usize) {
        match self {
            Self::None => {}
            Self::Planes(bytes) => {
                let plane_bytes = elems.div_ceil(8);
                put_bits(&mut bytes[level as usize * plane_bytes..][..plane_bytes], bits, first, count);
            }
            Self::Words(bytes) => {
                let words = bytes[4 * first..4 * (first + count)].chunks_exact_mut(4);
                for (i, word) in words.enumerate() {
                    word[level as usize / 8] |= ((bits >> i & 1) as u8) << (level % 8);
                }
            }
        }
    }
}

#[inline(always)]
fn plane(planes: &[u8], index: u32, elems: usize) -> &[u8] {
    let plane_bytes = elems.div_ceil(8);
    &planes[index as usize * plane_bytes..][..plane_bytes]
}

/// Roots of elements `first..first + count` with the control bit that every root of `party` has.
#[inline(always)]
fn load_roots<S: Simd>(s: S, roots: &[u8], party: u8, first: usize, count: usize) -> S::Group {
    let seeds = s.and(s.load_some(roots, first * BLOCK_BYTES, BLOCK_BYTES, count), s.splat(!1));
    s.xor(seeds, s.splat(party.into()))
}

/// Bits `first..first + count` of a plane; `first` is a multiple of 8 and `count` at most 32.
#[inline(always)]
fn get_bits(plane: &[u8], first: usize, count: usize) -> u64 {
    let bytes = &plane[first / 8..][..count.div_ceil(8)];
    match bytes {
        // A full batch, which is read as one word.
        [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]).into(),
        _ => bytes.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte)),
    }
}

/// Writes bits `first..first + count` of a plane, and zeros into the rest of the last byte.
#[inline(always)]
fn put_bits(plane: &mut [u8], bits: u64, first: usize, count: usize) {
    let kept = bits & ((1 << count) - 1);
    let bytes = &mut plane[first / 8..][..count.div_ceil(8)];
    match bytes {
        [a, b, c, d] => [*a, *b, *c, *d] = (kept as u32).to_le_bytes(),
        _ => bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = (kept >> (8 * i)) as u8),
    }
}

impl fmt::Debug for TreeKeys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreeKeys(party {}, {} elements)", self.party, self.elems)
    }
}

impl fmt::Debug for DealtTrees<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DealtTrees({} bytes of words)", self.words.len())
    }
}

/// One rule, on groups of nodes. Bit 0 of a node is its control bit.
trait Steps: Copy {
    /// The child on the right in the lanes of `right`, on the left in the others; `odd` are the control bits.
    fn step<S: Simd>(
        self,
        s: S,
        key: &S::Key<'_>,
        node: S::Group,
        odd: S::Mask,
        cw: Correction<S>,
        right: u64,
    ) -> S::Group;

    /// Both children, left and right.
    fn children<S: Simd>(self, s: S, key: &S::Key<'_>, node: S::Group, cw: Correction<S>) -> [S::Group; 2];

    /// The 128 pseudo-random leaves under a node of the last level, before correction, xor `onto`.
    fn convert<S: Simd>(self, s: S, key: &S::Key<'_>, node: S::Group, onto: S::Group) -> S::Group;

    /// The dealer's step of both parties along alpha, which goes right in the lanes of `alpha`: their next nodes and the
    /// correction.
    fn deal<S: Simd>(
        self,
        s: S,
        key: &S::Key<'_>,
        nodes: [S::Group; 2],
        alpha: u64,
    ) -> ([S::Group; 2], Correction<S>);
}

/// A level's correction: the word, and the corrections of the right children's control bits.
#[derive(Clone, Copy)]
struct Correction<S: Simd> {
    word: S::Group,
    right: u64,
}
