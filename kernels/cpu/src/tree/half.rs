//! The half-tree of Guo et al., EUROCRYPT 2023 (ePrint 2022/1431): the nodes of both parties on the path to
//! alpha differ by the same Delta at every level, so that one call of H makes both children: left = H(s) xor t CW,
//! right = left xor s. H(s) = AES(sigma(s)) xor sigma(s) with a linear orthomorphism sigma.
//!
//! The leaves come from H under a key of their own, so that no leaf block is correlated with Delta.

use super::{Correction, Steps, Turn};
use crate::simd::Simd;

#[derive(Clone, Copy)]
pub(super) struct HalfTree;

impl Steps for HalfTree {
    #[inline(always)]
    fn step<S: Simd>(
        self,
        s: S,
        key: &S::Key<'_>,
        node: S::Group,
        cw: Correction<S>,
        to: Turn<S>,
    ) -> [S::Group; 2] {
        let left = s.xor_if_odd(hash(s, key, node), cw.word, node);
        [s.xor_if(left, node, to.words, to.bit), s.xor_if(s.splat(0), left, to.words, to.bit)]
    }

    #[inline(always)]
    fn children<S: Simd>(self, s: S, key: &S::Key<'_>, node: S::Group, cw: Correction<S>) -> [S::Group; 2] {
        let left = s.xor_if_odd(hash(s, key, node), cw.word, node);
        [left, s.xor(left, node)]
    }

    #[inline(always)]
    fn convert<S: Simd>(self, s: S, key: &S::Key<'_>, node: S::Group) -> S::Group {
        hash(s, key, node)
    }

    #[inline(always)]
    fn deal<S: Simd>(
        self,
        s: S,
        key: &S::Key<'_>,
        nodes: [S::Group; 2],
        alpha: Turn<S>,
    ) -> ([S::Group; 2], Correction<S>) {
        let hashes = [hash(s, key, nodes[0]), hash(s, key, nodes[1])];
        let delta = s.xor(nodes[0], nodes[1]);
        let both = s.xor(hashes[0], hashes[1]);
        let word = s.select(alpha.words, alpha.bit, both, s.xor(both, delta));
        let left = [s.xor_if_odd(hashes[0], word, nodes[0]), s.xor_if_odd(hashes[1], word, nodes[1])];
        let next = [
            s.xor_if(left[0], nodes[0], alpha.words, alpha.bit),
            s.xor_if(left[1], nodes[1], alpha.words, alpha.bit),
        ];
        (next, Correction { word, right: s.splat(0) })
    }
}

#[inline(always)]
fn hash<S: Simd>(s: S, key: &S::Key<'_>, node: S::Group) -> S::Group {
    let x = s.orthomorphism(node);
    s.xor(s.encrypt(key, x), x)
}
