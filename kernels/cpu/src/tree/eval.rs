//! The parties' side: comparisons, windows of leaves, and whole trees.

use std::ops::Range;

use super::{
    Correction, LEAF_BITS, MAX_EXPANDED, MAX_HEIGHT, Rule, Steps, Tree, TreeKeys, Turn, bgi::Bgi,
    half::HalfTree, load_roots, put_bits,
};
use crate::simd::{BLOCK_BYTES, Kernel, MAX_LANES, Simd};

/// Nodes of the last level of a tree that is expanded whole.
const MAX_NODES: usize = 1 << MAX_EXPANDED;

impl Tree {
    /// XOR shares of 1[alpha < v] for the elements of `range` and for each list of public points v, as planes of bits
    /// from the range's first element on. Points near each other are cheapest, for they share most of their path.
    ///
    /// # Panics
    /// If `range` does not start at a multiple of 8, or a length is not what the range demands.
    pub fn compare(
        &self,
        keys: &TreeKeys<'_>,
        range: Range<usize>,
        points: &[&[u64]],
        out: &mut [&mut [u8]],
    ) {
        self.check(keys, &range);
        assert_eq!(points.len(), out.len(), "a plane for each list of points");
        assert!(points.iter().all(|points| points.len() == range.len()), "a point for each element");
        assert!(out.iter().all(|plane| plane.len() == range.len().div_ceil(8)), "a bit for each element");
        match self.rule {
            Rule::Bgi => self.level.dispatch(Compare { tree: self, rule: Bgi, keys, range, points, out }),
            Rule::HalfTree => {
                self.level.dispatch(Compare { tree: self, rule: HalfTree, keys, range, points, out })
            }
        }
    }

    /// All leaf blocks of the elements of `range`: 2^levels blocks of 16 bytes for each element, in order.
    ///
    /// # Panics
    /// If the tree has more than [`MAX_EXPANDED`] levels, `range` does not start at a multiple of 8, or a length is not
    /// what the range demands.
    pub fn expand(&self, keys: &TreeKeys<'_>, range: Range<usize>, blocks: &mut [u8]) {
        self.check(keys, &range);
        assert!(self.levels <= MAX_EXPANDED, "the tree is too deep to be expanded whole");
        assert_eq!(
            blocks.len(),
            (range.len() * BLOCK_BYTES) << self.levels,
            "all leaf blocks of each element"
        );
        match self.rule {
            Rule::Bgi => self.level.dispatch(Expand { tree: self, rule: Bgi, keys, range, blocks }),
            Rule::HalfTree => self.level.dispatch(Expand { tree: self, rule: HalfTree, keys, range, blocks }),
        }
    }

    /// The leaves round public centres v: 2^`height` blocks that hold the points v - 2^(`height` + 6) to
    /// v + 2^(`height` + 6) - 1, cyclically: the first stands at bit v mod 128, and the last v mod 128 ones stand before
    /// it. Also shares of 1[alpha < v]: those of [`Tree::compare`] in a half-tree, others of the same bits in a BGI tree.
    ///
    /// # Panics
    /// If `height` is not in 1..=min([`MAX_HEIGHT`], levels), `range` does not start at a multiple of 8, or a length
    /// is not what the range demands.
    pub fn window(
        &self,
        keys: &TreeKeys<'_>,
        range: Range<usize>,
        height: u32,
        centres: &[u64],
        blocks: &mut [u8],
        below: &mut [u8],
    ) {
        self.check(keys, &range);
        assert!((1..=MAX_HEIGHT.min(self.levels)).contains(&height), "the window's height");
        assert_eq!(centres.len(), range.len(), "a centre for each element");
        assert_eq!(
            blocks.len(),
            (range.len() * BLOCK_BYTES) << height,
            "the window's blocks of each element"
        );
        assert_eq!(below.len(), range.len().div_ceil(8), "a bit for each element");
        let job = WindowJob { tree: self, keys, range, height, centres, blocks, below };
        match self.rule {
            Rule::Bgi => job.dispatch(Bgi),
            Rule::HalfTree => job.dispatch(HalfTree),
        }
    }
}

struct Compare<'a, 'o, R> {
    tree: &'a Tree,
    rule: R,
    keys: &'a TreeKeys<'a>,
    range: Range<usize>,
    points: &'a [&'a [u64]],
    out: &'a mut [&'o mut [u8]],
}

