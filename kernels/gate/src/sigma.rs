//! `sigma`: SIGMA's GeLU and SiLU (Gupta et al., PETS 2024, sections 4 and 5), with its key sizes and its messages.
//!
//! y = relu(x) - T[min(|t|, 2^c - 1)] with t = floor(x / 2^6) on 31 bits. The steps, in order:
//!
//! 1. t by a masked low-bit comparison through a shared bit table.
//! 2. The sign of t, and whether |t| < 2^c, from one comparison DPF at three points (after Grotto, CCS 2023).
//! 3. The clipped |t| by a table of four rows.
//! 4. T by a DPF look-up ([`crate::lookup`]), and relu by a select.
//!
//! Comparisons v < r are made as !r < !v, so that no point leaves the domain.
//!
//! Every field is shipped to both parties, and ring elements take whole words, as in SIGMA. Formulas:
//! `docs/protocols/sigma.md`.

use crate::{
    Cost, GateError, KeyShape, Segment,
    activation::Activation,
    layout::{Field, FieldId, Source, Width},
    lookup::{self, LookupIds},
    ring::{FRAC, WIRE},
};

/// Bits that the truncation drops.
pub const SHIFT: u8 = 6;
/// Bits of x that count: inputs are below 2^35 in magnitude.
pub const INPUT_BITS: u8 = 36;
/// b, the bits of t: one more than needed, so that the interval's ends do not leave them.
pub const T_BITS: u8 = INPUT_BITS - SHIFT + 1;
/// Bits of the comparison; the highest bit of t is added in the clear.
pub const COMPARE_BITS: u8 = T_BITS - 1;
/// Levels of the comparison's tree above the blocks of leaves.
pub const COMPARE_LEVELS: u8 = COMPARE_BITS - lookup::LEAF_BITS;

/// Shared: bit j of an element's word is 1[j < r mod 2^6].
pub const LOW_TABLE: FieldId = FieldId(0);
/// Own: share of rho, the mask of the low bits' comparison.
pub const LOW_MASK: FieldId = FieldId(1);
/// Shared: the truncation's ring elements, [`TRUNCATION_ELEMENTS`]. The dealer's own stream of this field gives a word
/// for each element. Its low 31 bits are r_t, and the c bits from bit 32 on are r_idx.
pub const TRUNCATION: FieldId = FieldId(2);
/// Own: root of this party's comparison tree, which is hot at !r_t on 30 bits.
pub const COMPARE_ROOT: FieldId = FieldId(3);
/// Common: its seed correction words, level after level.
pub const COMPARE_SEED_CW: FieldId = FieldId(4);
/// Common: its correction of the leaf block.
pub const COMPARE_LEAF_CW: FieldId = FieldId(5);
/// Common: its right control-bit corrections, a plane for each level.
pub const COMPARE_RIGHT_BITS: FieldId = FieldId(6);
/// Own: shares of the masks of the two opened bits. The sign's mask counts together with the highest bit of r_t.
pub const BIT_MASKS: FieldId = FieldId(7);
/// Shared: A and B of the four rows, eight numbers mod 2^c in one or two bytes each: A of rows 0..4, then B. Bit 0 of a
/// row is the opened t >= 0, bit 1 the opened |t| < 2^c.
pub const MUX: FieldId = FieldId(8);
/// The look-up of T.
pub const LOOKUP: LookupIds = LookupIds::from(FieldId(9));
/// Shared: the ring elements of relu, [`RELU_ELEMENTS`].
pub const RELU: FieldId = FieldId(15);

/// The truncation's elements: r >> 6, rho and r_t.
pub const TRUNCATION_ELEMENTS: [&str; 3] = ["r_high", "rho", "r_t"];
/// relu's elements: factor and constant for an opened sign bit of 0 and of 1, and the mask of the output.
pub const RELU_ELEMENTS: [&str; 5] = ["k_0", "k_1", "c_0", "c_1", "r_out"];

