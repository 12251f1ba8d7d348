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
    simd::{Kernel, Simd},
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

    let mut by_p0 = Zeroizing::new(vec![0; elems]);
    let mut values = Zeroizing::new([0; TILE]);
    let explicit_holds = u16::from(key.seeded() == Party::P1);
    key.shared(HOT_WINDOW, |range, shares| {
        digits.window(&shifted[range.clone()], &mut *values);
        let (values, by_p0) = (&values[..range.len()], &mut by_p0[range]);
        digit::xor_hot(level, curve.window_bits, shares, values, by_p0);
        by_p0.iter_mut().for_each(|held| *held ^= explicit_holds);
    });
    // Who holds the 1 of the other digits does not matter.
    let mut held = Zeroizing::new([0; TILE]);
    for (i, bits) in digits.all() {
        key.shared(gate.hot_digit(i), |range, shares| {
            digits.upper(i, &shifted[range.clone()], &mut *values);
            digit::xor_hot(level, bits, shares, &values[..range.len()], &mut held[..range.len()]);
        });
    }

    // Masks of the rows that the select table is looked up at.
    let mut row_masks = bit_masks.clone();
    if let Some((table, masks)) = gate.combine_table() {
        let masks = planes::to_words(&key.dealers(masks, 3 * elems.div_ceil(8)), elems);
        key.shared(table, |range, shares| {
            level.dispatch(XorTables::<3, _> {
                shares,
                rows: &bit_masks[range.clone()],
                outputs: &masks[range],
                table: combine_words,
            });
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
            key.shared(table, |range, shares| {
                let (rows, outputs) = (&row_masks[range.clone()], &masks[range]);
                if has_lower {
                    level.dispatch(XorTables::<4, _> { shares, rows, outputs, table: select_words });
                } else {
                    xor_small_select(shares, rows, outputs);
                }
            });
            masks
        }
        // Without digits w is 1 in the clear, and the only mask is that of p.
        None => Zeroizing::new(bit_masks.iter().map(|mask| mask << 1).collect()),
    };

    let secrets = Secrets {
        r_in: &r_in,
        r_out: &r_out,
        entry_masks: &entry_masks,
        by_p0: &by_p0,
        choice_masks: &choice_masks,
    };
    DealtLine::new(curve, !gate.digits().is_empty()).deal(key, gate.ring_elements(), &secrets);
}

/// XORs a tile's truth tables of `WORDS` words, permuted by the masks of the rows and hidden by the masks of the outputs,
/// into its shares. `table` makes them of both masks.
struct XorTables<'a, const WORDS: usize, F> {
    shares: &'a mut [u8],
    rows: &'a [u16],
    outputs: &'a [u16],
    table: F,
}

impl<const WORDS: usize, F: Fn(u16, u16) -> [u64; WORDS]> Kernel for XorTables<'_, WORDS, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let tables = self.shares.as_chunks_mut::<8>().0.as_chunks_mut::<WORDS>().0;
        for ((shares, rows), outputs) in tables.iter_mut().zip(self.rows).zip(self.outputs) {
            for (share, word) in shares.iter_mut().zip((self.table)(*rows, *outputs)) {
                *share = (u64::from_le_bytes(*share) ^ word).to_le_bytes();
            }
        }
    }
}

/// All ones if bit `bit` of `mask` is set.
#[inline(always)]
fn spread(mask: u16, bit: u8) -> u64 {
    u64::from(mask >> bit & 1).wrapping_neg()
}

/// The combine table, permuted by the masks of the states and hidden by `out`.
#[inline(always)]
fn combine_words(rows: u16, out: u16) -> [u64; 3] {
    let bit = |i: u8| ROW_BITS[usize::from(i)] ^ spread(rows, state::LOWER + i);
    let low = LowWords { lt: bit(0), eq: bit(1), q: bit(2) };
    let high = LowWords { lt: bit(3), eq: bit(4), q: bit(5) };
    let LowWords { lt, eq, q } = high.over(low);
    [lt ^ spread(out, 0), eq ^ spread(out, 1), q ^ spread(out, 2)]
}

/// The table of w and pos with lower digits, 128 rows, likewise.
#[inline(always)]
fn select_words(rows: u16, out: u16) -> [u64; 4] {
    let bit = |i: u8| ROW_BITS[usize::from(i)] ^ spread(rows, i);
    let low = LowWords { lt: bit(2), eq: bit(3), q: bit(4) };
    let near = bit(5);
    let top = spread(rows, 6);
    let [(w_0, pos_0), (w_1, pos_1)] = [top, !top].map(|high| truth::select(bit(0), bit(1), low, near, high));
    let (omega, rho) = (spread(out, 0), spread(out, 1));
    [w_0 ^ omega, w_1 ^ omega, pos_0 ^ rho, pos_1 ^ rho]
}

/// XORs the tables of w and pos without lower digits, 16 rows, likewise.
fn xor_small_select(shares: &mut [u8], rows: &[u16], outputs: &[u16]) {
    let tables = shares.as_chunks_mut::<2>().0.as_chunks_mut::<2>().0;
    for ((shares, rows), out) in tables.iter_mut().zip(rows).zip(outputs) {
        let bit = |i: u8| ROW_BITS[usize::from(i)] ^ spread(*rows, i);
        let (w, pos) = truth::select(bit(0), bit(1), LowWords::EMPTY, bit(2), bit(3));
        let words = [w ^ spread(*out, 0), pos ^ spread(*out, 1)];
        for (share, word) in shares.iter_mut().zip(words) {
            *share = (u16::from_le_bytes(*share) ^ word as u16).to_le_bytes();
        }
    }
}
