//! The loops of [`suf_gate::ops::host`] that take long, modulo 2^64. Weights and shapes are public, and no branch or index depends
//! on anything else.

use std::ops::Range;

use suf_gate::{
    dcf::TreeHash,
    ops::{Product, Weights, host::Loops},
    prg::FixedKeys,
};

use crate::{
    simd::{Level, Simd, Vectorised},
    tree_hash::LevelHash,
};

/// Rows and columns whose sums are kept in registers: 8 registers of 512 bits. The limit is one multiplication of a register of
/// 64-bit lanes in each cycle, and each needs one operand from the cache for four rows.
const ROWS: usize = 4;
const COLUMNS: usize = 16;

/// The loops at a level.
#[derive(Clone, Copy)]
pub(crate) struct LevelLoops(pub(crate) Level);

impl Loops for LevelLoops {
    fn linear(&self, weights: &Weights, tile: &[u64]) -> Vec<u64> {
        let rows = tile.len() / weights.rows() as usize;
        let mut out = vec![0; rows * weights.cols() as usize];
        self.0.dispatch(Linear { weights, tile, out: &mut out });
        out
    }

    fn tree_hash(&self, keys: &FixedKeys) -> Box<dyn TreeHash + Send> {
        Box::new(LevelHash::new(self.0, keys))
    }

    fn product(&self, op: &Product, rows: Range<u32>, elems: usize, x: &[u64], y: &[u64]) -> Vec<u64> {
        let mut out = vec![0; elems];
        self.0.dispatch(Multiply { op, rows, x, y, out: &mut out });
        out
    }
}

struct Multiply<'a> {
    op: &'a Product,
    rows: Range<u32>,
    x: &'a [u64],
    y: &'a [u64],
    out: &'a mut [u64],
}

impl Vectorised for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { op, rows, x, y, out } = self;
        op.multiply(rows, x, y, out);
    }
}

struct Linear<'a> {
    weights: &'a Weights,
    tile: &'a [u64],
    out: &'a mut [u64],
}

impl Vectorised for Linear<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { weights, tile, out } = self;
        let (inputs, outputs) = (weights.rows() as usize, weights.cols() as usize);
        let whole = outputs - outputs % COLUMNS;
        let rows = tile.len() / inputs;
        // The weights of a block stay in the cache for all rows.
        for first in (0..whole).step_by(COLUMNS) {
            let weights = &weights.values()[first..];
            let mut row = 0;
            while row + ROWS <= rows {
                block::<ROWS>(
                    &tile[row * inputs..],
                    (inputs, outputs),
                    weights,
                    &mut out[row * outputs + first..],
                );
                row += ROWS;
            }
            for row in row..rows {
                block::<1>(
                    &tile[row * inputs..],
                    (inputs, outputs),
                    weights,
                    &mut out[row * outputs + first..],
                );
            }
        }
        for (x, y) in tile.chunks_exact(inputs).zip(out.chunks_exact_mut(outputs)) {
            for (x, row) in x.iter().zip(weights.values().chunks_exact(outputs)) {
                for (y, weight) in y[whole..].iter_mut().zip(&row[whole..]) {
                    *y = y.wrapping_add(x.wrapping_mul(wide(*weight)));
                }
            }
        }
    }
}

/// The products of R rows with a block of columns. `tile`, `weights` and `out` begin with the first of them.
#[inline(always)]
fn block<const R: usize>(tile: &[u64], (inputs, outputs): (usize, usize), weights: &[i32], out: &mut [u64]) {
    let x: [&[u64]; R] = std::array::from_fn(|row| &tile[row * inputs..][..inputs]);
    let mut sums = [[0u64; COLUMNS]; R];
    for (input, row) in weights.chunks(outputs).enumerate() {
        let weights: &[i32; COLUMNS] = row.first_chunk().expect("a whole block");
        for (sums, x) in sums.iter_mut().zip(&x) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = sum.wrapping_add(x[input].wrapping_mul(wide(*weight)));
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        out[row * outputs..][..COLUMNS].copy_from_slice(sums);
    }
}

#[inline(always)]
fn wide(weight: i32) -> u64 {
    i64::from(weight).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_the_definitions_at_every_level() {
        let number = |i: usize| (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for (rows, cols) in [(1, 1), (3, 5), (17, 16), (9, 255), (5, 257), (2, 600)] {
            let values = (0..rows * cols).map(|i| (number(i) >> 33) as i32 - (1 << 30)).collect();
            let weights = Weights::new(rows as u32, cols as u32, values, Vec::new()).expect("they fit");
            let tile: Vec<u64> = (0..7 * rows).map(number).collect();
            for level in Level::ALL.into_iter().filter(|level| level.supported()) {
                assert_eq!(
                    LevelLoops(level).linear(&weights, &tile),
                    weights.multiply(&tile),
                    "{rows} x {cols}, {level}"
                );
            }
        }
    }
}
