//! From a specification to a shape: key fields, exchanges and the sums that each party forms, as plain data.
//!
//! 1. A helper is reduced to the comparisons across which it changes. One that never changes disappears. One that is
//!    constant on the table's window does not gate the table. A negation becomes "always, minus".
//! 2. A helper of one comparison is opened as that comparison's masked bit. Any other is a one-time truth table over
//!    the masked bits of its comparisons. All of them together cost one exchange more.
//! 3. Pieces become polynomials gated by their cuts' comparisons, or a vector lookup. In a lookup one-hot interval bits
//!    from the same tree give the active coefficients up to a sign. The cheaper of the two is taken.
//!
//! Nothing here depends on a mask: two keys of one specification have the same length.

use super::sums::{Sum, Sums};
use super::{Spec, SpecError, SpecParts, dpf};
use crate::cost::Cost;
use crate::gate::fit_messages;
use crate::layout::{Field, FieldId, KeyShape, Segment, Side, Source, Width};
use crate::ring::WIRE;

/// Most comparisons that one helper may depend on: 2^8 rows of truth table per element.
pub const MAX_HELPER_INPUTS: usize = 8;

/// A comparison whose masked result is opened in the first exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// t < threshold, on grid points.
    Below(i64),
    /// (x mod 2^f) < bound, on exact inputs.
    LowBelow(u64),
}

/// A bit that switches terms: known to the parties under a mask omega that only the dealer knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Switch {
    /// The masked comparison of that index.
    Opened(usize),
    /// A one-time truth table.
    Helper {
        /// Indices of its comparisons; bit i of a row's index is the i-th of them.
        inputs: Vec<usize>,
        /// The plain table.
        truth: Vec<bool>,
    },
}

/// A number that the dealer knows and of which terms are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Base {
    /// (-r)^k.
    Power(u8),
    /// s: the sign of the table's entry, +1 or -1.
    TableSign,
    /// s * a, with a the mask of the entry.
    TableMask,
    /// s * msb(a).
    TableCarry,
    /// sigma * (-r)^k, with sigma = 1 - 2 * the mask of the pieces' sign bit.
    PiecePower(u8),
    /// sigma * the part of x_hat^e's coefficient that the coefficients' masks make.
    PieceConstant(u8),
}

/// One shared ring element: the base, or omega times the base for a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Element {
    /// Index of the gate; none: the base itself.
    pub gate: Option<usize>,
    /// The factor next to omega.
    pub base: Base,
}

/// What one gate switches; the output is the sum of all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Index of the gate; none: always on.
    pub gate: Option<usize>,
    /// A polynomial in x, constant first; empty for none.
    pub fixed: Vec<i64>,
    /// Factor of the active piece.
    pub pieces: i64,
    /// Factor of the table's entry.
    pub table: i64,
}

/// The table's lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableLookup {
    /// First grid point.
    pub start: i64,
    /// Its entries.
    pub values: Vec<i32>,
    /// k: the width in which an entry is opened.
    pub mask_bits: u8,
}

/// The pieces' lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceLookup {
    /// Grid points where the next piece begins.
    pub cuts: Vec<i64>,
    /// Coefficients, padded to one degree.
    pub polynomials: Vec<Vec<i64>>,
}

impl PieceLookup {
    /// d, the degree to which all pieces are padded.
    #[must_use]
    pub fn degree(&self) -> usize {
        self.polynomials[0].len() - 1
    }
}

/// What a key field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Masks of the opened comparisons, one plane each.
    ComparisonMasks,
    /// Mask a of the table's entry.
    TableMask,
    /// Mask of the pieces' sign bit.
    SignMask,
    /// Masks of the pieces' coefficients, 6 bytes each.
    CoefficientMasks,
    /// XOR share of the top bit of the rounded mask, for interval bits that are not opened.
    TopBit,
    /// Root of the tree at the low N - 1 bits of the rounded mask.
    Root,
    /// Its correction words, from the root down.
    NodeCorrections,
    /// The correction of its leaf block.
    LeafCorrection,
    /// Root of the tree at r mod 2^f.
    LowRoot,
    /// Its correction words.
    LowNodeCorrections,
    /// The correction of its leaf block.
    LowLeafCorrection,
    /// XOR share of the truth table of the helper gate of that index, one plane per row.
    HelperTable(usize),
    /// The dealer's masks of the helpers, one plane each.
    HelperMasks,
    /// The ring elements, 6 bytes each.
    Elements,
}

