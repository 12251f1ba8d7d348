//! The tree of Boyle, Gilboa, Ishai, CCS 2016, section 3.2. Child b of a node with seed s comes from x = s with bit 0
//! replaced by b, as AES(x) xor x; bit 0 of the result is the child's control bit.
//!
//! Bit 0 of a correction word corrects the control bit of the left child.

use super::{Correction, Steps, Turn};
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
        cw: Correction<S>,
        to: Turn<S>,
    ) -> [S::Group; 2] {
        let left = seed(s, node);
        let x = s.xor_if(left, s.splat(1), to.words, to.bit);
        let child = s.xor(s.encrypt(key, x), x);
        let word = s.select(to.words, to.bit, for_right(s, cw), cw.word);
        let child = s.xor_if_odd(child, word, node);
        // The control bits of both children and of their parent, as shares, tell apart the three places where alpha
        // can be: parent xor right child is the left child's.
        [child, s.xor_if(s.splat(0), s.xor(child, node), to.words, to.bit)]
    }

    #[inline(always)]
    fn children<S: Simd>(self, s: S, key: &S::Key<'_>, node: S::Group, cw: Correction<S>) -> [S::Group; 2] {
        let [left, right] = raw_children(s, key, node);
        [s.xor_if_odd(left, cw.word, node), s.xor_if_odd(right, for_right(s, cw), node)]
    }

    #[inline(always)]
    fn convert<S: Simd>(self, s: S, key: &S::Key<'_>, node: S::Group) -> S::Group {
        let x = seed(s, node);
        s.xor(s.encrypt(key, x), x)
    }

    #[inline(always)]
    fn deal<S: Simd>(
        self,
        s: S,
        key: &S::Key<'_>,
        nodes: [S::Group; 2],
        alpha: Turn<S>,
    ) -> ([S::Group; 2], Correction<S>) {
        let Turn { words, bit } = alpha;
        let [left_0, right_0] = raw_children(s, key, nodes[0]);
        let [left_1, right_1] = raw_children(s, key, nodes[1]);
        let left = s.xor(left_0, left_1);
        let right = s.xor(right_0, right_1);
        let one = s.splat(1);
        let alpha_bit = s.xor_if(s.splat(0), one, words, bit);

        // The word makes the seeds of the child off the path equal, and the bits leave a control bit of 1 on it.
        let lost = seed(s, s.select(words, bit, left, right));
        let left_bit = s.and(s.xor(s.xor(left, alpha_bit), one), one);
        let right_bit = s.and(s.xor(right, alpha_bit), one);
        let word = s.xor(lost, left_bit);
        let kept_word = s.xor(lost, s.select(words, bit, right_bit, left_bit));
        let kept_0 = s.select(words, bit, right_0, left_0);
        let kept_1 = s.select(words, bit, right_1, left_1);
        let next = [s.xor_if_odd(kept_0, kept_word, nodes[0]), s.xor_if_odd(kept_1, kept_word, nodes[1])];
        (next, Correction { word, right: right_bit })
    }
}

/// A node without its control bit.
#[inline(always)]
fn seed<S: Simd>(s: S, node: S::Group) -> S::Group {
    s.and(node, s.splat(!1))
}

/// The correction word with the right child's control bit in place of the left one's.
#[inline(always)]
fn for_right<S: Simd>(s: S, cw: Correction<S>) -> S::Group {
    s.xor(seed(s, cw.word), cw.right)
}

#[inline(always)]
fn raw_children<S: Simd>(s: S, key: &S::Key<'_>, node: S::Group) -> [S::Group; 2] {
    let left = seed(s, node);
    let right = s.xor(left, s.splat(1));
    [s.xor(s.encrypt(key, left), left), s.xor(s.encrypt(key, right), right)]
}
