//! The half-tree of Guo et al., EUROCRYPT 2023 (ePrint 2022/1431). The nodes of both parties on the path to alpha
//! differ by the same Delta at every level. So one call of H makes both children: left = H(s) xor t CW, right = left
//! xor s. H(s) = AES(sigma(s)) xor sigma(s) with a linear orthomorphism sigma.
//!
//! The leaves come from H under a key of their own, so that no leaf block is correlated with Delta.

use super::{Correction, Steps};
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
        odd: S::Mask,
        cw: Correction<S>,
        right: u64,
    ) -> S::Group {
        hash(s, key, node, s.xor_where(s.mask(right), s.only_where(odd, cw.word), node))
    }

    #[inline(always)]
    fn children<S: Simd>(self, s: S, key: &S::Key<'_>, node: S::Group, cw: Correction<S>) -> [S::Group; 2] {
        let left = hash(s, key, node, s.only_where(s.odd(node), cw.word));
        [left, s.xor(left, node)]
    }

    #[inline(always)]
    fn convert<S: Simd>(self, s: S, key: &S::Key<'_>, node: S::Group, onto: S::Group) -> S::Group {
        hash(s, key, node, onto)
    }

    #[inline(always)]
    fn deal<S: Simd>(
        self,
        s: S,
        key: &S::Key<'_>,
        nodes: [S::Group; 2],
        alpha: u64,
    ) -> ([S::Group; 2], Correction<S>) {
        let to = s.mask(alpha);
        let none = s.splat(0);
        let hashes = [hash(s, key, nodes[0], none), hash(s, key, nodes[1], none)];
        let delta = s.xor(nodes[0], nodes[1]);
        let both = s.xor(hashes[0], hashes[1]);
        let word = s.xor_where(s.mask(!alpha), both, delta);
        let left =
            [s.xor_where(s.odd(nodes[0]), hashes[0], word), s.xor_where(s.odd(nodes[1]), hashes[1], word)];
        let next = [s.xor_where(to, left[0], nodes[0]), s.xor_where(to, left[1], nodes[1])];
        (next, Correction { word, right: 0 })
    }
}

/// H(node) xor `onto`.
#[inline(always)]
fn hash<S: Simd>(s: S, key: &S::Key<'_>, node: S::Group, onto: S::Group) -> S::Group {
    s.hash(key, s.orthomorphism(node), onto)
}
