//! The first exchange: masked comparisons, the table's entry, and the active piece's sign and coefficients.

use std::ops::Range;

use suf_gate::{
    Party,
    spec::{
        CompiledSpec,
        compile::{Comparison, Part, PieceLookup, TableLookup},
        dpf,
    },
};
use zeroize::Zeroizing;

use super::{
    column::{self, Column, ZERO},
    low,
};
use crate::{
    columns,
    key::{ChunkKey, FieldBytes, PACKED, TILE, tiles},
    lookup::{Lookup, Sums},
    pack,
    simd::{BLOCK_BYTES, Kernel, Level, Simd},
    tree::{LEAF_BITS, MAX_EXPANDED, RightBits, Tree, TreeKeys},
};

/// Bytes of a tile's plane.
const PLANE: usize = TILE / 8;

/// This party's message.
pub(super) fn share(spec: &CompiledSpec, key: &ChunkKey, x_hat: &[u64]) -> Vec<u8> {
    let (elems, party) = (x_hat.len(), key.job().party);
    let plane_bytes = elems.div_ceil(8);
    let mut message = vec![0; key.job().gate.message_bytes(0, elems)];
    let [comparisons, entries, sign, coefficients] = split(spec, elems, &mut message);

    let mut main = spec.has_tree().then(|| MainTree::new(spec, key));
    let mut low = spec.has_low_tree().then(|| LowTree::new(spec, key));
    let mut table = spec.table().map(|table| EntryShares::new(spec, table, key));
    let mut pieces = spec.pieces().map(|pieces| PieceShares::new(spec, pieces, key));
    for range in tiles(elems) {
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
            table.share(range.clone(), &main.sums, entries);
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

/// The message's parts: comparisons, table entries, the sign of the active piece, its coefficients one after another.
pub(super) fn split<'m>(spec: &CompiledSpec, elems: usize, message: &'m mut [u8]) -> [&'m mut [u8]; 4] {
    let plane_bytes = elems.div_ceil(8);
    let entry_bytes = spec.table().map_or(0, |table| pack::packed_bytes(table.mask_bits.into(), elems));
    let (comparisons, rest) = message.split_at_mut(spec.comparisons().len() * plane_bytes);
    let (entries, rest) = rest.split_at_mut(entry_bytes);
    let (sign, coefficients) = rest.split_at_mut(if spec.pieces().is_some() { plane_bytes } else { 0 });
    [comparisons, entries, sign, coefficients]
}

/// One party's trees of a chunk.
struct Trees<'k> {
    tree: Tree,
    level: Level,
    party: Party,
    fields: [FieldBytes<'k>; 3],
    scratch: [Zeroizing<Vec<u8>>; 3],
}

impl<'k> Trees<'k> {
    /// `parts` are those of the root, the correction words and the leaf correction.
    fn new(spec: &CompiledSpec, tree: Tree, key: &'k ChunkKey, parts: [Part; 3]) -> Self {
        let field = |part| key.field(spec.field(part).expect("a tree has its fields"));
        let scratch = [(); 3].map(|()| Zeroizing::default());
        Self { tree, level: key.level(), party: key.job().party, fields: parts.map(field), scratch }
    }

    /// The trees of a tile.
    fn tile(&mut self, range: &Range<usize>) -> (&Tree, TreeKeys<'_>) {
        let [roots, words, leaves] = &self.fields;
        let [scratch_0, scratch_1, scratch_2] = &mut self.scratch;
        let bytes = |width: usize| range.start * width..range.end * width;
        let keys = TreeKeys {
            party: self.party.index() as u8,
            elems: range.len(),
            roots: roots.read(bytes(BLOCK_BYTES), scratch_0),
            words: words.read(bytes(self.tree.word_bytes()), scratch_1),
            right: RightBits::None,
            leaves: leaves.read(bytes(BLOCK_BYTES), scratch_2),
        };
        (&self.tree, keys)
    }
}

/// XOR shares of 1\[alpha < p\] for lists of points, with 2^bits standing for 0 there: a tree has no such point, and every
/// alpha is below it. Party 1 holds that 1.
fn add_wrapped(party: Party, points: &[u64], plane: &mut [u8]) {
    if party == Party::P1 {
        let mut wrapped = ZERO;
        wrapped.iter_mut().zip(points).for_each(|(wrapped, point)| *wrapped = u64::from(*point == 0));
        column::xor_into_plane(&wrapped, plane);
    }
}

/// What the tree at the rounded mask rho says about a tile.
struct MainTree<'k> {
    trees: Trees<'k>,
    domain_bits: u8,
    grid: u8,
    /// T of 1\[t < T\]; that of the window's centre first, if there is a window.
    thresholds: Vec<i64>,
    entries: Option<Entries>,
    /// v, the public input on the grid.
    rounded: Column,
    /// For each threshold, the point at which the tree is compared.
    points: Vec<Column>,
    /// For each threshold, shares of 1\[t < T\] xor the top bit of rho.
    planes: Vec<[u8; PLANE]>,
    blocks: Zeroizing<Vec<u8>>,
    sums: Zeroizing<Vec<Sums>>,
}

