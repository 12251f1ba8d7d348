//! The data frame: one party's message of one exchange.

use std::fmt;

use bytes::Bytes;

use crate::causal::Causal;
use crate::codec::{Cursor, Decode, Encode, WireError};
use crate::limits::MAX_SEGMENTS;
use crate::part::{NodeId, Part, check_tile};

/// One party's message of one exchange of one part.
#[derive(Clone, PartialEq, Eq)]
pub struct DataFrame {
    /// Which tile of which node.
    pub part: Part,
    /// Which exchange of the node, counted from 0.
    pub step: u8,
    /// Causal depth, at least 1; the link sets it.
    pub depth: Causal,
    /// Payload bits without padding: what is counted.
    pub bits: u64,
    /// The segments, see [`crate::Segments`].
    pub payload: Bytes,
}

impl DataFrame {
    /// A frame that waits for its causal depth.
    pub fn new(part: Part, step: u8, bits: u64, payload: Bytes) -> Self {
        Self { part, step, depth: Causal::START, bits, payload }
    }
}

/// Values of masked wires are public to both parties, yet nothing is gained by printing them.
impl fmt::Debug for DataFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataFrame")
            .field("node", &self.part.node.0)
            .field("tile", &self.part.tile)
            .field("step", &self.step)
            .field("depth", &self.depth.depth())
            .field("bits", &self.bits)
            .field("payload_bytes", &self.payload.len())
            .finish()
    }
}

/// The fixed part of a [`DataFrame`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataHead {
    /// See [`DataFrame::part`].
    pub part: Part,
    /// See [`DataFrame::step`].
    pub step: u8,
    /// See [`DataFrame::depth`].
    pub depth: Causal,
    /// See [`DataFrame::bits`].
    pub bits: u64,
}

impl DataHead {
    /// Bytes between the prefix and the payload.
    pub const BYTES: usize = 17;

    /// Padding is below one byte for each segment; more is a payload whose bits were not all counted.
    pub(crate) fn check_bits(&self, payload_bytes: usize) -> Result<(), WireError> {
        let least = self.bits.div_ceil(8);
        let most = (self.bits / 8).saturating_add(MAX_SEGMENTS as u64);
        if self.bits > 0 && (least..=most).contains(&(payload_bytes as u64)) {
            Ok(())
        } else {
            Err(WireError::OutOfRange { field: "bits", value: self.bits, limit: payload_bytes as u64 * 8 })
        }
    }
}

impl Encode for DataHead {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.part.node.encode(out)?;
        out.push(self.step);
        out.extend_from_slice(&check_tile(self.part.tile)?.to_le_bytes());
        self.depth.encode(out)?;
        out.extend_from_slice(&self.bits.to_le_bytes());
        Ok(())
    }
}

impl Decode for DataHead {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        let node = NodeId::decode(cursor)?;
        let step = cursor.u8("step")?;
        let tile = check_tile(cursor.u32("tile")?)?;
        Ok(Self {
            part: Part { node, tile },
            step,
            depth: Causal::decode(cursor)?,
            bits: cursor.u64("bits")?,
        })
    }
}
