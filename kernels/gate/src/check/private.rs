//! The integer function of products with matrices of a loaded model. The matrices are the owner's own, so what the parties opened of
//! them is checked as well.

use super::{Clear, Observed};
use crate::ops::private::{Factor, Private};

/// The sums; none if a matrix is not there.
pub(super) fn sums(op: &Private, taken: &[Clear], run: &dyn Observed) -> Option<Vec<i64>> {
    let rows = taken.first()?.x.len() / taken.first()?.wire.shape.cols() as usize;
    let cols = op.terms().first()?.cols.count() as usize;
    let mut sums = vec![0i64; rows * cols];
    let mut wires = taken.iter();
    for term in op.terms() {
        let width = term.matrix.shape.cols() as usize;
        let matrix = run.loaded(term.matrix.input);
        if matrix.len() as u64 != term.matrix.shape.elems() {
            return None;
        }
        let chosen = |row: usize| term.cols.each().map(move |col| matrix[row * width + col]);
        let wire = term.left().and_then(|left| Some((&wires.next()?.x[..], left.shift)));
        match (term.factor, wire) {
            (Factor::Rows(_), Some((x, shift))) => {
                let inner = term.rows.count() as usize;
                for (at, row) in term.rows.each().enumerate() {
                    let row: Vec<i64> = chosen(row).collect();
                    for (sums, x) in sums.chunks_exact_mut(cols).zip(x.chunks_exact(inner)) {
                        add(sums, &row, |_| x[at] << shift);
                    }
                }
            }
            (Factor::Elements(_), Some((x, shift))) => {
                let factors: Vec<i64> = chosen(0).collect();
                for (sums, x) in sums.chunks_exact_mut(cols).zip(x.chunks_exact(cols)) {
                    add(sums, &factors, |col| x[col] << shift);
                }
            }
            (Factor::One, _) => {
                let summands: Vec<i64> = chosen(0).collect();
                sums.chunks_exact_mut(cols).for_each(|sums| add(sums, &summands, |_| 1));
            }
            (Factor::Rows(_) | Factor::Elements(_), None) => return None,
        }
    }
    Some(sums)
}

/// Adds each of `values` times its factor.
fn add(sums: &mut [i64], values: &[i64], factor: impl Fn(usize) -> i64) {
    for (col, (sum, value)) in sums.iter_mut().zip(values).enumerate() {
        *sum = sum.wrapping_add(factor(col).wrapping_mul(*value));
    }
}
