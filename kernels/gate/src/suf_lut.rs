//! `suf-lut`: what the published SUF benchmark measures. It is a table over the low bits of x at scale 2^12, hence the
//! activation only for inputs of a few hundredths. It is reproduced for comparison, and says so wherever it is printed.
//!
//! The parties start from shares of x and open the low k bits of the masked input. They evaluate a DPF on all 2^k
//! points and take the inner product with the table. A select turns the signed result into the table's entry (SIGMA,
//! PETS 2024). Formulas: `docs/protocols/suf-lut.md`.

use crate::{
    Cost, GateError, KeyShape, Segment,
    activation::Activation,
    layout::FieldId,
    lookup::{self, LookupIds, MAX_ENTRY},
    ring::{FRAC, WIRE},
};

/// Where the look-up's fields stand.
pub const LOOKUP: LookupIds = LookupIds::from(FieldId(0));

/// A `suf-lut` gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SufLut {
    bits: u8,
    table: Vec<i32>,
}

impl SufLut {
    /// The table of `activation` over `bits` low bits (8 in the published GELU, 10 in SiLU).
    ///
    /// # Errors
    /// When `bits` is not in 8..=10.
    pub fn of(activation: &Activation, bits: u8) -> Result<Self, GateError> {
        let scale = f64::from(1u32 << FRAC);
        let half = 1i32 << (bits.clamp(8, 10) - 1);
        // Entry i stands for the signed value of i.
        let value = |i: i32| if i < half { i } else { i - 2 * half };
        let table =
            (0..2 * half).map(|i| libm::rint(activation.eval(f64::from(value(i)) / scale) * scale) as i32);
        Self::new(bits, table.collect())
    }

    /// A gate with an explicit table.
    ///
    /// # Errors
    /// When `bits` is not in 8..=10, the table does not have 2^`bits` entries, or one exceeds [`MAX_ENTRY`].
    pub fn new(bits: u8, table: Vec<i32>) -> Result<Self, GateError> {
        if !(8..=10).contains(&bits) {
            return Err(GateError::Shape(format!("suf-lut: a table over {bits} bits is not in 8..=10")));
        }
        if table.len() != 1 << bits {
            return Err(GateError::Shape(format!("suf-lut: {} entries for {bits} bits", table.len())));
        }
        if table.iter().any(|entry| entry.unsigned_abs() > MAX_ENTRY) {
            return Err(GateError::Shape(format!("suf-lut: an entry of the table exceeds {MAX_ENTRY}")));
        }
        Ok(Self { bits, table })
    }

    /// k, the opened low bits.
    #[must_use]
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The table; entry i stands for the signed value of the k-bit i.
    #[must_use]
    pub fn table(&self) -> &[i32] {
        &self.table
    }

    /// The one output for input `x`.
    #[must_use]
    pub fn reference(&self, x: i64) -> i64 {
        i64::from(self.table[x.rem_euclid(1 << self.bits) as usize])
    }

    /// The key's fields.
    #[must_use]
    pub fn key_shape(&self) -> KeyShape {
        KeyShape::new(true, lookup::fields(self.bits))
    }

    /// The exchanges, in order.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Vec<Segment>> {
        vec![
            vec![Segment::new("x_low", self.bits)],
            vec![Segment::new("sign", 1)],
            vec![Segment::new("v", WIRE.bits())],
            vec![Segment::new("y_hat", WIRE.bits())],
        ]
    }

    /// The cost, as formulas.
    #[must_use]
    pub fn declared(&self) -> Cost {
        let key = lookup::key_bits(self.bits);
        Cost {
            rounds: 4,
            bits: u32::from(self.bits) + 1 + 48 + 48,
            seeded_key_bits: key,
            explicit_key_bits: key,
        }
    }
}