/// How the leaves under a table are had.
struct Entries {
    lookup: Lookup,
    /// Height of the window round the first threshold's point; none: the whole tree.
    window: Option<u32>,
}

impl<'k> MainTree<'k> {
    fn new(spec: &CompiledSpec, key: &'k ChunkKey) -> Self {
        let parts = [Part::Root, Part::NodeCorrections, Part::LeafCorrection];
        let trees = Trees::new(spec, super::main_tree(spec, key.level()), key, parts);
        let below = spec.comparisons().iter().filter_map(|comparison| match comparison {
            Comparison::Below(threshold) => Some(*threshold),
            Comparison::LowBelow(_) => None,
        });
        let mut thresholds: Vec<i64> =
            below.chain(spec.pieces().into_iter().flat_map(|p| p.cuts.clone())).collect();
        thresholds.sort_unstable();
        thresholds.dedup();
        let entries = spec.table().map(|table| Entries::new(spec, table, &mut thresholds));
        let count = thresholds.len();
        Self {
            trees,
            domain_bits: spec.domain_bits(),
            grid: spec.grid(),
            thresholds,
            entries,
            rounded: ZERO,
            points: vec![ZERO; count],
            planes: vec![[0; PLANE]; count],
            blocks: Zeroizing::default(),
            sums: Zeroizing::new(vec![Sums::default(); TILE]),
        }
    }

    /// Evaluates the tile `range`, whose inputs are `x_hat`.
    fn visit(&mut self, range: Range<usize>, x_hat: &[u64]) {
        let (n, bits) = (range.len(), self.domain_bits);
        for (v, x_hat) in self.rounded.iter_mut().zip(x_hat) {
            *v = low(x_hat >> self.grid, bits);
        }
        for (points, threshold) in self.points.iter_mut().zip(&self.thresholds) {
            for (point, v) in points.iter_mut().zip(&self.rounded) {
                *point = low(v.wrapping_sub(threshold.cast_unsigned()).wrapping_add(1), bits - 1);
            }
        }
        self.walk(&range);
        let party = self.trees.party;
        for ((threshold, points), plane) in self.thresholds.iter().zip(&self.points).zip(&mut self.planes) {
            add_wrapped(party, &points[..n], plane);
            // With u = v - T, t - T = u - rho is negative when msb(u) xor msb(rho) xor borrow, and the borrow 1[u < rho] on
            // the low bits is not 1[rho < u + 1].
            if party == Party::P0 {
                let mut tops = ZERO;
                for (top, v) in tops.iter_mut().zip(&self.rounded) {
                    *top = !(v.wrapping_sub(threshold.cast_unsigned()) >> (bits - 1));
                }
                column::xor_into_plane(&tops, plane);
            }
        }
    }

    /// Goes down the trees: comparisons into `planes`, the table's sums into `sums`.
    fn walk(&mut self, range: &Range<usize>) {
        let (n, level) = (range.len(), self.trees.level);
        let bytes = n.div_ceil(8);
        let (tree, keys) = self.trees.tile(range);
        let mut compared = 0;
        if let Some(Entries { lookup, window }) = &self.entries {
            let height = window.unwrap_or(tree.levels());
            self.blocks.resize((n * BLOCK_BYTES) << height, 0);
            let mut places = [0; TILE];
            let mut place = |from: &Column, mask: u64| {
                places.iter_mut().zip(from).for_each(|(place, point)| *place = (point & mask) as u16);
            };
            if window.is_some() {
                // The window's first leaf stands where the centre does in its block.
                place(&self.points[0], (1 << LEAF_BITS) - 1);
                let plane = &mut self.planes[0][..bytes];
                tree.window(&keys, 0..n, height, &self.points[0][..n], &mut self.blocks, plane);
                compared = 1;
            } else {
                place(&self.rounded, (1 << (height + LEAF_BITS)) - 1);
                tree.expand(&keys, 0..n, &mut self.blocks);
            }
            lookup.read(level, &self.blocks, &places[..n], &mut self.sums[..n]);
        }
        let points: Vec<&[u64]> = self.points[compared..].iter().map(|points| &points[..n]).collect();
        let mut planes: Vec<&mut [u8]> =
            self.planes[compared..].iter_mut().map(|plane| &mut plane[..bytes]).collect();
        tree.compare(&keys, 0..n, &points, &mut planes);
    }

    /// The last tile's shares of 1\[t < threshold\] xor the top bit of rho.
    fn below(&self, threshold: i64) -> &[u8; PLANE] {
        let at = self.thresholds.iter().position(|known| *known == threshold);
        &self.planes[at.expect("every comparison and cut is among the thresholds")]
    }
}

