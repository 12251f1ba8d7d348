//! The dealer's side of `suf`.

use suf_gate::{
    spec::{
        CompiledSpec,
        compile::{Base, Comparison, Element, Part, Switch},
    },
    suf::Suf,
};
use zeroize::{Zeroize, Zeroizing};

use super::{
    binomial,
    column::{self, Column, ZERO},
    first::mask_number,
    low, truth,
};
use crate::{
    columns,
    key::{KeyWriter, PACKED, TreeIds},
    pack,
    simd::{Simd, Vectorised},
    tree::TreeShape,
};

/// Writes both parties' keys of a tile.
pub(crate) fn deal(gate: &Suf, key: &mut KeyWriter<'_>) {
    let spec = gate.compiled();
    let r_in = key.input_masks();
    let top = top_bits(spec, &r_in);
    let masks = Masks::new(spec, key, &top);
    if let Some(id) = spec.field(Part::TopBit) {
        key.shared_planes(id, top);
    }

    let mut hot = Zeroizing::default();
    if spec.has_tree() {
        let bits = spec.domain_bits() - 1;
        let alphas = Zeroizing::new(r_in.iter().map(|r| low(r >> spec.grid(), bits)).collect::<Vec<_>>());
        let parts = [Part::Root, Part::NodeCorrections, Part::LeafCorrection];
        hot = deal_trees(spec, key, super::main_tree(spec), &alphas, parts);
    }
    if spec.has_low_tree() {
        let alphas = Zeroizing::new(r_in.iter().map(|r| low(*r, spec.low_bits())).collect::<Vec<_>>());
        let parts = [Part::LowRoot, Part::LowNodeCorrections, Part::LowLeafCorrection];
        deal_trees(spec, key, super::low_tree(spec), &alphas, parts);
    }
    let omegas = deal_helpers(spec, key, &masks.comparisons);

    let Some(elements) = spec.field(Part::Elements) else { return };
    let level = key.level();
    let mut strip = Strip::new(spec);
    let mut columns = Zeroizing::new(vec![ZERO; spec.elements().len()]);
    key.shared(elements, |range, shares| {
        strip.take(spec, &masks, &omegas, &hot, &r_in[range.clone()], range.start);
        columns::split(shares, &mut columns);
        level.dispatch(Subtract { strip: &strip, elements: spec.elements(), columns: &mut columns });
        columns::join(&columns, shares);
    });
}

/// A plane of the top bits of the rounded masks.
fn top_bits(spec: &CompiledSpec, r_in: &[u64]) -> Zeroizing<Vec<u8>> {
    let at = spec.domain_bits() - 1 + spec.grid();
    let mut plane = Zeroizing::new(vec![0; r_in.len().div_ceil(8)]);
    for (byte, r_in) in plane.iter_mut().zip(r_in.chunks(8)) {
        *byte = r_in.iter().enumerate().fold(0, |byte, (i, r)| byte | ((r >> at & 1) as u8) << i);
    }
    plane
}

/// The masks of what the first exchange opens.
struct Masks {
    /// One plane per comparison.
    comparisons: Vec<Zeroizing<Vec<u8>>>,
    /// a, k bits.
    entries: Zeroizing<Vec<u32>>,
    sign: Zeroizing<Vec<u8>>,
    /// Both parties' packed masks of the coefficients.
    coefficients: [Zeroizing<Vec<u8>>; 2],
}

