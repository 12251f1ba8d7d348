//! How an exchange's values lie in a payload: segments one after another, each packed least significant bit first and
//! padded with zero bits to a whole byte at its end.

use crate::codec::WireError;
use crate::limits::{MAX_SEGMENTS, TILE_ELEMS};

/// The shape of one payload: public, and the same at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segments<'a> {
    widths_bits: &'a [u8],
    elems: u32,
}

impl<'a> Segments<'a> {
    /// Segments of `widths_bits` bits (1 to 64) for each of `elems` elements (1 to [`TILE_ELEMS`]).
    ///
    /// # Errors
    /// [`WireError::OutOfRange`] for a width, a number of elements or of segments outside its limits.
    pub fn new(widths_bits: &'a [u8], elems: u32) -> Result<Self, WireError> {
        crate::codec::counted("elements of a tile", elems, TILE_ELEMS as u64)?;
        crate::codec::counted("segments", widths_bits.len() as u64, MAX_SEGMENTS as u64)?;
        for &width in widths_bits {
            crate::codec::counted("width of a segment", width, u64::BITS.into())?;
        }
        Ok(Self { widths_bits, elems })
    }

    /// Payload bits: what the meter counts. Padding is not payload.
    pub fn bits(self) -> u64 {
        self.widths_bits.iter().map(|&width| u64::from(width) * u64::from(self.elems)).sum()
    }

    /// Bytes of the payload, padding included.
    pub fn bytes(self) -> usize {
        self.ranges().last().map_or(0, |range| range.end)
    }

    /// The bytes of each segment within the payload, in order.
    pub fn ranges(self) -> impl Iterator<Item = std::ops::Range<usize>> + 'a {
        let elems = self.elems as usize;
        self.widths_bits.iter().scan(0, move |start, &width| {
            let range = *start..*start + (usize::from(width) * elems).div_ceil(8);
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
        for (range, &width) in self.ranges().zip(self.widths_bits) {
            let used = usize::from(width) * self.elems as usize % 8;
            if used != 0 && payload[range.end - 1] >> used != 0 {
                return Err(WireError::Padding { field: "payload" });
            }
        }
        Ok(())
    }
}
