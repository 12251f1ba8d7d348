//! `dpf`: two rounds, from one comparison DPF on the mask, r >> s.
//!
//! With v = x_hat >> s and r' = r >> s on N bits, t = v - r' is the rounded input. The tree is hot at !r' on N - 1
//! bits. Seen from the centre !v, the hot leaf stands at distance t. So the leaves round the centre are the one-hot
//! vector of the window. The parity of the leaves below the centre is 1[!r' < !v] = 1[v < r']. This is the borrow of
//! v - r', hence it gives the sign (prefix parity: Storrier et al., Grotto, CCS 2023). The highest bit of r' is part of
//! a bit mask. Unlike `onehot`'s digit the window has no alias, so nothing has to be compared besides the sign. The last
//! exchange is `onehot`'s without digits.
//!
//! The tree is the half-tree of Guo et al., EUROCRYPT 2023, with blocks of 128 leaves. Roots are each party's own
//! stream, so only the correction words are shipped to both. Formulas: `docs/protocols/dpf.md`.

use crate::{
    Cost, Curve, GateError, KeyShape, Segment,
    layout::{Field, FieldId, Source, Width},
    lookup::LEAF_BITS,
    ring::WIRE,
};

/// Own: share of the mask of pos. It counts together with the highest bit of r'.
pub const SIGN_MASK: FieldId = FieldId(0);
/// Own randomness: the mask `a` of the window's entry, its low k bits.
pub const ENTRY_MASK: FieldId = FieldId(1);
/// Own: the root of this party's tree.
pub const ROOT: FieldId = FieldId(2);
/// Common: correction words, level after level.
pub const SEED_CW: FieldId = FieldId(3);
/// Common: correction of the leaf block.
pub const LEAF_CW: FieldId = FieldId(4);
/// Shared: the packed ring elements of the last exchange, [`RING_ELEMENTS`].
pub const RING: FieldId = FieldId(5);

/// The ring elements, as in `onehot` without digits.
pub const RING_ELEMENTS: [&str; 5] = ["kappa_0", "s", "c_0", "c_1", "b_1"];

/// Narrowest window that is read, in bits: two blocks of leaves. A narrower curve is padded with zeros.
const MIN_WINDOW_BITS: u8 = LEAF_BITS + 1;

/// A `dpf` gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dpf {
    curve: Curve,
    t_bits: u8,
}

impl Dpf {
    /// The gate of `curve` with N = `t_bits` bits of t.
    ///
    /// # Errors
    /// When the window and two bits do not fit in N bits, or N bits on the grid not in the ring.
    pub fn new(curve: Curve, t_bits: u8) -> Result<Self, GateError> {
        let least = curve.window_bits.max(MIN_WINDOW_BITS) + 2;
        let most = WIRE.bits() - curve.shift;
        if !(least..=most).contains(&t_bits) {
            return Err(GateError::Shape(format!("dpf: {t_bits} bits of t are not in {least}..={most}")));
        }
        if curve.mask_bits() > 16 {
            return Err(GateError::Shape("dpf: table entries need a mask of more than 16 bits".into()));
        }
        Ok(Self { curve, t_bits })
    }

    /// The function.
    #[must_use]
    pub fn curve(&self) -> &Curve {
        &self.curve
    }

    /// N, the bits of t.
    #[must_use]
    pub fn t_bits(&self) -> u8 {
        self.t_bits
    }

    /// Levels of the tree above the blocks of leaves.
    #[must_use]
    pub fn levels(&self) -> u8 {
        self.t_bits - 1 - LEAF_BITS
    }

    /// Bits of the window that is read from the tree: the curve's, or two blocks of leaves if that is more.
    #[must_use]
    pub fn window_bits(&self) -> u8 {
        self.curve.window_bits.max(MIN_WINDOW_BITS)
    }

    /// Smallest and largest input for which the output is right.
    #[must_use]
    pub fn domain(&self) -> (i64, i64) {
        let bound = 1i64 << (self.t_bits + self.curve.shift - 2);
        (1 - bound, bound - 1)
    }

    /// The key's fields.
    #[must_use]
    pub fn key_shape(&self) -> KeyShape {
        let packed = u16::from(WIRE.bits() / 8);
        KeyShape::new(
            false,
            [
                Field::new("sign_mask", Source::Own, Width::Planes(1)),
                Field::new("a", Source::Own, Width::Bytes(2)),
                Field::new("root", Source::Own, Width::Bytes(16)),
                Field::new("seed_cw", Source::Common, Width::Bytes(16 * u16::from(self.levels()))),
                Field::new("leaf_cw", Source::Common, Width::Bytes(16)),
                Field::new("ring", Source::Shared, Width::Bytes(packed * RING_ELEMENTS.len() as u16)),
            ],
        )
    }

    /// The exchanges, in order.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Vec<Segment>> {
        vec![
            vec![Segment::new("pos", 1), Segment::new("m", self.curve.mask_bits())],
            vec![Segment::new("y_hat", WIRE.bits())],
        ]
    }

    /// The cost, as formulas.
    #[must_use]
    pub fn declared(&self) -> Cost {
        let tree = u32::from(self.t_bits - 8) * 128 + 128;
        Cost {
            rounds: 2,
            bits: 1 + u32::from(self.curve.mask_bits()) + 48,
            seeded_key_bits: tree,
            explicit_key_bits: tree + 5 * 48,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gatefile::GateFile;

    fn curve(name: &str) -> Curve {
        GateFile::builtin(name).expect("a built-in gate").curve
    }

    #[test]
    fn costs_are_those_of_the_protocol_page() {
        for (name, bits) in [("gelu", 61), ("silu", 62)] {
            let declared = Dpf::new(curve(name), 30).expect("a shape").declared();
            assert_eq!((declared.rounds, declared.bits), (2, bits));
            // 22 levels and a leaf block, and half of five packed ring elements.
            assert!((declared.mean_key_bytes() - (23.0 * 16.0 + 15.0)).abs() < f64::EPSILON);
        }
    }

    #[test]
    fn shapes_out_of_range_are_refused() {
        assert!(Dpf::new(curve("gelu"), 10).is_err());
        assert!(Dpf::new(curve("gelu"), 11).is_ok());
        assert!(Dpf::new(curve("gelu"), 42).is_ok());
        assert!(Dpf::new(curve("gelu"), 43).is_err());
    }
}