/// A compiled specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledSpec {
    domain_bits: u8,
    grid: u8,
    low_bits: u8,
    comparisons: Vec<Comparison>,
    gates: Vec<Switch>,
    table: Option<TableLookup>,
    pieces: Option<PieceLookup>,
    outputs: Vec<Output>,
    elements: Vec<Element>,
    parts: Vec<(Part, Field)>,
}

impl CompiledSpec {
    /// Compiles.
    ///
    /// # Errors
    /// [`SpecError::TooManyInputs`] and [`SpecError::TooMuchWork`].
    pub fn new(spec: &Spec) -> Result<Self, SpecError> {
        let parts = spec.parts();
        let sums = Sums::of(parts)?;
        let lookup = Self::assemble(parts, sums.clone());
        let traffic = |compiled: &Self| {
            let cost = compiled.cost();
            cost.seeded_key_bits + cost.explicit_key_bits + 2 * cost.bits
        };
        // Many cuts are many opened bits, more than a message has room for.
        let fits = |compiled: &Self| fit_messages(&compiled.key_shape(), &compiled.exchanges()).is_ok();
        let gated = sums.pieces_as_gates(parts).map(|sums| Self::assemble(parts, sums));
        let gated = gated.filter(|gated| fits(gated) && traffic(gated) <= traffic(&lookup));
        Ok(gated.unwrap_or(lookup))
    }

    /// N.
    #[must_use]
    pub fn domain_bits(&self) -> u8 {
        self.domain_bits
    }

    /// Bits that rounding drops.
    #[must_use]
    pub fn grid(&self) -> u8 {
        self.grid
    }

    /// f of the low comparisons.
    #[must_use]
    pub fn low_bits(&self) -> u8 {
        self.low_bits
    }

    /// The opened comparisons.
    #[must_use]
    pub fn comparisons(&self) -> &[Comparison] {
        &self.comparisons
    }

    /// The gates.
    #[must_use]
    pub fn gates(&self) -> &[Switch] {
        &self.gates
    }

    /// The table's lookup, if it is used.
    #[must_use]
    pub fn table(&self) -> Option<&TableLookup> {
        self.table.as_ref()
    }

    /// The pieces' lookup, if it is used.
    #[must_use]
    pub fn pieces(&self) -> Option<&PieceLookup> {
        self.pieces.as_ref()
    }

    /// The summands of the output.
    #[must_use]
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// The shared ring elements, in the order of their field.
    #[must_use]
    pub fn elements(&self) -> &[Element] {
        &self.elements
    }

    /// Number of helper gates: the width of the second exchange.
    #[must_use]
    pub fn helper_count(&self) -> usize {
        self.gates.iter().filter(|gate| matches!(gate, Switch::Helper { .. })).count()
    }

    /// Whether the tree at the rounded mask is there.
    #[must_use]
    pub fn has_tree(&self) -> bool {
        self.table.is_some()
            || self.pieces.is_some()
            || self.comparisons.iter().any(|c| matches!(c, Comparison::Below(_)))
    }

    /// Whether the tree at r mod 2^f is there.
    #[must_use]
    pub fn has_low_tree(&self) -> bool {
        self.comparisons.iter().any(|c| matches!(c, Comparison::LowBelow(_)))
    }

    /// The key fields after the two wire masks: what each holds, and its field.
    #[must_use]
    pub fn parts(&self) -> &[(Part, Field)] {
        &self.parts
    }

