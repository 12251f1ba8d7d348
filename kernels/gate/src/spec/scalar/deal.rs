//! The dealer's half: both parties' keys of one element.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{Entropy, Key, binomial, low, signed};
use crate::Party;
use crate::ring::WIRE;
use crate::spec::compile::{Base, Comparison, CompiledSpec, Switch};
use crate::spec::dpf::{self, Block, TreePrg};

/// Makes both parties' keys for the input mask `r_in` and the output mask `r_out`.
#[must_use]
pub fn deal(
    spec: &CompiledSpec,
    prg: &impl TreePrg,
    r_in: u64,
    r_out: u64,
    entropy: &mut impl Entropy,
) -> [Key; 2] {
    let rho = low(WIRE.reduce(r_in) >> spec.grid(), spec.domain_bits());
    let top = rho >> (spec.domain_bits() - 1);
    let mut tree = |on: bool, bits, alpha| {
        let mut root = || Block::from(entropy.bits(64)) << 64 | Block::from(entropy.bits(64));
        on.then(|| dpf::deal(prg, bits, alpha, [root(), root()]))
    };
    let bits = spec.domain_bits() - 1;
    let main = tree(spec.has_tree(), bits, low(rho, bits));
    let low_tree = tree(spec.has_low_tree(), spec.low_bits(), low(r_in, spec.low_bits()));

    let mut own = |bits: u8| [entropy.bits(bits), entropy.bits(bits)];
    let comparison_masks: Vec<[u64; 2]> = spec.comparisons().iter().map(|_| own(1)).collect();
    let table_mask = own(spec.table().map_or(0, |table| table.mask_bits));
    let sign_mask = own(u8::from(spec.pieces().is_some()));
    let coefficient_masks: Vec<[u64; 2]> =
        spec.pieces().map_or(0..0, |pieces| 0..pieces.degree() + 1).map(|_| own(WIRE.bits())).collect();

    // Comparisons come out of the tree without the top bit of the mask: it joins the bit's mask here.
    let masks: Vec<u64> = spec
        .comparisons()
        .iter()
        .zip(&comparison_masks)
        .map(|(comparison, mask)| match comparison {
            Comparison::Below(_) => mask[0] ^ mask[1] ^ top,
            Comparison::LowBelow(_) => mask[0] ^ mask[1],
        })
        .collect();
    let (omegas, helper_tables): (Vec<u64>, Vec<[Vec<u64>; 2]>) = spec
        .gates()
        .iter()
        .map(|gate| match gate {
            Switch::Opened(comparison) => (masks[*comparison], [Vec::new(), Vec::new()]),
            Switch::Helper { inputs, truth } => {
                let omega = entropy.bits(1);
                let input_masks: Vec<u64> = inputs.iter().map(|&i| masks[i]).collect();
                let rows = masked_rows(truth, &input_masks);
                let share: Vec<u64> = rows.iter().map(|_| entropy.bits(1)).collect();
                let other = rows.iter().zip(&share).map(|(row, share)| row ^ omega ^ share).collect();
                (omega, [share, other])
            }
        })
        .unzip();

    let known = Known {
        minus_r: WIRE.sub(0, r_in),
        table_sign: main.as_ref().map_or(0, |(_, leaf_0)| signed(*leaf_0)),
        table_mask: low(table_mask[0].wrapping_add(table_mask[1]), spec.table().map_or(0, |t| t.mask_bits)),
        table_mask_bits: spec.table().map_or(1, |t| t.mask_bits),
        sigma: signed(sign_mask[0] ^ sign_mask[1] ^ 1),
        coefficient_masks: coefficient_masks.iter().map(|mask| WIRE.add(mask[0], mask[1])).collect(),
    };
    let elements: Vec<[u64; 2]> = spec
        .elements()
        .iter()
        .map(|element| {
            let omega = element.gate.map_or(1, |gate| omegas[gate]);
            split(omega.wrapping_mul(known.base(element.base)), entropy)
        })
        .collect();
    let (r_in, r_out) = (split(r_in, entropy), split(r_out, entropy));
    let top_bit = entropy.bits(u8::from(spec.pieces().is_some()));
    let top_bits = [top_bit, if spec.pieces().is_some() { top_bit ^ top } else { 0 }];

    [Party::P0, Party::P1].map(|party| {
        let b = party.index();
        Key {
            party,
            r_in: r_in[b],
            r_out: r_out[b],
            comparison_masks: comparison_masks.iter().map(|mask| mask[b]).collect(),
            table_mask: table_mask[b],
            sign_mask: sign_mask[b],
            coefficient_masks: coefficient_masks.iter().map(|mask| mask[b]).collect(),
            top_bit: top_bits[b],
            tree: main.as_ref().map(|(keys, _)| keys[b].clone()),
            low_tree: low_tree.as_ref().map(|(keys, _)| keys[b].clone()),
            helper_tables: helper_tables.iter().map(|tables| tables[b].clone()).collect(),
            elements: elements.iter().map(|element| element[b]).collect(),
        }
    })
}

/// What the dealer knows of one element.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Known {
    minus_r: u64,
    table_sign: u64,
    table_mask: u64,
    table_mask_bits: u8,
    sigma: u64,
    coefficient_masks: Vec<u64>,
}

impl Known {
    fn base(&self, base: Base) -> u64 {
        let power = |k: u8| (0..k).fold(1_u64, |p, _| p.wrapping_mul(self.minus_r));
        match base {
            Base::Power(k) => power(k),
            Base::TableSign => self.table_sign,
            Base::TableMask => self.table_sign.wrapping_mul(self.table_mask),
            Base::TableCarry => self.table_sign.wrapping_mul(self.table_mask >> (self.table_mask_bits - 1)),
            Base::PiecePower(k) => self.sigma.wrapping_mul(power(k)),
            Base::PieceConstant(e) => {
                let masks = (0_u8..).zip(&self.coefficient_masks).skip(usize::from(e));
                let sum = masks.fold(0_u64, |sum, (j, mask)| {
                    sum.wrapping_add(binomial(j, e).wrapping_mul(*mask).wrapping_mul(power(j - e)))
                });
                self.sigma.wrapping_mul(sum)
            }
        }
    }
}

/// The truth table re-indexed by masked inputs: row i is the plain row i xor masks. Swapping halves bit by bit
/// touches every row whatever the masks are.
pub(super) fn masked_rows(truth: &[bool], masks: &[u64]) -> Vec<u64> {
    let mut rows: Vec<u64> = truth.iter().map(|&bit| u64::from(bit)).collect();
    for (i, mask) in masks.iter().enumerate() {
        for low in 0..rows.len() {
            let high = low | 1 << i;
            if low != high {
                let swap = (rows[low] ^ rows[high]) & mask;
                rows[low] ^= swap;
                rows[high] ^= swap;
            }
        }
    }
    rows
}

/// Additive shares in the wire's ring.
fn split(v: u64, entropy: &mut impl Entropy) -> [u64; 2] {
    let share = entropy.bits(WIRE.bits());
    [share, WIRE.sub(v, share)]
}