impl Entries {
    /// Plans the table's look-up; with a window, its centre becomes the first of `thresholds`.
    fn new(spec: &CompiledSpec, table: &TableLookup, thresholds: &mut Vec<i64>) -> Self {
        let (bits, len) = (spec.domain_bits() - 1, table.values.len());
        let value =
            |index: i64| usize::try_from(index).ok().and_then(|i| table.values.get(i)).map_or(0, |v| *v);
        let levels = u32::from(dpf::levels(bits));
        if levels <= MAX_EXPANDED {
            // Hot at rho, seen from v: place rho - v is that of t = -place.
            let index = |place: usize| {
                low((place as u64).wrapping_neg().wrapping_sub(table.start.cast_unsigned()), bits)
                    .cast_signed()
            };
            return Self { lookup: Lookup::new(bits, |place| value(index(place)), |_| false), window: None };
        }
        let height = len.next_power_of_two().ilog2().saturating_sub(LEAF_BITS).max(1);
        let window_bits = LEAF_BITS + height;
        let half = 1_i64 << (window_bits - 1);
        // The window round the point v - T + 1 holds t from T - half to T + half - 1. A comparison there is had with it.
        let centres = table.start + len as i64 - half..=table.start + half;
        let at = thresholds.iter().position(|threshold| centres.contains(threshold));
        let centre = at.map_or(table.start + half, |at| thresholds.remove(at));
        thresholds.insert(0, centre);
        let index = |place: usize| centre + half - 1 - place as i64 - table.start;
        // A place fits: there are at most 2^12.
        let lookup = Lookup::new(window_bits as u8, |place| value(index(place)), |_| false);
        Self { lookup, window: Some(height) }
    }
}

/// What the tree at r mod 2^f says about a tile.
struct LowTree<'k> {
    trees: Trees<'k>,
    low_bits: u8,
    bounds: Vec<u64>,
    /// The point of 0, then that of each bound.
    points: Vec<Column>,
    planes: Vec<[u8; PLANE]>,
}

impl<'k> LowTree<'k> {
    fn new(spec: &CompiledSpec, key: &'k ChunkKey) -> Self {
        let parts = [Part::LowRoot, Part::LowNodeCorrections, Part::LowLeafCorrection];
        let bounds: Vec<u64> = spec
            .comparisons()
            .iter()
            .filter_map(|comparison| match comparison {
                Comparison::LowBelow(bound) => Some(*bound),
                Comparison::Below(_) => None,
            })
            .collect();
        let count = 1 + bounds.len();
        Self {
            trees: Trees::new(spec, super::low_tree(spec, key.level()), key, parts),
            low_bits: spec.low_bits(),
            bounds,
            points: vec![ZERO; count],
            planes: vec![[0; PLANE]; count],
        }
    }

    /// Evaluates the tile `range`, whose inputs are `x_hat`. With u = x_hat mod 2^f, x mod 2^f is below the bound when the
    /// mask lies in the cyclic interval (u - bound, u].
    fn visit(&mut self, range: Range<usize>, x_hat: &[u64]) {
        let (n, bits) = (range.len(), self.low_bits);
        let after = |x_hat: &u64, bound: u64| low(x_hat.wrapping_sub(bound).wrapping_add(1), bits);
        for (points, bound) in self.points.iter_mut().zip(std::iter::once(&0).chain(&self.bounds)) {
            points.iter_mut().zip(x_hat).for_each(|(point, x_hat)| *point = after(x_hat, *bound));
        }
        let points: Vec<&[u64]> = self.points.iter().map(|points| &points[..n]).collect();
        let mut planes: Vec<&mut [u8]> =
            self.planes.iter_mut().map(|plane| &mut plane[..n.div_ceil(8)]).collect();
        let (tree, keys) = self.trees.tile(&range);
        tree.compare(&keys, 0..n, &points, &mut planes);

        let party = self.trees.party;
        for (points, plane) in self.points.iter().zip(&mut self.planes) {
            add_wrapped(party, &points[..n], plane);
        }
        let Some((at_zero, others)) = self.planes.split_first_mut() else { return };
        for (plane, bound) in others.iter_mut().zip(&self.bounds) {
            pack::xor_into(plane, at_zero);
            if party == Party::P0 {
                let mut wraps = ZERO;
                let wrap = |x_hat: &u64| u64::from(low(*x_hat, bits) < *bound);
                wraps.iter_mut().zip(x_hat).for_each(|(wraps, x_hat)| *wraps = wrap(x_hat));
                column::xor_into_plane(&wraps, plane);
            }
        }
    }

    /// The last tile's shares of 1\[(x mod 2^f) < bound\].
    fn below(&self, bound: u64) -> &[u8; PLANE] {
        let at = self.bounds.iter().position(|known| *known == bound);
        &self.planes[1 + at.expect("every low comparison's bound is here")]
    }
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
    fn new(spec: &CompiledSpec, table: &TableLookup, key: &'k ChunkKey) -> Self {
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
    fn new(spec: &CompiledSpec, pieces: &'k PieceLookup, key: &'k ChunkKey) -> Self {
        let field = |part| key.field(spec.field(part).expect("pieces have their fields"));
        Self {
            pieces,
            elems: key.job().elems,
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

        main.trees.level.dispatch(Active {
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

impl Kernel for Active<'_> {
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