    /// The field that holds `part`.
    #[must_use]
    pub fn field(&self, part: Part) -> Option<FieldId> {
        // Fields 0 and 1 are the wire's masks; a gate has fewer than 2^16 fields.
        self.parts.iter().position(|(other, _)| *other == part).map(|i| FieldId(i as u16))
    }

    /// The key's fields.
    #[must_use]
    pub fn key_shape(&self) -> KeyShape {
        KeyShape::new(false, self.parts.iter().map(|(_, field)| field.clone()))
    }

    /// The exchanges, in order. The first opens comparisons, the table's entry, the pieces' sign bit and coefficients; the second, if
    /// there are helpers, those; the last y_hat.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Vec<Segment>> {
        let mut first: Vec<_> = self.comparisons.iter().map(|_| Segment::new("comparison", 1)).collect();
        first.extend(self.table.iter().map(|table| Segment::new("table", table.mask_bits)));
        if let Some(pieces) = &self.pieces {
            first.push(Segment::new("sign", 1));
            first.extend(pieces.polynomials[0].iter().map(|_| Segment::new("coefficient", WIRE.bits())));
        }
        let second = vec![Segment::new("helper", 1); self.helper_count()];
        let last = vec![Segment::new("y_hat", WIRE.bits())];
        [first, second, last].into_iter().filter(|exchange| !exchange.is_empty()).collect()
    }

    /// The declared cost.
    #[must_use]
    pub fn cost(&self) -> Cost {
        let (key, exchanges) = (self.key_shape(), self.exchanges());
        Cost {
            // Three exchanges at most.
            rounds: exchanges.len() as u8,
            bits: exchanges.iter().flatten().map(|segment| u32::from(segment.bits)).sum(),
            seeded_key_bits: key.bits_per_elem(Side::Seeded),
            explicit_key_bits: key.bits_per_elem(Side::Explicit),
        }
    }

    fn assemble(parts: &SpecParts, sums: Sums) -> Self {
        let comparisons = sums.comparisons(parts.grid);
        let index = |wanted| comparisons.iter().position(|c| *c == wanted);
        let gates: Vec<Switch> = sums
            .gated
            .iter()
            .map(|(regions, _)| {
                let below = regions.thresholds.iter().map(|&x| Comparison::Below(x >> parts.grid));
                let low = regions.lows.iter().map(|&bound| Comparison::LowBelow(bound));
                let inputs: Vec<usize> = below.chain(low).filter_map(index).collect();
                match inputs[..] {
                    // Normalised to be false where the comparison is: it is the comparison.
                    [only] => Switch::Opened(only),
                    _ => Switch::Helper { inputs, truth: regions.truth_table() },
                }
            })
            .collect();
        let outputs: Vec<Output> = std::iter::once(sums.always.output(None))
            .chain(sums.gated.iter().enumerate().map(|(g, (_, sum))| sum.output(Some(g))))
            .filter(|output| output.gate.is_some() || *output != Sum::default().output(None))
            .collect();
        let table = parts.table.as_ref().filter(|_| outputs.iter().any(|o| o.table != 0)).map(|table| {
            let largest = table.values.iter().map(|v| v.unsigned_abs()).max().unwrap_or(0);
            // As in a curve: every |entry| < 2^(k - 2).
            let mask_bits = (u32::BITS - largest.leading_zeros()) as u8 + 2;
            TableLookup { start: table.start >> parts.grid, values: table.values.clone(), mask_bits }
        });
        let pieces = parts.pieces.as_ref().filter(|_| outputs.iter().any(|o| o.pieces != 0)).map(|pieces| {
            let width = pieces.polynomials.iter().map(Vec::len).max().unwrap_or(1);
            let pad = |p: &Vec<i64>| p.iter().copied().chain(std::iter::repeat(0)).take(width).collect();
            PieceLookup {
                cuts: pieces.cuts.iter().map(|cut| cut >> parts.grid).collect(),
                polynomials: pieces.polynomials.iter().map(pad).collect(),
            }
        });
        let mut compiled = Self {
            domain_bits: parts.domain_bits,
            grid: parts.grid,
            low_bits: parts.low_bits,
            comparisons,
            gates,
            elements: elements(&outputs, pieces.as_ref()),
            table,
            pieces,
            outputs,
            parts: Vec::new(),
        };
        compiled.parts = compiled.lay_out();
        compiled
    }

    fn lay_out(&self) -> Vec<(Part, Field)> {
        let mut out = Vec::new();
        let mut add = |part, name, source, width| out.push((part, Field::new(name, source, width)));
        // Every count is bounded by the limits on specifications, far below 2^16.
        if !self.comparisons.is_empty() {
            let width = Width::Planes(self.comparisons.len() as u16);
            add(Part::ComparisonMasks, "comparison_masks", Source::Own, width);
        }
        if let Some(table) = &self.table {
            let width = Width::Bytes(u16::from(table.mask_bits.div_ceil(8)));
            add(Part::TableMask, "table_mask", Source::Own, width);
        }
        if let Some(pieces) = &self.pieces {
            add(Part::SignMask, "sign_mask", Source::Own, Width::Planes(1));
            let width = Width::Bytes(6 * (pieces.degree() as u16 + 1));
            add(Part::CoefficientMasks, "coefficient_masks", Source::Own, width);
            add(Part::TopBit, "top_bit", Source::Shared, Width::Planes(1));
        }
        let nodes = |bits| Width::Bytes(16 * u16::from(dpf::levels(bits)));
        if self.has_tree() {
            add(Part::Root, "root", Source::Own, Width::Bytes(16));
            add(Part::NodeCorrections, "node_corrections", Source::Common, nodes(self.domain_bits - 1));
            add(Part::LeafCorrection, "leaf_correction", Source::Common, Width::Bytes(16));
        }
        if self.has_low_tree() {
            add(Part::LowRoot, "low_root", Source::Own, Width::Bytes(16));
            add(Part::LowNodeCorrections, "low_node_corrections", Source::Common, nodes(self.low_bits));
            add(Part::LowLeafCorrection, "low_leaf_correction", Source::Common, Width::Bytes(16));
        }
        for (g, gate) in self.gates.iter().enumerate() {
            if let Switch::Helper { truth, .. } = gate {
                add(Part::HelperTable(g), "helper_table", Source::Shared, Width::Planes(truth.len() as u16));
            }
        }
        if self.helper_count() > 0 {
            add(Part::HelperMasks, "helper_masks", Source::Dealer, Width::Planes(self.helper_count() as u16));
        }
        if !self.elements.is_empty() {
            add(Part::Elements, "elements", Source::Shared, Width::Bytes(6 * self.elements.len() as u16));
        }
        out
    }
}

