//! Dealer and parties for one element of a compiled specification, as plain arithmetic: the oracle of the fast backends.
//!
//! Exchange by exchange, a party's message is one number per segment. The opened value of a segment of w bits is the
//! sum of both parties' numbers mod 2^w. For one bit it is their exclusive or. [`deal`] and the interval arithmetic
//! branch on nothing secret.

mod deal;

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::compile::{Base, Comparison, CompiledSpec, Part, Switch};
use super::dpf::{Block, DpfKey, TreePrg};
use crate::ring::{Ring, WIRE};
use crate::{Party, layout::Segment};
pub use deal::deal;

/// Where randomness comes from: fills a buffer.
pub trait Entropy {
    /// Overwrites all of `out`.
    fn fill(&mut self, out: &mut [u8]);

    /// A uniform number of `bits` <= 64 bits.
    fn bits(&mut self, bits: u8) -> u64 {
        let mut out = [0; 8];
        self.fill(&mut out);
        if bits == 0 { 0 } else { u64::from_le_bytes(out) >> (64 - bits) }
    }
}

impl<F: FnMut(&mut [u8])> Entropy for F {
    fn fill(&mut self, out: &mut [u8]) {
        self(out);
    }
}

/// One party's key of one element.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key {
    #[zeroize(skip)]
    party: Party,
    /// Share of the input's mask.
    r_in: u64,
    /// Share of the output's mask.
    r_out: u64,
    /// This party's part of the masks of the comparisons, 0 or 1 each.
    comparison_masks: Vec<u64>,
    table_mask: u64,
    sign_mask: u64,
    coefficient_masks: Vec<u64>,
    top_bit: u64,
    tree: Option<DpfKey>,
    low_tree: Option<DpfKey>,
    /// Per gate; empty for opened ones.
    helper_tables: Vec<Vec<u64>>,
    elements: Vec<u64>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}, {} elements)", self.party, self.elements.len())
    }
}

impl Key {
    /// Share of the input's mask.
    #[must_use]
    pub fn r_in(&self) -> u64 {
        self.r_in
    }

    /// Share of the output's mask.
    #[must_use]
    pub fn r_out(&self) -> u64 {
        self.r_out
    }

    /// The bytes of a part of the key, as a chunk of one element lays them out; empty for what a party does not hold.
    #[must_use]
    pub fn bytes(&self, spec: &CompiledSpec, part: Part) -> Vec<u8> {
        let planes = |bits: &[u64]| bits.iter().map(|&bit| bit as u8).collect();
        let numbers = |values: &[u64], len: usize| -> Vec<u8> {
            values.iter().flat_map(|v| v.to_le_bytes().into_iter().take(len)).collect()
        };
        let blocks = |values: &[Block]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
        let of = |tree: &Option<DpfKey>, take: fn(&DpfKey) -> Vec<Block>| {
            tree.as_ref().map_or_else(Vec::new, |tree| blocks(&take(tree)))
        };
        let root = |tree: &DpfKey| vec![tree.root()];
        let nodes = |tree: &DpfKey| tree.corrections().nodes.clone();
        let leaf = |tree: &DpfKey| vec![tree.corrections().leaf];
        match part {
            Part::ComparisonMasks => planes(&self.comparison_masks),
            Part::TableMask => {
                let bits = spec.table().map_or(0, |table| table.mask_bits);
                numbers(&[self.table_mask], usize::from(bits.div_ceil(8)))
            }
            Part::SignMask => planes(&[self.sign_mask]),
            Part::CoefficientMasks => numbers(&self.coefficient_masks, 6),
            Part::TopBit => planes(&[self.top_bit]),
            Part::Root => of(&self.tree, root),
            Part::NodeCorrections => of(&self.tree, nodes),
            Part::LeafCorrection => of(&self.tree, leaf),
            Part::LowRoot => of(&self.low_tree, root),
            Part::LowNodeCorrections => of(&self.low_tree, nodes),
            Part::LowLeafCorrection => of(&self.low_tree, leaf),
            Part::HelperTable(gate) => planes(&self.helper_tables[gate]),
            Part::HelperMasks => Vec::new(),
            Part::Elements => numbers(&self.elements, 6),
        }
    }
}

