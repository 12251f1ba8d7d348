//! The trees against their definition. Both parties' leaves XOR to the point function. Every instruction level gives
//! the bytes of the portable one, at sizes that leave groups incomplete.

use suf_cpu::{
    prg::Stream,
    simd::Level,
    tree::{DealtTrees, RightBits, Rule, Tree, TreeKeys, TreeShape},
};
use suf_gate::prg::{FixedKeys, StreamKey};

const SIZES: [usize; 4] = [1, 9, 1001, 4097];
const TILE_TAIL: usize = 65537;

fn tree(level: Level, rule: Rule, levels: u32) -> Tree {
    Tree::new(level, TreeShape { rule, levels }, &FixedKeys { node: [0xA5; 16], leaf: [0x5A; 16] })
}

struct Dealt {
    rule: Rule,
    words_layout: bool,
    roots: [Vec<u8>; 2],
    words: Vec<u8>,
    right: Vec<u8>,
    leaves: Vec<u8>,
    hot: Vec<u8>,
    alphas: Vec<u64>,
}

impl Dealt {
    fn new(tree: &Tree, rule: Rule, words_layout: bool, elems: usize) -> Self {
        let stream = |key| Stream::new(Level::Portable, &StreamKey { key: [key; 16], nonce: [!key; 16] });
        let bytes = |key, len| {
            let mut bytes = vec![0; len];
            stream(key).fill(0, &mut bytes);
            bytes
        };
        let domain = u64::MAX >> (64 - tree.levels() - 7);
        let alphas = numbers(3, elems).iter().map(|alpha| alpha & domain).collect();
        let right_len = if words_layout { 4 * elems } else { tree.levels() as usize * elems.div_ceil(8) };
        let mut dealt = Self {
            rule,
            words_layout,
            roots: [bytes(1, 16 * elems), bytes(2, 16 * elems)],
            words: vec![0xEE; elems * tree.word_bytes()],
            right: vec![0xEE; right_len],
            leaves: vec![0xEE; 16 * elems],
            hot: vec![0xEE; elems.div_ceil(8)],
            alphas,
        };
        let out = DealtTrees {
            words: &mut dealt.words,
            right: layout(rule, words_layout, &mut dealt.right),
            leaves: &mut dealt.leaves,
            hot: &mut dealt.hot,
        };
        tree.deal([&dealt.roots[0], &dealt.roots[1]], &dealt.alphas, out);
        dealt
    }

    fn keys(&self, party: u8) -> TreeKeys<'_> {
        TreeKeys {
            party,
            elems: self.alphas.len(),
            roots: &self.roots[usize::from(party)],
            words: &self.words,
            right: layout(self.rule, self.words_layout, &self.right),
            leaves: &self.leaves,
        }
    }
}

fn layout<B>(rule: Rule, words: bool, bytes: B) -> RightBits<B> {
    match rule {
        Rule::HalfTree => RightBits::None,
        Rule::Bgi if words => RightBits::Words(bytes),
        Rule::Bgi => RightBits::Planes(bytes),
    }
}

fn numbers(key: u8, len: usize) -> Vec<u64> {
    let mut bytes = vec![0; 8 * len];
    Stream::new(Level::Portable, &StreamKey { key: [key; 16], nonce: [!key; 16] }).fill(0, &mut bytes);
    bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.supported())
}

fn bit(plane: &[u8], i: usize) -> bool {
    plane[i / 8] >> (i % 8) & 1 == 1
}

#[test]
fn levels_deal_the_same_bytes() {
    for rule in [Rule::Bgi, Rule::HalfTree] {
        for (tree_levels, words_layout) in [(0, false), (3, true), (22, false)] {
            for elems in SIZES.into_iter().chain([TILE_TAIL]) {
                let expected =
                    Dealt::new(&tree(Level::Portable, rule, tree_levels), rule, words_layout, elems);
                for level in levels() {
                    let dealt = Dealt::new(&tree(level, rule, tree_levels), rule, words_layout, elems);
                    let what = format!("{rule:?}, {tree_levels} levels, {elems} elements, {level}");
                    assert!(dealt.words == expected.words, "words of {what}");
                    assert!(rule == Rule::HalfTree || dealt.right == expected.right, "right bits of {what}");
                    assert!(dealt.leaves == expected.leaves, "leaves of {what}");
                    assert!(dealt.hot == expected.hot, "hot bits of {what}");
                }
            }
        }
    }
}

#[test]
fn expanded_trees_are_point_functions() {
    for rule in [Rule::Bgi, Rule::HalfTree] {
        for tree_levels in 0..=3 {
            for (elems, words_layout) in [(1, true), (9, false), (1001, true)] {
                let dealt = Dealt::new(&tree(Level::best(), rule, tree_levels), rule, words_layout, elems);
                for level in levels() {
                    let tree = tree(level, rule, tree_levels);
                    let bytes = 16 << tree_levels;
                    let leaves = [0, 1].map(|party| {
                        let mut blocks = vec![0; elems * bytes];
                        tree.expand(&dealt.keys(party), 0..elems, &mut blocks);
                        blocks
                    });
                    for (e, alpha) in dealt.alphas.iter().enumerate() {
                        for at in 0..bytes {
                            let sum = leaves[0][e * bytes + at] ^ leaves[1][e * bytes + at];
                            let expected = if *alpha as usize / 8 == at { 1 << (alpha % 8) } else { 0 };
                            assert_eq!(sum, expected, "{rule:?}, {tree_levels} levels, {level}, element {e}");
                        }
                        let at = e * bytes * 8 + *alpha as usize;
                        assert_eq!(bit(&dealt.hot, e), bit(&leaves[0], at), "hot bit of element {e}");
                    }
                }
            }
        }
    }
}

