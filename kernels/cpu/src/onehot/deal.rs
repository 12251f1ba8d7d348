//! The dealer's side of `onehot`.

use suf_gate::{
    Party,
    layout::FieldId,
    onehot::{BIT_MASKS, ENTRY_MASK, HOT_WINDOW, MAX_DIGITS, Onehot},
};
use zeroize::{DefaultIsZeroes, Zeroizing};

use super::{
    Digits, Split, digit, state,
    truth::{self, LowWords, ROW_BITS},
};
use crate::{
    key::{KeyWriter, STRIP, SharedField, strips},
    line::{Columns, DealtLine, Secrets},
    planes,
    simd::{Simd, Vectorised},
};

/// Writes both parties' keys of a tile.
pub(crate) fn deal(gate: &Onehot, key: &mut KeyWriter<'_>) {
    let (curve, elems, level) = (gate.curve(), key.elems(), key.level());
    let (mut r_in, mut r_out) = (key.input_sums(), key.output_sums());
    let mut entry_masks = key.own_sums(ENTRY_MASK);
    let bit_masks = planes::to_words(&key.own_planes(BIT_MASKS), elems);
    let digits = Digits::of(gate);
    let explicit_holds = u16::from(key.seeded() == Party::P1);
    let line = DealtLine::new(curve, !gate.digits().is_empty());

    // In the order of the layout.
    let hot_window = key.shared_field(HOT_WINDOW);
    let hot_digits: Vec<_> =
        digits.all().map(|(i, bits)| (bits, key.shared_field(gate.hot_digit(i)))).collect();
    let combine = gate.combine_table().map(|(table, masks)| Table::new(key, table, masks, 3));
    let select = gate.select_table().map(|(table, masks)| Table::new(key, table, masks, 2));
    let ring = key.shared_field(gate.ring_elements());

    let mut strip = Zeroizing::new(Strip::default());
    let mut columns = Columns::default();
    let mut choice_masks = Zeroizing::new(Vec::with_capacity(if key.wrap().is_some() { elems } else { 0 }));
    for range in strips(elems) {
        let n = range.len();
        let Strip { r_in: wire, r_out: out, values, entries, by_p0, held, rows, choices } = &mut *strip;
        r_in.elements(range.clone(), &mut wire[..n]);
        r_out.elements(range.clone(), &mut out[..n]);
        entry_masks.words(curve.mask_bits(), range.clone(), &mut entries[..n]);
        digits.split(level, &wire[..n], curve.shift, 0, values);
        let [window, upper @ ..] = &*values;

        let shares = key.seeded_strip(&hot_window, range.clone());
        digit::xor_hot(level, curve.window_bits, shares, &window[..n], &mut by_p0[..n]);
        by_p0.iter_mut().for_each(|held| *held ^= explicit_holds);
        for ((bits, field), upper) in hot_digits.iter().zip(upper) {
            let shares = key.seeded_strip(field, range.clone());
            // Who holds the 1 of these digits does not matter.
            digit::xor_hot(level, *bits, shares, &upper[..n], &mut held[..n]);
        }

        // Masks of the rows that the select table is looked up at.
        rows[..n].copy_from_slice(&bit_masks[range.clone()]);
        if let Some(Table { field, masks }) = &combine {
            let shares = key.seeded_strip(field, range.clone());
            let (states, outputs) = (&rows[..n], &masks[range.clone()]);
            level.dispatch(XorTables::<3, _> { shares, rows: states, outputs, table: combine_words });
            for (row, mask) in rows.iter_mut().zip(outputs) {
                let window = *row & ((1 << state::LOWER) - 1);
                *row = window | mask << state::LOWER | *row >> state::top(2) << state::top(1);
            }
        }
        match &select {
            Some(Table { field, masks }) => {
                let shares = key.seeded_strip(field, range.clone());
                let (rows, outputs) = (&rows[..n], &masks[range.clone()]);
                if gate.lower_digits() > 0 {
                    level.dispatch(XorTables::<4, _> { shares, rows, outputs, table: select_words });
                } else {
                    xor_small_select(shares, rows, outputs);
                }
                choices[..n].copy_from_slice(outputs);
            }
            // Without digits w is 1 in the clear, and the only mask is that of p.
            None => choices.iter_mut().zip(&rows[..n]).for_each(|(choice, p)| *choice = p << 1),
        }

        if key.wrap().is_some() {
            choice_masks.extend_from_slice(&choices[..n]);
        }
        let secrets = Secrets {
            r_in: &wire[..n],
            r_out: &out[..n],
            entry_masks: &entries[..n],
            by_p0: &by_p0[..n],
            choice_masks: &choices[..n],
        };
        line.subtract(level, secrets, &mut columns, key.seeded_strip(&ring, range));
    }
    line.deal_wraps(key, &choice_masks);
}

/// A field of truth tables, and the masks of their outputs, a word for each element.
struct Table {
    field: SharedField,
    masks: Zeroizing<Vec<u16>>,
}

impl Table {
    fn new(key: &mut KeyWriter<'_>, field: FieldId, masks: FieldId, outputs: usize) -> Self {
        let elems = key.elems();
        let masks = key.dealers(masks, outputs * elems.div_ceil(8));
        Self { field: key.shared_field(field), masks: planes::to_words(&masks, elems) }
    }
}

/// What the dealer knows of a strip's elements.
#[derive(Clone, Copy)]
struct Strip {
    r_in: [u64; STRIP],
    r_out: [u64; STRIP],
    /// The digits of the shifted mask.
    values: Split,
    /// The masks a.
    entries: [u16; STRIP],
    /// Whether party 0 holds the 1 of the window's vector.
    by_p0: [u16; STRIP],
    /// The same of another digit's vector.
    held: [u16; STRIP],
    /// The masks of the rows of the select table.
    rows: [u16; STRIP],
    /// The masks of w and pos.
    choices: [u16; STRIP],
}

impl Default for Strip {
    fn default() -> Self {
        let (elements, words) = ([0; STRIP], [0; STRIP]);
        Self {
            r_in: elements,
            r_out: elements,
            values: [words; 1 + MAX_DIGITS],
            entries: words,
            by_p0: words,
            held: words,
            rows: words,
            choices: words,
        }
    }
}

impl DefaultIsZeroes for Strip {}

/// XORs a strip's truth tables of `WORDS` words into its shares. The masks of the rows permute a table, and the masks
/// of the outputs hide it. `table` makes them of both masks.
struct XorTables<'a, const WORDS: usize, F> {
    shares: &'a mut [u8],
    rows: &'a [u16],
    outputs: &'a [u16],
    table: F,
}

impl<const WORDS: usize, F: Fn(u16, u16) -> [u64; WORDS]> Vectorised for XorTables<'_, WORDS, F> {
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
