//! The last exchange: y + r_out as a sum of products of shared ring elements with public numbers.

use std::ops::Range;

use suf_gate::{
    Party,
    ring::WIRE,
    spec::{
        CompiledSpec,
        compile::{Base, Element, Output, Part, Switch},
    },
};
use zeroize::Zeroizing;

use super::{
    binomial,
    column::{self, Column, ZERO},
    eval::Opened,
    low,
};
use crate::{
    columns,
    key::{PACKED, PartKey, strips},
    pack,
    simd::{Simd, Vectorised},
};

/// This party's message.
pub(super) fn share(spec: &CompiledSpec, key: &PartKey, x_hat: &[u64], opened: &Opened) -> Vec<u8> {
    let elems = x_hat.len();
    let mut message = vec![0; elems * PACKED];
    let sums: Vec<Sum<'_>> = spec.outputs().iter().map(|output| Sum::new(spec, output)).collect();
    let [r_in, r_out] = [key.input_mask(), key.output_mask()].map(Zeroizing::new);
    let elements = spec.field(Part::Elements).map(|id| key.field(id));
    let width = spec.elements().len() * PACKED;
    let mut scratch = Zeroizing::default();
    let mut strip = Strip::new(spec, key.job().party);
    for range in strips(elems) {
        let n = range.len();
        strip.take_public(spec, &range, x_hat, opened);
        strip.minus_r[..n].iter_mut().zip(&r_in[range.clone()]).for_each(|(m, r)| *m = r.wrapping_neg());
        strip.sum[..n].copy_from_slice(&r_out[range.clone()]);
        if let Some(elements) = &elements {
            let packed = elements.read(range.start * width..range.end * width, &mut scratch);
            columns::split(packed, &mut strip.elements);
        }
        key.level().dispatch(Evaluate { strip: &mut strip, sums: &sums });
        let place = range.start * PACKED..range.end * PACKED;
        pack::pack(WIRE.bits().into(), &strip.sum[..n], &mut message[place]);
    }
    message
}

/// A strip's numbers.
struct Strip {
    one: u64,
    x_hat: Column,
    /// The opened entry, moved up by a quarter of its range; and 2^k where it is in the lower half.
    moved: Column,
    wrapped: Column,
    entry_bits: u8,
    /// The opened sign of the active piece as +1 or -1, and its coefficients.
    piece_sign: Column,
    coefficients: Vec<Column>,
    /// The opened bits of the gates.
    gates: Vec<Column>,
    minus_r: Zeroizing<Column>,
    elements: Zeroizing<Vec<Column>>,
    sum: Zeroizing<Column>,
}

impl Strip {
    fn new(spec: &CompiledSpec, party: Party) -> Self {
        Self {
            // P0's share of the public 1.
            one: u64::from(party == Party::P0),
            x_hat: ZERO,
            moved: ZERO,
            wrapped: ZERO,
            entry_bits: spec.table().map_or(2, |table| table.mask_bits),
            piece_sign: ZERO,
            coefficients: vec![ZERO; spec.pieces().map_or(0, |pieces| pieces.degree() + 1)],
            gates: vec![ZERO; spec.gates().len()],
            minus_r: Zeroizing::new(ZERO),
            elements: Zeroizing::new(vec![ZERO; spec.elements().len()]),
            sum: Zeroizing::new(ZERO),
        }
    }

    /// Takes what is public of the elements `range`.
    fn take_public(&mut self, spec: &CompiledSpec, range: &Range<usize>, x_hat: &[u64], opened: &Opened) {
        let n = range.len();
        let plane = |planes: &'_ [u8], i: usize, out: &mut Column| {
            let plane_bytes = x_hat.len().div_ceil(8);
            column::from_plane(&planes[i * plane_bytes + range.start / 8..][..n.div_ceil(8)], out);
        };
        self.x_hat[..n].copy_from_slice(&x_hat[range.clone()]);
        if spec.table().is_some() {
            let k = self.entry_bits;
            let numbers = self.moved.iter_mut().zip(&mut self.wrapped);
            for ((moved, wrapped), entry) in numbers.zip(&opened.entries[range.clone()]) {
                *moved = low(u64::from(*entry) + (1 << (k - 2)), k);
                *wrapped = (*moved >> (k - 1) ^ 1) << k;
            }
        }
        if spec.pieces().is_some() {
            plane(&opened.sign, 0, &mut self.piece_sign);
            column::sign(&mut self.piece_sign);
            for (column, opened) in self.coefficients.iter_mut().zip(&opened.coefficients) {
                column[..n].copy_from_slice(&opened[range.clone()]);
            }
        }
        let mut helpers = 0..;
        for (gate, bits) in spec.gates().iter().zip(&mut self.gates) {
            match gate {
                Switch::Opened(comparison) => plane(&opened.comparisons, *comparison, bits),
                Switch::Helper { .. } => plane(&opened.helpers, helpers.next().expect("endless"), bits),
            }
        }
    }

    /// Shares of the gate's bit times the base: the gated element where the masked bit is 0, else the base less the
    /// gated element.
    #[inline(always)]
    fn weighted(&self, gate: Option<usize>, factor: &Factor, out: &mut Column) {
        match factor.base {
            Known::One => out.fill(self.one),
            Known::MinusR => *out = *self.minus_r,
            Known::Element(i) => *out = self.elements[i],
        }
        if let (Some(gate), Some(gated)) = (gate, factor.gated) {
            for ((out, gated), bit) in out.iter_mut().zip(&self.elements[gated]).zip(&self.gates[gate]) {
                let past = out.wrapping_sub(gated.wrapping_mul(2)) & bit.wrapping_neg();
                *out = gated.wrapping_add(past);
            }
        }
    }
}