/// The sum mod 2^w of both parties' numbers, segment by segment.
#[must_use]
pub fn open(segments: &[Segment], messages: [&[u64]; 2]) -> Vec<u64> {
    let sums = messages[0].iter().zip(messages[1]).map(|(a, b)| a.wrapping_add(*b));
    segments.iter().zip(sums).map(|(segment, sum)| Ring::new(segment.bits).reduce(sum)).collect()
}

/// One party's evaluation of one element.
#[derive(Debug)]
pub struct Eval<'a, P> {
    spec: &'a CompiledSpec,
    prg: &'a P,
    key: &'a Key,
    x_hat: u64,
    exchanges: Vec<Vec<Segment>>,
    /// Opened values of the exchanges so far, those of an exchange that is not there left out.
    opened: Vec<Vec<u64>>,
}

impl<'a, P: TreePrg> Eval<'a, P> {
    /// Begins with the public masked input.
    #[must_use]
    pub fn new(spec: &'a CompiledSpec, prg: &'a P, key: &'a Key, x_hat: u64) -> Self {
        let exchanges = spec.exchanges();
        Self { spec, prg, key, x_hat: WIRE.reduce(x_hat), exchanges, opened: Vec::new() }
    }

    /// The next exchange's message, one number per segment.
    ///
    /// # Panics
    /// When called after the last exchange: the specification has [`CompiledSpec::exchanges`].
    #[must_use]
    pub fn message(&self) -> Vec<u64> {
        let segments = &self.exchanges[self.opened.len()];
        let values = match segments[0].name {
            "y_hat" => vec![self.output()],
            "helper" => self.helpers(),
            _ => self.lookups(),
        };
        segments.iter().zip(values).map(|(segment, value)| Ring::new(segment.bits).reduce(value)).collect()
    }

    /// Takes the opened values of the exchange whose message was sent.
    pub fn receive(&mut self, opened: Vec<u64>) {
        self.opened.push(opened);
    }

    /// The first exchange: masked comparisons, table entry, sign and coefficients.
    fn lookups(&self) -> Vec<u64> {
        let spec = self.spec;
        let mut out: Vec<u64> = spec
            .comparisons()
            .iter()
            .zip(&self.key.comparison_masks)
            .map(|(comparison, mask)| {
                mask ^ match comparison {
                    Comparison::Below(threshold) => self.below(*threshold),
                    Comparison::LowBelow(bound) => self.low_below(*bound),
                }
            })
            .collect();
        if let Some(table) = spec.table() {
            let v = self.rounded();
            let tree = self.tree();
            let sum = (table.start..).zip(&table.values).fold(0_u64, |sum, (t, &entry)| {
                let leaf =
                    tree.leaf(self.prg, low(v.wrapping_sub(t.cast_unsigned()), spec.domain_bits() - 1));
                sum.wrapping_add(leaf.wrapping_mul(i64::from(entry).cast_unsigned()))
            });
            out.push(self.signed_share(sum).wrapping_add(self.key.table_mask));
        }
        if let Some(pieces) = spec.pieces() {
            // C' at every cut, with the top bit; 0 before the first, 1 after the last.
            let cuts = pieces.cuts.iter().map(|&cut| self.below(cut) ^ self.key.top_bit);
            let ends: Vec<u64> = std::iter::once(0).chain(cuts).chain([self.one_bit()]).collect();
            let hot: Vec<u64> = ends.windows(2).map(|pair| pair[0] ^ pair[1]).collect();
            // The counts of set bits of the two parties differ by +1 or -1; see `sign_share`.
            out.push(sign_share(self.key.party, hot.iter().sum()) ^ self.key.sign_mask);
            out.extend(self.key.coefficient_masks.iter().enumerate().map(|(j, mask)| {
                let active = hot.iter().zip(&pieces.polynomials).fold(0_u64, |sum, (bit, polynomial)| {
                    sum.wrapping_add(bit.wrapping_mul(polynomial[j].cast_unsigned()))
                });
                self.signed_share(active).wrapping_add(*mask)
            }));
        }
        out
    }

