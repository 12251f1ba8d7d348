//! Operations with their bounds: splines, products, the activation.

use std::sync::Arc;

use suf_gate::{
    Gate, Ring, Shape,
    gatefile::GateFile,
    onehot::Onehot,
    ops::{Function, Op, Spline, spline::PieceError},
};

use crate::{bert::quantised::ACTIVATED, quantise::Integers, ranges::Span};

/// Bits of `onehot`'s digit above the window: the gate is right below 2^(bits + 1). The last one is of two digits.
const DIGITS: [&[u8]; 4] = [&[4], &[5], &[6], &[6, 6]];

/// A spline of a value within `span`, with these fractional bits before and behind it.
pub(super) fn spline(
    function: Function,
    ring: Ring,
    [from, to]: [u8; 2],
    span: Span,
) -> Result<Op, PieceError> {
    let unit = (1u64 << from) as f64;
    let (low, high) = ((span.min * unit).floor() as u64, (span.max * unit).ceil() as u64);
    Spline::new(function, ring, from, to, low, high).map(Op::Spline)
}

/// Largest absolute value of a product's outputs: by the largest element of the input, and by the length of its rows.
pub(super) fn product_bound(
    integers: &Integers,
    frac: u8,
    input: u8,
    bound: f64,
    length: Option<f64>,
) -> f64 {
    let mut sums = vec![(0.0, 0.0); integers.cols];
    for row in integers.values.chunks_exact(integers.cols) {
        for ((sum, squares), weight) in sums.iter_mut().zip(row) {
            let weight = f64::from(weight.abs());
            *sum += weight;
            *squares += weight * weight;
        }
    }
    let [unit, bias_unit] = [frac, input + frac].map(|frac| (1u64 << frac) as f64);
    let biases = integers.bias.iter().map(|bias| bias.unsigned_abs() as f64 / bias_unit);
    let products = sums.into_iter().map(|(sum, squares): (f64, f64)| {
        let by_length = length.map_or(f64::INFINITY, |length| squares.sqrt() * length);
        (sum * bound).min(by_length) / unit
    });
    products
        .zip(biases.chain(std::iter::repeat(0.0)))
        .map(|(product, bias)| product + bias)
        .fold(0.0, f64::max)
}

/// GELU under `onehot` with the shortest digits that take absolute values up to `bound`, if any do.
pub(super) fn gelu(bound: f64) -> Option<Arc<Gate>> {
    DIGITS.iter().find_map(|digits| gelu_with(digits, bound))
}

fn gelu_with(digits: &[u8], bound: f64) -> Option<Arc<Gate>> {
    let curve = GateFile::builtin("gelu").ok()?.curve;
    let onehot = Onehot::new(curve, digits.to_vec()).ok()?;
    let (least, most) = onehot.domain();
    let units = bound * f64::from(1 << ACTIVATED);
    if units > most as f64 || -units < least as f64 {
        return None;
    }
    Gate::new("gelu", Shape::Onehot(onehot)).ok().map(Arc::new)
}
