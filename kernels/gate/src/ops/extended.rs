//! Extended wires: x >> d of a wire of n bits, in a full ring and without a message.
//!
//! Let a = n - d and `abs(x) < 2^(n-2)`. With `mu = r >> d` and `c = msb(r)`, `x >> d = T - mu + 2^a p c`. T and p are
//! public: `u = x_hat + 2^(n-2) mod 2^n`, `T = (u >> d) - 2^(n-2-d)`, `p = 1 - msb(u)`. The result is rounded down or
//! up by a coin that the masks decide. Proof: `docs/protocols/programs.md#extended-wires`.

use crate::{Form, Ring, Wire};

/// A masked wire of `ring` without its lowest `drop` bits, in a full ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    /// n, the ring of the wire.
    pub ring: Ring,
    /// d, the bits that are dropped.
    pub drop: u8,
}

impl Extended {
    /// The wire of `ring` without `drop` bits.
    ///
    /// # Errors
    /// When fewer than two bits are left, in words.
    pub fn new(ring: Ring, drop: u8) -> Result<Self, String> {
        if ring.bits() < 3 || drop > ring.bits() - 2 {
            return Err(format!("{drop} bits cannot be dropped of {}: two at least are left", ring.bits()));
        }
        Ok(Self { ring, drop })
    }

    /// a, the bits that are kept.
    #[must_use]
    pub const fn kept(self) -> u8 {
        self.ring.bits() - self.drop
    }

    /// T and p of an element.
    #[must_use]
    pub const fn public(self, x_hat: u64) -> (u64, u64) {
        let quarter = 1u64 << (self.ring.bits() - 2);
        let u = self.ring.add(x_hat, quarter);
        let moved = (u >> self.drop).wrapping_sub(quarter >> self.drop);
        (moved, 1 - (u >> (self.ring.bits() - 1)))
    }

    /// mu of a mask.
    #[must_use]
    pub const fn quotient(self, r: u64) -> u64 {
        r >> self.drop
    }

    /// c of a mask.
    #[must_use]
    pub const fn top(self, r: u64) -> u64 {
        r >> (self.ring.bits() - 1)
    }

    /// The fractional bits of what `wire` is extended to.
    ///
    /// # Errors
    /// When the wire is not one of this ring, or has fewer fractional bits than are dropped, in words.
    pub fn frac_of(self, wire: &Wire) -> Result<u8, String> {
        if (wire.form, wire.ring) != (Form::Masked, self.ring) {
            return Err(format!("it takes a masked wire of {} bits, not {wire}", self.ring.bits()));
        }
        wire.frac
            .checked_sub(self.drop)
            .ok_or_else(|| format!("{wire} has no {} fractional bits to drop", self.drop))
    }
}
