//! The integer functions of products of masked wires.

use std::ops::Range;

use super::{Clear, rounded};
use crate::ops::{Extended, Factors, Heads, Product, Scale, SquareSum};

/// The products of some rows.
pub(super) fn product(op: &Product, rows: Range<u32>, taken: &[Clear]) -> Vec<i64> {
    let (x, y) = (&taken[0].x, &taken[1].x);
    let dot = |terms: &mut dyn Iterator<Item = (i64, i64)>| {
        terms.fold(0i64, |sum, (x, y)| sum.wrapping_add(x.wrapping_mul(y)))
    };
    let cols = taken[1].wire.shape.cols() as usize;
    match op.factors() {
        Factors::Elements => x.iter().zip(y).map(|(x, y)| x.wrapping_mul(*y)).collect(),
        Factors::Scores(heads) => {
            let (tokens, dim) = (heads.tokens as usize, cols / heads.heads as usize);
            let first = rows.start / (heads.heads * heads.tokens);
            let score = |row: u32, column: usize| {
                let [sequence, head, token] = place(heads, row);
                let start = (sequence - first) as usize * tokens;
                let at = |token: usize| (start + token) * cols + head as usize * dim;
                let (x, y) = (&x[at(token as usize)..][..dim], &y[at(column)..][..dim]);
                let added = taken.get(4).map_or(0, |added| added.x[start + column]);
                dot(&mut x.iter().copied().zip(y.iter().copied())).wrapping_add(added)
            };
            rows.flat_map(|row| (0..tokens).map(move |column| (row, column)))
                .map(|(row, column)| score(row, column))
                .collect()
        }
        Factors::Mix(heads) => {
            let (tokens, dim) = (heads.tokens as usize, cols / heads.heads as usize);
            let first = rows.start / heads.tokens;
            let mixed = |row: u32, column: usize| {
                let (sequence, token) = (row / heads.tokens - first, row % heads.tokens);
                let head = (column / dim) as u32;
                let score_row = (sequence * heads.heads + head) * heads.tokens + token;
                let weights = &x[score_row as usize * tokens..][..tokens];
                let value = |token: usize| y[(sequence as usize * tokens + token) * cols + column];
                dot(&mut weights.iter().enumerate().map(|(token, weight)| (*weight, value(token))))
            };
            rows.flat_map(|row| (0..cols).map(move |column| (row, column)))
                .map(|(row, column)| mixed(row, column))
                .collect()
        }
    }
}

/// Sequence, head and token of a row of scores.
fn place(heads: Heads, row: u32) -> [u32; 3] {
    let Heads { heads, tokens } = heads;
    [row / (heads * tokens), row / tokens % heads, row % tokens]
}

/// What an extended wire stands for, element by element; none outside its bound.
fn quotients(of: Extended, taken: &Clear) -> Vec<Option<i64>> {
    let bound = 1u64 << (of.ring.bits() - 2);
    let quotient = |(x_hat, x): (u64, i64)| (x.unsigned_abs() < bound).then(|| rounded(x_hat, x, of.drop));
    taken.elements().map(quotient).collect()
}

/// The products of some rows with their values; none where a factor is outside its bound.
pub(super) fn scale(op: &Scale, rows: Range<u32>, taken: &[Clear]) -> Vec<Option<i64>> {
    let [x, y] = op.factors();
    let (x, y) = (quotients(x, &taken[0]), quotients(y, &taken[1]));
    let cols = taken[0].wire.shape.cols() as usize;
    let first = rows.start;
    let value = |row: u32, column: usize| match op.heads() {
        None => y[(row - first) as usize],
        Some(Heads { heads, tokens }) => {
            let sequence = row / tokens - first / tokens;
            let head = (column / (cols / heads as usize)) as u32;
            y[((sequence * heads + head) * tokens + row % tokens) as usize]
        }
    };
    let places = rows.flat_map(|row| (0..cols).map(move |column| (row, column)));
    places.zip(x).map(|((row, column), x)| Some(x?.wrapping_mul(value(row, column)?))).collect()
}

/// The sum of the squares of each row; none where an element is outside its bound.
pub(super) fn square_sums(op: &SquareSum, taken: &Clear) -> Vec<Option<i64>> {
    let x = quotients(op.factor(), taken);
    let add = |sum: i64, x: &Option<i64>| x.map(|x| sum.wrapping_add(x.wrapping_mul(x)));
    x.chunks_exact(taken.wire.shape.cols() as usize).map(|row| row.iter().try_fold(0i64, add)).collect()
}