/// The bases that an output needs under its gate, and hence also without it.
fn bases(output: &Output, pieces: Option<&PieceLookup>) -> Vec<Base> {
    let mut out: Vec<Base> = (0..output.fixed.len()).map(|k| Base::Power(k as u8)).collect();
    if output.table != 0 {
        out.extend([Base::TableSign, Base::TableMask, Base::TableCarry]);
    }
    if let Some(pieces) = pieces.filter(|_| output.pieces != 0) {
        let powers = 0..=pieces.degree() as u8;
        out.extend(powers.clone().map(Base::PiecePower));
        out.extend(powers.map(Base::PieceConstant));
    }
    out
}

fn elements(outputs: &[Output], pieces: Option<&PieceLookup>) -> Vec<Element> {
    let mut out: Vec<Element> = Vec::new();
    for base in outputs.iter().flat_map(|output| bases(output, pieces)) {
        let element = Element { gate: None, base };
        // 1 is public and -r is the wire's mask, of which everybody has a share.
        let known = matches!(base, Base::Power(0 | 1));
        if !known && !out.contains(&element) {
            out.push(element);
        }
    }
    for output in outputs.iter().filter(|output| output.gate.is_some()) {
        out.extend(bases(output, pieces).into_iter().map(|base| Element { gate: output.gate, base }));
    }
    out
}
