//! The dealer's side of `sigma`.

use suf_gate::{
    lookup::ELEMENT_BYTES,
    sigma::{
        BIT_MASKS, COMPARE_BITS, COMPARE_RIGHT_BITS, COMPARE_ROOT, COMPARE_SEED_CW, LOOKUP, LOW_MASK,
        LOW_TABLE, MUX, RELU, SHIFT, Sigma, T_BITS, TRUNCATION,
    },
};
use zeroize::Zeroizing;

use super::compare_tree;
use crate::{
    key::{KeyWriter, TreeIds},
    planes, tree_lookup,
};

/// Writes both parties' keys of a tile.
pub(crate) fn deal(gate: &Sigma, key: &mut KeyWriter<'_>) {
    let elems = key.elems();
    let r_in = key.input_masks();
    let r_out = key.output_masks();
    let masks = Masks::new(gate, key);

    key.shared(LOW_TABLE, |range, shares| {
        for (i, share) in range.zip(shares.as_chunks_mut::<{ (1 << SHIFT) / 8 }>().0) {
            // Bit j is 1[j < r]: all bits from r on are 0.
            let below = (1u64 << (r_in[i] & ((1 << SHIFT) - 1))) - 1;
            *share = (u64::from_le_bytes(*share) ^ below).to_le_bytes();
        }
    });
    let rho = planes::to_words(&key.own_planes(LOW_MASK), elems);
    key.shared_elements(TRUNCATION, |i| [r_in[i] >> SHIFT, rho[i].into(), masks.t[i]]);

    let alphas = masks.t.iter().map(|r| !r & ((1 << COMPARE_BITS) - 1));
    let alphas = Zeroizing::new(alphas.collect::<Vec<_>>());
    let roots = key.own(COMPARE_ROOT);
    let ids = TreeIds { words: COMPARE_SEED_CW, right: Some(COMPARE_RIGHT_BITS) };
    // The parties compare; which of them holds the 1 does not matter.
    let _hot = key.trees(compare_tree(), &roots, &alphas, ids);

    let mut choices = planes::to_words(&key.own_planes(BIT_MASKS), elems);
    for (choice, r) in choices.iter_mut().zip(masks.t.iter()) {
        *choice ^= (r >> COMPARE_BITS) as u16;
    }
    match gate.mux_bytes() {
        1 => share_mux::<1>(gate.clip(), key, &choices, &masks),
        _ => share_mux::<2>(gate.clip(), key, &choices, &masks),
    }

    tree_lookup::deal(key, LOOKUP, gate.clip(), &masks.index, |_| 0);

    key.shared_elements(RELU, |i| {
        // An opened bit of h stands for 1[t >= 0] = h xor mask.
        let factor = |h: u64| h ^ u64::from(choices[i] & 1);
        let constant = |h: u64| factor(h).wrapping_mul(r_in[i]).wrapping_neg();
        [factor(0), factor(1), constant(0), constant(1), r_out[i]]
    });
}

/// What the dealer alone draws.
struct Masks {
    /// r_t.
    t: Zeroizing<Vec<u64>>,
    /// r_idx.
    index: Zeroizing<Vec<u64>>,
}

impl Masks {
    fn new(gate: &Sigma, key: &KeyWriter<'_>) -> Self {
        let bytes = key.dealers(TRUNCATION, ELEMENT_BYTES * key.elems());
        let words = || bytes.as_chunks::<ELEMENT_BYTES>().0.iter().map(|word| u64::from_le_bytes(*word));
        Self {
            t: Zeroizing::new(words().map(|word| word & ((1 << T_BITS) - 1)).collect()),
            index: Zeroizing::new(words().map(|word| word >> 32 & ((1 << gate.clip()) - 1)).collect()),
        }
    }
}

/// Shares the rows of [`mux_rows`], numbers of `WIDTH` bytes modulo 2^clip.
fn share_mux<const WIDTH: usize>(clip: u8, key: &mut KeyWriter<'_>, choices: &[u16], masks: &Masks) {
    key.shared(MUX, |range, shares| {
        for (i, shares) in range.zip(shares.chunks_exact_mut(8 * WIDTH)) {
            let rows = mux_rows(clip, choices[i], masks.t[i], masks.index[i]);
            for (share, value) in shares.as_chunks_mut::<WIDTH>().0.iter_mut().zip(rows) {
                let mut word = [0; 8];
                word[..WIDTH].copy_from_slice(share);
                let difference = value.wrapping_sub(u64::from_le_bytes(word)) & ((1 << clip) - 1);
                share.copy_from_slice(&difference.to_le_bytes()[..WIDTH]);
            }
        }
    });
}

/// A of the four rows, then B, such that the index under its mask is A t_hat + B; modulo 2^64. The products with secret
/// bits stand in for selections.
fn mux_rows(clip: u8, masks: u16, r_t: u64, r_index: u64) -> [u64; 8] {
    let mut rows = [0; 8];
    for row in 0..4 {
        let bits = u64::from(row ^ masks);
        let (positive, inside) = (bits & 1, bits >> 1 & 1);
        let factor = inside.wrapping_mul((2 * positive).wrapping_sub(1));
        let outside = (1 - inside).wrapping_mul((1 << clip) - 1);
        rows[usize::from(row)] = factor;
        rows[4 + usize::from(row)] = outside.wrapping_add(r_index).wrapping_sub(factor.wrapping_mul(r_t));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_give_the_masked_clipped_index() {
        let (clip, t_mask) = (8, (1u64 << T_BITS) - 1);
        for t in [0i64, 1, -1, 200, -255, 255, 256, -256, 100_000, -100_000] {
            for (r_t, r_index, masks) in [(0, 0, 0u16), (12345, 77, 1), (t_mask, 255, 2), (1 << 30, 3, 3)] {
                let t_hat = t.cast_unsigned().wrapping_add(r_t) & t_mask;
                let row = (u16::from(t >= 0) | u16::from(t.abs() < 256) << 1) ^ masks;
                let rows = mux_rows(clip, masks, r_t, r_index);
                let index =
                    rows[usize::from(row)].wrapping_mul(t_hat).wrapping_add(rows[4 + usize::from(row)]);
                let expected = t.unsigned_abs().min(255) + r_index;
                assert_eq!(index & 255, expected & 255, "t = {t}, row {row}");
            }
        }
    }
}