/// One summand of the output, its bases found among the elements.
struct Sum<'a> {
    output: &'a Output,
    powers: Vec<Factor>,
    /// Sign, mask and carry of the table's entry.
    table: Option<[Factor; 3]>,
    piece_powers: Vec<Factor>,
    piece_constants: Vec<Factor>,
}

/// Where the shares of a base stand.
struct Factor {
    base: Known,
    /// The element that is omega times the base, for a summand with a gate.
    gated: Option<usize>,
}

enum Known {
    /// The public 1.
    One,
    /// The negated mask of the input.
    MinusR,
    /// A ring element of the key.
    Element(usize),
}

impl<'a> Sum<'a> {
    fn new(spec: &CompiledSpec, output: &'a Output) -> Self {
        let element = |gate, base| spec.elements().iter().position(|e| *e == Element { gate, base });
        let factor = |base| Factor {
            base: match base {
                Base::Power(0) => Known::One,
                Base::Power(1) => Known::MinusR,
                // The compiler lists an element for every base of every output.
                _ => Known::Element(element(None, base).expect("the compiler listed it")),
            },
            gated: output.gate.and_then(|gate| element(Some(gate), base)),
        };
        let degree =
            spec.pieces().filter(|_| output.pieces != 0).map_or(0, |pieces| pieces.degree() as u8 + 1);
        let bases = [Base::TableSign, Base::TableMask, Base::TableCarry];
        Self {
            output,
            powers: (0..output.fixed.len() as u8).map(|k| factor(Base::Power(k))).collect(),
            table: (output.table != 0).then(|| bases.map(factor)),
            piece_powers: (0..degree).map(|k| factor(Base::PiecePower(k))).collect(),
            piece_constants: (0..degree).map(|e| factor(Base::PieceConstant(e))).collect(),
        }
    }

    #[inline(always)]
    fn add_to(&self, strip: &mut Strip) {
        let gate = self.output.gate;
        let mut value = Zeroizing::new(ZERO);
        let mut share = Zeroizing::new(ZERO);
        if let Some([sign, mask, carry]) = &self.table {
            // entry = moved - 2^(k-2) - a, and 2^k more if the sum wrapped: if a's top bit was set and moved has none.
            let quarter = 1_u64 << (strip.entry_bits - 2);
            strip.weighted(gate, sign, &mut value);
            for (value, moved) in value.iter_mut().zip(&strip.moved) {
                *value = value.wrapping_mul(moved.wrapping_sub(quarter));
            }
            strip.weighted(gate, mask, &mut share);
            column::add_scaled(&mut value, &share, 1_u64.wrapping_neg());
            strip.weighted(gate, carry, &mut share);
            column::add_product(&mut value, &share, &strip.wrapped, 1);
            column::add_scaled(&mut strip.sum, &value, self.output.table.cast_unsigned());
        }
        if !self.powers.is_empty() {
            let powers = self.columns(strip, &self.powers);
            value.fill(0);
            for e in (0..powers.len()).rev() {
                column::multiply(&mut value, &strip.x_hat);
                for (j, c) in self.output.fixed.iter().enumerate().skip(e).filter(|(_, c)| **c != 0) {
                    let factor = c.cast_unsigned().wrapping_mul(binomial(j, e));
                    column::add_scaled(&mut value, &powers[j - e], factor);
                }
            }
            column::add_scaled(&mut strip.sum, &value, 1);
        }
        if !self.piece_powers.is_empty() {
            let powers = self.columns(strip, &self.piece_powers);
            value.fill(0);
            for (e, constant) in self.piece_constants.iter().enumerate().rev() {
                column::multiply(&mut value, &strip.x_hat);
                for (j, c) in strip.coefficients.iter().enumerate().skip(e) {
                    column::add_product(&mut value, c, &powers[j - e], binomial(j, e));
                }
                strip.weighted(gate, constant, &mut share);
                column::add_scaled(&mut value, &share, 1_u64.wrapping_neg());
            }
            column::add_product(
                &mut strip.sum,
                &value,
                &strip.piece_sign,
                self.output.pieces.cast_unsigned(),
            );
        }
    }

    #[inline(always)]
    fn columns(&self, strip: &Strip, factors: &[Factor]) -> Zeroizing<Vec<Column>> {
        let mut columns = Zeroizing::new(vec![ZERO; factors.len()]);
        for (column, factor) in columns.iter_mut().zip(factors) {
            strip.weighted(self.output.gate, factor, column);
        }
        columns
    }
}

/// Adds all summands to a strip's sum.
struct Evaluate<'a> {
    strip: &'a mut Strip,
    sums: &'a [Sum<'a>],
}

impl Vectorised for Evaluate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for sum in self.sums {
            sum.add_to(self.strip);
        }
    }
}
