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

    /// Of a node of `elems` elements.
    #[must_use]
    pub fn times(&self, elems: usize) -> NodeCost {
        let all = |bits: u32| u64::from(bits) * elems as u64;
        NodeCost {
            rounds: self.rounds,
            bits: all(self.bits),
            seeded_key_bits: all(self.seeded_key_bits),
            explicit_key_bits: all(self.explicit_key_bits),
        }
    }

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

/// What a node costs in all, padding to bytes aside. Bits of messages count one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCost {
    /// Causal depth of its exchanges.
    pub rounds: u8,
    /// Message bits in one direction.
    pub bits: u64,
    /// Key bits of the seeded sides of all its parts.
    pub seeded_key_bits: u64,
    /// Key bits of the explicit sides.
    pub explicit_key_bits: u64,
}

impl NodeCost {
    /// Of what each party does by itself.
    pub const NONE: Self = Self { rounds: 0, bits: 0, seeded_key_bits: 0, explicit_key_bits: 0 };
}