impl Masks {
    fn new(spec: &CompiledSpec, key: &mut KeyWriter<'_>, top: &[u8]) -> Self {
        let comparisons = spec.field(Part::ComparisonMasks).map(|id| key.own_planes(id)).unwrap_or_default();
        let planes = comparisons.chunks_exact(top.len()).zip(spec.comparisons());
        let comparisons = planes
            .map(|(plane, comparison)| {
                let mut plane = Zeroizing::new(plane.to_vec());
                // Comparisons come out of the tree without the top bit of the mask: it joins the bit's mask here.
                if let Comparison::Below(_) = comparison {
                    pack::xor_into(&mut plane, top);
                }
                plane
            })
            .collect();
        let entries = spec.field(Part::TableMask).zip(spec.table()).map(|(id, table)| {
            let (shares, width) = (key.own(id), usize::from(table.mask_bits.div_ceil(8)));
            let numbers = shares[0].chunks_exact(width).zip(shares[1].chunks_exact(width));
            // k is at most 24.
            let sum = |(a, b): (&[u8], &[u8])| low(mask_number(a) + mask_number(b), table.mask_bits) as u32;
            Zeroizing::new(numbers.map(sum).collect())
        });
        Self {
            comparisons,
            entries: entries.unwrap_or_default(),
            sign: spec.field(Part::SignMask).map(|id| key.own_planes(id)).unwrap_or_default(),
            coefficients: spec.field(Part::CoefficientMasks).map(|id| key.own(id)).unwrap_or_default(),
        }
    }
}

/// Deals the trees that are hot at `alphas`; `parts` are those of the root, the correction words and the leaf correction.
/// Returns a plane of party 0's shares of the leaves at alpha.
fn deal_trees(
    spec: &CompiledSpec,
    key: &mut KeyWriter<'_>,
    tree: TreeShape,
    alphas: &[u64],
    parts: [Part; 3],
) -> Zeroizing<Vec<u8>> {
    let [root, words, _] = parts.map(|part| spec.field(part).expect("a tree has its fields"));
    let roots = key.own(root);
    key.trees(tree, &roots, alphas, TreeIds { words, right: None })
}

/// Deals the helpers' truth tables. Returns a plane of masks for every gate.
fn deal_helpers(
    spec: &CompiledSpec,
    key: &mut KeyWriter<'_>,
    comparison_masks: &[Zeroizing<Vec<u8>>],
) -> Vec<Zeroizing<Vec<u8>>> {
    let plane_bytes = key.elems().div_ceil(8);
    let helper_masks =
        spec.field(Part::HelperMasks).map(|id| key.dealers(id, spec.helper_count() * plane_bytes));
    let mut helper_masks = helper_masks.iter().flat_map(|planes| planes.chunks_exact(plane_bytes));
    let mut omegas = Vec::new();
    for (g, gate) in spec.gates().iter().enumerate() {
        omegas.push(match gate {
            Switch::Opened(comparison) => comparison_masks[*comparison].clone(),
            Switch::Helper { inputs, truth } => {
                let omega = helper_masks.next().expect("a mask for each helper");
                let masks: Vec<&[u8]> = inputs.iter().map(|input| &comparison_masks[*input][..]).collect();
                let mut rows = Zeroizing::new(vec![0; truth.len() * plane_bytes]);
                truth::masked(truth, &masks, &mut rows);
                truth::hide(&mut rows, omega);
                key.shared_planes(spec.field(Part::HelperTable(g)).expect("a helper has its table"), rows);
                Zeroizing::new(omega.to_vec())
            }
        });
    }
    omegas
}

/// What the dealer knows of a strip's elements. Numbers are mod 2^64.
#[derive(Zeroize)]
#[zeroize(drop)]
struct Strip {
    minus_r: Column,
    /// s, 1 or -1.
    table_sign: Column,
    table_mask: Column,
    table_mask_bits: u8,
    /// 1 or -1: 1 - 2 * the mask of the pieces' sign bit.
    sigma: Column,
    coefficient_masks: Vec<Column>,
    /// Masks of the gates, 0 or 1.
    omegas: Vec<Column>,
}

impl Strip {
    fn new(spec: &CompiledSpec) -> Self {
        Self {
            minus_r: ZERO,
            table_sign: ZERO,
            table_mask: ZERO,
            table_mask_bits: spec.table().map_or(1, |table| table.mask_bits),
            sigma: ZERO,
            coefficient_masks: vec![ZERO; spec.pieces().map_or(0, |pieces| pieces.degree() + 1)],
            omegas: vec![ZERO; spec.gates().len()],
        }
    }

