//! Floats as integers: computed in 64-bit floats, one operation after another, and rounded half to even. So every machine gets
//! the same integers.

use crate::{ModelError, tensors};

/// Prefix of a model's digest.
const DOMAIN: &[u8] = b"suf/v1/model";

/// A matrix of integers, inputs by outputs, and the bias of each output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integers {
    /// Number of inputs.
    pub rows: usize,
    /// Number of outputs.
    pub cols: usize,
    /// The weights, input after input.
    pub values: Vec<i32>,
    /// In units of the product.
    pub bias: Vec<i64>,
}

impl Integers {
    /// The outputs `cols` alone, in this order.
    #[must_use]
    pub fn select_outputs(&self, cols: &[usize]) -> Self {
        let rows = self.values.chunks_exact(self.cols);
        let values = rows.flat_map(|row| cols.iter().map(|col| row[*col])).collect();
        let bias = cols.iter().map(|col| self.bias[*col]).collect();
        Self { rows: self.rows, cols: cols.len(), values, bias }
    }

    /// The inputs `rows` alone, in this order. The bias stays.
    #[must_use]
    pub fn select_inputs(&self, rows: &[usize]) -> Self {
        let values = rows.iter().flat_map(|row| &self.values[row * self.cols..][..self.cols]).copied();
        Self { rows: rows.len(), cols: self.cols, values: values.collect(), bias: self.bias.clone() }
    }

    /// The same without a bias.
    #[must_use]
    pub fn without_bias(mut self) -> Self {
        self.bias.clear();
        self
    }
}

/// `x` in units of 2^-`frac`; `tensor` names it in errors.
///
/// # Errors
/// When it does not fit.
pub(crate) fn narrow(tensor: &str, x: f64, frac: u8) -> Result<i32, ModelError> {
    let rounded = scaled(x, frac);
    // Exact: a 64-bit float holds every 32-bit integer.
    let fits = rounded.abs() <= f64::from(i32::MAX);
    if fits { Ok(rounded as i32) } else { Err(too_large(tensor, x, 31 - u32::from(frac))) }
}

/// The same, wide.
///
/// # Errors
/// When it does not fit into 62 bits.
pub(crate) fn wide(tensor: &str, x: f64, frac: u8) -> Result<i64, ModelError> {
    let rounded = scaled(x, frac);
    let fits = rounded.abs() < (1u64 << 62) as f64;
    if fits { Ok(rounded as i64) } else { Err(too_large(tensor, x, 62 - u32::from(frac))) }
}

fn scaled(x: f64, frac: u8) -> f64 {
    (x * (1u64 << frac) as f64).round_ties_even()
}

fn too_large(tensor: &str, x: f64, bits: u32) -> ModelError {
    let problem = format!("{tensor}: a weight is {x:e}, and absolute values below 2^{bits} can be used");
    ModelError::new(tensors::FILE, problem, "take a model that was trained with weight decay")
}

/// The digest of a model: BLAKE3 over name, shape and integers of each of its tensors.
pub(crate) struct ModelDigest(blake3::Hasher);

impl ModelDigest {
    /// Of a model with the given architecture and numbers that no tensor shows.
    pub(crate) fn new(architecture: &str, numbers: &[u64]) -> Self {
        let mut digest = Self(blake3::Hasher::new());
        digest.0.update(DOMAIN);
        digest.text(architecture);
        digest.numbers(numbers.iter().copied());
        digest
    }

    /// Adds a tensor of `rows` rows.
    pub(crate) fn tensor(&mut self, name: &str, rows: usize, integers: impl ExactSizeIterator<Item = i64>) {
        self.text(name);
        self.numbers([rows as u64, integers.len() as u64]);
        self.numbers(integers.map(i64::cast_unsigned));
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }

    fn text(&mut self, text: &str) {
        self.numbers([text.len() as u64]);
        self.0.update(text.as_bytes());
    }

    fn numbers(&mut self, numbers: impl IntoIterator<Item = u64>) {
        // In pieces: the hash is much faster on long ones.
        let mut piece = Vec::with_capacity(PIECE);
        for number in numbers {
            piece.extend_from_slice(&number.to_le_bytes());
            if piece.len() == PIECE {
                self.0.update(&piece);
                piece.clear();
            }
        }
        self.0.update(&piece);
    }
}

/// Bytes that are hashed at once.
const PIECE: usize = 1 << 16;
