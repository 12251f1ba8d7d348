//! The dealer's side: corrections for given roots and alphas.

use super::{
    Correction, DealtTrees, RightBits, Rule, Steps, Tree, Turn, bgi::Bgi, half::HalfTree, load_roots,
    put_bits,
};
use crate::simd::{BLOCK_BYTES, Kernel, Simd};

impl Tree {
    /// Makes the corrections that leave, for each element, leaves whose XOR is 1 at its alpha and 0 elsewhere.
    /// `roots` are those of party 0 and of party 1, 16 bytes for each element.
    ///
    /// # Panics
    /// If a field has not the length that the number of elements demands.
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

impl<R: Steps> Kernel for Deal<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { tree, rule, roots, alphas, mut out } = self;
        let node_key = s.key(&tree.node_key);
        let leaf_key = s.key(&tree.leaf_key);
        let word_bytes = tree.word_bytes();
        let elems = alphas.len();
        for first in (0..elems).step_by(S::LANES) {
            let count = S::LANES.min(elems - first);
            let words = s.words_some(&alphas[first..first + count]);
            let mut nodes =
                [load_roots(s, roots[0], 0, first, count), load_roots(s, roots[1], 1, first, count)];
            for level in 0..tree.levels {
                let alpha = Turn { words, bit: tree.point_bit(level) };
                let (next, Correction { word, right }) = rule.deal(s, &node_key, nodes, alpha);
                nodes = next;
                let at = first * word_bytes + level as usize * BLOCK_BYTES;
                s.store_some(word, out.words, at, word_bytes, count);
                out.right.put(s.collect(right), level, first, count, elems);
            }
            let leaves = [rule.convert(s, &leaf_key, nodes[0]), rule.convert(s, &leaf_key, nodes[1])];
            let hot = s.one_hot(words);
            let correction = s.xor(s.xor(leaves[0], leaves[1]), hot);
            s.store_some(correction, out.leaves, first * BLOCK_BYTES, BLOCK_BYTES, count);
            let share = s.and(s.xor_if_odd(leaves[0], correction, nodes[0]), hot);
            put_bits(out.hot, s.collect(s.parity(share)), first, count);
        }
    }
}