/// Clip widths there are: a block of leaves at least, and what the published gates use at most.
const CLIP_BITS: std::ops::RangeInclusive<u8> = 8..=10;

/// A `sigma` gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sigma {
    clip: u8,
    table: Vec<i32>,
}

impl Sigma {
    /// The table of relu - `activation`, an even function, on `clip` bits of |t| (8 in the published GELU, 10 in SiLU).
    /// It is truncated towards zero, as SIGMA's generator makes it.
    ///
    /// # Errors
    /// When `clip` is not in 8..=10.
    pub fn of(activation: &Activation, clip: u8) -> Result<Self, GateError> {
        let scale = f64::from(1u32 << FRAC);
        let grid = f64::from(1u32 << (FRAC - SHIFT));
        // Out of range, the constructor complains before the length counts.
        let entries = 0..1u32 << clip.clamp(*CLIP_BITS.start(), *CLIP_BITS.end());
        let entry = |i: u32| {
            let x = f64::from(i) / grid;
            ((x - activation.eval(x)) * scale).trunc() as i32
        };
        Self::new(clip, entries.map(entry).collect())
    }

    /// A gate with an explicit table.
    ///
    /// # Errors
    /// When `clip` is not in 8..=10, the table does not have 2^`clip` entries, or an entry exceeds [`lookup::MAX_ENTRY`].
    pub fn new(clip: u8, table: Vec<i32>) -> Result<Self, GateError> {
        if !CLIP_BITS.contains(&clip) {
            return Err(GateError::Shape(format!("sigma: |t| clipped to {clip} bits is not in 8..=10")));
        }
        if table.len() != 1 << clip {
            return Err(GateError::Shape(format!("sigma: {} entries for {clip} bits", table.len())));
        }
        if table.iter().any(|entry| entry.unsigned_abs() > lookup::MAX_ENTRY) {
            return Err(GateError::Shape(format!(
                "sigma: an entry of the table exceeds {}",
                lookup::MAX_ENTRY
            )));
        }
        Ok(Self { clip, table })
    }

    /// c, the bits of the clipped |t|.
    #[must_use]
    pub fn clip(&self) -> u8 {
        self.clip
    }

    /// T; entry i stands for |t| = i, the last also for all above.
    #[must_use]
    pub fn table(&self) -> &[i32] {
        &self.table
    }

    /// Bytes of a number in [`MUX`].
    #[must_use]
    pub fn mux_bytes(&self) -> usize {
        if self.clip <= 8 { 1 } else { 2 }
    }

    /// Smallest and largest input for which the output is right.
    #[must_use]
    pub fn domain(&self) -> (i64, i64) {
        let bound = 1i64 << (INPUT_BITS - 1);
        (1 - bound, bound - 1)
    }

    /// The one output for input `x`.
    #[must_use]
    pub fn reference(&self, x: i64) -> i64 {
        let clipped = (x >> SHIFT).unsigned_abs().min((1 << self.clip) - 1);
        // Below 2^clip.
        x.max(0) - i64::from(self.table[clipped as usize])
    }

    /// The key's fields.
    #[must_use]
    pub fn key_shape(&self) -> KeyShape {
        let elements = |count: usize| Width::Bytes((lookup::ELEMENT_BYTES * count) as u16);
        let levels = u16::from(COMPARE_LEVELS);
        let mut fields = vec![
            Field::new("low_table", Source::Shared, Width::Bytes((1 << SHIFT) / 8)),
            Field::new("low_mask", Source::Own, Width::Planes(1)),
            Field::new("truncation", Source::Shared, elements(TRUNCATION_ELEMENTS.len())),
            Field::new("compare_root", Source::Own, Width::Bytes(16)),
            Field::new("compare_seed_cw", Source::Common, Width::Bytes(16 * levels)),
            Field::new("compare_leaf_cw", Source::Common, Width::Bytes(16)),
            Field::new("compare_right_bits", Source::Common, Width::Planes(levels)),
            Field::new("bit_masks", Source::Own, Width::Planes(2)),
            Field::new("mux", Source::Shared, Width::Bytes(8 * self.mux_bytes() as u16)),
        ];
        fields.extend(lookup::fields(self.clip));
        fields.push(Field::new("relu", Source::Shared, elements(RELU_ELEMENTS.len())));
        KeyShape::new(true, fields)
    }