    /// Takes the elements from `start` on, whose input masks are `r_in`.
    fn take(
        &mut self,
        spec: &CompiledSpec,
        masks: &Masks,
        omegas: &[Zeroizing<Vec<u8>>],
        hot: &[u8],
        r_in: &[u64],
        start: usize,
    ) {
        let n = r_in.len();
        let plane = |plane: &[u8], out: &mut Column| {
            column::from_plane(&plane[start / 8..][..n.div_ceil(8)], out);
        };
        self.minus_r.iter_mut().zip(r_in).for_each(|(minus_r, r)| *minus_r = r.wrapping_neg());
        if spec.table().is_some() {
            plane(hot, &mut self.table_sign);
            column::sign(&mut self.table_sign);
            let masks = &masks.entries[start..][..n];
            self.table_mask.iter_mut().zip(masks).for_each(|(mask, a)| *mask = u64::from(*a));
        }
        if spec.pieces().is_some() {
            plane(&masks.sign, &mut self.sigma);
            self.sigma.iter_mut().for_each(|bit| *bit = 1_u64.wrapping_sub(*bit << 1));
            let width = self.coefficient_masks.len() * PACKED;
            let mut theirs = Zeroizing::new(vec![ZERO; self.coefficient_masks.len()]);
            let [mine, other] = &masks.coefficients;
            let bytes = start * width..(start + n) * width;
            columns::split(&mine[bytes.clone()], &mut self.coefficient_masks);
            columns::split(&other[bytes], &mut theirs);
            for (sum, theirs) in self.coefficient_masks.iter_mut().zip(theirs.iter()) {
                column::add_scaled(sum, theirs, 1);
            }
        }
        self.omegas.iter_mut().zip(omegas).for_each(|(column, omega)| plane(omega, column));
    }

    #[inline(always)]
    fn base(&self, base: Base, out: &mut Column) {
        match base {
            Base::Power(k) => self.power(k.into(), out),
            Base::TableSign => *out = self.table_sign,
            Base::TableMask => {
                *out = self.table_sign;
                column::multiply(out, &self.table_mask);
            }
            Base::TableCarry => {
                for ((out, sign), mask) in out.iter_mut().zip(&self.table_sign).zip(&self.table_mask) {
                    *out = sign.wrapping_mul(mask >> (self.table_mask_bits - 1));
                }
            }
            Base::PiecePower(k) => {
                self.power(k.into(), out);
                column::multiply(out, &self.sigma);
            }
            Base::PieceConstant(e) => {
                let mut power = Zeroizing::new(ZERO);
                out.fill(0);
                for (j, mask) in self.coefficient_masks.iter().enumerate().skip(e.into()) {
                    self.power(j - usize::from(e), &mut power);
                    column::add_product(out, &power, mask, binomial(j, e.into()));
                }
                column::multiply(out, &self.sigma);
            }
        }
    }

    /// (-r)^k.
    #[inline(always)]
    fn power(&self, k: usize, out: &mut Column) {
        out.fill(1);
        for _ in 0..k {
            column::multiply(out, &self.minus_r);
        }
    }
}

/// Turns the seeded side's shares of a strip's ring elements into the explicit side's.
struct Subtract<'a> {
    strip: &'a Strip,
    elements: &'a [Element],
    columns: &'a mut [Column],
}

impl Vectorised for Subtract<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let mut value = Zeroizing::new(ZERO);
        for (element, share) in self.elements.iter().zip(self.columns) {
            self.strip.base(element.base, &mut value);
            if let Some(gate) = element.gate {
                column::multiply(&mut value, &self.strip.omegas[gate]);
            }
            for (share, value) in share.iter_mut().zip(value.iter()) {
                *share = value.wrapping_sub(*share);
            }
        }
    }
}
