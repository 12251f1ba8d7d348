//! The tree of Boyle, Gilboa, Ishai, CCS 2016, section 3.2. Child b of a node with seed s is AES(x) xor x, where x is s
//! with bit 0 replaced by b. Bit 0 of the result is the child's control bit.
//!
//! Bit 0 of a correction word corrects the control bit of the left child.

use super::{Correction, Steps};
use crate::simd::Simd;

#[derive(Clone, Copy)]
pub(super) struct Bgi;

impl Steps for Bgi {
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
        let to = s.mask(right);
        let word = s.with_odd_where(cw.word, to, s.mask(right & cw.right));
        s.hash_odd(key, node, to, s.only_where(odd, word))
    }

    #[inline(always)]
    fn children<S: Simd>(self, s: S, key: &S::Key<'_>, node: S::Group, cw: Correction<S>) -> [S::Group; 2] {
        let odd = s.odd(node);
        let for_right = s.with_odd(cw.word, s.mask(cw.right));
        [
            s.hash_odd(key, node, s.mask(0), s.only_where(odd, cw.word)),
            s.hash_odd(key, node, s.mask(!0), s.only_where(odd, for_right)),
        ]
    }

    #[inline(always)]
    fn convert<S: Simd>(self, s: S, key: &S::Key<'_>, node: S::Group, onto: S::Group) -> S::Group {
        s.hash_odd(key, node, s.mask(0), onto)
    }

    #[inline(always)]
    fn deal<S: Simd>(
        self,
        s: S,
        key: &S::Key<'_>,
        nodes: [S::Group; 2],
        alpha: u64,
    ) -> ([S::Group; 2], Correction<S>) {
        let [left_0, right_0] = raw_children(s, key, nodes[0]);
        let [left_1, right_1] = raw_children(s, key, nodes[1]);
        let left = s.xor(left_0, left_1);
        let right = s.xor(right_0, right_1);

        // The word makes the seeds of the child off the path equal, and the bits leave a control bit of 1 on it.
        let to = s.mask(alpha);
        let lost = s.select(to, left, right);
        let left_bit = !(s.odd_bits(left) ^ alpha);
        let right_bit = s.odd_bits(right) ^ alpha;
        let kept_bit = left_bit & !alpha | right_bit & alpha;
        let word = s.with_odd(lost, s.mask(left_bit));
        let kept_word = s.with_odd(lost, s.mask(kept_bit));
        let next = [
            s.xor_where(s.odd(nodes[0]), s.select(to, right_0, left_0), kept_word),
            s.xor_where(s.odd(nodes[1]), s.select(to, right_1, left_1), kept_word),
        ];
        (next, Correction { word, right: right_bit })
    }
}

/// Both children before correction.
#[inline(always)]
fn raw_children<S: Simd>(s: S, key: &S::Key<'_>, node: S::Group) -> [S::Group; 2] {
    let none = s.splat(0);
    [s.hash_odd(key, node, s.mask(0), none), s.hash_odd(key, node, s.mask(!0), none)]
}
