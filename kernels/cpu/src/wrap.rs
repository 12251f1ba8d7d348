//! What an extended wire adds to the last exchange of a gate ([`suf_gate::ops::Entry`]). Where the opened q is 0, it
//! adds 2^a times a share that the opened pos selects. It is added to both constants C of the element's row, of which
//! pos selects one.

use std::ops::Range;

use suf_gate::ring::WIRE;
use zeroize::Zeroizing;

use crate::key::{FieldBytes, PACKED};

/// Bytes of an element's two shares.
const SHARES: usize = 4;

/// A party's shares of the wraps of a part.
pub(crate) struct Wraps<'k> {
    /// The shares.
    pub(crate) field: FieldBytes<'k>,
    /// a, the bits that are kept of the wire.
    pub(crate) kept: u8,
    /// Whether q is 0, for each element.
    pub(crate) counts: &'k [bool],
}

/// Rows of ring elements to which wraps are added.
pub(crate) struct Rows<'k> {
    wraps: Wraps<'k>,
    row_bytes: usize,
    first_constant: usize,
    shares: Zeroizing<Vec<u8>>,
    rows: Zeroizing<Vec<u8>>,
}

impl<'k> Wraps<'k> {
    /// For rows of `row_bytes` bytes, in which element `first_constant` is C for an opened pos of 0, and the next one for 1.
    pub(crate) fn into_rows(self, row_bytes: usize, first_constant: usize) -> Rows<'k> {
        let (shares, rows) = Default::default();
        Rows { wraps: self, row_bytes, first_constant, shares, rows }
    }
}

impl Rows<'_> {
    /// The rows of the elements `range`, with their wraps.
    pub(crate) fn added(&mut self, rows: &[u8], range: Range<usize>) -> &[u8] {
        let Self { wraps: Wraps { field, kept, counts }, row_bytes, first_constant, shares, rows: out } =
            self;
        out.clear();
        out.extend_from_slice(rows);
        let shares = field.read(SHARES * range.start..SHARES * range.end, shares);
        let elements = out.chunks_exact_mut(*row_bytes).zip(shares.as_chunks::<SHARES>().0);
        for ((row, [a, b, c, d]), counts) in elements.zip(&counts[range]) {
            let constants = row[*first_constant * PACKED..].chunks_exact_mut(PACKED);
            for (constant, share) in constants.zip([[*a, *b], [*c, *d]]) {
                let mut whole = [0; 8];
                whole[..PACKED].copy_from_slice(constant);
                let wrap = u64::from(u16::from_le_bytes(share)) * u64::from(*counts);
                let sum = WIRE.add(u64::from_le_bytes(whole), wrap << *kept);
                constant.copy_from_slice(&sum.to_le_bytes()[..PACKED]);
            }
        }
        out
    }
}
