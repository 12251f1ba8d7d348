//! Public numbers v modulo M = 2^m - 1 minus powers of two, for the comparison of v - r with them.

use std::ops::Range;

use crate::dcf::Points;

/// Bits below a threshold that are compared, too: the comparison errs within 2^-8 of the threshold.
pub const EXTRA_BITS: usize = 8;

/// The numbers v of some rows, and the powers of two that are their thresholds.
#[derive(Debug)]
pub struct Powers {
    /// m, a multiple of 64.
    bits: usize,
    /// For each row the words of v, canonical.
    values: Vec<u64>,
    thresholds: Range<usize>,
    depths: Vec<usize>,
}

/// After how many levels of m the comparison with 2^`threshold` ends.
#[must_use]
pub fn depth(bits: usize, threshold: usize) -> usize {
    bits - dropped(threshold)
}

/// Bits that the comparison with 2^`threshold` does not look at.
#[must_use]
pub fn dropped(threshold: usize) -> usize {
    threshold.saturating_sub(EXTRA_BITS)
}

impl Powers {
    /// Compares `values`, m / 64 words for each row, with 2^i for the i of `thresholds`.
    #[must_use]
    pub fn new(bits: usize, values: Vec<u64>, thresholds: Range<usize>) -> Self {
        let depths = thresholds.clone().map(|threshold| depth(bits, threshold)).collect();
        Self { bits, values, thresholds, depths }
    }

    /// How many thresholds are at most v, of the row `row`.
    #[must_use]
    pub fn at_most(&self, row: usize) -> usize {
        let words = self.value(row).iter().enumerate();
        let length =
            words.fold(
                0,
                |length, (i, word)| {
                    if *word == 0 { length } else { 64 * (i + 1) - word.leading_zeros() as usize }
                },
            );
        // v is at least 2^(length - 1).
        length.clamp(self.thresholds.start, self.thresholds.end) - self.thresholds.start
    }

    fn words(&self) -> usize {
        self.bits / 64
    }

    fn value(&self, row: usize) -> &[u64] {
        &self.values[row * self.words()..][..self.words()]
    }
}

impl Points for Powers {
    fn bits(&self) -> usize {
        self.bits
    }

    fn depths(&self) -> &[usize] {
        &self.depths
    }

    fn write(&self, row: usize, points: &mut [u64]) -> usize {
        let (v, below) = (self.value(row), self.at_most(row));
        let first_above = self.thresholds.start + below;
        let mut points = points.chunks_exact_mut(self.words());
        let mut next = || points.next().expect("a point for each threshold and v");
        for power in (self.thresholds.start..first_above).rev() {
            minus(v, power, next());
        }
        next().copy_from_slice(v);
        for power in (first_above..self.thresholds.end).rev() {
            let point = next();
            minus(v, power, point);
            // Modulo M: what was borrowed is 2^m, one more than M.
            let mut borrow = true;
            for word in point.iter_mut() {
                (*word, borrow) = word.overflowing_sub(borrow.into());
            }
        }
        below
    }
}

/// v - 2^`power` modulo 2^m.
fn minus(v: &[u64], power: usize, difference: &mut [u64]) {
    difference.copy_from_slice(v);
    let mut taken = 1 << (power % 64);
    for word in &mut difference[power / 64..] {
        let (less, borrow) = word.overflowing_sub(taken);
        (*word, taken) = (less, borrow.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_the_differences_modulo_m_in_ascending_order() {
        let m = u128::MAX;
        for v in [0, 1, 2, 255, 256, 1 << 63, (1 << 64) - 1, 1 << 64, (1 << 70) + 12345, m >> 1, m - 1] {
            let powers = Powers::new(128, vec![v as u64, (v >> 64) as u64], 3..128);
            let mut points = vec![0; 2 * 126];
            let below = powers.write(0, &mut points);
            let points: Vec<u128> = points
                .as_chunks::<2>()
                .0
                .iter()
                .map(|[low, high]| u128::from(*low) | u128::from(*high) << 64)
                .collect();
            assert!(points.is_sorted());
            let minus = |i: usize| if v >= 1 << i { v - (1 << i) } else { m - ((1 << i) - v) };
            let low = (3..3 + below).rev().map(minus);
            let expected = low.chain([v]).chain((3 + below..128).rev().map(minus));
            assert!(points.into_iter().eq(expected), "v = {v}");
            assert_eq!(below, (3..128).filter(|i| 1 << i <= v).count());
        }
    }
}
