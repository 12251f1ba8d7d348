//! Shares on this API are elements of the ring Z_2^n of a wire, n <= 64. Each has ceil(n/8) bytes, little endian, and a
//! message has at most one tile.

use bytes::{Bytes, BytesMut};

use crate::{failure::CallFailure, limits::ELEMENTS_PER_MESSAGE};

/// Bytes of an element of `bits` bits.
#[must_use]
pub const fn bytes_per_share(bits: u8) -> usize {
    bits.div_ceil(8) as usize
}

/// Packs elements, each below 2^`bits`. Bits beyond the last byte of an element are not stored.
///
/// # Panics
/// If `bits` is not 1 to 64.
#[must_use]
pub fn pack(bits: u8, elements: &[u64]) -> Bytes {
    match bytes_per_share(bits) {
        1 => pack_as::<1>(elements),
        2 => pack_as::<2>(elements),
        3 => pack_as::<3>(elements),
        4 => pack_as::<4>(elements),
        5 => pack_as::<5>(elements),
        6 => pack_as::<6>(elements),
        7 => pack_as::<7>(elements),
        8 => pack_as::<8>(elements),
        _ => panic!("{bits} bits are no ring's"),
    }
}

fn pack_as<const BYTES: usize>(elements: &[u64]) -> Bytes {
    let mut packed = BytesMut::zeroed(elements.len() * BYTES);
    for (bytes, element) in packed.as_chunks_mut::<BYTES>().0.iter_mut().zip(elements) {
        bytes.copy_from_slice(&element.to_le_bytes()[..BYTES]);
    }
    packed.freeze()
}

/// Appends the elements of one message to `out`; all values are below 2^`bits`.
///
/// # Errors
/// If the message is empty, ends inside an element or has an element of more bits. Also if it is longer than
/// [`ELEMENTS_PER_MESSAGE`], or would bring `out` over `expected` elements. Nothing is appended then.
///
/// # Panics
/// If `bits` is not 1 to 64.
pub fn unpack_into(bits: u8, message: &[u8], expected: u64, out: &mut Vec<u64>) -> Result<(), CallFailure> {
    let width = bytes_per_share(bits);
    let elements = message.len() / width;
    if message.is_empty() || !message.len().is_multiple_of(width) {
        return Err(CallFailure::caller(format!(
            "a message of shares has {} bytes; it must be a positive multiple of {width}",
            message.len()
        )));
    }
    if elements > ELEMENTS_PER_MESSAGE {
        return Err(CallFailure::caller(format!(
            "a message of shares has {elements} elements; send at most {ELEMENTS_PER_MESSAGE}"
        )));
    }
    let total = out.len() as u64 + elements as u64;
    if total > expected {
        return Err(CallFailure::caller(format!(
            "at least {total} elements were sent where the run has {expected}"
        )));
    }
    let before = out.len();
    match width {
        1 => unpack_as::<1>(message, out),
        2 => unpack_as::<2>(message, out),
        3 => unpack_as::<3>(message, out),
        4 => unpack_as::<4>(message, out),
        5 => unpack_as::<5>(message, out),
        6 => unpack_as::<6>(message, out),
        7 => unpack_as::<7>(message, out),
        8 => unpack_as::<8>(message, out),
        _ => panic!("{bits} bits are no ring's"),
    }
    if bits < 64 && out[before..].iter().any(|element| element >> bits != 0) {
        out.truncate(before);
        return Err(CallFailure::caller(format!("a share is an element of {bits} bits, and one has more")));
    }
    Ok(())
}

fn unpack_as<const BYTES: usize>(message: &[u8], out: &mut Vec<u64>) {
    out.extend(message.as_chunks::<BYTES>().0.iter().map(|bytes| {
        let mut element = [0; 8];
        element[..BYTES].copy_from_slice(bytes);
        u64::from_le_bytes(element)
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_little_endian_and_reversible() {
        let elements = [0, 1, 0x0605_0403_0201, (1 << 48) - 1];
        let packed = pack(48, &elements);
        assert_eq!(packed[12..18], [1, 2, 3, 4, 5, 6]);
        let mut back = Vec::new();
        unpack_into(48, &packed, 4, &mut back).unwrap();
        assert_eq!(back, elements);
    }

    #[test]
    fn an_element_takes_whole_bytes_in_every_ring() {
        for bits in 1..=64 {
            let largest = u64::MAX >> (64 - bits);
            let elements = [0, 1, largest, largest / 3];
            let packed = pack(bits, &elements);
            assert_eq!(packed.len(), 4 * usize::from(bits).div_ceil(8));
            let mut back = Vec::new();
            unpack_into(bits, &packed, 4, &mut back).unwrap();
            assert_eq!(back, elements);
        }
    }

    #[test]
    fn messages_out_of_shape_append_nothing() {
        let too_long = vec![0; (ELEMENTS_PER_MESSAGE + 1) * 6];
        for (bits, message, expected) in [
            (48, &[][..], 9),
            (48, &[0; 7][..], 9),
            (48, &too_long[..], 1 << 20),
            (48, &[0; 12][..], 1),
            // The second element has 44 bits.
            (43, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8][..], 2),
        ] {
            let mut out = Vec::new();
            assert!(unpack_into(bits, message, expected, &mut out).is_err());
            assert!(out.is_empty());
        }
    }
}
