//! Segments of messages: `w` bits per element, packed from the lowest bit, padded to a whole byte with zeros.
//!
//! Eight elements fill `w` whole bytes. So every offset inside such a group is a constant once `w` is one, and each
//! routine is compiled for every width. Also in this module: the XOR of byte strings, which is how bit planes open.

use suf_gate::{Ring, packing};

#[cfg(target_arch = "x86_64")]
use crate::simd::wide::pack as wide;

/// The widest value that has a fast way: an element of a gate's ring.
pub const MAX_WIDTH: u32 = 48;

/// Elements of a group that fills whole bytes at any width.
const GROUP: usize = 8;

/// Bytes that a group is read from: the last value's word may start at byte 41.
const PADDED: usize = 56;

/// Bytes of `elems` values of `width` bits.
#[must_use]
pub const fn packed_bytes(width: u32, elems: usize) -> usize {
    (width as usize * elems).div_ceil(8)
}

/// Calls a function that is generic over the width, for a width known at run time.
macro_rules! by_width {
    ($width:expr, $function:ident $arguments:tt) => {
        by_width!($width, $function $arguments,
            1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24
            25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48)
    };
    ($width:expr, $function:ident $arguments:tt, $($w:literal)*) => {
        match $width {
            $($w => $function::<$w> $arguments,)*
            width => panic!("{width} bits: a packed value has 1 to {MAX_WIDTH}"),
        }
    };
}

/// Packs the low `width` bits of each value; higher bits are ignored.
///
/// # Panics
/// If `width` is not in 1..=64 or `packed` does not have [`packed_bytes`] bytes.
pub fn pack(width: u32, values: &[u64], packed: &mut [u8]) {
    assert_eq!(packed.len(), packed_bytes(width, values.len()), "length of a segment");
    match full(width) {
        Some(ring) => packed.copy_from_slice(&packing::pack(ring, values)),
        None => by_width!(width, pack_wide(values, packed)),
    }
}

/// Unpacks `values.len()` values.
///
/// # Panics
/// If `width` is not in 1..=64 or `packed` does not have [`packed_bytes`] bytes.
pub fn unpack(width: u32, packed: &[u8], values: &mut [u64]) {
    assert_eq!(packed.len(), packed_bytes(width, values.len()), "length of a segment");
    match full(width) {
        Some(ring) => {
            values.fill(0);
            packing::add_packed(ring, packed, values);
        }
        None => by_width!(width, unpack_one(packed, values)),
    }
}

/// The ring of a width for which there is no fast way: wires of whole models have such rings, gates have not.
fn full(width: u32) -> Option<Ring> {
    (width > MAX_WIDTH).then(|| Ring::new(width as u8))
}

/// Opens additive shares: unpacks both segments and adds them mod 2^`width`.
///
/// # Panics
/// If `width` is not in 1..=64 or a segment does not have [`packed_bytes`] bytes.
pub fn unpack_sum(width: u32, mine: &[u8], theirs: &[u8], values: &mut [u64]) {
    let bytes = packed_bytes(width, values.len());
    assert!(mine.len() == bytes && theirs.len() == bytes, "length of a segment");
    match full(width) {
        Some(ring) => {
            values.fill(0);
            packing::add_packed(ring, mine, values);
            packing::add_packed(ring, theirs, values);
        }
        None => by_width!(width, unpack_two(mine, theirs, values)),
    }
}

/// As [`unpack_sum`] for a `width` of at most 16.
///
/// # Panics
/// If `width` is not in 1..=16 or a segment does not have [`packed_bytes`] bytes.
pub fn unpack_words(width: u32, mine: &[u8], theirs: &[u8], values: &mut [u16]) {
    let bytes = packed_bytes(width, values.len());
    assert!(mine.len() == bytes && theirs.len() == bytes, "length of a segment");
    assert!((1..=u16::BITS).contains(&width), "a word has 1 to 16 bits");
    #[cfg(target_arch = "x86_64")]
    if wide::unpack_words(width, mine, theirs, values) {
        return;
    }
    unpack_words_portable(width, mine, theirs, values);
}

