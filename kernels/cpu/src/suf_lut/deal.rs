//! The dealer's side of `suf-lut`.

use suf_gate::{
    layout::{R_IN, R_OUT},
    ring::WIRE,
    suf_lut::{LEAF_CW, RIGHT_BITS, ROOT, SEED_CW, SELECT, SELECT_ELEMENTS, SIGN_MASK, SufLut},
};
use zeroize::Zeroizing;

use super::ELEMENT;
use crate::{
    key::KeyWriter,
    planes,
    tree::{DealtTrees, RightBits, Rule, Tree},
};

/// Writes both parties' keys of a chunk.
pub(crate) fn deal(gate: &SufLut, key: &mut KeyWriter<'_>) {
    let elems = key.elems();
    let r_in = key.own_elements(R_IN);
    let r_out = key.own_elements(R_OUT);
    deal_trees(gate, key, &r_in);

    let sign_masks = planes::to_words(&key.own_planes(SIGN_MASK), elems);
    let masks = key.dealers(SELECT, ELEMENT * elems);
    let masks = masks.as_chunks::<ELEMENT>().0;
    key.shared(SELECT, |range, shares| {
        for (i, shares) in range.zip(shares.chunks_exact_mut(ELEMENT * SELECT_ELEMENTS.len())) {
            let mask = WIRE.reduce(u64::from_le_bytes(masks[i]));
            // An opened sign bit of h stands for the sign 2 (h xor mask) - 1.
            let factor = |h: u64| (2 * (h ^ u64::from(sign_masks[i]))).wrapping_sub(1);
            let constant = |h: u64| r_out[i].wrapping_sub(factor(h).wrapping_mul(mask));
            let values = [mask, factor(0), factor(1), constant(0), constant(1)];
            for (share, value) in shares.as_chunks_mut::<ELEMENT>().0.iter_mut().zip(values) {
                *share = WIRE.sub(value, u64::from_le_bytes(*share)).to_le_bytes();
            }
        }
    });
}

/// The trees that are hot at the low bits of the input's mask.
fn deal_trees(gate: &SufLut, key: &mut KeyWriter<'_>, r_in: &[u64]) {
    let elems = key.elems();
    let [roots_0, roots_1] = key.own(ROOT);
    let low = (1u64 << gate.bits()) - 1;
    let alphas = Zeroizing::new(r_in.iter().map(|r| r & low).collect::<Vec<_>>());
    let tree = Tree::at(key.level(), Rule::Bgi, gate.levels().into());
    let mut words = vec![0; tree.word_bytes() * elems];
    let (mut leaves, mut right) = (vec![0; 16 * elems], vec![0; 4 * elems]);
    // Which side holds the 1: here the parties open that themselves.
    let mut hot = Zeroizing::new(vec![0; elems.div_ceil(8)]);
    let out = DealtTrees {
        words: &mut words,
        right: RightBits::Words(&mut right),
        leaves: &mut leaves,
        hot: &mut hot,
    };
    tree.deal([&roots_0, &roots_1], &alphas, out);
    key.common(SEED_CW, &words);
    key.common(LEAF_CW, &leaves);
    key.common(RIGHT_BITS, &right);
}
