//! Causal depth: what the number of rounds is.

use crate::codec::{Cursor, Decode, Encode, WireError};

/// Causal depth: how many frames, each answering the last, lead to this point. The maximum over a program is its number of
/// rounds (`docs/protocols.md#what-is-counted`).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Causal(u16);

impl Causal {
    /// Nothing received yet.
    pub const START: Self = Self(0);

    /// The depth past the last.
    const END: u16 = u16::MAX;

    /// What depends on both.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        self.max(other)
    }

    /// The depth of a frame that depends on this. No program has 65534 rounds, so reaching the end is an error.
    pub fn next(self) -> Result<Self, WireError> {
        let next = self.0 + 1;
        if next < Self::END { Ok(Self(next)) } else { Err(WireError::Depth { field: "depth", value: next }) }
    }

    /// The number itself.
    pub const fn depth(self) -> u16 {
        self.0
    }
}

impl Encode for Causal {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        if *self == Self::START {
            return Err(WireError::Depth { field: "depth", value: 0 });
        }
        out.extend_from_slice(&self.0.to_le_bytes());
        Ok(())
    }
}

impl Decode for Causal {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        match cursor.u16("depth")? {
            value @ (0 | Self::END) => Err(WireError::Depth { field: "depth", value }),
            depth => Ok(Self(depth)),
        }
    }
}
