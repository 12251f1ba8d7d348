//! The compared bits of public numbers minus those of the breakpoints.

use super::Pieces;
use crate::dcf::Points;

/// x_hat of some elements, and the pieces' ends.
pub(super) struct Ends<'a> {
    pieces: &'a Pieces,
    values: &'a [u64],
    /// The compared bits of the ends.
    ends: Vec<u64>,
    depths: Vec<usize>,
}

impl<'a> Ends<'a> {
    pub(super) fn new(pieces: &'a Pieces, values: &'a [u64]) -> Self {
        let depths = pieces.ends().map(|end| pieces.depth(end)).collect();
        let ends = pieces.ends().map(|end| pieces.compared(end)).collect();
        Self { pieces, values, ends, depths }
    }

    /// How many of the ends are at most the compared bits of an element.
    pub(super) fn at_most(&self, element: usize) -> usize {
        let value = self.pieces.compared(self.values[element]);
        self.ends.partition_point(|end| *end <= value)
    }
}

impl Points for Ends<'_> {
    fn bits(&self) -> usize {
        self.pieces.compared_bits()
    }

    fn depths(&self) -> &[usize] {
        &self.depths
    }

    fn write(&self, element: usize, points: &mut [u64]) -> usize {
        let below = self.at_most(element);
        let value = self.pieces.compared(self.values[element]);
        let ring = (1u64 << self.pieces.compared_bits()) - 1;
        let mut ascending = points.iter_mut();
        let mut put = |point| *ascending.next().expect("a point for each end and the value") = point;
        let (low, high) = self.ends.split_at(below);
        low.iter().rev().for_each(|end| put(value.wrapping_sub(*end) & ring));
        put(value);
        high.iter().rev().for_each(|end| put(value.wrapping_sub(*end) & ring));
        below
    }
}