    /// The second exchange: rows of the one-time truth tables.
    fn helpers(&self) -> Vec<u64> {
        let row = |inputs: &[usize]| {
            inputs.iter().enumerate().fold(0, |row, (i, &input)| row | (self.opened[0][input] as usize) << i)
        };
        let gates = self.spec.gates().iter().zip(&self.key.helper_tables);
        gates
            .filter_map(|(gate, table)| match gate {
                Switch::Opened(_) => None,
                Switch::Helper { inputs, .. } => Some(table[row(inputs)]),
            })
            .collect()
    }

    /// The last exchange: this party's share of y + r_out.
    fn output(&self) -> u64 {
        let spec = self.spec;
        let mut helper = 0;
        let gate_bits: Vec<u64> = spec
            .gates()
            .iter()
            .map(|gate| match gate {
                Switch::Opened(comparison) => self.opened[0][*comparison],
                Switch::Helper { .. } => {
                    helper += 1;
                    self.opened[1][helper - 1]
                }
            })
            .collect();
        let first_table = spec.comparisons().len();
        let first_piece = first_table + usize::from(spec.table().is_some());
        spec.outputs().iter().fold(self.key.r_out, |sum, output| {
            let share = |base| self.weighted(output.gate.map(|gate| (gate, gate_bits[gate])), base);
            let degree = output.fixed.len();
            let coefficients: Vec<u64> = output.fixed.iter().map(|c| c.cast_unsigned()).collect();
            let fixed = shifted(self.x_hat, &coefficients, |k| share(Base::Power(k)), |_| 0);
            let sum = if degree == 0 { sum } else { sum.wrapping_add(fixed) };
            let sum = match spec.table().filter(|_| output.table != 0) {
                None => sum,
                Some(table) => {
                    let k = table.mask_bits;
                    // m' = entry + 2^(k-2) + a mod 2^k. The sum wrapped if and only if a's top bit was set and m' has
                    // none.
                    let m = low(self.opened[0][first_table].wrapping_add(1 << (k - 2)), k);
                    let entry = m.wrapping_sub(1 << (k - 2)).wrapping_mul(share(Base::TableSign));
                    let carry = ((m >> (k - 1) ^ 1) << k).wrapping_mul(share(Base::TableCarry));
                    let entry = entry.wrapping_sub(share(Base::TableMask)).wrapping_add(carry);
                    sum.wrapping_add(entry.wrapping_mul(output.table.cast_unsigned()))
                }
            };
            match spec.pieces().filter(|_| output.pieces != 0) {
                None => sum,
                Some(pieces) => {
                    let sign = signed(self.opened[0][first_piece]);
                    let coefficients = &self.opened[0][first_piece + 1..first_piece + 2 + pieces.degree()];
                    let value = shifted(
                        self.x_hat,
                        coefficients,
                        |k| share(Base::PiecePower(k)),
                        |e| share(Base::PieceConstant(e)),
                    );
                    let factor = sign.wrapping_mul(output.pieces.cast_unsigned());
                    sum.wrapping_add(value.wrapping_mul(factor))
                }
            }
        })
    }

    /// Share of the gate's bit times the base: omega where the masked bit is 0, 1 - omega where it is 1.
    fn weighted(&self, gate: Option<(usize, u64)>, base: Base) -> u64 {
        match gate {
            None => self.base(base),
            Some((gate, bit)) => {
                let gated = self.element(Some(gate), base);
                if bit == 0 { gated } else { self.base(base).wrapping_sub(gated) }
            }
        }
    }

    fn base(&self, base: Base) -> u64 {
        match base {
            Base::Power(0) => self.one_bit(),
            Base::Power(1) => self.key.r_in.wrapping_neg(),
            _ => self.element(None, base),
        }
    }