impl<R: Steps> Kernel for Compare<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { tree, rule, keys, range, points, out } = self;
        let Some((first, others)) = points.split_first() else { return };
        for tile in (0..range.len()).step_by(S::LANES) {
            let count = S::LANES.min(range.len() - tile);
            let batch = Batch::new(s, tree, rule, keys, range.start + tile, count);
            let near = &first[tile..tile + count];
            let mut shared = tree.levels;
            for points in others {
                shared = shared.min(shared_levels(tree.levels, LEAF_BITS, near, &points[tile..tile + count]));
            }
            let fork = batch.walk(batch.root(), s.words_some(near), 0..shared);
            for (points, plane) in points.iter().zip(&mut *out) {
                let words = s.words_some(&points[tile..tile + count]);
                let end = batch.walk(fork, words, shared..tree.levels);
                let leaf = s.and(batch.leaf(end.node), s.below(words));
                put_bits(plane, s.collect(s.xor(end.passed, s.parity(leaf))), tile, count);
            }
        }
    }
}

struct Expand<'a, R> {
    tree: &'a Tree,
    rule: R,
    keys: &'a TreeKeys<'a>,
    range: Range<usize>,
    blocks: &'a mut [u8],
}

impl<R: Steps> Kernel for Expand<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { tree, rule, keys, range, blocks } = self;
        let elem_bytes = BLOCK_BYTES << tree.levels;
        for tile in (0..range.len()).step_by(S::LANES) {
            let count = S::LANES.min(range.len() - tile);
            let batch = Batch::new(s, tree, rule, keys, range.start + tile, count);
            let mut nodes = [s.splat(0); MAX_NODES];
            nodes[0] = batch.root().node;
            batch.expand(&mut nodes[..1 << tree.levels], 0);
            for (i, node) in nodes[..1 << tree.levels].iter().enumerate() {
                let at = tile * elem_bytes + i * BLOCK_BYTES;
                s.store_some(batch.leaf(*node), blocks, at, elem_bytes, count);
            }
        }
    }
}

struct WindowJob<'a> {
    tree: &'a Tree,
    keys: &'a TreeKeys<'a>,
    range: Range<usize>,
    height: u32,
    centres: &'a [u64],
    blocks: &'a mut [u8],
    below: &'a mut [u8],
}

impl WindowJob<'_> {
    /// With buffers for the nodes under two neighbours at this height.
    fn dispatch<R: Steps>(self, rule: R) {
        let level = self.tree.level;
        match self.height {
            ..=2 => level.dispatch(Window::<_, 8> { rule, job: self }),
            3 => level.dispatch(Window::<_, 16> { rule, job: self }),
            _ => level.dispatch(Window::<_, { 2 << MAX_HEIGHT }> { rule, job: self }),
        }
    }
}

struct Window<'a, R, const NODES: usize> {
    rule: R,
    job: WindowJob<'a>,
}

impl<R: Steps, const NODES: usize> Kernel for Window<'_, R, NODES> {
    type Output = ();

    /// 2^height + 1 neighbouring blocks always lie under exactly two neighbouring nodes of the level `height` above
    /// the last. Both are expanded whole, and the blocks wanted are moved to the front by a barrel shift.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rule, job } = self;
        let WindowJob { tree, keys, range, height, centres, blocks, below } = job;
        let top = tree.levels - height;
        let width = 1usize << height;
        let domain = u64::MAX >> (u64::BITS - tree.levels - LEAF_BITS);
        let elem_bytes = BLOCK_BYTES << height;
        for tile in (0..range.len()).step_by(S::LANES) {
            let count = S::LANES.min(range.len() - tile);
            let batch = Batch::new(s, tree, rule, keys, range.start + tile, count);

            let mut starts = [0; MAX_LANES];
            let mut seconds = [0; MAX_LANES];
            for (i, centre) in centres[tile..tile + count].iter().enumerate() {
                starts[i] = centre.wrapping_sub(1 << (height + LEAF_BITS - 1)) & domain;
                seconds[i] = starts[i].wrapping_add(1 << (height + LEAF_BITS)) & domain;
            }
            let shared = shared_levels(top, LEAF_BITS + height, &starts, &seconds);
            let words = s.words(&starts);
            let fork = batch.walk(batch.root(), words, 0..shared);
            let tops =
                [batch.walk(fork, words, shared..top), batch.walk(fork, s.words(&seconds), shared..top)];

            let mut nodes = [s.splat(0); NODES];
            let mut passed = [s.splat(0); NODES];
            for (place, at) in tops.iter().zip([0, width]) {
                nodes[at] = place.node;
                passed[at] = place.passed;
                batch.expand(&mut nodes[at..at + width], top);
                for i in at + 1..at + width {
                    passed[i] = s.xor(passed[i - 1], nodes[i - 1]);
                }
            }
            let middle = width / 2;
            for bit in (0..height).rev() {
                let step = 1 << bit;
                for i in 0..width + step {
                    nodes[i] = s.select(words, LEAF_BITS + bit, nodes[i + step], nodes[i]);
                }
                for i in middle..middle + step {
                    passed[i] = s.select(words, LEAF_BITS + bit, passed[i + step], passed[i]);
                }
            }

            // The window starts inside the first block; what stands before it there belongs to the block after the last.
            let before = s.below(words);
            // Not by a closure: it would not inherit the instruction set.
            let (first, last) = (batch.leaf(nodes[0]), batch.leaf(nodes[width]));
            let cyclic = s.xor(first, s.and(s.xor(first, last), before));
            s.store_some(cyclic, blocks, tile * elem_bytes, elem_bytes, count);
            for (i, node) in nodes[..width].iter().enumerate().skip(1) {
                let leaf = batch.leaf(*node);
                s.store_some(leaf, blocks, tile * elem_bytes + i * BLOCK_BYTES, elem_bytes, count);
                if i == middle {
                    // The centre is whole blocks away from the start: the same bits of its block are below it.
                    let in_block = s.parity(s.and(leaf, before));
                    put_bits(below, s.collect(s.xor(passed[middle], in_block)), tile, count);
                }
            }
        }
    }
}

