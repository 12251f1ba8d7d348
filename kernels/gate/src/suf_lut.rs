//! `suf-lut`: what the published SUF benchmark measures. A table over the low bits of x at scale 2^12, hence the
//! activation only for inputs of a few hundredths; it is reproduced for comparison and says so wherever it is printed.
//!
//! The parties start from shares of x, open the low k bits of the masked input, evaluate a DPF on all 2^k points, take
//! the inner product with the table, and turn the signed result into the table's entry with a select (SIGMA, PETS 2024).

use crate::{
    Cost, GateError, KeyShape, Segment,
    activation::Activation,
    layout::{Field, FieldId, Source, Width},
    ring::{FRAC, WIRE},
};

/// Own: the root of this party's tree.
pub const ROOT: FieldId = FieldId(2);
/// Common: seed correction words, level after level.
pub const SEED_CW: FieldId = FieldId(3);
/// Common: correction of the leaf block.
pub const LEAF_CW: FieldId = FieldId(4);
/// Common: the right child's control-bit corrections, bit i for level i.
pub const RIGHT_BITS: FieldId = FieldId(5);
/// Own: share of the mask of the sign bit.
pub const SIGN_MASK: FieldId = FieldId(6);
/// Shared: the five ring elements of the select, [`SELECT_ELEMENTS`].
pub const SELECT: FieldId = FieldId(7);

/// The select's elements: mask of V; factor and constant for an opened sign bit of 0; the same for 1.
pub const SELECT_ELEMENTS: [&str; 5] = ["a", "k_0", "k_1", "c_0", "c_1"];

/// Levels of a tree that end in blocks of 128 = 2^7 leaves.
pub const LEAF_BITS: u8 = 7;

/// Bound of a table's entries in magnitude: sums of 2^10 of them stay below 2^31.
pub const MAX_ENTRY: u32 = 1 << 20;

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
    /// When `bits` is not in 8..=10, the table has not 2^`bits` entries, or one exceeds [`MAX_ENTRY`].
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

    /// Levels of the tree above the leaf blocks.
    #[must_use]
    pub fn levels(&self) -> u8 {
        self.bits - LEAF_BITS
    }

    /// The one output for input `x`.
    #[must_use]
    pub fn reference(&self, x: i64) -> i64 {
        i64::from(self.table[x.rem_euclid(1 << self.bits) as usize])
    }

    /// The key's fields.
    #[must_use]
    pub fn key_shape(&self) -> KeyShape {
        KeyShape::new(true, lookup_fields(self.levels()))
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
        let key = u32::from(self.bits - 7) * 128 + 2 * 128 + 32 + 1 + 5 * 64;
        Cost {
            rounds: 4,
            bits: u32::from(self.bits) + 1 + 48 + 48,
            seeded_key_bits: key,
            explicit_key_bits: key,
        }
    }
}

/// The fields of a table look-up by DPF on `levels` + 7 bits, as `suf-lut` and `sigma` have them.
#[must_use]
pub fn lookup_fields(levels: u8) -> [Field; 6] {
    [
        Field::new("root", Source::Own, Width::Bytes(16)),
        Field::new("seed_cw", Source::Common, Width::Bytes(16 * u16::from(levels))),
        Field::new("leaf_cw", Source::Common, Width::Bytes(16)),
        Field::new("right_bits", Source::Common, Width::Bytes(4)),
        Field::new("sign_mask", Source::Own, Width::Planes(1)),
        Field::new("select", Source::Shared, Width::Bytes(8 * 5)),
    ]
}