    /// The exchanges, in order. Each depends on the one before.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Vec<Segment>> {
        vec![
            vec![Segment::new("low", 1)],
            vec![Segment::new("t_hat", T_BITS)],
            vec![Segment::new("positive", 1), Segment::new("inside", 1)],
            vec![Segment::new("index", self.clip)],
            vec![Segment::new("sign", 1)],
            vec![Segment::new("v", WIRE.bits())],
            vec![Segment::new("y_hat", WIRE.bits())],
        ]
    }

    /// The cost, as formulas.
    #[must_use]
    pub fn declared(&self) -> Cost {
        let clip = u32::from(self.clip);
        let truncation = 64 + 1 + 3 * 64;
        let comparison = 23 * 128 + 2 * 128 + 23 + 1 + 1;
        let mux = 2 * 4 * if clip <= 8 { 8 } else { 16 };
        let relu = 5 * 64;
        let key = truncation + comparison + mux + lookup::key_bits(self.clip) + relu;
        Cost {
            rounds: 7,
            bits: 1 + 31 + 2 + clip + 1 + 48 + 48,
            seeded_key_bits: key,
            explicit_key_bits: key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{activation::Builtin, layout::Side};

    #[test]
    fn published_costs_are_met() {
        for (function, clip, key, bits) in
            [(Builtin::Gelu, 8, 575.375, 139), (Builtin::Silu, 10, 615.375, 141)]
        {
            let gate = Sigma::of(&function.into(), clip).expect("a published width");
            let declared = gate.declared();
            assert!((declared.mean_key_bytes() - key).abs() < f64::EPSILON);
            assert_eq!((declared.bits, declared.rounds), (bits, 7));
        }
    }

    /// The model rows of the published benchmark: elements of one layer, and the bytes that it prints.
    #[test]
    fn published_integers_are_met() {
        for (function, clip, elems, key, messages) in [
            (Builtin::Gelu, 8, 393_216_u64, 226_246_736_u64, 13_664_260_u64),
            (Builtin::Gelu, 8, 524_288, 301_662_288, 18_219_012),
            (Builtin::Silu, 10, 1_409_024, 867_078_224, 49_668_100),
        ] {
            let gate = Sigma::of(&function.into(), clip).expect("a published width");
            let bits = u64::from(gate.key_shape().bits_per_elem(Side::Explicit));
            // The published numbers contain a few words of header.
            assert!((bits * elems / 8).abs_diff(key) < 128, "{function:?} key");
            assert!(
                (u64::from(gate.declared().bits) * elems / 4).abs_diff(messages) < 128,
                "{function:?} messages"
            );
        }
    }

    #[test]
    fn the_reference_is_the_clipped_table() {
        let gate = Sigma::of(&Builtin::Gelu.into(), 8).expect("a published width");
        let t = gate.table();
        // x / 64 is rounded down before the absolute value: -1 stands at t = -1.
        for (x, y) in [
            (0, -t[0]),
            (63, 63 - t[0]),
            (-1, -t[1]),
            (64, 64 - t[1]),
            (-65, -t[2]),
            (1 << 20, (1 << 20) - t[255]),
        ] {
            assert_eq!(gate.reference(x), i64::from(y), "x = {x}");
        }
    }

    #[test]
    fn shapes_out_of_range_are_refused() {
        assert!(Sigma::of(&Builtin::Gelu.into(), 7).is_err());
        assert!(Sigma::of(&Builtin::Gelu.into(), 11).is_err());
        assert!(Sigma::new(8, vec![0; 255]).is_err());
        assert!(Sigma::new(8, vec![(1 << 20) + 1; 256]).is_err());
    }
}
