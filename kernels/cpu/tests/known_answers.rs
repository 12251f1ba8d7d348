//! Streams and trees against `tests/vectors/trees.json`, which `make_vectors.py` there makes without this code.

#[path = "known_answers/products.rs"]
mod products;
#[path = "known_answers/softmax.rs"]
mod softmax;

use serde::Deserialize;
use suf_cpu::{
    prg::Stream,
    simd::{BLOCK_BYTES, Level},
    tree::{DealtTrees, RightBits, Rule, Tree, TreeKeys, TreeShape},
};
use suf_gate::{
    NodeId, Part, Seed,
    layout::FieldId,
    prg::{Domain, FixedKeys},
};

#[derive(Deserialize)]
struct Answers {
    domain: DomainAnswer,
    fixed_keys: FixedAnswer,
    streams: Vec<StreamAnswer>,
    trees: Vec<TreeAnswer>,
}

#[derive(Deserialize)]
struct DomainAnswer {
    #[serde(with = "hex")]
    batch: [u8; 16],
    #[serde(with = "hex")]
    program: [u8; 32],
    node: u16,
    tile: u32,
}

#[derive(Deserialize)]
struct FixedAnswer {
    #[serde(with = "hex")]
    node: [u8; BLOCK_BYTES],
    #[serde(with = "hex")]
    leaf: [u8; BLOCK_BYTES],
}

#[derive(Deserialize)]
struct StreamAnswer {
    #[serde(with = "hex")]
    seed: [u8; 32],
    field: u16,
    #[serde(with = "hex")]
    key: [u8; BLOCK_BYTES],
    #[serde(with = "hex")]
    nonce: [u8; BLOCK_BYTES],
    blocks: Vec<BlocksAnswer>,
}

#[derive(Deserialize)]
struct BlocksAnswer {
    first: usize,
    bytes: HexBytes,
}

/// Trees of a few elements, laid out as in the keys.
#[derive(Deserialize)]
struct TreeAnswer {
    rule: String,
    levels: u32,
    alphas: Vec<u64>,
    roots: [HexBytes; 2],
    words: HexBytes,
    leaves: HexBytes,
    hot: HexBytes,
    /// Planes; none in a half-tree.
    right: Option<HexBytes>,
    points: [Vec<u64>; 3],
    /// Party by party, a plane for each list of points.
    below: [[HexBytes; 3]; 2],
    windows: Vec<WindowAnswer>,
    expanded: Option<[HexBytes; 2]>,
}

/// The leaves round the first list of points.
#[derive(Deserialize)]
struct WindowAnswer {
    height: u32,
    blocks: [HexBytes; 2],
}

#[derive(Deserialize, PartialEq, Debug)]
struct HexBytes(#[serde(with = "hex")] Vec<u8>);

fn answers() -> Answers {
    serde_json::from_str(include_str!("../../../tests/vectors/trees.json")).expect("the vectors parse")
}

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.supported())
}

impl TreeAnswer {
    fn tree(&self, level: Level, fixed: &FixedKeys) -> Tree {
        let rule = match self.rule.as_str() {
            "bgi" => Rule::Bgi,
            "half-tree" => Rule::HalfTree,
            other => panic!("no rule is called {other}"),
        };
        Tree::new(level, TreeShape { rule, levels: self.levels }, fixed)
    }

    fn keys(&self, party: usize) -> TreeKeys<'_> {
        TreeKeys {
            party: party as u8,
            elems: self.alphas.len(),
            roots: &self.roots[party].0,
            words: &self.words.0,
            right: self.right.as_ref().map_or(RightBits::None, |right| RightBits::Planes(&right.0)),
            leaves: &self.leaves.0,
        }
    }
}

impl Answers {
    fn domain(&self) -> Domain<'_> {
        let DomainAnswer { batch, program, node, tile } = &self.domain;
        Domain { batch, program, part: Part::new(NodeId(*node), *tile) }
    }

    fn fixed_keys(&self) -> FixedKeys {
        let FixedAnswer { node, leaf } = self.fixed_keys;
        FixedKeys { node, leaf }
    }
}

#[test]
fn streams() {
    let answers = answers();
    for StreamAnswer { seed, field, key, nonce, blocks } in &answers.streams {
        let stream = answers.domain().stream(&Seed::new(*seed), FieldId(*field));
        assert_eq!((stream.key, stream.nonce), (*key, *nonce), "field {field}");
        for (BlocksAnswer { first, bytes }, level) in
            blocks.iter().flat_map(|blocks| levels().map(move |level| (blocks, level)))
        {
            let mut out = vec![0; bytes.0.len()];
            Stream::new(level, &stream).fill(first * BLOCK_BYTES, &mut out);
            assert_eq!(out, bytes.0, "field {field} from block {first}, {level}");
        }
    }
}

#[test]
fn fixed_keys_of_trees() {
    let answers = answers();
    assert_eq!(answers.domain().fixed_keys(), answers.fixed_keys());
}

#[test]
fn dealt_trees() {
    let answers = answers();
    let fixed = answers.fixed_keys();
    for answer in answers.trees {
        for level in levels() {
            let length = |bytes: &HexBytes| vec![0; bytes.0.len()];
            let [mut words, mut leaves, mut hot] = [&answer.words, &answer.leaves, &answer.hot].map(length);
            let mut right = answer.right.as_ref().map(length);
            let out = DealtTrees {
                words: &mut words,
                right: right.as_mut().map_or(RightBits::None, |right| RightBits::Planes(right)),
                leaves: &mut leaves,
                hot: &mut hot,
            };
            answer.tree(level, &fixed).deal([&answer.roots[0].0, &answer.roots[1].0], &answer.alphas, out);
            let what = format!("{} of {} levels, {level}", answer.rule, answer.levels);
            assert_eq!(words, answer.words.0, "words, {what}");
            assert_eq!(right, answer.right.as_ref().map(|right| right.0.clone()), "right bits, {what}");
            assert_eq!(leaves, answer.leaves.0, "leaf corrections, {what}");
            assert_eq!(hot, answer.hot.0, "hot leaves, {what}");
        }
    }
}

#[test]
fn evaluated_trees() {
    let answers = answers();
    let fixed = answers.fixed_keys();
    for answer in answers.trees {
        let elems = answer.alphas.len();
        let plane = || vec![0; elems.div_ceil(8)];
        for level in levels() {
            let tree = answer.tree(level, &fixed);
            for party in [0, 1] {
                let what = format!("{} of {} levels, party {party}, {level}", answer.rule, answer.levels);
                let keys = answer.keys(party);
                let mut below = [plane(), plane(), plane()];
                let points = answer.points.each_ref().map(Vec::as_slice);
                tree.compare(&keys, 0..elems, &points, &mut below.each_mut().map(Vec::as_mut_slice));
                assert_eq!(below.map(HexBytes), answer.below[party], "comparisons, {what}");

                for WindowAnswer { height, blocks } in &answer.windows {
                    let mut out = vec![0; blocks[party].0.len()];
                    let mut below = plane();
                    tree.window(&keys, 0..elems, *height, &answer.points[0], &mut out, &mut below);
                    assert_eq!(out, blocks[party].0, "window of height {height}, {what}");
                    assert_eq!(below, answer.below[party][0].0, "comparison in the window, {what}");
                }
                if let Some(expanded) = &answer.expanded {
                    let mut out = vec![0; expanded[party].0.len()];
                    tree.expand(&keys, 0..elems, &mut out);
                    assert_eq!(out, expanded[party].0, "all leaves, {what}");
                }
            }
        }
    }
}
