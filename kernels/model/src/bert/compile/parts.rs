//! Operations with their bounds: splines, products, the activation.

use std::sync::Arc;

use suf_gate::{
    Gate, Protocol, Ring, Shape,
    dpf::Dpf,
    gatefile::GateFile,
    onehot::Onehot,
    ops::{Function, Op, Spline, spline::PieceError},
};

use crate::{bert::quantised::ACTIVATED, quantise::Integers, ranges::Span};

/// Bits of `onehot`'s digit above the window: the gate is right below 2^(bits + 1). The last one is of two digits.
const DIGITS: [&[u8]; 4] = [&[4], &[5], &[6], &[6, 6]];

/// Fewest and most bits of a multiple of 2^-6 that `dpf` takes, its window's nine and two more: |x| < 8 and |x| < 8192.
const DPF_BITS: std::ops::RangeInclusive<u8> = 11..=21;

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

/// GELU under `protocol` in the smallest shape that takes absolute values up to `bound`, if any does.
pub(super) fn gelu(protocol: Protocol, bound: f64) -> Option<Arc<Gate>> {
    let curve = GateFile::builtin("gelu").ok()?.curve;
    let units = bound * f64::from(1 << ACTIVATED);
    let fits = |(least, most): (i64, i64)| units <= most as f64 && -units >= least as f64;
    let shape = match protocol {
        Protocol::Onehot => {
            let shapes = DIGITS.iter().filter_map(|digits| Onehot::new(curve.clone(), digits.to_vec()).ok());
            shapes.into_iter().find(|shape| fits(shape.domain())).map(Shape::Onehot)
        }
        Protocol::Dpf => {
            let shapes = DPF_BITS.filter_map(|bits| Dpf::new(curve.clone(), bits).ok());
            shapes.into_iter().find(|shape| fits(shape.domain())).map(Shape::Dpf)
        }
        Protocol::Sigma | Protocol::SufLut | Protocol::Suf => None,
    };
    Gate::new("gelu", shape?).ok().map(Arc::new)
}
