//! `linear` with public weights: Y = X W + b for a masked or shared X, without a message and without a key. The mask of Y is
//! r W, which need not be uniform: everything sent later carries a fresh mask. Why that is safe:
//! `docs/protocols/programs.md#linear-with-public-weights`.

use std::{fmt, sync::Arc};

use super::{OpDef, only};
use crate::{Form, Ring, TensorShape, Wire};

/// Prefix of the digest of weights.
const DOMAIN: &[u8] = b"suf/v1/weights";

/// Most elements of a matrix of weights: 2^26, as the largest matrix of a model with 7 billion weights has.
pub const MAX_WEIGHTS: u64 = 1 << 26;

/// A matrix of quantised weights, `rows` inputs by `cols` outputs, and perhaps a bias of each output.
pub struct Weights {
    rows: u32,
    cols: u32,
    /// Row after row.
    values: Vec<i32>,
    /// In units of the product's scale.
    bias: Vec<i64>,
    digest: [u8; 32],
}

/// Numbers that are hashed at once.
const PIECE: usize = 1 << 14;

impl Weights {
    /// The matrix `values`, row after row, and the `bias` of each output; an empty bias is none.
    ///
    /// # Errors
    /// When the lengths do not fit, or the matrix is empty or larger than [`MAX_WEIGHTS`], in words.
    pub fn new(rows: u32, cols: u32, values: Vec<i32>, bias: Vec<i64>) -> Result<Self, String> {
        let elems = u64::from(rows) * u64::from(cols);
        if elems == 0 || elems > MAX_WEIGHTS {
            return Err(format!("a matrix has 1 to {MAX_WEIGHTS} weights, not {rows} x {cols}"));
        }
        if values.len() as u64 != elems {
            return Err(format!("{rows} x {cols} weights are {elems}, not {}", values.len()));
        }
        if !bias.is_empty() && bias.len() != cols as usize {
            return Err(format!("{cols} outputs have as many biases, not {}", bias.len()));
        }
        let mut hash = blake3::Hasher::new();
        hash.update(DOMAIN).update(&rows.to_le_bytes()).update(&cols.to_le_bytes());
        hash.update(&(bias.len() as u64).to_le_bytes());
        // In pieces: the hash is much faster on long ones.
        let mut piece = Vec::with_capacity(PIECE * size_of::<i64>());
        let mut add = |bytes: &mut dyn Iterator<Item = u8>| {
            piece.clear();
            piece.extend(bytes);
            hash.update(&piece);
        };
        values.chunks(PIECE).for_each(|values| add(&mut values.iter().flat_map(|value| value.to_le_bytes())));
        bias.chunks(PIECE).for_each(|values| add(&mut values.iter().flat_map(|value| value.to_le_bytes())));
        Ok(Self { rows, cols, values, bias, digest: *hash.finalize().as_bytes() })
    }

    /// Number of inputs.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Number of outputs.
    #[must_use]
    pub fn cols(&self) -> u32 {
        self.cols
    }

    /// The weights, row after row.
    #[must_use]
    pub fn values(&self) -> &[i32] {
        &self.values
    }

    /// The bias of each output, in units of the product's scale; empty if there is none.
    #[must_use]
    pub fn bias(&self) -> &[i64] {
        &self.bias
    }

    /// BLAKE3 of shape, weights and bias.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Bytes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&self.values[..]) + size_of_val(&self.bias[..])
    }

    /// Adds the bias to each row of `tile`.
    pub fn add_bias(&self, ring: Ring, tile: &mut [u64]) {
        if self.bias.is_empty() {
            return;
        }
        for row in tile.chunks_exact_mut(self.cols as usize) {
            row.iter_mut().zip(&self.bias).for_each(|(y, bias)| *y = ring.add(*y, ring.encode(*bias)));
        }
    }

    /// X W modulo 2^64 for the rows of `tile`: the definition. A backend has faster ways.
    #[must_use]
    pub fn multiply(&self, tile: &[u64]) -> Vec<u64> {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        let mut out = vec![0u64; tile.len() / rows * cols];
        for (x, y) in tile.chunks_exact(rows).zip(out.chunks_exact_mut(cols)) {
            for (x, weights) in x.iter().zip(self.values.chunks_exact(cols)) {
                for (y, weight) in y.iter_mut().zip(weights) {
                    *y = y.wrapping_add(x.wrapping_mul(i64::from(*weight).cast_unsigned()));
                }
            }
        }
        out
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Weights({} x {})", self.rows, self.cols)
    }
}

