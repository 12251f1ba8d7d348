//! The parties' side: comparisons, windows of leaves, and whole trees.

use std::ops::Range;

use super::{
    Correction, LEAF_BITS, MAX_EXPANDED, MAX_HEIGHT, Rule, Steps, Tree, TreeKeys, WAYS, batch_lanes,
    bgi::Bgi, half::HalfTree, join, load_roots, put_bits, ways,
};
use crate::simd::{BLOCK_BYTES, MAX_LANES, Simd, Vectorised};

/// Nodes of the last level of a tree that is expanded whole.
const MAX_NODES: usize = 1 << MAX_EXPANDED;

impl Tree {
    /// XOR shares of 1[alpha < v] for the elements of `range` and for each list of public points v. They are planes of
    /// bits from the range's first element on. Points near each other are cheapest, because they share most of their
    /// path.
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
    /// If the tree has more than [`MAX_EXPANDED`] levels, `range` does not start at a multiple of 8, or a length
    /// does not fit it.
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

    /// The leaves round public centres v, in 2^`height` blocks. They hold the points v - 2^(`height` + 6) to v +
    /// 2^(`height` + 6) - 1, cyclically. The first point stands at bit v mod 128, and the last v mod 128 points stand
    /// before it. Also shares of 1[alpha < v]: those of [`Tree::compare`] in a half-tree, others of the same bits in a
    /// BGI tree.
    ///
    /// # Panics
    /// If `height` is not in 1..=min([`MAX_HEIGHT`], levels), `range` does not start at a multiple of 8, or a length
    /// does not fit it.
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

impl<R: Steps> Vectorised for Compare<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { tree, rule, keys, range, points, out } = self;
        let Some((first, others)) = points.split_first() else { return };
        for strip in (0..range.len()).step_by(batch_lanes(s)) {
            let count = batch_lanes(s).min(range.len() - strip);
            let batch = Walk::new(s, tree, rule, keys, range.start + strip, count);
            let near = lanes(&first[strip..strip + count]);
            let (far, forks) =
                forks(tree.levels, &near, others.iter().map(|list| &list[strip..strip + count]));
            let trunk = batch.walk(batch.root(), &near, 0..forks.first);
            let paths = forks.first..forks.second;
            // Not by a closure: it would not inherit the instruction set.
            let [near_place, far_place] =
                [batch.walk(trunk, &near, paths.clone()), batch.walk(trunk, &far, paths)];
            for (points, plane) in points.iter().zip(&mut *out) {
                let points = lanes(&points[strip..strip + count]);
                let below_fork = tree.levels - forks.second + LEAF_BITS;
                let fork = batch.select(differing(&near, &points, below_fork), &far_place, &near_place);
                let end = batch.walk(fork, &points, forks.second..tree.levels);
                let leaves = batch.leaves(end.node);
                let in_block = ways!(W => {
                    let below = s.below(s.words(&points[W * S::LANES..]));
                    s.bits(s.parity(s.and(leaves[W], below)))
                });
                put_bits(plane, end.passed ^ join(s, in_block), strip, count);
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

impl<R: Steps> Vectorised for Expand<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { tree, rule, keys, range, blocks } = self;
        let elem_bytes = BLOCK_BYTES << tree.levels;
        for strip in (0..range.len()).step_by(batch_lanes(s)) {
            let count = batch_lanes(s).min(range.len() - strip);
            let batch = Walk::new(s, tree, rule, keys, range.start + strip, count);
            let mut nodes = [[s.splat(0); WAYS]; MAX_NODES];
            nodes[0] = batch.root().node;
            batch.expand(&mut nodes[..1 << tree.levels], 0);
            for (i, node) in nodes[..1 << tree.levels].iter().enumerate() {
                let at = strip * elem_bytes + i * BLOCK_BYTES;
                batch.store(batch.leaves(*node), blocks, at, elem_bytes);
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

impl<R: Steps, const NODES: usize> Vectorised for Window<'_, R, NODES> {
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
        for strip in (0..range.len()).step_by(batch_lanes(s)) {
            let count = batch_lanes(s).min(range.len() - strip);
            let batch = Walk::new(s, tree, rule, keys, range.start + strip, count);

            let mut starts = [0; MAX_LANES];
            let mut seconds = [0; MAX_LANES];
            for (i, centre) in centres[strip..strip + count].iter().enumerate() {
                starts[i] = centre.wrapping_sub(1 << (height + LEAF_BITS - 1)) & domain;
                seconds[i] = starts[i].wrapping_add(1 << (height + LEAF_BITS)) & domain;
            }
            let apart = starts.iter().zip(&seconds).fold(0, |apart, (a, b)| apart | (a ^ b));
            let shared = shared_levels(top, LEAF_BITS + height, apart);
            let fork = batch.walk(batch.root(), &starts, 0..shared);
            let tops = [batch.walk(fork, &starts, shared..top), batch.walk(fork, &seconds, shared..top)];

            let mut nodes = [[s.splat(0); WAYS]; NODES];
            let mut passed = [0; NODES];
            for (place, at) in tops.iter().zip([0, width]) {
                nodes[at] = place.node;
                passed[at] = place.passed;
                batch.expand(&mut nodes[at..at + width], top);
                for i in at + 1..at + width {
                    passed[i] = passed[i - 1] ^ batch.control(nodes[i - 1]);
                }
            }
            let middle = width / 2;
            for bit in (0..height).rev() {
                let step = 1 << bit;
                let on = batch.bits_of(&starts, LEAF_BITS + bit);
                let masks = ways!(W => s.mask(on[W]));
                for i in 0..width + step {
                    nodes[i] = ways!(W => s.select(masks[W], nodes[i + step][W], nodes[i][W]));
                }
                let on = join(s, on);
                for i in middle..middle + step {
                    passed[i] = on & passed[i + step] | !on & passed[i];
                }
            }

            // The window starts inside the first block; what stands before it there belongs to the block after the last.
            let before = ways!(W => s.below(s.words(&starts[W * S::LANES..])));
            let (first, last) = (batch.leaves(nodes[0]), batch.leaves(nodes[width]));
            let cyclic = ways!(W => s.xor(first[W], s.and(s.xor(first[W], last[W]), before[W])));
            batch.store(cyclic, blocks, strip * elem_bytes, elem_bytes);
            for (i, node) in nodes[..width].iter().enumerate().skip(1) {
                let leaves = batch.leaves(*node);
                batch.store(leaves, blocks, strip * elem_bytes + i * BLOCK_BYTES, elem_bytes);
                if i == middle {
                    // The centre is whole blocks away from the start: the same bits of its block are below it.
                    let in_block = ways!(W => s.bits(s.parity(s.and(leaves[W], before[W]))));
                    put_bits(below, passed[middle] ^ join(s, in_block), strip, count);
                }
            }
        }
    }
}

/// Neighbouring elements under evaluation, [`WAYS`] groups.
struct Walk<'a, S: Simd, R> {
    s: S,
    tree: &'a Tree,
    rule: R,
    keys: &'a TreeKeys<'a>,
    node_key: S::Key<'a>,
    leaf_key: S::Key<'a>,
    word_bytes: usize,
    first: usize,
    count: usize,
}

/// Where a walk has come to.
#[derive(Clone, Copy)]
struct Position<S: Simd> {
    node: [S::Group; WAYS],
    /// The parity of all leaves to the left.
    passed: u64,
}

impl<'a, S: Simd, R: Steps> Walk<'a, S, R> {
    #[inline(always)]
    fn new(s: S, tree: &'a Tree, rule: R, keys: &'a TreeKeys<'a>, first: usize, count: usize) -> Self {
        let (node_key, leaf_key) = (s.key(&tree.node_key), s.key(&tree.leaf_key));
        Self { s, tree, rule, keys, node_key, leaf_key, word_bytes: tree.word_bytes(), first, count }
    }

    #[inline(always)]
    fn root(&self) -> Position<S> {
        let TreeKeys { roots, party, .. } = *self.keys;
        let node = ways!(W => load_roots(self.s, roots, party, self.first + W * S::LANES, self.count(W)));
        Position { node, passed: 0 }
    }

    #[inline(always)]
    fn walk(&self, from: Position<S>, points: &[u64; MAX_LANES], levels: Range<u32>) -> Position<S> {
        let (s, rule, key) = (self.s, self.rule, &self.node_key);
        let Position { mut node, mut passed } = from;
        // Of the level before: the control bits, and which lanes went right.
        let (mut control, mut turned) = (0, 0);
        for level in levels {
            self.prefetch(level);
            let right = self.bits_of(points, self.tree.point_bit(level));
            let right_bits = self.right_bits(level);
            let now = ways!(W => {
                let odd = s.odd(node[W]);
                let cw = self.correction(level, right_bits, W);
                node[W] = rule.step(s, key, node[W], odd, cw, right[W]);
                s.bits(odd)
            });
            // The control bits of both children and of their parent, as shares, tell apart the three places where alpha
            // can be. The left child's bit is parent xor right child.
            let now = join(s, now);
            passed ^= turned & (control ^ now);
            control = now;
            turned = join(s, right);
        }
        passed ^= turned & (control ^ self.control(node));
        Position { node, passed }
    }

    /// `on` in the lanes of `which`, `off` in the others.
    #[inline(always)]
    fn select(&self, which: u64, on: &Position<S>, off: &Position<S>) -> Position<S> {
        let s = self.s;
        let node = ways!(W => s.select(s.mask(which >> (W * S::LANES)), on.node[W], off.node[W]));
        Position { node, passed: which & on.passed | !which & off.passed }
    }

    /// Replaces the node of level `top` that stands first in `nodes` by all its descendants that fit, in order.
    #[inline(always)]
    fn expand(&self, nodes: &mut [[S::Group; WAYS]], top: u32) {
        for height in 0..nodes.len().ilog2() {
            self.prefetch(top + height);
            let right_bits = self.right_bits(top + height);
            let cw = ways!(W => self.correction(top + height, right_bits, W));
            for i in (0..1 << height).rev() {
                let children = ways!(W => self.rule.children(self.s, &self.node_key, nodes[i][W], cw[W]));
                nodes[2 * i] = ways!(W => children[W][0]);
                nodes[2 * i + 1] = ways!(W => children[W][1]);
            }
        }
    }

    /// The leaves under nodes of the last level.
    #[inline(always)]
    fn leaves(&self, node: [S::Group; WAYS]) -> [S::Group; WAYS] {
        let s = self.s;
        ways!(W => {
            let at = (self.first + W * S::LANES) * BLOCK_BYTES;
            let correction = s.load_some(self.keys.leaves, at, BLOCK_BYTES, self.count(W));
            let onto = s.only_where(s.odd(node[W]), correction);
            self.rule.convert(s, &self.leaf_key, node[W], onto)
        })
    }

    /// The correction of group `way` at `level`, from the right children's bits of all groups.
    #[inline(always)]
    fn correction(&self, level: u32, right_bits: u64, way: usize) -> Correction<S> {
        let at = (self.first + way * S::LANES) * self.word_bytes + level as usize * BLOCK_BYTES;
        let word = self.s.load_some(self.keys.words, at, self.word_bytes, self.count(way));
        Correction { word, right: right_bits >> (way * S::LANES) }
    }

    #[inline(always)]
    fn right_bits(&self, level: u32) -> u64 {
        self.keys.right.get(self.s, level, self.first, self.count, self.keys.elems)
    }

    /// Asks for a part of the next batch's correction words, which lie further on than strided loads let the processor
    /// foresee.
    #[inline(always)]
    fn prefetch(&self, level: u32) {
        let bytes = batch_lanes(self.s) * BLOCK_BYTES;
        let next = (self.first + batch_lanes(self.s)) * self.word_bytes + level as usize * bytes;
        for line in 0..bytes / LINE_BYTES {
            self.s.prefetch(self.keys.words, next + line * LINE_BYTES);
        }
    }

    /// The control bits of nodes.
    #[inline(always)]
    fn control(&self, node: [S::Group; WAYS]) -> u64 {
        join(self.s, ways!(W => self.s.odd_bits(node[W])))
    }

    #[inline(always)]
    fn bits_of(&self, values: &[u64; MAX_LANES], bit: u32) -> [u64; WAYS] {
        ways!(W => self.s.bits_of(&values[W * S::LANES..], bit))
    }

    /// Writes the lanes' blocks, from byte `at` on and `stride` apart.
    #[inline(always)]
    fn store(&self, blocks: [S::Group; WAYS], bytes: &mut [u8], at: usize, stride: usize) {
        ways!(W => self.s.store_some(blocks[W], bytes, at + W * S::LANES * stride, stride, self.count(W)));
    }

    /// Elements in the lanes of group `way`.
    #[inline(always)]
    fn count(&self, way: usize) -> usize {
        self.count.saturating_sub(way * S::LANES).min(S::LANES)
    }
}

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// A value for each lane, zero beyond the last.
#[inline(always)]
fn lanes(values: &[u64]) -> [u64; MAX_LANES] {
    let mut lanes = [0; MAX_LANES];
    lanes[..values.len()].copy_from_slice(values);
    lanes
}

/// Two levels for every lane, of the paths to several points of an element. Down to the first they are one path. Down
/// to the second they are at most two.
struct Forks {
    first: u32,
    second: u32,
}

/// The forks on the way to `near` and to the `others`. Also in each lane the point among them that is farthest from
/// `near`: the end of the second path.
#[inline(always)]
fn forks<'p>(
    levels: u32,
    near: &[u64; MAX_LANES],
    others: impl Iterator<Item = &'p [u64]> + Clone,
) -> ([u64; MAX_LANES], Forks) {
    let mut far = *near;
    for list in others.clone() {
        for ((far, near), point) in far.iter_mut().zip(near).zip(list) {
            *far = if (near ^ point) > (near ^ *far) { *point } else { *far };
        }
    }
    let mut third = 0;
    for list in others {
        for ((far, near), point) in far.iter().zip(near).zip(list) {
            third |= (near ^ point).min(far ^ point);
        }
    }
    let apart = near.iter().zip(&far).fold(0, |apart, (near, far)| apart | (near ^ far));
    let first = shared_levels(levels, LEAF_BITS, apart);
    (far, Forks { first, second: shared_levels(levels, LEAF_BITS, third) })
}

/// Bit i says whether a[i] and b[i] differ above their lowest `rest` bits.
#[inline(always)]
fn differing(a: &[u64; MAX_LANES], b: &[u64; MAX_LANES], rest: u32) -> u64 {
    let differ = |i: usize| u64::from((a[i] ^ b[i]) >> (rest - 1) > 1) << i;
    (0..MAX_LANES).fold(0, |bits, i| bits | differ(i))
}

/// How many of the first `levels` levels two paths have in common in every lane. `apart` has the bits in which any two
/// points differ; the last `rest` bits of a point are below those levels.
#[inline(always)]
fn shared_levels(levels: u32, rest: u32, apart: u64) -> u32 {
    levels - (u64::BITS - (apart >> rest).leading_zeros()).min(levels)
}
