//! Declared cost: formulas that stand beside each gate. The link measures; a difference of one bit is a failure.

/// What a gate costs, per element. Bits count one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Causal depth of the gate's exchanges.
    pub rounds: u8,
    /// Message bits per element and direction.
    pub bits: u32,
    /// Key bits per element of the seeded side.
    pub seeded_key_bits: u32,
    /// Key bits per element of the explicit side.
    pub explicit_key_bits: u32,
}

impl Cost {
    /// Of what each party does by itself.
    pub const NONE: Self = Self { rounds: 0, bits: 0, seeded_key_bits: 0, explicit_key_bits: 0 };

    /// Key bytes per element, mean of both parties.
    #[must_use]
    pub fn mean_key_bytes(&self) -> f64 {
        f64::from(self.seeded_key_bits + self.explicit_key_bits) / 16.0
    }

    /// Bytes per element that one party sends and receives, together.
    #[must_use]
    pub fn eval_bytes(&self) -> f64 {
        f64::from(self.bits) / 4.0
    }
}
