//! Operations that both parties do by themselves on masked or shared wires, without a message and without a key: `add`,
//! `shift`, `drop`. The wire that they make has a **derived** mask, the same function of the masks of the wires taken.

use super::{OpDef, only};
use crate::{Form, Ring, Wire, wire::Mask};

/// The sum of two wires, in the smaller of their rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Add;

/// A wire times 2^k, with k more fractional bits: the value stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift(pub u8);

/// A wire without its lowest d bits: `x_hat >> d` under the mask `r >> d`, in a ring of d bits less. Its value is x >> d or
/// one more, with a probability equal to the fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropBits(pub u8);

impl OpDef for Add {
    fn name(&self) -> String {
        "add".into()
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let [a, b] = inputs else { return Err(format!("it takes two wires, not {}", inputs.len())) };
        if a.form == Form::Pad {
            return Err("it takes no shares of masks".into());
        }
        if (a.shape, a.frac, a.form) != (b.shape, b.frac, b.form) {
            return Err(format!("it takes wires of one shape, scale and form, not {a} and {b}"));
        }
        let ring = if a.ring.bits() < b.ring.bits() { a.ring } else { b.ring };
        Ok(Some(Wire { ring, mask: a.mask.derived().and(b.mask), ..*a }))
    }
}

impl OpDef for Shift {
    fn name(&self) -> String {
        format!("shift {}", self.0)
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let wire = only(inputs)?;
        let frac = wire.frac.saturating_add(self.0);
        if self.0 == 0 || frac >= wire.ring.bits() {
            return Err(format!("{wire} cannot be shifted by {} bits", self.0));
        }
        Ok(Some(Wire { frac, mask: wire.mask.derived(), ..wire }))
    }
}

impl OpDef for DropBits {
    fn name(&self) -> String {
        format!("drop {}", self.0)
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let wire = only(inputs)?;
        if wire.form != Form::Masked {
            return Err("it takes a masked wire".into());
        }
        match wire.frac.checked_sub(self.0) {
            Some(frac) if self.0 > 0 => {
                // More fractional bits than the ring has were refused before.
                let ring = Ring::new(wire.ring.bits() - self.0);
                Ok(Some(Wire { ring, frac, mask: Mask::Dropped, ..wire }))
            }
            _ => Err(format!("{wire} has no {} fractional bits to drop", self.0)),
        }
    }
}

impl Add {
    /// The sums of two tiles, of wires or of masks.
    #[must_use]
    pub fn apply(ring: Ring, mut a: Vec<u64>, b: &[u64]) -> Vec<u64> {
        a.iter_mut().zip(b).for_each(|(a, b)| *a = ring.add(*a, *b));
        a
    }
}

impl Shift {
    /// A tile times 2^k, of a wire or of a mask.
    #[must_use]
    pub fn apply(self, ring: Ring, mut tile: Vec<u64>) -> Vec<u64> {
        tile.iter_mut().for_each(|x| *x = ring.reduce(*x << self.0));
        tile
    }
}

impl DropBits {
    /// A tile without its low bits, of a wire or of a mask.
    #[must_use]
    pub fn apply(self, mut tile: Vec<u64>) -> Vec<u64> {
        tile.iter_mut().for_each(|x| *x >>= self.0);
        tile
    }
}