/// Neighbouring elements under evaluation, as many as the level has lanes.
struct Batch<'a, S: Simd, R> {
    s: S,
    tree: &'a Tree,
    rule: R,
    keys: &'a TreeKeys<'a>,
    node_key: S::Key<'a>,
    leaf_key: S::Key<'a>,
    first: usize,
    count: usize,
}

/// Where a walk has come to: the nodes, and in bit 0 the parity of all leaves to the left.
#[derive(Clone, Copy)]
struct Place<S: Simd> {
    node: S::Group,
    passed: S::Group,
}

impl<'a, S: Simd, R: Steps> Batch<'a, S, R> {
    #[inline(always)]
    fn new(s: S, tree: &'a Tree, rule: R, keys: &'a TreeKeys<'a>, first: usize, count: usize) -> Self {
        let (node_key, leaf_key) = (s.key(&tree.node_key), s.key(&tree.leaf_key));
        Self { s, tree, rule, keys, node_key, leaf_key, first, count }
    }

    #[inline(always)]
    fn root(&self) -> Place<S> {
        let node = load_roots(self.s, self.keys.roots, self.keys.party, self.first, self.count);
        Place { node, passed: self.s.splat(0) }
    }

    #[inline(always)]
    fn walk(&self, from: Place<S>, words: S::Group, levels: Range<u32>) -> Place<S> {
        let mut place = from;
        for level in levels {
            let to = Turn { words, bit: self.tree.point_bit(level) };
            let [node, left] = self.rule.step(self.s, &self.node_key, place.node, self.correction(level), to);
            place = Place { node, passed: self.s.xor(place.passed, left) };
        }
        place
    }

    /// Replaces the node of level `top` that stands first in `nodes` by all its descendants that fit, in order.
    #[inline(always)]
    fn expand(&self, nodes: &mut [S::Group], top: u32) {
        for height in 0..nodes.len().ilog2() {
            let cw = self.correction(top + height);
            for i in (0..1 << height).rev() {
                let [left, right] = self.rule.children(self.s, &self.node_key, nodes[i], cw);
                nodes[2 * i] = left;
                nodes[2 * i + 1] = right;
            }
        }
    }

    #[inline(always)]
    fn leaf(&self, node: S::Group) -> S::Group {
        let (s, at) = (self.s, self.first * BLOCK_BYTES);
        let correction = s.load_some(self.keys.leaves, at, BLOCK_BYTES, self.count);
        s.xor_if_odd(self.rule.convert(s, &self.leaf_key, node), correction, node)
    }

    #[inline(always)]
    fn correction(&self, level: u32) -> Correction<S> {
        let word_bytes = self.tree.word_bytes();
        let at = self.first * word_bytes + level as usize * BLOCK_BYTES;
        // The next group's words lie further on than strided loads let the processor foresee.
        let next = (self.first + S::LANES) * word_bytes + level as usize * S::LANES * BLOCK_BYTES;
        for line in 0..S::LANES * BLOCK_BYTES / LINE_BYTES {
            self.s.prefetch(self.keys.words, next + line * LINE_BYTES);
        }
        let right = self.keys.right.get(level, self.first, self.count, self.keys.elems);
        Correction {
            word: self.s.load_some(self.keys.words, at, word_bytes, self.count),
            right: self.s.spread(right),
        }
    }
}

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// How many of the first `levels` levels the paths to a[i] and b[i] have in common for every i; the last `rest` bits
/// of a point are below those levels.
#[inline(always)]
fn shared_levels(levels: u32, rest: u32, a: &[u64], b: &[u64]) -> u32 {
    let apart = a.iter().zip(b).fold(0, |apart, (a, b)| apart | (a ^ b));
    levels - (u64::BITS - (apart >> rest).leading_zeros()).min(levels)
}
