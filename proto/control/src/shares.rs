//! Shares on this API: elements of Z_2^48 as 6 bytes each, little endian, at most one chunk per message.

use bytes::{Bytes, BytesMut};

use crate::{
    failure::Failure,
    limits::{BYTES_PER_SHARE, ELEMENTS_PER_MESSAGE},
};

/// Packs elements, each below 2^48. Bits 48 and up are not stored.
pub fn pack(elements: &[u64]) -> Bytes {
    let mut packed = BytesMut::zeroed(elements.len() * BYTES_PER_SHARE);
    for (bytes, element) in packed.chunks_exact_mut(BYTES_PER_SHARE).zip(elements) {
        bytes.copy_from_slice(&element.to_le_bytes()[..BYTES_PER_SHARE]);
    }
    packed.freeze()
}

/// Appends the elements of one message to `out`; all values are below 2^48.
///
/// Fails, and appends nothing, if the message is empty, ends inside an element, is longer than
/// [`ELEMENTS_PER_MESSAGE`] or would bring `out` over `expected` elements in all.
pub fn unpack_into(message: &[u8], expected: u64, out: &mut Vec<u64>) -> Result<(), Failure> {
    let elements = message.len() / BYTES_PER_SHARE;
    if message.is_empty() || !message.len().is_multiple_of(BYTES_PER_SHARE) {
        return Err(Failure::caller(format!(
            "a message of shares has {} bytes; it must be a positive multiple of {BYTES_PER_SHARE}",
            message.len()
        )));
    }
    if elements > ELEMENTS_PER_MESSAGE {
        return Err(Failure::caller(format!(
            "a message of shares has {elements} elements; send at most {ELEMENTS_PER_MESSAGE}"
        )));
    }
    let total = out.len() as u64 + elements as u64;
    if total > expected {
        return Err(Failure::caller(format!(
            "at least {total} elements were sent where the run has {expected}"
        )));
    }
    out.extend(message.chunks_exact(BYTES_PER_SHARE).map(|bytes| {
        let mut element = [0; 8];
        element[..BYTES_PER_SHARE].copy_from_slice(bytes);
        u64::from_le_bytes(element)
    }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_little_endian_and_reversible() {
        let elements = [0, 1, 0x0605_0403_0201, (1 << 48) - 1];
        let packed = pack(&elements);
        assert_eq!(packed[12..18], [1, 2, 3, 4, 5, 6]);
        let mut back = Vec::new();
        unpack_into(&packed, 4, &mut back).unwrap();
        assert_eq!(back, elements);
    }

    #[test]
    fn messages_out_of_shape_append_nothing() {
        let too_long = vec![0; (ELEMENTS_PER_MESSAGE + 1) * BYTES_PER_SHARE];
        for (message, expected) in
            [(&[][..], 9), (&[0; 7][..], 9), (&too_long[..], 1 << 20), (&[0; 12][..], 1)]
        {
            let mut out = Vec::new();
            assert!(unpack_into(message, expected, &mut out).is_err());
            assert!(out.is_empty());
        }
    }
}