    fn element(&self, gate: Option<usize>, base: Base) -> u64 {
        let index = self.spec.elements().iter().position(|e| e.gate == gate && e.base == base);
        // The compiler lists an element for every base of every output.
        self.key.elements[index.expect("the compiler listed it")]
    }

    /// XOR share of 1\[t < threshold\] xor the top bit of the rounded mask rho. Let u = v - threshold. Then t -
    /// threshold = u - rho is negative when msb(u) xor msb(rho) xor borrow. On the N - 1 low bits borrow = 1\[u < rho\]
    /// = not 1\[rho < u + 1\].
    fn below(&self, threshold: i64) -> u64 {
        let bits = self.spec.domain_bits();
        let u = low(self.rounded().wrapping_sub(threshold.cast_unsigned()), bits);
        let not_borrow = self.tree().below(self.prg, low(u, bits - 1) + 1);
        not_borrow ^ (self.one_bit() & (1 ^ u >> (bits - 1)))
    }

    /// XOR share of 1\[(x mod 2^f) < bound\]: with u = x_hat mod 2^f, the mask lies in the cyclic interval (u - bound, u].
    fn low_below(&self, bound: u64) -> u64 {
        let bits = self.spec.low_bits();
        let u = low(self.x_hat, bits);
        let tree = self.key.low_tree.as_ref().expect("a low comparison has its tree");
        let wraps = u64::from(u < bound);
        tree.below(self.prg, u + 1)
            ^ tree.below(self.prg, low(u.wrapping_sub(bound), bits) + 1)
            ^ (self.one_bit() & wraps)
    }

    /// v: the public input on the grid, N bits.
    fn rounded(&self) -> u64 {
        low(self.x_hat >> self.spec.grid(), self.spec.domain_bits())
    }

    fn tree(&self) -> &DpfKey {
        self.key.tree.as_ref().expect("a comparison or lookup has its tree")
    }

    /// This party's share of the public 1.
    fn one_bit(&self) -> u64 {
        u64::from(self.key.party == Party::P0)
    }

    /// Party 1 negates, so that equal bits cancel in the sum.
    fn signed_share(&self, sum: u64) -> u64 {
        signed(self.one_bit()).wrapping_mul(sum)
    }
}

/// XOR share of 1\[n_0 = n_1 + 1\] from this party's n, where n_0 and n_1 differ by one. Let p_b and u_b be the lowest
/// bit of n_b and the bit above it. Then n_0 = n_1 + 1 exactly when u_0 xor u_1 xor p_0. For p_0 = 0 the carry into the
/// second bit differs, for p_0 = 1 it does not.
fn sign_share(party: Party, n: u64) -> u64 {
    let (p, u) = (n & 1, n >> 1 & 1);
    match party {
        Party::P0 => p ^ u,
        Party::P1 => u,
    }
}

/// Sum over e of x_hat^e * (sum over j >= e of c_j * binomial(j, e) * power(j - e) - constant(e)). This is the
/// polynomial c at x = x_hat - r, from shares of the powers of -r.
fn shifted(x_hat: u64, c: &[u64], power: impl Fn(u8) -> u64, constant: impl Fn(u8) -> u64) -> u64 {
    (0..c.len() as u8).rev().fold(0, |sum, e| {
        let inner = (0_u8..).zip(c).skip(usize::from(e)).fold(0_u64, |inner, (j, c)| {
            inner.wrapping_add(c.wrapping_mul(binomial(j, e)).wrapping_mul(power(j - e)))
        });
        sum.wrapping_mul(x_hat).wrapping_add(inner).wrapping_sub(constant(e))
    })
}

/// The binomial coefficient of small numbers.
fn binomial(n: u8, k: u8) -> u64 {
    (0..u64::from(k)).fold(1, |product, i| product * (u64::from(n) - i) / (i + 1))
}

/// +1 for 1, -1 for 0.
fn signed(bit: u64) -> u64 {
    bit.wrapping_mul(2).wrapping_sub(1)
}

/// The low bits of a number.
fn low(v: u64, bits: u8) -> u64 {
    v & ((1 << bits) - 1)
}

#[cfg(test)]
mod tests;