fn unpack_words_portable(width: u32, mine: &[u8], theirs: &[u8], values: &mut [u16]) {
    /// Numbers that are unpacked at a time, whole groups.
    const PIECE: usize = 32 * GROUP;
    let mut sums = [0; PIECE];
    let bytes = packed_bytes(width, PIECE);
    for ((values, mine), theirs) in values.chunks_mut(PIECE).zip(mine.chunks(bytes)).zip(theirs.chunks(bytes))
    {
        let sums = &mut sums[..values.len()];
        unpack_sum(width, mine, theirs, sums);
        values.iter_mut().zip(sums).for_each(|(value, sum)| *value = *sum as u16);
    }
}

/// Opens additive shares of which this party has kept its own unpacked: adds the segment's to them mod 2^`width`.
///
/// # Panics
/// If `width` is not in 1..=64 or `packed` does not have [`packed_bytes`] bytes.
pub fn add_unpacked(width: u32, packed: &[u8], values: &mut [u64]) {
    assert_eq!(packed.len(), packed_bytes(width, values.len()), "length of a segment");
    match full(width) {
        Some(ring) => packing::add_packed(ring, packed, values),
        None => by_width!(width, unpack_onto(packed, values)),
    }
}

/// XORs `other` into `data`.
///
/// # Panics
/// If the lengths differ.
pub fn xor_into(data: &mut [u8], other: &[u8]) {
    assert_eq!(data.len(), other.len(), "strings of one length");
    data.iter_mut().zip(other).for_each(|(data, other)| *data ^= other);
}

fn pack_wide<const W: usize>(values: &[u64], packed: &mut [u8]) {
    let (whole, tail) = packed.split_at_mut(values.len() / GROUP * W);
    let groups = values.chunks_exact(GROUP);
    let mut group = [0; GROUP];
    group[..groups.remainder().len()].copy_from_slice(groups.remainder());
    tail.copy_from_slice(&pack_group::<W>(&group)[..tail.len()]);
    for (group, place) in groups.zip(whole.chunks_exact_mut(W)) {
        place.copy_from_slice(&pack_group::<W>(group.try_into().expect("a group has eight values"))[..W]);
    }
}

