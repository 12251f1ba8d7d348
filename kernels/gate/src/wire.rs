//! Wires: the tensors of a program. Each is made by one node, and that node's id names it.

use std::{fmt, ops::Range};

use crate::{
    Ring,
    limits::{MAX_ELEMS, TILE_ELEMS},
};

/// A matrix of elements, row after row. A tensor without structure has one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TensorShape {
    rows: u32,
    cols: u32,
}

impl TensorShape {
    /// `rows` rows of `cols` elements. None if there are no elements, more than [`MAX_ELEMS`], or more than [`TILE_ELEMS`] in
    /// a row, since a tile has whole rows.
    #[must_use]
    pub const fn new(rows: u32, cols: u32) -> Option<Self> {
        let elems = rows as u64 * cols as u64;
        if elems == 0 || elems > MAX_ELEMS || cols as usize > TILE_ELEMS {
            None
        } else {
            Some(Self { rows, cols })
        }
    }

    /// A tensor of `elems` elements without structure; none as in [`TensorShape::new`].
    #[must_use]
    pub const fn flat(elems: u64) -> Option<Self> {
        if elems > MAX_ELEMS { None } else { Self::new(elems as u32, 1) }
    }

    /// The same with one column.
    #[must_use]
    pub const fn column(self) -> Self {
        Self { cols: 1, ..self }
    }

    /// Number of rows.
    #[must_use]
    pub const fn rows(self) -> u32 {
        self.rows
    }

    /// Elements of a row.
    #[must_use]
    pub const fn cols(self) -> u32 {
        self.cols
    }

    /// Number of elements.
    #[must_use]
    pub const fn elems(self) -> u64 {
        self.rows as u64 * self.cols as u64
    }

    /// Rows of a full tile by themselves: as many whole ones as [`TILE_ELEMS`] elements hold.
    #[must_use]
    pub const fn rows_per_tile(self) -> u32 {
        TILE_ELEMS as u32 / self.cols
    }

    /// The tiles of the tensor if a full one has `rows` rows, 1 at least.
    #[must_use]
    pub const fn tiles_of(self, rows: u32) -> Tiles {
        Tiles { shape: self, rows }
    }
}

/// A tensor cut into tiles of whole rows, the last one shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles {
    shape: TensorShape,
    rows: u32,
}

impl Tiles {
    /// How many there are.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.shape.rows.div_ceil(self.rows)
    }

    /// Rows of tile `tile`; an empty range for a tile that there is not.
    #[must_use]
    pub fn rows(self, tile: u32) -> Range<u32> {
        let start = tile.saturating_mul(self.rows).min(self.shape.rows);
        start..start.saturating_add(self.rows).min(self.shape.rows)
    }

    /// The tiles that hold `rows`, which are some and are there.
    #[must_use]
    pub const fn tiles_with(self, rows: &Range<u32>) -> Range<u32> {
        rows.start / self.rows..rows.end.div_ceil(self.rows)
    }

    /// Elements of tile `tile`; 0 for a tile that there is not.
    #[must_use]
    pub fn elems(self, tile: u32) -> usize {
        self.rows(tile).len() * self.shape.cols as usize
    }
}

impl fmt::Display for TensorShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.rows, self.cols)
    }
}

/// How the parties hold a wire's value x.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Both know x_hat = x + r mod 2^n; the dealer knows r.
    Masked,
    /// Additive shares mod 2^n. Whoever opens bits of the wire does so under the wire's mask.
    Shared,
    /// Additive shares mod 2^n of a function of another wire's mask. Only products under fresh masks take it: whoever learns it
    /// learns the other wire.
    Pad,
}

/// Where the mask of a wire comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mask {
    /// Uniform: each party expands its share from its seed.
    Fresh,
    /// A linear function of fresh masks: each party has its share too.
    Derived,
    /// A function of masks from which bits were dropped: the dealer alone knows it.
    Dropped,
}

impl Mask {
    /// That of a linear function of a wire with this mask.
    #[must_use]
    pub const fn derived(self) -> Self {
        match self {
            Self::Fresh | Self::Derived => Self::Derived,
            Self::Dropped => Self::Dropped,
        }
    }

    /// That of a sum of wires with this mask and `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Dropped, _) | (_, Self::Dropped) => Self::Dropped,
            _ => Self::Derived,
        }
    }
}

/// A tensor of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Its shape.
    pub shape: TensorShape,
    /// The ring of its elements.
    pub ring: Ring,
    /// Fractional bits of the fixed point.
    pub frac: u8,
    /// How the parties hold it.
    pub form: Form,
    /// Where its mask comes from.
    pub mask: Mask,
}

impl Wire {
    /// A masked wire under a fresh mask.
    #[must_use]
    pub const fn fresh(shape: TensorShape, ring: Ring, frac: u8) -> Self {
        Self { shape, ring, frac, form: Form::Masked, mask: Mask::Fresh }
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a wire {} of {} bits, {} of them fractional", self.shape, self.ring.bits(), self.frac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_have_whole_rows_and_cover_the_tensor() {
        for (rows, cols) in
            [(1, 1), (65535, 1), (65536, 1), (65537, 1), (100_000_000, 1), (128, 1536), (3, 65536)]
        {
            let shape = TensorShape::new(rows, cols).expect("a shape");
            for per_tile in [1, shape.rows_per_tile().div_ceil(2), shape.rows_per_tile()] {
                let tiles = shape.tiles_of(per_tile);
                let elems = (0..tiles.count()).map(|tile| tiles.elems(tile));
                assert!(elems.clone().all(|elems| elems <= TILE_ELEMS && elems % cols as usize == 0));
                assert_eq!(elems.map(|elems| elems as u64).sum::<u64>(), shape.elems(), "{shape}");
                assert_eq!((tiles.elems(tiles.count()), tiles.elems(u32::MAX)), (0, 0), "{shape}");
            }
        }
        let shape = TensorShape::new(128, 1536).expect("a shape");
        assert_eq!(shape.tiles_of(shape.rows_per_tile()).count(), 4);
    }

    #[test]
    fn shapes_beyond_the_limits_are_refused() {
        for (rows, cols) in [(0, 1), (1, 0), (1, 65537), (u32::MAX, 1), (u32::MAX, 65536)] {
            assert_eq!(TensorShape::new(rows, cols), None, "{rows} x {cols}");
        }
        for elems in [0, MAX_ELEMS + 1, 1 << 32, u64::MAX] {
            assert_eq!(TensorShape::flat(elems), None, "{elems}");
        }
        assert_eq!(TensorShape::flat(MAX_ELEMS).map(TensorShape::elems), Some(MAX_ELEMS));
    }
}
