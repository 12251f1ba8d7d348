//! What is known of scores, and what follows for their row exponent.

use std::ops::Range;

use super::{
    MODULI, PRECISION,
    powers::{EXTRA_BITS, dropped},
};

/// Scores x in base 2: what makes their exponents fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scores {
    /// m: exponentials are numbers modulo 2^m - 1, sums of rows modulo 2^(m/2) - 1.
    pub bits: u16,
    /// Scores of a row.
    pub cols: u32,
    /// No score is less.
    pub low: i16,
    /// No score is greater.
    pub high: i16,
    /// Each row has a score that is not less.
    pub row_low: i16,
}

impl Scores {
    /// Bits of a row's sum, m / 2.
    #[must_use]
    pub fn sum_bits(&self) -> usize {
        usize::from(self.bits / 2)
    }

    /// Bytes of a share of the number of thresholds reached, which counts modulo m / 2.
    #[must_use]
    pub fn count_bytes(&self) -> usize {
        if self.sum_bits() <= 256 { 1 } else { 2 }
    }

    /// What is added to x / 2, modulo m / 2, as exponents count.
    #[must_use]
    pub fn offset(&self) -> u32 {
        self.whole_offset().rem_euclid(i32::from(self.bits / 2)).cast_unsigned()
    }

    /// The same as a whole number: as much as leaves sums of rows below 2^(m/2 - 1) (1 + 2^-5). So they have few leading zeros, and
    /// the trees few levels.
    #[must_use]
    pub fn whole_offset(&self) -> i32 {
        let half_high = (i32::from(self.high) + 1).div_euclid(2);
        i32::from(self.bits / 2) - 1 - 2 * PRECISION as i32 - self.cols_bits() - half_high
    }

    /// ceil(log2(cols)).
    fn cols_bits(&self) -> i32 {
        self.cols.next_power_of_two().trailing_zeros() as i32
    }

    /// floor(log2) of any row's sum is not less.
    ///
    /// # Panics
    /// If the scores do not fit: see [`Scores::check`].
    #[must_use]
    pub fn least(&self) -> usize {
        // The mantissas' rounding may take a little away.
        let least = i32::from(self.row_low).div_euclid(2) + self.whole_offset() + 2 * PRECISION as i32 - 1;
        usize::try_from(least).expect("scores that fit")
    }

    /// The i for which a row's sum may reach 2^i or not.
    #[must_use]
    pub fn thresholds(&self) -> Range<usize> {
        self.least() + 1..self.sum_bits()
    }

    /// Levels of a tree: down to the last bit that a comparison looks at.
    #[must_use]
    pub fn levels(&self) -> usize {
        self.sum_bits() - dropped(self.thresholds().start)
    }

    /// What is subtracted from floor(log2) of a row's sum to get k / 2.
    #[must_use]
    pub fn bias(&self) -> i32 {
        self.whole_offset() + 2 * PRECISION as i32
    }

    /// k is not greater.
    #[must_use]
    pub fn greatest(&self) -> i32 {
        2 * (self.cols_bits() + i32::from(self.high).div_euclid(2))
    }

    /// Whether both exponentials hold the scores: the first `2^(x/2)`, the second `2^(x - k)`.
    ///
    /// # Errors
    /// When they do not, in words.
    pub fn check(&self) -> Result<(), String> {
        let Self { bits, cols, low, high, row_low } = *self;
        if !MODULI.contains(&bits) {
            return Err(format!("m is one of {MODULI:?}, not {bits}"));
        }
        if cols == 0 || cols as usize > crate::limits::TILE_ELEMS {
            return Err(format!("a row has 1 to {} scores, not {cols}", crate::limits::TILE_ELEMS));
        }
        if !(low <= row_low && row_low <= high) {
            return Err(format!(
                "scores must ascend: least {low}, least maximum of a row {row_low}, greatest {high}"
            ));
        }
        // Of the first exponential, x / 2 + offset is 1 at least; of the second, x - k + m - 97.
        let first = i32::from(low) + 2 * self.whole_offset() >= 2;
        let second = i32::from(low) - self.greatest() >= 98 - i32::from(bits);
        let has_levels = i32::from(row_low).div_euclid(2) + self.whole_offset() > EXTRA_BITS as i32;
        if first && second && has_levels {
            return Ok(());
        }
        Err(format!("rows of {cols} scores from {low} to {high} do not fit into m = {bits}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_from_the_range_and_not_from_m() {
        let scores = Scores { bits: 256, cols: 128, low: -32, high: 32, row_low: -32 };
        scores.check().expect("a spread of 64 bits");
        assert_eq!((scores.whole_offset(), scores.bias(), scores.greatest()), (92, 104, 46));
        // 2^(-16 + 104) is the least sum, but for the rounding of mantissas.
        assert_eq!((scores.least(), scores.thresholds()), (87, 88..128));
        assert_eq!(scores.levels(), 48);
        let shifted = Scores { low: 0, high: 64, row_low: 0, ..scores };
        assert_eq!((shifted.levels(), shifted.whole_offset()), (48, 76));
        // Exponents count modulo m / 2: only differences matter.
        let far = Scores { low: i16::MAX - 64, high: i16::MAX, row_low: i16::MAX - 64, ..scores };
        far.check().expect("the same spread");
        assert!(far.whole_offset() < 0 && far.offset() < 128);
    }

    #[test]
    fn the_widest_spreads_are_those_of_the_specification() {
        let fits = |bits, low, high| Scores { bits, cols: 128, low, high, row_low: low }.check().is_ok();
        // R + 2 log2 n <= m - 98.
        for (bits, spread) in [(128, 16), (256, 144), (512, 400), (1024, 912)] {
            for high in [0, 20, 40] {
                assert!(fits(bits, high - spread, high), "{bits}");
                assert!(!fits(bits, high - spread - 2, high), "{bits}");
            }
        }
        assert!(!fits(64, 0, 0) && !fits(256, 1, 0));
        assert!(Scores { bits: 256, cols: 0, low: 0, high: 0, row_low: 0 }.check().is_err());
        assert!(Scores { bits: 256, cols: 8, low: -9, high: 0, row_low: -10 }.check().is_err());
        assert!(Scores { bits: 256, cols: 8, low: -9, high: 0, row_low: 1 }.check().is_err());
        assert!(Scores { bits: 1024, cols: 1, low: i16::MIN, high: i16::MAX, row_low: 0 }.check().is_err());
    }
}
