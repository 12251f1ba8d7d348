//! The gate `onehot` ([`suf_gate::onehot`]): dealing and evaluation.

mod deal;
mod digit;
mod eval;
mod row;
mod truth;

use suf_gate::{
    Curve,
    onehot::{MAX_DIGITS, Onehot},
};

use crate::{
    key::STRIP,
    lookup::Lookup,
    simd::{Level, Simd, Vectorised},
};

pub(crate) use deal::deal;
pub(crate) use eval::OnehotEval;

/// The residuals of a curve, seen from the public window digit v. The place k = r - v stands for t = (-k mod 2^L) -
/// 2^(L-1). The places of p are counted: those with v - r in the upper half.
fn window_table(curve: &Curve) -> Lookup {
    let size = curve.window_len();
    Lookup::new(
        curve.window_bits,
        |place| curve.residual[(size - place) % size],
        |place| (1..=size / 2).contains(&place),
    )
    .with_above()
}

/// How a shifted number falls apart into the window digit and the digits above it.
#[derive(Clone, Copy)]
struct Digits {
    window: u8,
    upper: [u8; MAX_DIGITS],
    count: usize,
}

impl Digits {
    fn of(gate: &Onehot) -> Self {
        let mut upper = [0; MAX_DIGITS];
        upper[..gate.digits().len()].copy_from_slice(gate.digits());
        Self { window: gate.curve().window_bits, upper, count: gate.digits().len() }
    }

    /// The digits of a strip's `numbers`, shifted down by `shift` and moved up by `offset`.
    fn split(self, level: Level, numbers: &[u64], shift: u8, offset: u64, out: &mut Split) {
        level.dispatch(SplitTile { digits: self, numbers, shift, offset, out });
    }

    /// Bits and number of the digits above the window, lowest first.
    fn all(self) -> impl Iterator<Item = (usize, u8)> {
        (0..self.count).map(move |i| (i, self.upper[i]))
    }
}

/// A strip's digits: those of the window, then the others, lowest first.
type Split = [[u16; STRIP]; 1 + MAX_DIGITS];

struct SplitTile<'a> {
    digits: Digits,
    numbers: &'a [u64],
    shift: u8,
    offset: u64,
    out: &'a mut Split,
}

impl Vectorised for SplitTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { digits, numbers, shift, offset, out } = self;
        let numbers = &numbers[..numbers.len().min(STRIP)];
        let mut from = 0;
        let widths = std::iter::once(digits.window).chain(digits.upper).take(1 + digits.count);
        for (out, bits) in out.iter_mut().zip(widths) {
            let mask = (1 << bits) - 1;
            for (out, number) in out.iter_mut().zip(numbers) {
                *out = (((number >> shift) + offset) >> from) as u16 & mask;
            }
            from += bits;
        }
    }
}

/// Where the states stand in an element's word: the exchange's order.
mod state {
    /// After c and p: lt, eq, q of lower digit 0, then those of the next.
    pub(super) const LOWER: u8 = 2;
    /// Bits of one lower digit.
    pub(super) const LOWER_BITS: u8 = 3;

    /// near, high: after `lower` lower digits.
    pub(super) const fn top(lower: usize) -> u8 {
        LOWER + LOWER_BITS * lower as u8
    }
}