/// Two matrices are equal if their digests are.
impl PartialEq for Weights {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Weights {}

/// Y = X W + b.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linear {
    weights: Arc<Weights>,
    frac: u8,
}

impl Linear {
    /// The product with `weights`, which have `frac` fractional bits.
    #[must_use]
    pub fn new(weights: Arc<Weights>, frac: u8) -> Self {
        Self { weights, frac }
    }

    /// The weights.
    #[must_use]
    pub fn weights(&self) -> &Arc<Weights> {
        &self.weights
    }

    /// Fractional bits of the weights.
    #[must_use]
    pub fn frac(&self) -> u8 {
        self.frac
    }
}

impl OpDef for Linear {
    fn name(&self) -> String {
        format!("linear {} x {}", self.weights.rows, self.weights.cols)
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let wire = only(inputs)?;
        if wire.shape.cols() != self.weights.rows {
            return Err(format!("{wire} does not have {} columns", self.weights.rows));
        }
        let frac = wire.frac.saturating_add(self.frac);
        if frac >= wire.ring.bits() {
            return Err(format!("{wire} times weights of {} fractional bits exceeds the ring", self.frac));
        }
        let shape = TensorShape::new(wire.shape.rows(), self.weights.cols)
            .ok_or_else(|| format!("{} x {} is no tensor", wire.shape.rows(), self.weights.cols))?;
        Ok(Some(Wire { shape, frac, mask: wire.mask.derived(), ..wire }))
    }
}

/// Whether a party adds the public bias: to a masked wire both do, to shares party 0 alone.
#[must_use]
pub fn adds_bias(form: Form, party: crate::Party) -> bool {
    form == Form::Masked || party == crate::Party::P0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::WIRE as RING;

    fn weights() -> Weights {
        Weights::new(2, 3, vec![1, -2, 3, 4, 5, -6], vec![10, 0, -1]).expect("they fit")
    }

    #[test]
    fn products_are_those_of_integers_modulo_the_ring() {
        let weights = weights();
        let x = [3i64, -7, -1, 2].map(|x| RING.encode(x));
        let mut y = weights.multiply(&x);
        weights.add_bias(RING, &mut y);
        let y: Vec<_> = y.into_iter().map(|y| RING.decode(y)).collect();
        assert_eq!(y, [3 - 28 + 10, -6 - 35, 9 + 42 - 1, -1 + 8 + 10, 2 + 10, -3 - 12 - 1]);
    }

    #[test]
    fn another_shape_value_or_bias_changes_the_digest() {
        let others = [
            Weights::new(3, 2, vec![1, -2, 3, 4, 5, -6], vec![]),
            Weights::new(2, 3, vec![1, -2, 3, 4, 5, -6], vec![]),
            Weights::new(2, 3, vec![1, -2, 3, 4, 5, 6], vec![10, 0, -1]),
            Weights::new(2, 3, vec![1, -2, 3, 4, 5, -6], vec![10, 0, 1]),
        ];
        let mut digests: Vec<_> = others.into_iter().map(|made| *made.expect("they fit").digest()).collect();
        digests.push(*weights().digest());
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), 5);
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        for (rows, cols, values, bias) in [(0, 3, 0, 0), (2, 3, 5, 0), (2, 3, 6, 2), (1 << 16, 1 << 16, 0, 0)]
        {
            assert!(Weights::new(rows, cols, vec![0; values], vec![0; bias]).is_err(), "{rows} x {cols}");
        }
    }
}
