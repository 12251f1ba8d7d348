//! How an exchange's values lie in a payload: segments one after another. Each is packed least significant bit first
//! and padded with zero bits to a whole byte.

use crate::codec::WireError;
use crate::limits::{MAX_SEGMENTS, TILE_ELEMS};

/// The shape of one payload: public, and the same at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segments<'a> {
    shapes: &'a [(u8, u32)],
}

impl<'a> Segments<'a> {
    /// Segments, each of so many bits (1 to 64) for so many entries (1 to [`TILE_ELEMS`]).
    ///
    /// # Errors
    /// [`WireError::OutOfRange`] for a width, a number of entries or of segments outside its limits.
    pub fn new(shapes: &'a [(u8, u32)]) -> Result<Self, WireError> {
        crate::codec::counted("segments", shapes.len() as u64, MAX_SEGMENTS as u64)?;
        for &(width, entries) in shapes {
            crate::codec::counted("width of a segment", width, u64::BITS.into())?;
            crate::codec::counted("entries of a segment", entries, TILE_ELEMS as u64)?;
        }
        Ok(Self { shapes })
    }

    /// Payload bits: what the meter counts. Padding is not payload.
    pub fn bits(self) -> u64 {
        self.shapes.iter().map(|&(width, entries)| u64::from(width) * u64::from(entries)).sum()
    }

    /// Bytes of the payload, padding included.
    pub fn bytes(self) -> usize {
        self.ranges().last().map_or(0, |range| range.end)
    }

    /// The bytes of each segment within the payload, in order.
    pub fn ranges(self) -> impl Iterator<Item = std::ops::Range<usize>> + 'a {
        self.shapes.iter().scan(0, move |start, &(width, entries)| {
            let range = *start..*start + (usize::from(width) * entries as usize).div_ceil(8);
            *start = range.end;
            Some(range)
        })
    }

    /// Checks a received payload: its length, and that every segment's padding is zero.
    ///
    /// # Errors
    /// [`WireError::Length`] or [`WireError::Padding`].
    pub fn check(self, payload: &[u8]) -> Result<(), WireError> {
        if payload.len() != self.bytes() {
            let (expected, got) = (self.bytes() as u64, payload.len() as u64);
            return Err(WireError::Length { field: "payload", expected, got });
        }
        for (range, &(width, entries)) in self.ranges().zip(self.shapes) {
            let used = usize::from(width) * entries as usize % 8;
            if used != 0 && payload[range.end - 1] >> used != 0 {
                return Err(WireError::Padding { field: "payload" });
            }
        }
        Ok(())
    }
}