#[test]
fn comparisons_hold_at_near_far_and_wrapped_points() {
    for rule in [Rule::Bgi, Rule::HalfTree] {
        for tree_levels in [1, 14, 23] {
            let domain = u64::MAX >> (64 - tree_levels - 7);
            for elems in SIZES {
                let dealt = Dealt::new(&tree(Level::best(), rule, tree_levels), rule, false, elems);
                // A quarter of the points at alpha itself, its neighbours, and elsewhere.
                let base: Vec<u64> = (numbers(4, elems).iter().zip(&dealt.alphas).enumerate())
                    .map(|(e, (random, alpha))| match e % 4 {
                        0 => *alpha,
                        1 => alpha.wrapping_add(1) & domain,
                        2 => alpha.wrapping_sub(1) & domain,
                        _ => random & domain,
                    })
                    .collect();
                let near: Vec<u64> = base.iter().map(|point| point.wrapping_add(256) & domain).collect();
                let far: Vec<u64> = numbers(5, elems).iter().map(|point| point & domain).collect();
                let lists: [&[u64]; 3] = [&base, &near, &far];

                for level in levels() {
                    let tree = tree(level, rule, tree_levels);
                    for range in [0..elems, elems / 16 * 8..elems] {
                        let shares = [0, 1].map(|party| {
                            let mut planes = vec![vec![0xEE; range.len().div_ceil(8)]; 3];
                            let mut out: Vec<&mut [u8]> = planes.iter_mut().map(Vec::as_mut_slice).collect();
                            let points = lists.map(|list| &list[range.clone()]);
                            tree.compare(&dealt.keys(party), range.clone(), &points, &mut out);
                            planes
                        });
                        for (list, points) in lists.iter().enumerate() {
                            for (i, e) in range.clone().enumerate() {
                                let less = bit(&shares[0][list], i) ^ bit(&shares[1][list], i);
                                assert_eq!(
                                    less,
                                    dealt.alphas[e] < points[e],
                                    "{rule:?}, {tree_levels} levels, {level}, list {list}, element {e}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn windows_hold_the_points_round_their_centre() {
    for rule in [Rule::Bgi, Rule::HalfTree] {
        for (tree_levels, height) in [(1, 1), (2, 2), (3, 3), (9, 1), (14, 3), (22, 2), (6, 4), (9, 5)] {
            let domain = u64::MAX >> (64 - tree_levels - 7);
            let half = 1u64 << (height + 6);
            for elems in SIZES {
                let dealt = Dealt::new(&tree(Level::best(), rule, tree_levels), rule, false, elems);
                // Every other element has alpha in its window; every eighth centre is near the wrap.
                let centres: Vec<u64> = (numbers(6, elems).iter().zip(&dealt.alphas).enumerate())
                    .map(|(e, (random, alpha))| match e % 8 {
                        0 => (random % (2 * half)) & domain,
                        1 | 3 | 5 | 7 => alpha.wrapping_add(random % (2 * half)).wrapping_sub(half) & domain,
                        _ => random & domain,
                    })
                    .collect();
                for level in levels() {
                    let tree = tree(level, rule, tree_levels);
                    let bytes = 16usize << height;
                    let range = elems / 16 * 8..elems;
                    let shares = [0, 1].map(|party| {
                        let mut blocks = vec![0; range.len() * bytes];
                        let mut below = vec![0; range.len().div_ceil(8)];
                        let centres = &centres[range.clone()];
                        let keys = dealt.keys(party);
                        tree.window(&keys, range.clone(), height, centres, &mut blocks, &mut below);
                        (blocks, below)
                    });
                    for (i, e) in range.enumerate() {
                        let what = format!("{rule:?}, {tree_levels} levels, {level}, element {e}");
                        let (alpha, centre) = (dealt.alphas[e], centres[e]);
                        let less = bit(&shares[0].1, i) ^ bit(&shares[1].1, i);
                        assert_eq!(less, alpha < centre, "comparison of {what}");
                        for offset in 0..2 * half {
                            let place = (centre % 128 + offset) % (2 * half);
                            let at = i * bytes * 8 + place as usize;
                            let leaf = bit(&shares[0].0, at) ^ bit(&shares[1].0, at);
                            assert_eq!(
                                leaf,
                                centre.wrapping_sub(half).wrapping_add(offset) & domain == alpha,
                                "leaf {offset} of {what}"
                            );
                        }
                    }
                }
            }
        }
    }
}
