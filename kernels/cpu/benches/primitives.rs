//! Rates of the primitives at every instruction level: AES blocks, packing, and trees of the gates' sizes.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use suf_cpu::{
    pack,
    prg::Stream,
    simd::{BLOCK_BYTES, Level},
    tree::{DealtTrees, RightBits, Rule, Tree, TreeKeys, TreeShape},
};
use suf_gate::prg::{FixedKeys, StreamKey};

/// Elements of a tile: their keys stay in the second-level cache.
const ELEMS: usize = 1024;

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.supported())
}

/// Blocks per second of counter mode into a buffer of the first-level cache.
fn aes(c: &mut Criterion) {
    let mut group = c.benchmark_group("aes-ctr");
    let mut out = vec![0; ELEMS * BLOCK_BYTES];
    group.throughput(Throughput::Elements(ELEMS as u64));
    for level in levels() {
        let stream = Stream::new(level, &StreamKey { key: [1; BLOCK_BYTES], nonce: [3; BLOCK_BYTES] });
        group.bench_function(level.to_string(), |b| b.iter(|| stream.fill(0, black_box(&mut out))));
    }
}

fn packing(c: &mut Criterion) {
    let mut group = c.benchmark_group("pack");
    group.throughput(Throughput::Elements(ELEMS as u64));
    let values: Vec<u64> = (0..ELEMS as u64).collect();
    for width in [1, 8, 10, 12, 13, 31, 48] {
        let mut packed = vec![0; pack::packed_bytes(width, ELEMS)];
        let mut out = vec![0; ELEMS];
        group.bench_function(format!("pack/{width}"), |b| {
            b.iter(|| pack::pack(width, black_box(&values), &mut packed));
        });
        group.bench_function(format!("unpack/{width}"), |b| {
            b.iter(|| pack::unpack(width, black_box(&packed), &mut out));
        });
        group.bench_function(format!("unpack-sum/{width}"), |b| {
            b.iter(|| pack::unpack_sum(width, black_box(&packed), &packed, &mut out));
        });
    }
}

/// A tile's trees, whose contents do not matter for the time.
struct Tile {
    tree: Tree,
    rule: Rule,
    roots: Vec<u8>,
    words: Vec<u8>,
    right: Vec<u8>,
    leaves: Vec<u8>,
    hot: Vec<u8>,
    points: Vec<u64>,
}

impl Tile {
    fn new(level: Level, rule: Rule, tree_levels: u32) -> Self {
        let tree = Tree::new(
            level,
            TreeShape { rule, levels: tree_levels },
            &FixedKeys { node: [4; BLOCK_BYTES], leaf: [5; BLOCK_BYTES] },
        );
        let mut random = vec![0; 8 * ELEMS];
        Stream::new(level, &StreamKey { key: [2; BLOCK_BYTES], nonce: [6; BLOCK_BYTES] })
            .fill(0, &mut random);
        let word = |word: &[u8]| u64::from_le_bytes(word.try_into().expect("eight bytes"));
        let domain = u64::MAX >> (57 - tree_levels);
        let mut tile = Self {
            rule,
            roots: vec![3; ELEMS * BLOCK_BYTES],
            words: vec![0; ELEMS * tree.word_bytes()],
            right: vec![0; tree_levels as usize * ELEMS / 8],
            leaves: vec![0; ELEMS * BLOCK_BYTES],
            hot: vec![0; ELEMS / 8],
            points: random.chunks_exact(8).map(|bytes| word(bytes) & domain).collect(),
            tree,
        };
        tile.deal();
        tile
    }

    fn deal(&mut self) {
        let right = match self.rule {
            Rule::Bgi => RightBits::Planes(&mut self.right[..]),
            Rule::HalfTree => RightBits::None,
        };
        let out = DealtTrees { words: &mut self.words, right, leaves: &mut self.leaves, hot: &mut self.hot };
        self.tree.deal([&self.roots, &self.roots], &self.points, out);
    }

    fn keys(&self) -> TreeKeys<'_> {
        let right = match self.rule {
            Rule::Bgi => RightBits::Planes(&self.right[..]),
            Rule::HalfTree => RightBits::None,
        };
        TreeKeys {
            party: 0,
            elems: ELEMS,
            roots: &self.roots,
            words: &self.words,
            right,
            leaves: &self.leaves,
        }
    }
}

fn trees(c: &mut Criterion) {
    let mut group = c.benchmark_group("tree");
    group.throughput(Throughput::Elements(ELEMS as u64));
    for level in levels() {
        // SIGMA's comparison on 30 bits at three points, 2^8 apart.
        let mut tile = Tile::new(level, Rule::Bgi, 23);
        group.bench_function(format!("bgi-23-deal/{level}"), |b| b.iter(|| tile.deal()));
        let domain = (1u64 << 30) - 1;
        let apart = [0, 1 << 8, domain + 1 - (1 << 8)]
            .map(|offset| tile.points.iter().map(|point| (point + offset) & domain).collect::<Vec<_>>());
        let points = apart.each_ref().map(Vec::as_slice);
        let mut planes = [[0; ELEMS / 8]; 3];
        group.bench_function(format!("bgi-23-compare-3/{level}"), |b| {
            b.iter(|| {
                let mut out = planes.each_mut().map(|plane| &mut plane[..]);
                tile.tree.compare(&tile.keys(), 0..ELEMS, &points, &mut out);
            });
        });

        // The look-ups of 8 and 10 bits.
        for tree_levels in [1, 3] {
            let mut tile = Tile::new(level, Rule::Bgi, tree_levels);
            group.bench_function(format!("bgi-{tree_levels}-deal/{level}"), |b| b.iter(|| tile.deal()));
            let mut blocks = vec![0; (ELEMS * BLOCK_BYTES) << tree_levels];
            group.bench_function(format!("bgi-{tree_levels}-expand/{level}"), |b| {
                b.iter(|| tile.tree.expand(&tile.keys(), 0..ELEMS, &mut blocks));
            });
        }

        // The `dpf` gate for GELU and SiLU: 29 bits, windows of 2^9 and 2^10 points.
        let mut tile = Tile::new(level, Rule::HalfTree, 22);
        group.bench_function(format!("half-22-deal/{level}"), |b| b.iter(|| tile.deal()));
        for height in [2, 3] {
            let mut blocks = vec![0; (ELEMS * BLOCK_BYTES) << height];
            let mut below = [0; ELEMS / 8];
            group.bench_function(format!("half-22-window-{height}/{level}"), |b| {
                b.iter(|| {
                    tile.tree.window(&tile.keys(), 0..ELEMS, height, &tile.points, &mut blocks, &mut below);
                });
            });
        }
    }
}

criterion_group!(benches, aes, packing, trees);
criterion_main!(benches);
