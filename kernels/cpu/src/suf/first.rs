//! The first exchange: masked comparisons, the table's entry, and the active piece's sign and coefficients.

use std::ops::Range;

use suf_gate::{
    Party,
    spec::{
        CompiledSpec,
        compile::{Comparison, Part, PieceLookup, TableLookup},
    },
};
use zeroize::Zeroizing;

use super::{
    column::{self, Column, ZERO},
    trees::{LowTree, MainTree, PLANE},
};
use crate::{
    columns,
    key::{FieldBytes, PACKED, PartKey, strips},
    lookup::Sums,
    pack,
    simd::{Level, Simd, Vectorised},
};

/// This party's message.
pub(super) fn share(spec: &CompiledSpec, key: &PartKey, x_hat: &[u64]) -> Vec<u8> {
    let (elems, party) = (x_hat.len(), key.job().party);
    let plane_bytes = elems.div_ceil(8);
    let mut message = vec![0; key.job().gate().message_bytes(0, elems)];
    let [comparisons, entries, sign, coefficients] = split_mut(spec, elems, &mut message);

    let mut main = spec.has_tree().then(|| MainTree::new(spec, key));
    let mut low = spec.has_low_tree().then(|| LowTree::new(spec, key));
    let mut table = spec.table().map(|table| EntryShares::new(spec, table, key));
    let mut pieces = spec.pieces().map(|pieces| PieceShares::new(spec, pieces, key));
    for range in strips(elems) {
        let x_hat = &x_hat[range.clone()];
        if let Some(main) = &mut main {
            main.visit(range.clone(), x_hat);
        }
        if let Some(low) = &mut low {
            low.visit(range.clone(), x_hat);
        }
        for (plane, comparison) in comparisons.chunks_exact_mut(plane_bytes).zip(spec.comparisons()) {
            let bits = match (comparison, &main, &low) {
                (Comparison::Below(threshold), Some(main), _) => main.below(*threshold),
                (Comparison::LowBelow(bound), _, Some(low)) => low.below(*bound),
                _ => unreachable!("a comparison has its tree"),
            };
            let plane = &mut plane[range.start / 8..][..range.len().div_ceil(8)];
            plane.copy_from_slice(&bits[..plane.len()]);
        }
        if let (Some(table), Some(main)) = (&mut table, &main) {
            table.share(range.clone(), main.sums(), entries);
        }
        if let (Some(pieces), Some(main)) = (&mut pieces, &main) {
            pieces.share(range, party, main, sign, coefficients);
        }
    }
    for (part, planes) in [(Part::ComparisonMasks, comparisons), (Part::SignMask, sign)] {
        if let Some(masks) = spec.field(part) {
            key.mask_planes(masks, planes);
        }
    }
    message
}

/// The parts of a whole message: comparisons, table entries, the sign of the active piece, its coefficients one after
/// another.
pub(super) fn split<'m>(spec: &CompiledSpec, elems: usize, message: &'m [u8]) -> [&'m [u8]; 4] {
    let [comparisons, entries, sign] = part_bytes(spec, elems);
    let (comparisons, rest) = message.split_at(comparisons);
    let (entries, rest) = rest.split_at(entries);
    let (sign, coefficients) = rest.split_at(sign);
    [comparisons, entries, sign, coefficients]
}

/// [`split`], to write to.
fn split_mut<'m>(spec: &CompiledSpec, elems: usize, message: &'m mut [u8]) -> [&'m mut [u8]; 4] {
    let [comparisons, entries, sign] = part_bytes(spec, elems);
    let (comparisons, rest) = message.split_at_mut(comparisons);
    let (entries, rest) = rest.split_at_mut(entries);
    let (sign, coefficients) = rest.split_at_mut(sign);
    [comparisons, entries, sign, coefficients]
}

/// Bytes of the message's parts but the last.
fn part_bytes(spec: &CompiledSpec, elems: usize) -> [usize; 3] {
    let plane_bytes = elems.div_ceil(8);
    let entries = spec.table().map_or(0, |table| pack::packed_bytes(table.mask_bits.into(), elems));
    [spec.comparisons().len() * plane_bytes, entries, spec.pieces().map_or(0, |_| plane_bytes)]
}

/// The table's entries under their masks.
struct EntryShares<'k> {
    masks: FieldBytes<'k>,
    mask_bits: u8,
    /// P1's sums are negated: where the two vectors agree, they cancel.
    negate: bool,
    scratch: Zeroizing<Vec<u8>>,
    entries: Zeroizing<Column>,
}

impl<'k> EntryShares<'k> {
    fn new(spec: &CompiledSpec, table: &TableLookup, key: &'k PartKey) -> Self {
        Self {
            masks: key.field(spec.field(Part::TableMask).expect("a table has its mask")),
            mask_bits: table.mask_bits,
            negate: key.job().party == Party::P1,
            scratch: Zeroizing::default(),
            entries: Zeroizing::new(ZERO),
        }
    }

