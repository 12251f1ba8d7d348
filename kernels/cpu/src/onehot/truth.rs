//! The truth tables of `onehot`, evaluated on whole words of rows: an expression in the row's bits, 64 rows at a time.

/// Bit i of the row numbers 0..64.
pub(super) const ROW_BITS: [u64; 6] = [
    0xAAAA_AAAA_AAAA_AAAA,
    0xCCCC_CCCC_CCCC_CCCC,
    0xF0F0_F0F0_F0F0_F0F0,
    0xFF00_FF00_FF00_FF00,
    0xFFFF_0000_FFFF_0000,
    0xFFFF_FFFF_0000_0000,
];

/// State of a lower digit, one row per bit.
#[derive(Clone, Copy)]
pub(super) struct LowWords {
    pub(super) lt: u64,
    pub(super) eq: u64,
    pub(super) q: u64,
}

impl LowWords {
    /// The state of a number without digits.
    pub(super) const EMPTY: Self = Self { lt: 0, eq: !0, q: !0 };

    /// [`suf_gate::onehot::LowState::over`].
    #[inline(always)]
    pub(super) fn over(self, low: Self) -> Self {
        Self {
            lt: self.lt | self.eq & low.lt,
            eq: self.eq & low.eq,
            q: low.q & (low.lt & self.q | !low.lt & self.eq),
        }
    }
}

/// [`suf_gate::onehot::select`]: w and pos.
#[inline(always)]
pub(super) fn select(c: u64, p: u64, low: LowWords, near: u64, high: u64) -> (u64, u64) {
    let equal = near & !high;
    let one_above = near & high;
    let negative = !near & high;
    let borrow = low.lt | low.eq & c;
    let low_zero = low.eq & !c | c & low.q;
    let inside = low_zero & (borrow & one_above | !borrow & equal);
    (inside, !(negative | borrow & equal | inside & !p))
}

#[cfg(test)]
mod tests {
    use suf_gate::onehot;

    use super::*;

    #[test]
    fn agree_with_the_gates_tables() {
        let bit = |word: u64, row: usize| word >> (row % 64) & 1 != 0;
        for row in 0..onehot::COMBINE_ROWS {
            let [lt, eq, q, lt_high, eq_high, q_high] = ROW_BITS;
            let words = LowWords { lt: lt_high, eq: eq_high, q: q_high }.over(LowWords { lt, eq, q });
            let expected = onehot::combine(row);
            assert_eq!(
                (bit(words.lt, row), bit(words.eq, row), bit(words.q, row)),
                (expected.lt, expected.eq, expected.q)
            );
        }
        for row in 0..128 {
            let [c, p, lt, eq, q, near] = ROW_BITS;
            let high = if row < 64 { 0 } else { !0 };
            let (w, pos) = select(c, p, LowWords { lt, eq, q }, near, high);
            assert_eq!((bit(w, row), bit(pos, row)), onehot::select(row, true), "row {row}");
        }
        for row in 0..16 {
            let [c, p, near, high, ..] = ROW_BITS;
            let (w, pos) = select(c, p, LowWords::EMPTY, near, high);
            assert_eq!(
                (bit(w, row), bit(pos, row)),
                onehot::select(row, false),
                "row {row} without lower digits"
            );
        }
    }
}
