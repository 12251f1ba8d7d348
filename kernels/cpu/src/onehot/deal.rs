//! The dealer's side of `onehot`.

use suf_gate::{
    Party,
    curve::Curve,
    layout::{R_IN, R_OUT},
    onehot::{BIT_MASKS, ENTRY_MASK, HOT_WINDOW, Onehot},
};
use zeroize::Zeroizing;

use super::{
    Digits, digit, state,
    truth::{self, LowWords, ROW_BITS},
};
use crate::{
    key::{KeyWriter, PACKED, TILE},
    planes,
};

/// Writes both parties' keys of a chunk.
pub(crate) fn deal(gate: &Onehot, key: &mut KeyWriter<'_>) {
    let (curve, elems) = (gate.curve(), key.elems());
    let r_in = key.own_elements(R_IN);
    let r_out = key.own_elements(R_OUT);
    let bit_masks = planes::to_words(&key.own_planes(BIT_MASKS), elems);
    let entry_masks = entry_masks(key, curve);

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
    let line = Line::new(gate);
    key.shared(gate.ring_elements(), |range, shares| {
        for (i, shares) in range.zip(shares.chunks_exact_mut(line.count * PACKED)) {
            let secrets = Secrets {
                r_in: r_in[i],
                r_out: r_out[i],
                mask: entry_masks[i],
                sign: sign(seeded, held[i]),
                omega: u64::from(choice_masks[i] & 1),
                rho: u64::from(choice_masks[i] >> 1 & 1),
            };
            line.subtract(&secrets, shares);
        }
    });
}

/// a, the sum of both parties' masks of the entry, modulo 2^k.
fn entry_masks(key: &mut KeyWriter<'_>, curve: &Curve) -> Zeroizing<Vec<u16>> {
    let [bytes_0, bytes_1] = key.own(ENTRY_MASK);
    let k_mask = u16::MAX >> (16 - curve.mask_bits());
    let pairs = bytes_0.as_chunks::<2>().0.iter().zip(bytes_1.as_chunks::<2>().0);
    let sum =
        |(a, b): (&[u8; 2], &[u8; 2])| u16::from_le_bytes(*a).wrapping_add(u16::from_le_bytes(*b)) & k_mask;
    Zeroizing::new(pairs.map(sum).collect())
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

/// s: 1 if party 0 holds the 1 at the hot place of the window vector, else -1, modulo 2^64.
fn sign(seeded: Party, held: u64) -> u64 {
    let by_p0 = match seeded {
        Party::P0 => held,
        Party::P1 => held ^ 1,
    };
    (2 * by_p0).wrapping_sub(1)
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

/// What the dealer knows of one element when it makes its ring elements. Numbers are modulo 2^64.
struct Secrets {
    r_in: u64,
    r_out: u64,
    /// a, k bits.
    mask: u16,
    /// s, 1 or -1.
    sign: u64,
    /// Masks of w and pos, 0 or 1. Without digits, omega is 0.
    omega: u64,
    rho: u64,
}

/// The constants of the ring elements.
struct Line {
    /// Number of ring elements.
    count: usize,
    has_digits: bool,
    /// Slope and intercept on the left, and by how much the right ones differ.
    left: [u64; 2],
    step: [u64; 2],
    entry_bits: u8,
}

impl Line {
    fn new(gate: &Onehot) -> Self {
        let Curve { left, right, .. } = gate.curve();
        let words = |slope: i64, intercept: i64| [slope.cast_unsigned(), intercept.cast_unsigned()];
        Self {
            count: usize::from(gate.ring_count()),
            has_digits: !gate.digits().is_empty(),
            left: words(left.slope, left.intercept),
            step: words(right.slope - left.slope, right.intercept - left.intercept),
            entry_bits: gate.curve().mask_bits(),
        }
    }

    /// Turns the seeded side's shares of an element's ring elements into the explicit side's.
    fn subtract(&self, secrets: &Secrets, shares: &mut [u8]) {
        let (values, count) = (self.values(secrets), self.count);
        for (share, value) in shares.as_chunks_mut::<PACKED>().0.iter_mut().zip(&values[..count]) {
            let mut word = [0; 8];
            word[..PACKED].copy_from_slice(share);
            let difference = value.wrapping_sub(u64::from_le_bytes(word));
            share.copy_from_slice(&difference.to_le_bytes()[..PACKED]);
        }
    }

    /// kappa_0, tau_0, tau_1, C_0, C_1, B_01, B_10, B_11; without digits kappa_0, s, C_0, C_1, B_1. The products with
    /// secret bits stand in for selections.
    fn values(&self, secrets: &Secrets) -> [u64; 8] {
        let Secrets { r_in, r_out, mask, sign, omega, rho } = *secrets;
        // An opened pos of h stands for pos = h xor rho.
        let at = |constants: usize, pos: u64| {
            self.left[constants].wrapping_add(pos.wrapping_mul(self.step[constants]))
        };
        let kappa = [at(0, rho), at(0, rho ^ 1)];
        let constant = [at(1, rho), at(1, rho ^ 1)];

        // D = m' - 2^(k-2) + shift[q].
        let mask = u64::from(mask);
        let carry = mask >> (self.entry_bits - 1) << self.entry_bits;
        let shift = [carry.wrapping_sub(mask), mask.wrapping_neg()];
        // An opened w of h stands for w = h xor omega; without digits w is 1.
        let tau = if self.has_digits {
            [omega.wrapping_mul(sign), (omega ^ 1).wrapping_mul(sign)]
        } else {
            [sign; 2]
        };
        let b = |w: usize, q: usize| tau[w].wrapping_mul(shift[q]);
        let c = |h: usize| {
            constant[h].wrapping_sub(kappa[h].wrapping_mul(r_in)).wrapping_add(r_out).wrapping_add(b(0, 0))
        };
        let past = |w: usize, q: usize| b(w, q).wrapping_sub(b(0, 0));
        if self.has_digits {
            [kappa[0], tau[0], tau[1], c(0), c(1), past(0, 1), past(1, 0), past(1, 1)]
        } else {
            [kappa[0], tau[0], c(0), c(1), past(0, 1), 0, 0, 0]
        }
    }
}

#[cfg(test)]
mod tests {
    use suf_gate::ring::WIRE;

    use super::*;

    #[test]
    fn ring_values_stay_in_the_ring_when_packed() {
        let mut shares = [0xFF; PACKED];
        let line = Line { count: 1, has_digits: false, left: [7, 0], step: [0, 0], entry_bits: 12 };
        let secrets = Secrets { r_in: 0, r_out: 0, mask: 0, sign: 1, omega: 0, rho: 0 };
        line.subtract(&secrets, &mut shares);
        let mut word = [0; 8];
        word[..PACKED].copy_from_slice(&shares);
        // 7 - (2^48 - 1) = 8.
        assert_eq!(WIRE.reduce(u64::from_le_bytes(word)), 8);
    }
}
