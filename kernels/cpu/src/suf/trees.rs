//! What a party's trees say about a strip: comparisons and the leaves under the table.

use std::ops::Range;

use suf_gate::{
    Party,
    spec::{
        CompiledSpec,
        compile::{Comparison, Part, TableLookup},
        dpf,
    },
};
use zeroize::Zeroizing;

use super::{
    column::{self, Column, ZERO},
    low,
};
use crate::{
    key::{FieldBytes, PartKey, STRIP},
    lookup::{Lookup, Sums},
    pack,
    simd::{BLOCK_BYTES, Level},
    tree::{LEAF_BITS, MAX_EXPANDED, RightBits, Tree, TreeKeys},
};

/// Bytes of a strip's plane.
pub(super) const PLANE: usize = STRIP / 8;

/// One party's trees of a tile.
struct Trees<'k> {
    tree: Tree,
    level: Level,
    party: Party,
    fields: [FieldBytes<'k>; 3],
    scratch: [Zeroizing<Vec<u8>>; 3],
}

impl<'k> Trees<'k> {
    /// `parts` are those of the root, the correction words and the leaf correction.
    fn new(spec: &CompiledSpec, tree: Tree, key: &'k PartKey, parts: [Part; 3]) -> Self {
        let field = |part| key.field(spec.field(part).expect("a tree has its fields"));
        let scratch = [(); 3].map(|()| Zeroizing::default());
        Self { tree, level: key.level(), party: key.job().party, fields: parts.map(field), scratch }
    }

    /// The trees of a strip.
    fn strip(&mut self, range: &Range<usize>) -> (&Tree, TreeKeys<'_>) {
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

/// XOR shares of 1\[alpha < p\] for lists of points. The point 2^bits is given as 0: a tree has no such point, and
/// every alpha is below it. Party 1 holds that 1.
fn add_wrapped(party: Party, points: &[u64], plane: &mut [u8]) {
    if party == Party::P1 {
        let mut wrapped = ZERO;
        wrapped.iter_mut().zip(points).for_each(|(wrapped, point)| *wrapped = u64::from(*point == 0));
        column::xor_into_plane(&wrapped, plane);
    }
}

/// What the tree at the rounded mask rho says about a strip.
pub(super) struct MainTree<'k> {
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
    pub(super) fn new(spec: &CompiledSpec, key: &'k PartKey) -> Self {
        let parts = [Part::Root, Part::NodeCorrections, Part::LeafCorrection];
        let trees = Trees::new(spec, key.tree(super::main_tree(spec)), key, parts);
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
            sums: Zeroizing::new(vec![Sums::default(); STRIP]),
        }
    }

    /// Evaluates the strip `range`, whose inputs are `x_hat`.
    pub(super) fn visit(&mut self, range: Range<usize>, x_hat: &[u64]) {
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
            // Let u = v - T. Then t - T = u - rho is negative when msb(u) xor msb(rho) xor borrow. On the low bits the
            // borrow 1[u < rho] is not 1[rho < u + 1].
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
        let (tree, keys) = self.trees.strip(range);
        let mut compared = 0;
        if let Some(Entries { lookup, window }) = &self.entries {
            let height = window.unwrap_or(tree.levels());
            self.blocks.resize((n * BLOCK_BYTES) << height, 0);
            let mut places = [0; STRIP];
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

    /// The last strip's sums over the table's entries.
    pub(super) fn sums(&self) -> &[Sums] {
        &self.sums
    }

    /// The last strip's shares of 1\[t < threshold\] xor the top bit of rho.
    pub(super) fn below(&self, threshold: i64) -> &[u8; PLANE] {
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

/// What the tree at r mod 2^f says about a strip.
pub(super) struct LowTree<'k> {
    trees: Trees<'k>,
    low_bits: u8,
    bounds: Vec<u64>,
    /// The point of 0, then that of each bound.
    points: Vec<Column>,
    planes: Vec<[u8; PLANE]>,
}

impl<'k> LowTree<'k> {
    pub(super) fn new(spec: &CompiledSpec, key: &'k PartKey) -> Self {
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
            trees: Trees::new(spec, key.tree(super::low_tree(spec)), key, parts),
            low_bits: spec.low_bits(),
            bounds,
            points: vec![ZERO; count],
            planes: vec![[0; PLANE]; count],
        }
    }

    /// Evaluates the strip `range`, whose inputs are `x_hat`. With u = x_hat mod 2^f, x mod 2^f is below the bound when the
    /// mask lies in the cyclic interval (u - bound, u].
    pub(super) fn visit(&mut self, range: Range<usize>, x_hat: &[u64]) {
        let (n, bits) = (range.len(), self.low_bits);
        let after = |x_hat: &u64, bound: u64| low(x_hat.wrapping_sub(bound).wrapping_add(1), bits);
        for (points, bound) in self.points.iter_mut().zip(std::iter::once(&0).chain(&self.bounds)) {
            points.iter_mut().zip(x_hat).for_each(|(point, x_hat)| *point = after(x_hat, *bound));
        }
        let points: Vec<&[u64]> = self.points.iter().map(|points| &points[..n]).collect();
        let mut planes: Vec<&mut [u8]> =
            self.planes.iter_mut().map(|plane| &mut plane[..n.div_ceil(8)]).collect();
        let (tree, keys) = self.trees.strip(&range);
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

    /// The last strip's shares of 1\[(x mod 2^f) < bound\].
    pub(super) fn below(&self, bound: u64) -> &[u8; PLANE] {
        let at = self.bounds.iter().position(|known| *known == bound);
        &self.planes[1 + at.expect("every low comparison's bound is here")]
    }
}
