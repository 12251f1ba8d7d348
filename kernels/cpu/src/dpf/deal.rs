//! The dealer's side of `dpf`.

use suf_gate::{
    dpf::{Dpf, ENTRY_MASK, RING, ROOT, SEED_CW, SIGN_MASK},
    layout::{R_IN, R_OUT},
};
use zeroize::Zeroizing;

use crate::{
    key::{KeyWriter, TreeIds},
    line::{self, DealtLine, Secrets},
    planes,
};

/// Writes both parties' keys of a chunk.
pub(crate) fn deal(gate: &Dpf, key: &mut KeyWriter<'_>) {
    let (curve, elems) = (gate.curve(), key.elems());
    let r_in = key.own_elements(R_IN);
    let r_out = key.own_elements(R_OUT);
    let sign_masks = planes::to_words(&key.own_planes(SIGN_MASK), elems);
    let entry_masks = line::entry_masks(key, ENTRY_MASK, curve);

    let tree_bits = gate.t_bits() - 1;
    let alphas = r_in.iter().map(|r| !(r >> curve.shift) & ((1 << tree_bits) - 1));
    let alphas = Zeroizing::new(alphas.collect::<Vec<_>>());
    let roots = key.own(ROOT);
    let hot =
        key.trees(&super::tree(key.level(), gate), &roots, &alphas, TreeIds { words: SEED_CW, right: None });
    let hot = planes::to_words(&hot, elems);

    DealtLine::new(curve, false).deal(key, RING, |i| Secrets {
        r_in: r_in[i],
        r_out: r_out[i],
        entry_mask: entry_masks[i],
        by_p0: hot[i].into(),
        omega: 0,
        rho: u64::from(sign_masks[i]) ^ r_in[i] >> (curve.shift + tree_bits) & 1,
    });
}
