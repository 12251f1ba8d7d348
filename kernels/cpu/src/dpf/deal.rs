//! The dealer's side of `dpf`.

use suf_gate::dpf::{Dpf, ENTRY_MASK, RING, ROOT, SEED_CW, SIGN_MASK};
use zeroize::Zeroizing;

use crate::{
    key::{KeyWriter, TreeIds},
    line::{self, DealtLine, Secrets},
    planes,
};

/// Writes both parties' keys of a tile.
pub(crate) fn deal(gate: &Dpf, key: &mut KeyWriter<'_>) {
    let (curve, elems) = (gate.curve(), key.elems());
    let r_in = key.input_masks();
    let r_out = key.output_masks();
    let sign_masks = planes::to_words(&key.own_planes(SIGN_MASK), elems);
    let entry_masks = line::entry_masks(key, ENTRY_MASK, curve);

    let tree_bits = gate.t_bits() - 1;
    let alphas = r_in.iter().map(|r| !(r >> curve.shift) & ((1 << tree_bits) - 1));
    let alphas = Zeroizing::new(alphas.collect::<Vec<_>>());
    let roots = key.own(ROOT);
    let hot = key.trees(super::tree(gate), &roots, &alphas, TreeIds { words: SEED_CW, right: None });
    let hot = planes::to_words(&hot, elems);

    // Bit 1 of a word: w, in bit 0, has no mask.
    let choice_masks = r_in.iter().zip(sign_masks.iter()).map(|(r, mask)| {
        let top = (r >> (curve.shift + tree_bits)) as u16 & 1;
        (mask ^ top) << 1
    });
    let choice_masks = Zeroizing::new(choice_masks.collect::<Vec<_>>());
    let secrets = Secrets {
        r_in: &r_in,
        r_out: &r_out,
        entry_masks: &entry_masks,
        by_p0: &hot,
        choice_masks: &choice_masks,
    };
    let line = DealtLine::new(curve, false);
    line.deal(key, RING, &secrets);
    line.deal_wraps(key, &choice_masks);
}
