//! The dealer's side: corrections for given roots and alphas.

use zeroize::Zeroizing;

use super::{
    Correction, DealtTrees, RightBits, Rule, Steps, Tree, batch_lanes, bgi::Bgi, half::HalfTree, join,
    load_roots, put_bits, ways,
};
use crate::simd::{BLOCK_BYTES, MAX_LANES, Simd, Vectorised};

impl Tree {
    /// Makes the corrections that leave, for each element, leaves whose XOR is 1 at its alpha and 0 elsewhere.
    /// `roots` are those of party 0 and of party 1, 16 bytes for each element.
    ///
    /// # Panics
    /// If a field does not have the length that the number of elements demands.
    pub fn deal(&self, roots: [&[u8]; 2], alphas: &[u64], mut out: DealtTrees<'_>) {
        let elems = alphas.len();
        self.check_corrections(elems, out.words, out.leaves, out.right.is_none());
        assert!(roots.iter().all(|roots| roots.len() == elems * BLOCK_BYTES), "a root for each element");
        assert_eq!(out.hot.len(), elems.div_ceil(8), "a bit for each element");
        if let RightBits::Words(words) = &mut out.right {
            words.fill(0);
        }
        match self.rule {
            Rule::Bgi => self.level.dispatch(Deal { tree: self, rule: Bgi, roots, alphas, out }),
            Rule::HalfTree => self.level.dispatch(Deal { tree: self, rule: HalfTree, roots, alphas, out }),
        }
    }
}

struct Deal<'a, R> {
    tree: &'a Tree,
    rule: R,
    roots: [&'a [u8]; 2],
    alphas: &'a [u64],
    out: DealtTrees<'a>,
}

impl<R: Steps> Vectorised for Deal<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { tree, rule, roots, alphas, mut out } = self;
        let node_key = s.key(&tree.node_key);
        let leaf_key = s.key(&tree.leaf_key);
        let word_bytes = tree.word_bytes();
        let elems = alphas.len();
        let mut lanes = Zeroizing::new([0; MAX_LANES]);
        for first in (0..elems).step_by(batch_lanes(s)) {
            let count = batch_lanes(s).min(elems - first);
            lanes[..count].copy_from_slice(&alphas[first..first + count]);
            let firsts = ways!(W => first + W * S::LANES);
            let counts = ways!(W => count.saturating_sub(W * S::LANES).min(S::LANES));
            let mut nodes = ways!(W => [
                load_roots(s, roots[0], 0, firsts[W], counts[W]),
                load_roots(s, roots[1], 1, firsts[W], counts[W]),
            ]);
            for level in 0..tree.levels {
                let right = ways!(W => {
                    let alpha = s.bits_of(&lanes[W * S::LANES..], tree.point_bit(level));
                    let (next, Correction { word, right }) = rule.deal(s, &node_key, nodes[W], alpha);
                    nodes[W] = next;
                    let at = firsts[W] * word_bytes + level as usize * BLOCK_BYTES;
                    s.store_some(word, out.words, at, word_bytes, counts[W]);
                    right
                });
                out.right.put(join(s, right), level, first, count, elems);
            }
            let share = ways!(W => {
                let [node_0, node_1] = nodes[W];
                let none = s.splat(0);
                let leaves =
                    [rule.convert(s, &leaf_key, node_0, none), rule.convert(s, &leaf_key, node_1, none)];
                let hot = s.one_hot(s.words(&lanes[W * S::LANES..]));
                let correction = s.xor(s.xor(leaves[0], leaves[1]), hot);
                s.store_some(correction, out.leaves, firsts[W] * BLOCK_BYTES, BLOCK_BYTES, counts[W]);
                s.bits(s.parity(s.and(s.xor_where(s.odd(node_0), leaves[0], correction), hot)))
            });
            put_bits(out.hot, join(s, share), first, count);
        }
    }
}
