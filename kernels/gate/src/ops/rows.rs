//! Operations that both parties do by themselves on rows of masked or shared wires, without a message and without a key: `slice`,
//! `gain`, `subtract row`. As with [`super::local`], the mask of what is made is the same function of the masks taken.

use std::sync::Arc;

use super::{OpDef, Weights, only};
use crate::{Form, Ring, TensorShape, Wire};

/// Some neighbouring columns of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The first column.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// Each column times a public integer, plus a bias: `y_j = g_j x_j + b_j`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gain {
    weights: Arc<Weights>,
    frac: u8,
}

/// Each row minus a value of its own, in the smaller of the two rings. It takes the matrix and the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubtractRow;

impl Gain {
    /// The factors are the one row of `weights`, which have `frac` fractional bits.
    #[must_use]
    pub fn new(weights: Arc<Weights>, frac: u8) -> Self {
        Self { weights, frac }
    }

    /// The factors, in one row, and the biases.
    #[must_use]
    pub fn weights(&self) -> &Arc<Weights> {
        &self.weights
    }

    /// Fractional bits of the factors.
    #[must_use]
    pub fn frac(&self) -> u8 {
        self.frac
    }

    /// A tile of a wire or of a mask times the factors, without the biases.
    #[must_use]
    pub fn apply(&self, ring: Ring, mut tile: Vec<u64>) -> Vec<u64> {
        let factors = self.weights.values();
        for row in tile.chunks_exact_mut(factors.len()) {
            for (x, factor) in row.iter_mut().zip(factors) {
                *x = ring.reduce(x.wrapping_mul(i64::from(*factor).cast_unsigned()));
            }
        }
        tile
    }
}

impl Slice {
    /// The columns of a tile that has `cols`, of a wire or of a mask.
    #[must_use]
    pub fn apply(self, cols: u32, tile: &[u64]) -> Vec<u64> {
        let (first, count) = (self.first as usize, self.count as usize);
        tile.chunks_exact(cols as usize).flat_map(|row| &row[first..first + count]).copied().collect()
    }
}

impl SubtractRow {
    /// The rows of a tile minus their `values`, of wires or of masks.
    #[must_use]
    pub fn apply(ring: Ring, mut tile: Vec<u64>, values: &[u64]) -> Vec<u64> {
        let cols = tile.len() / values.len();
        for (row, value) in tile.chunks_exact_mut(cols).zip(values) {
            row.iter_mut().for_each(|x| *x = ring.sub(*x, *value));
        }
        tile
    }
}

impl OpDef for Slice {
    fn name(&self) -> String {
        format!("slice {} + {}", self.first, self.count)
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let wire = only(inputs)?;
        let end = self.first.checked_add(self.count).filter(|end| *end <= wire.shape.cols());
        let shape = end.and_then(|_| TensorShape::new(wire.shape.rows(), self.count));
        let shape =
            shape.ok_or_else(|| format!("{wire} has no {} columns from {}", self.count, self.first))?;
        Ok(Some(Wire { shape, mask: wire.mask.derived(), ..wire }))
    }
}

impl OpDef for Gain {
    fn name(&self) -> String {
        "gain".into()
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let wire = only(inputs)?;
        let (rows, cols) = (self.weights.rows(), self.weights.cols());
        if (rows, cols) != (1, wire.shape.cols()) {
            return Err(format!("{rows} x {cols} factors are not one for each column of {wire}"));
        }
        let frac = wire.frac.saturating_add(self.frac);
        if frac >= wire.ring.bits() {
            return Err(format!("{wire} times factors of {} fractional bits exceeds the ring", self.frac));
        }
        Ok(Some(Wire { frac, mask: wire.mask.derived(), ..wire }))
    }
}

impl OpDef for SubtractRow {
    fn name(&self) -> String {
        "subtract row".into()
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let [x, values] = inputs else { return Err(format!("it takes two wires, not {}", inputs.len())) };
        if x.form == Form::Pad {
            return Err("it takes no shares of masks".into());
        }
        if values.shape != x.shape.column() || (values.frac, values.form) != (x.frac, x.form) {
            return Err(format!(
                "it takes a wire and one column of equal scale and form, not {x} and {values}"
            ));
        }
        let ring = if x.ring.bits() < values.ring.bits() { x.ring } else { values.ring };
        Ok(Some(Wire { ring, mask: x.mask.and(values.mask), ..*x }))
    }
}
