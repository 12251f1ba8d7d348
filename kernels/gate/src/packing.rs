//! How ring elements stand in a message: n bits each, one after another from the lowest bit, zeros up to a whole byte.
//! This is the definition, for any n; a backend has faster ways.

use zeroize::Zeroizing;

use crate::Ring;

/// The elements `values` of `ring`, packed.
#[must_use]
pub fn pack(ring: Ring, values: &[u64]) -> Vec<u8> {
    let bits = u32::from(ring.bits());
    let mut out = Vec::with_capacity(packed_bytes(ring, values.len()));
    match bits {
        8 => return of_bytes::<1>(values),
        16 => return of_bytes::<2>(values),
        24 => return of_bytes::<3>(values),
        32 => return of_bytes::<4>(values),
        40 => return of_bytes::<5>(values),
        48 => return of_bytes::<6>(values),
        56 => return of_bytes::<7>(values),
        64 => return of_bytes::<8>(values),
        _ => {}
    }
    let (mut word, mut filled) = (0u128, 0);
    for value in values {
        word |= u128::from(ring.reduce(*value)) << filled;
        filled += bits;
        if filled >= u64::BITS {
            out.extend((word as u64).to_le_bytes());
            word >>= u64::BITS;
            filled -= u64::BITS;
        }
    }
    out.extend(&word.to_le_bytes()[..filled.div_ceil(8) as usize]);
    out
}

/// Adds the packed elements to `sums`, in `ring`.
///
/// # Panics
/// If `packed` does not have [`packed_bytes`] bytes for them.
pub fn add_packed(ring: Ring, packed: &[u8], sums: &mut [u64]) {
    assert_eq!(packed.len(), packed_bytes(ring, sums.len()), "packed elements for each sum");
    let bits = u32::from(ring.bits());
    match bits {
        8 => return add_bytes::<1>(ring, packed, sums),
        16 => return add_bytes::<2>(ring, packed, sums),
        24 => return add_bytes::<3>(ring, packed, sums),
        32 => return add_bytes::<4>(ring, packed, sums),
        40 => return add_bytes::<5>(ring, packed, sums),
        48 => return add_bytes::<6>(ring, packed, sums),
        56 => return add_bytes::<7>(ring, packed, sums),
        64 => return add_bytes::<8>(ring, packed, sums),
        _ => {}
    }
    let (words, tail) = packed.as_chunks::<8>();
    let mut last = Zeroizing::new([0; 8]);
    last[..tail.len()].copy_from_slice(tail);
    let mut words = words.iter().chain([&*last]).map(|word| u128::from(u64::from_le_bytes(*word)));
    let (mut word, mut filled) = (0u128, 0);
    for sum in sums {
        if filled < bits {
            word |= words.next().expect("as many bytes as the elements have") << filled;
            filled += u64::BITS;
        }
        *sum = ring.add(*sum, word as u64);
        word >>= bits;
        filled -= bits;
    }
}

/// Elements of `N` whole bytes. A length that the compiler knows makes each copy one move.
fn of_bytes<const N: usize>(values: &[u64]) -> Vec<u8> {
    let mut out = vec![0; N * values.len()];
    for (element, value) in out.chunks_exact_mut(N).zip(values) {
        element.copy_from_slice(&value.to_le_bytes()[..N]);
    }
    out
}

/// Adds elements of `N` whole bytes.
fn add_bytes<const N: usize>(ring: Ring, packed: &[u8], sums: &mut [u64]) {
    for (sum, element) in sums.iter_mut().zip(packed.chunks_exact(N)) {
        let mut value = [0; 8];
        value[..N].copy_from_slice(element);
        *sum = ring.add(*sum, u64::from_le_bytes(value));
    }
}

/// Bytes of `elems` packed elements.
#[must_use]
pub const fn packed_bytes(ring: Ring, elems: usize) -> usize {
    (ring.bits() as usize * elems).div_ceil(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_round_trips_in_every_ring() {
        for bits in 1..=64 {
            let ring = Ring::new(bits);
            for elems in [0, 1, 7, 8, 9, 100] {
                let values: Vec<_> =
                    (1..=elems).map(|i: u64| ring.reduce(i.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
                let packed = pack(ring, &values);
                assert_eq!(packed.len(), packed_bytes(ring, values.len()));
                let mut sums = vec![ring.mask(); values.len()];
                add_packed(ring, &packed, &mut sums);
                let expected = values.iter().map(|value| ring.sub(*value, 1));
                assert!(sums.iter().copied().eq(expected), "{bits} bits, {elems} elements");
            }
        }
    }

    #[test]
    fn the_lowest_bit_comes_first_and_padding_is_zero() {
        assert_eq!(pack(Ring::new(3), &[0b001, 0b010, 0b111]), [0b1101_0001, 0b1]);
        assert_eq!(pack(Ring::new(48), &[0x1234_5678_9ABC]), [0xBC, 0x9A, 0x78, 0x56, 0x34, 0x12]);
    }
}
