//! The table look-up that `suf-lut` and `sigma` have in common (SIGMA, PETS 2024, section 4.2).
//!
//! A DPF on k bits is evaluated at all 2^k points. It is hot at the mask r of a public index v = i + r mod 2^k. The
//! leaves of the two parties differ at one place only. So the inner products with the rotated table differ by s * T[i],
//! where s = 1 or -1 says which party holds the 1. One exchange opens the bit of s under a mask, and another opens V =
//! s * T[i] + a. A linear function of V gives a share of T[i]; the opened bit selects its coefficients. Formulas:
//! `docs/protocols/suf-lut.md#the-look-up`.

use crate::layout::{Field, FieldId, Source, Width};

/// log2 of the leaves in a block, at which the trees end.
pub const LEAF_BITS: u8 = 7;

/// The select's elements: mask of V; factor and constant for an opened sign bit of 0; the same for 1.
pub const SELECT_ELEMENTS: [&str; 5] = ["a", "k_0", "k_1", "c_0", "c_1"];

/// Bound of a table's entries in magnitude: sums of 2^10 of them stay below 2^31.
pub const MAX_ENTRY: u32 = 1 << 20;

/// Bytes of a ring element in the fields that SIGMA has: whole words, though only 48 bits count.
pub const ELEMENT_BYTES: usize = 8;

/// Where the fields of a look-up stand in a gate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupIds {
    /// Own: the root of this party's tree.
    pub root: FieldId,
    /// Common: seed correction words, level after level.
    pub seed_cw: FieldId,
    /// Common: correction of the leaf block.
    pub leaf_cw: FieldId,
    /// Common: the right child's control-bit corrections, bit i for level i.
    pub right_bits: FieldId,
    /// Own: share of the mask of the sign bit.
    pub sign_mask: FieldId,
    /// Shared: the five ring elements of the select, [`SELECT_ELEMENTS`]. The dealer's own stream of this field gives
    /// the masks of V, a word of [`ELEMENT_BYTES`] for each element.
    pub select: FieldId,
}

impl LookupIds {
    /// The ids of the fields of [`fields`] when the first of them is `first`.
    #[must_use]
    pub const fn from(first: FieldId) -> Self {
        Self {
            root: FieldId(first.0),
            seed_cw: FieldId(first.0 + 1),
            leaf_cw: FieldId(first.0 + 2),
            right_bits: FieldId(first.0 + 3),
            sign_mask: FieldId(first.0 + 4),
            select: FieldId(first.0 + 5),
        }
    }
}

/// The fields of a look-up by an index of `bits` bits, at least 7.
#[must_use]
pub fn fields(bits: u8) -> [Field; 6] {
    [
        Field::new("root", Source::Own, Width::Bytes(16)),
        Field::new("seed_cw", Source::Common, Width::Bytes(16 * u16::from(bits - LEAF_BITS))),
        Field::new("leaf_cw", Source::Common, Width::Bytes(16)),
        Field::new("right_bits", Source::Common, Width::Bytes(4)),
        Field::new("sign_mask", Source::Own, Width::Planes(1)),
        Field::new("select", Source::Shared, Width::Bytes((ELEMENT_BYTES * SELECT_ELEMENTS.len()) as u16)),
    ]
}

/// Key bits of a look-up by an index of `bits` bits, as a formula.
#[must_use]
pub fn key_bits(bits: u8) -> u32 {
    u32::from(bits - LEAF_BITS) * 128 + 2 * 128 + 32 + 1 + 5 * 64
}
