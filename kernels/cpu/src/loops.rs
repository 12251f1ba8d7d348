//! The loops of [`suf_gate::ops::host`] that take long, modulo 2^64. Weights and shapes are public, and no branch or index depends
//! on anything else.

use std::ops::Range;

use suf_gate::{
    dcf::TreeHash,
    ops::{
        Product, Weights,
        host::{Loops, Rows},
    },
    prg::{FixedKeys, StreamKey},
};
use zeroize::Zeroizing;

use crate::{
    prg::Stream,
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

    fn matrix(&self, x: Rows<'_>, y: &[u64], out: &mut [u64]) {
        self.0.dispatch(Matrix { x, y, out });
    }

    fn stream(&self, key: &StreamKey, bytes: usize) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(vec![0; bytes]);
        Stream::new(self.0, key).fill(0, &mut out);
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
                weighted::<ROWS>(
                    &tile[row * inputs..],
                    (inputs, outputs),
                    weights,
                    &mut out[row * outputs + first..],
                );
                row += ROWS;
            }
            for row in row..rows {
                weighted::<1>(
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
                    *y = y.wrapping_add(x.wrapping_mul(weight.wide()));
                }
            }
        }
    }
}

struct Matrix<'a> {
    x: Rows<'a>,
    y: &'a [u64],
    out: &'a mut [u64],
}

impl Vectorised for Matrix<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { x, y, out } = self;
        multiply(x, y, y.len() / x.count, out);
    }
}

/// An element of a matrix.
trait Element: Copy {
    fn wide(self) -> u64;
}

impl Element for i32 {
    #[inline(always)]
    fn wide(self) -> u64 {
        i64::from(self).cast_unsigned()
    }
}

impl Element for u64 {
    #[inline(always)]
    fn wide(self) -> u64 {
        self
    }
}

/// Adds the product of `x` with the rows of `matrix`, which have `outputs` elements, to `out`.
#[inline(always)]
fn multiply<E: Element>(x: Rows<'_>, matrix: &[E], outputs: usize, out: &mut [u64]) {
    let whole = outputs - outputs % COLUMNS;
    let rows = x.values.len() / x.stride;
    // The columns of a block stay in the cache for all rows.
    for first in (0..whole).step_by(COLUMNS) {
        let columns = &matrix[first..];
        let mut row = 0;
        while row + ROWS <= rows {
            block::<ROWS, E>(x, row, columns, outputs, &mut out[row * outputs + first..]);
            row += ROWS;
        }
        for row in row..rows {
            block::<1, E>(x, row, columns, outputs, &mut out[row * outputs + first..]);
        }
    }
    for (x, y) in x.each().zip(out.chunks_exact_mut(outputs)) {
        for (x, row) in x.iter().zip(matrix.chunks_exact(outputs)) {
            for (y, element) in y[whole..].iter_mut().zip(&row[whole..]) {
                *y = y.wrapping_add(x.wrapping_mul(element.wide()));
            }
        }
    }
}

/// The products of R rows with a block of columns of weights. `tile`, `weights` and `out` begin with the first of them. The compiler
/// makes slower code of the general function below, as `cargo bench -p suf-cpu --bench products` shows.
#[inline(always)]
fn weighted<const R: usize>(
    tile: &[u64],
    (inputs, outputs): (usize, usize),
    weights: &[i32],
    out: &mut [u64],
) {
    let x: [&[u64]; R] = std::array::from_fn(|row| &tile[row * inputs..][..inputs]);
    let mut sums = [[0u64; COLUMNS]; R];
    for (input, row) in weights.chunks(outputs).enumerate() {
        let weights: &[i32; COLUMNS] = row.first_chunk().expect("a whole block");
        for (sums, x) in sums.iter_mut().zip(&x) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = sum.wrapping_add(x[input].wrapping_mul(weight.wide()));
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        out[row * outputs..][..COLUMNS].copy_from_slice(sums);
    }
}

/// The products of R rows, from `row` on, with a block of columns. `matrix` and `out` begin with the first of them.
#[inline(always)]
fn block<const R: usize, E: Element>(x: Rows<'_>, row: usize, matrix: &[E], outputs: usize, out: &mut [u64]) {
    let x: [&[u64]; R] = std::array::from_fn(|at| &x.values[(row + at) * x.stride + x.first..][..x.count]);
    let mut sums = [[0u64; COLUMNS]; R];
    for (input, row) in matrix.chunks(outputs).enumerate() {
        let elements: &[E; COLUMNS] = row.first_chunk().expect("a whole block");
        for (sums, x) in sums.iter_mut().zip(&x) {
            for (sum, element) in sums.iter_mut().zip(elements) {
                *sum = sum.wrapping_add(x[input].wrapping_mul(element.wide()));
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (out, sum) in out[row * outputs..][..COLUMNS].iter_mut().zip(sums) {
            *out = out.wrapping_add(*sum);
        }
    }
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
            let factors: Vec<u64> = (0..rows * cols).map(|i| number(i + 7)).collect();
            let x = Rows { values: &tile, stride: rows, first: rows / 3, count: rows - rows / 2 };
            let factors = &factors[..x.count * cols];
            let mut summed = (0..7 * cols).map(number).collect::<Vec<_>>();
            x.multiply(factors, &mut summed);
            for level in Level::ALL.into_iter().filter(|level| level.supported()) {
                assert_eq!(
                    LevelLoops(level).linear(&weights, &tile),
                    weights.multiply(&tile),
                    "{rows} x {cols}, {level}"
                );
                let mut sums = (0..7 * cols).map(number).collect::<Vec<_>>();
                LevelLoops(level).matrix(x, factors, &mut sums);
                assert_eq!(sums, summed, "{rows} x {cols}, {level}");
            }
        }
    }
}
