//! The dealer's side of `onehot`.

use suf_gate::{
    Party,
    layout::{R_IN, R_OUT},
    onehot::{BIT_MASKS, ENTRY_MASK, HOT_WINDOW, Onehot},
};
use zeroize::Zeroizing;

use super::{
    Digits, digit, state,
    truth::{self, LowWords, ROW_BITS},
};
use crate::{
    key::{KeyWriter, TILE},
    line::{self, DealtLine, Secrets},
    planes,
};

/// Writes both parties' keys of a chunk.
pub(crate) fn deal(gate: &Onehot, key: &mut KeyWriter<'_>) {
    let (curve, elems) = (gate.curve(), key.elems());
    let r_in = key.own_elements(R_IN);
    let r_out = key.own_elements(R_OUT);
    let bit_masks = planes::to_words(&key.own_planes(BIT_MASKS), elems);
    let entry_masks = line::entry_masks(key, ENTRY_MASK, curve);

    let t_mask = (1u64 << gate.t_bits()) - 1;
    let shifted = Zeroizing::new(r_in.iter().map(|r| r >> curve.shift & t_mask).collect::<Vec<_>>());
    let digits = Digits::of(gate);
    let level = key.level();

    let mut held = Zeroizing::new(vec![0u64; elems]);
    let mut window = Zeroizing::new([0u16; TILE]);
    key.shared(HOT_WINDOW, |range, shares| {
        digits.window(&shifted[range.clone()], &mut *window);
        xor_window(shares, &window[..range.len()], &mut held[range]);
    });
    let mut upper = Zeroizing::new([0u8; TILE]);
    for (i, bits) in digits.all() {
        key.shared(gate.hot_digit(i), |range, shares| {
            digits.upper(i, &shifted[range.clone()], &mut *upper);
            digit::xor_hot(level, bits, shares, &upper[..range.len()]);
        });
    }

    // Masks of the rows that the select table is looked up at.
    let mut row_masks = bit_masks.clone();
    if let Some((table, masks)) = gate.combine_table() {
        let masks = planes::to_words(&key.dealers(masks, 3 * elems.div_ceil(8)), elems);
        key.shared(table, |range, shares| {
            for (i, shares) in range.zip(shares.chunks_exact_mut(24)) {
                xor_combine(shares, bit_masks[i], masks[i]);
            }
        });
        for (row, mask) in row_masks.iter_mut().zip(masks.iter()) {
            let window = *row & ((1 << state::LOWER) - 1);
            *row = window | mask << state::LOWER | *row >> state::top(2) << state::top(1);
        }
    }
    let choice_masks = match gate.select_table() {
        Some((table, masks)) => {
            let masks = planes::to_words(&key.dealers(masks, 2 * elems.div_ceil(8)), elems);
            let has_lower = gate.lower_digits() > 0;
            let width = 2 * gate.select_rows() / 8;
            key.shared(table, |range, shares| {
                for (i, shares) in range.zip(shares.chunks_exact_mut(width)) {
                    if has_lower {
                        xor_select(shares, row_masks[i], masks[i]);
                    } else {
                        xor_small_select(shares, row_masks[i], masks[i]);
                    }
                }
            });
            masks
        }
        // Without digits w is 1 in the clear, and the only mask is that of p.
        None => Zeroizing::new(bit_masks.iter().map(|mask| mask << 1).collect()),
    };

    let seeded = key.seeded();
    let line = DealtLine::new(curve, !gate.digits().is_empty());
    line.deal(key, gate.ring_elements(), |i| Secrets {
        r_in: r_in[i],
        r_out: r_out[i],
        entry_mask: entry_masks[i],
        by_p0: match seeded {
            Party::P0 => held[i],
            Party::P1 => held[i] ^ 1,
        },
        omega: u64::from(choice_masks[i] & 1),
        rho: u64::from(choice_masks[i] >> 1 & 1),
    });
}

/// XORs the one-hot vectors of the secret digits into a tile's shares; `held` gets the seeded side's bit at the hot place.
fn xor_window(shares: &mut [u8], digits: &[u16], held: &mut [u64]) {
    let bytes = shares.len() / digits.len();
    for ((share, r), held) in shares.chunks_exact_mut(bytes).zip(digits).zip(held) {
        let mut under = 0;
        // Every word is touched alike: which one holds the 1 is a secret.
        for (i, word) in share.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let share = u64::from_le_bytes(*word);
            let hot = u64::from(usize::from(r / 64) == i) << (r % 64);
            under |= share & hot;
            *word = (share ^ hot).to_le_bytes();
        }
        *held = u64::from(under != 0);
    }
}

/// All ones if bit `bit` of `mask` is set.
#[inline(always)]
fn spread(mask: u16, bit: u8) -> u64 {
    u64::from(mask >> bit & 1).wrapping_neg()
}

/// XORs the combine table, permuted by the masks of the states and hidden by `out`, into an element's share.
fn xor_combine(shares: &mut [u8], masks: u16, out: u16) {
    let bit = |i: u8| ROW_BITS[usize::from(i)] ^ spread(masks, state::LOWER + i);
    let low = LowWords { lt: bit(0), eq: bit(1), q: bit(2) };
    let high = LowWords { lt: bit(3), eq: bit(4), q: bit(5) };
    let LowWords { lt, eq, q } = high.over(low);
    for (i, (share, word)) in shares.as_chunks_mut::<8>().0.iter_mut().zip([lt, eq, q]).enumerate() {
        *share = (u64::from_le_bytes(*share) ^ word ^ spread(out, i as u8)).to_le_bytes();
    }
}

/// XORs the table of w and pos with lower digits, 128 rows, likewise.
fn xor_select(shares: &mut [u8], masks: u16, out: u16) {
    let bit = |i: u8| ROW_BITS[usize::from(i)] ^ spread(masks, i);
    let low = LowWords { lt: bit(2), eq: bit(3), q: bit(4) };
    let near = bit(5);
    let top = spread(masks, 6);
    let [(w_0, pos_0), (w_1, pos_1)] = [top, !top].map(|high| truth::select(bit(0), bit(1), low, near, high));
    let (omega, rho) = (spread(out, 0), spread(out, 1));
    let words = [w_0 ^ omega, w_1 ^ omega, pos_0 ^ rho, pos_1 ^ rho];
    for (share, word) in shares.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *share = (u64::from_le_bytes(*share) ^ word).to_le_bytes();
    }
}

/// XORs the table of w and pos without lower digits, 16 rows, likewise.
fn xor_small_select(shares: &mut [u8], masks: u16, out: u16) {
    let bit = |i: u8| ROW_BITS[usize::from(i)] ^ spread(masks, i);
    let (w, pos) = truth::select(bit(0), bit(1), LowWords::EMPTY, bit(2), bit(3));
    let words = [w ^ spread(out, 0), pos ^ spread(out, 1)];
    for (share, word) in shares.as_chunks_mut::<2>().0.iter_mut().zip(words) {
        *share = (u16::from_le_bytes(*share) ^ word as u16).to_le_bytes();
    }
}
