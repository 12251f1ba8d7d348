//! The ring Z_{2^n} and the fixed-point encoding on it.

/// The ring of every masked wire: Z_{2^48}.
pub const WIRE: Ring = Ring::new(48);

/// Fractional bits of the fixed-point encoding.
pub const FRAC: u8 = 12;

/// Z_{2^bits}, elements held in the low bits of a `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    bits: u8,
}

impl Ring {
    /// The ring of integers modulo 2^`bits`, `bits` in 1..=64.
    #[must_use]
    pub const fn new(bits: u8) -> Self {
        assert!(bits >= 1 && bits <= 64, "a ring has 1 to 64 bits");
        Self { bits }
    }

    /// n, the number of bits of an element.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// All ones in the element's bits.
    #[must_use]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    /// The representative of `v` in 0..2^n.
    #[must_use]
    pub const fn reduce(self, v: u64) -> u64 {
        v & self.mask()
    }

    /// Two's complement encoding of `v`.
    #[must_use]
    pub const fn encode(self, v: i64) -> u64 {
        self.reduce(v.cast_unsigned())
    }

    /// The signed value of an element, in -2^(n-1)..2^(n-1).
    #[must_use]
    pub const fn decode(self, v: u64) -> i64 {
        let unused = 64 - self.bits;
        (v << unused).cast_signed() >> unused
    }

    /// a + b.
    #[must_use]
    pub const fn add(self, a: u64, b: u64) -> u64 {
        self.reduce(a.wrapping_add(b))
    }

    /// a - b.
    #[must_use]
    pub const fn sub(self, a: u64, b: u64) -> u64 {
        self.reduce(a.wrapping_sub(b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_round_trips_at_the_edges() {
        for bits in [1, 2, 13, 48, 63, 64] {
            let ring = Ring::new(bits);
            let half = if bits == 64 { i64::MIN } else { -(1i64 << (bits - 1)) };
            for v in [half, -1, 0, !half] {
                assert_eq!(ring.decode(ring.encode(v)), v, "{v} in Z_2^{bits}");
            }
        }
    }

    #[test]
    fn sums_wrap() {
        assert_eq!(WIRE.add(WIRE.mask(), 1), 0);
        assert_eq!(WIRE.sub(0, 1), WIRE.mask());
    }
}
