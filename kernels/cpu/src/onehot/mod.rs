//! The gate `onehot` ([`suf_gate::onehot`]): dealing and evaluation.

mod deal;
mod digit;
mod eval;
mod truth;

use suf_gate::{
    Curve,
    onehot::{MAX_DIGITS, Onehot},
};

use crate::lookup::Lookup;

pub(crate) use deal::deal;
pub(crate) use eval::OnehotEval;

/// The residuals of a curve, seen from the public window digit v: k = r - v stands for t = (-k mod 2^L) - 2^(L-1). Counted
/// are the places of p: v - r in the upper half.
fn window_table(curve: &Curve) -> Lookup {
    let size = curve.window_len();
    Lookup::new(
        curve.window_bits,
        |place| curve.residual[(size - place) % size],
        |place| (1..=size / 2).contains(&place),
    )
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

    /// The window digits of the numbers `t`.
    fn window(self, t: &[u64], out: &mut [u16]) {
        let mask = (1 << self.window) - 1;
        for (out, t) in out.iter_mut().zip(t) {
            *out = *t as u16 & mask;
        }
    }

    /// Digits `i` above the window of the numbers `t`.
    fn upper(self, i: usize, t: &[u64], out: &mut [u16]) {
        let shift = self.window + self.upper[..i].iter().sum::<u8>();
        let mask = (1 << self.upper[i]) - 1;
        for (out, t) in out.iter_mut().zip(t) {
            *out = (*t >> shift) as u16 & mask;
        }
    }

    /// Bits and number of the digits above the window, lowest first.
    fn all(self) -> impl Iterator<Item = (usize, u8)> {
        (0..self.count).map(move |i| (i, self.upper[i]))
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