    fn share(&mut self, range: Range<usize>, sums: &[Sums], packed: &mut [u8]) {
        let (n, width) = (range.len(), usize::from(self.mask_bits.div_ceil(8)));
        let masks = self.masks.read(range.start * width..range.end * width, &mut self.scratch);
        for ((entry, sums), mask) in self.entries.iter_mut().zip(sums).zip(masks.chunks_exact(width)) {
            let share = i64::from(sums.entries()).cast_unsigned();
            let share = if self.negate { share.wrapping_neg() } else { share };
            *entry = share.wrapping_add(mask_number(mask));
        }
        let bits = self.mask_bits.into();
        let place = range.start * usize::from(self.mask_bits) / 8;
        pack::pack(bits, &self.entries[..n], &mut packed[place..place + pack::packed_bytes(bits, n)]);
    }
}

/// A mask of a table's entry; the bits above the entry's width mean nothing.
pub(super) fn mask_number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The active piece's sign and coefficients under their masks.
struct PieceShares<'k> {
    level: Level,
    pieces: &'k PieceLookup,
    elems: usize,
    top_bits: Zeroizing<Vec<u8>>,
    masks: FieldBytes<'k>,
    scratch: Zeroizing<Vec<u8>>,
    count: Zeroizing<Column>,
    active: Zeroizing<Vec<Column>>,
    masked: Zeroizing<Vec<Column>>,
    ends: Zeroizing<Vec<[u8; PLANE]>>,
}

impl<'k> PieceShares<'k> {
    fn new(spec: &CompiledSpec, pieces: &'k PieceLookup, key: &'k PartKey) -> Self {
        let field = |part| key.field(spec.field(part).expect("pieces have their fields"));
        Self {
            level: key.level(),
            pieces,
            elems: key.elems(),
            top_bits: field(Part::TopBit).whole(),
            masks: field(Part::CoefficientMasks),
            scratch: Zeroizing::default(),
            count: Zeroizing::new(ZERO),
            active: Zeroizing::new(vec![ZERO; pieces.degree() + 1]),
            masked: Zeroizing::new(vec![ZERO; pieces.degree() + 1]),
            ends: Zeroizing::new(vec![[0; PLANE]; pieces.cuts.len() + 2]),
        }
    }

    fn share(
        &mut self,
        range: Range<usize>,
        party: Party,
        main: &MainTree<'_>,
        sign: &mut [u8],
        coefficients: &mut [u8],
    ) {
        let (n, bytes) = (range.len(), range.len().div_ceil(8));
        // 1[t < cut] at every cut; 0 before the first, 1 after the last.
        for (end, cut) in self.ends[1..].iter_mut().zip(&self.pieces.cuts) {
            *end = *main.below(*cut);
            pack::xor_into(&mut end[..bytes], &self.top_bits[range.start / 8..][..bytes]);
        }
        let last = self.ends.last_mut().expect("there are two ends at least");
        *last = [if party == Party::P0 { 0xFF } else { 0 }; PLANE];

        self.level.dispatch(Active {
            ends: &self.ends,
            polynomials: &self.pieces.polynomials,
            count: &mut self.count,
            active: &mut self.active,
        });

        for count in self.count.iter_mut() {
            // XOR share of 1[n_0 = n_1 + 1] for counts of set bits that differ by one.
            *count = if party == Party::P0 { *count ^ *count >> 1 } else { *count >> 1 };
        }
        column::xor_into_plane(&self.count, &mut sign[range.start / 8..][..bytes]);

        let width = self.active.len();
        let masks =
            self.masks.read(range.start * width * PACKED..range.end * width * PACKED, &mut self.scratch);
        columns::split(masks, &mut self.masked);
        let segments = coefficients.chunks_exact_mut(self.elems * PACKED);
        for ((active, masked), segment) in self.active.iter().zip(self.masked.iter_mut()).zip(segments) {
            let factor = if party == Party::P0 { 1 } else { 1_u64.wrapping_neg() };
            column::add_scaled(masked, active, factor);
            let place = range.start * PACKED..range.end * PACKED;
            pack::pack(PACKED as u32 * 8, &masked[..n], &mut segment[place]);
        }
    }
}

/// Inner products of the interval bits with the coefficients, and the number of set bits.
struct Active<'a> {
    ends: &'a [[u8; PLANE]],
    polynomials: &'a [Vec<i64>],
    count: &'a mut Column,
    active: &'a mut [Column],
}

impl Vectorised for Active<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.count.fill(0);
        self.active.fill(ZERO);
        let mut hot = Zeroizing::new(ZERO);
        for (pair, polynomial) in self.ends.windows(2).zip(self.polynomials) {
            let mut plane = pair[0];
            plane.iter_mut().zip(&pair[1]).for_each(|(a, b)| *a ^= b);
            column::from_plane(&plane, &mut hot);
            column::add_scaled(self.count, &hot, 1);
            for (active, coefficient) in self.active.iter_mut().zip(polynomial) {
                if *coefficient != 0 {
                    column::add_scaled(active, &hot, coefficient.cast_unsigned());
                }
            }
        }
    }
}