#[inline(always)]
fn pack_group<const W: usize>(group: &[u64; GROUP]) -> [u8; MAX_WIDTH as usize] {
    let mut words = [0u64; MAX_WIDTH as usize / 8];
    for (i, value) in group.iter().enumerate() {
        let value = value & mask::<W>();
        let (word, shift) = (i * W / 64, i * W % 64);
        words[word] |= value << shift;
        if shift + W > 64 {
            words[word + 1] |= value >> (64 - shift);
        }
    }
    let mut bytes = [0; MAX_WIDTH as usize];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn unpack_one<const W: usize>(packed: &[u8], values: &mut [u64]) {
    unpack_wide::<W, 1, false>([packed], values);
}

fn unpack_onto<const W: usize>(packed: &[u8], values: &mut [u64]) {
    unpack_wide::<W, 1, true>([packed], values);
}

fn unpack_two<const W: usize>(mine: &[u8], theirs: &[u8], values: &mut [u64]) {
    unpack_wide::<W, 2, false>([mine, theirs], values);
}

/// The sums mod 2^W of the values in `N` segments, and with `ONTO` of what is there.
fn unpack_wide<const W: usize, const N: usize, const ONTO: bool>(segments: [&[u8]; N], values: &mut [u64]) {
    // Groups that can be read in whole words without passing the segment's end.
    let inner = (segments[0].len().saturating_sub(PADDED) / W).min(values.len() / GROUP);
    let (head, tail) = values.split_at_mut(inner * GROUP);
    for (i, group) in head.chunks_exact_mut(GROUP).enumerate() {
        unpack_group::<W, N, ONTO>(segments.map(|segment| array(&segment[i * W..][..PADDED])), group);
    }
    for (i, group) in tail.chunks_mut(GROUP).enumerate() {
        let from = segments.map(|segment| padded(&segment[(inner + i) * W..]));
        let mut whole = [0; GROUP];
        whole[..group.len()].copy_from_slice(group);
        unpack_group::<W, N, ONTO>(from.each_ref(), &mut whole);
        group.copy_from_slice(&whole[..group.len()]);
    }
}

#[inline(always)]
fn unpack_group<const W: usize, const N: usize, const ONTO: bool>(
    from: [&[u8; PADDED]; N],
    group: &mut [u64],
) {
    let group: &mut [u64; GROUP] = group.try_into().expect("a group has eight values");
    for (i, value) in group.iter_mut().enumerate() {
        let (byte, shift) = (i * W / 8, i * W % 8);
        let mut sum = if ONTO { *value } else { 0 };
        for bytes in from {
            // At most 48 + 7 bits: one word holds them.
            sum = sum.wrapping_add(u64::from_le_bytes(*array(&bytes[byte..byte + 8])) >> shift);
        }
        *value = sum & mask::<W>();
    }
}

#[inline(always)]
fn array<const N: usize>(bytes: &[u8]) -> &[u8; N] {
    bytes.try_into().expect("the slice was cut to this length")
}

/// The first bytes of a group near a segment's end, with zeros after them.
fn padded(bytes: &[u8]) -> [u8; PADDED] {
    let mut padded = [0; PADDED];
    let len = bytes.len().min(PADDED);
    padded[..len].copy_from_slice(&bytes[..len]);
    padded
}

const fn mask<const W: usize>() -> u64 {
    u64::MAX >> (64 - W)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit, as the format's definition has it.
    fn pack_slowly(width: u32, values: &[u64]) -> Vec<u8> {
        let mut packed = vec![0; packed_bytes(width, values.len())];
        for (i, value) in values.iter().enumerate() {
            for bit in 0..width as usize {
                let at = i * width as usize + bit;
                packed[at / 8] |= ((value >> bit & 1) as u8) << (at % 8);
            }
        }
        packed
    }

    fn values(seed: u64, elems: usize) -> Vec<u64> {
        // Knuth's multiplier spreads the index over all bits.
        (0..elems as u64)
            .map(|i| (i + 1).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed))
            .collect()
    }

    #[test]
    fn every_width_packs_as_defined_and_unpacks() {
        for width in 1..=MAX_WIDTH {
            let mask = u64::MAX >> (64 - width);
            for elems in [0, 1, 7, 8, 9, 63, 1001] {
                let all = values(width.into(), elems);
                let mut packed = vec![0xFF; packed_bytes(width, elems)];
                pack(width, &all, &mut packed);
                assert_eq!(packed, pack_slowly(width, &all), "{width} bits, {elems} elements");
                let mut out = vec![u64::MAX; elems];
                unpack(width, &packed, &mut out);
                assert!(
                    out.iter().zip(&all).all(|(out, value)| *out == value & mask),
                    "{width} bits, {elems} elements"
                );
            }
        }
    }

    #[test]
    fn opening_adds_modulo_the_width() {
        for width in [1, 12, 31, 48] {
            let mask = u64::MAX >> (64 - width);
            let (a, b) = (values(1, 65537), values(2, 65537));
            let mut segments = [vec![0; packed_bytes(width, a.len())], vec![0; packed_bytes(width, a.len())]];
            pack(width, &a, &mut segments[0]);
            pack(width, &b, &mut segments[1]);
            let mut sums = vec![0; a.len()];
            unpack_sum(width, &segments[0], &segments[1], &mut sums);
            assert!((0..a.len()).all(|i| sums[i] == a[i].wrapping_add(b[i]) & mask), "{width} bits");
            let mut onto = a.clone();
            add_unpacked(width, &segments[1], &mut onto);
            assert!(onto == sums, "{width} bits, onto the other share");
        }
    }

    #[test]
    fn words_are_opened_as_wider_values_are() {
        for width in 1..=16 {
            for elems in [0, 1, 15, 16, 17, 256, 1001] {
                let mut segments = [vec![0; packed_bytes(width, elems)], vec![0; packed_bytes(width, elems)]];
                pack(width, &values(1, elems), &mut segments[0]);
                pack(width, &values(2, elems), &mut segments[1]);
                let mut expected = vec![0; elems];
                unpack_sum(width, &segments[0], &segments[1], &mut expected);
                for unpack in [unpack_words, unpack_words_portable] {
                    let mut words = vec![0u16; elems];
                    unpack(width, &segments[0], &segments[1], &mut words);
                    assert!(
                        words.iter().zip(&expected).all(|(word, sum)| u64::from(*word) == *sum),
                        "{width} bits, {elems} elements"
                    );
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "a ring has 1 to 64 bits")]
    fn wider_values_are_refused() {
        pack(65, &[], &mut []);
    }
}
