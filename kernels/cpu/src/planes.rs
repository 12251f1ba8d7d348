//! Bit planes to one small word per element, and back.

use zeroize::Zeroizing;

use crate::pack;
#[cfg(target_arch = "x86_64")]
use crate::simd::wide;

/// Most planes that fit an element's word.
pub(crate) const MAX_PLANES: usize = 16;

/// The planes `planes`, each ceil(elems / 8) bytes, as a word per element: bit i is the element's bit of plane i.
pub(crate) fn to_words(planes: &[u8], elems: usize) -> Zeroizing<Vec<u16>> {
    let plane_bytes = elems.div_ceil(8);
    debug_assert!(planes.len().is_multiple_of(plane_bytes) && planes.len() / plane_bytes <= MAX_PLANES);
    let mut words = Zeroizing::new(vec![0; elems]);
    #[cfg(target_arch = "x86_64")]
    if wide::planes::to_words(planes, plane_bytes, &mut words) {
        return words;
    }
    to_words_portable(planes, plane_bytes, &mut words);
    words
}

fn to_words_portable(planes: &[u8], plane_bytes: usize, words: &mut [u16]) {
    for (group, words) in words.chunks_mut(8).enumerate() {
        let mut halves = [0u64; 2];
        for (i, plane) in planes.chunks_exact(plane_bytes).enumerate() {
            halves[i / 8] |= u64::from(plane[group]) << (8 * (i % 8));
        }
        let [low, high] = halves.map(|half| transpose(half).to_le_bytes());
        for ((word, low), high) in words.iter_mut().zip(low).zip(high) {
            *word = u16::from_le_bytes([low, high]);
        }
    }
}

/// Opens planes: both parties' shares, XORed, as a word per element.
pub(crate) fn open(mine: &[u8], theirs: &[u8], elems: usize) -> Vec<u16> {
    let mut opened = mine.to_vec();
    pack::xor_into(&mut opened, theirs);
    // Opened: no longer a secret to wipe.
    std::mem::take(&mut *to_words(&opened, elems))
}

/// The inverse of [`to_words`] for a strip. Writes the low bits of `words` to `planes`, of `plane_bytes` bytes each,
/// from byte `first` of every plane on. Bits of elements beyond the last are zero.
pub(crate) fn from_words(words: &[u16], planes: &mut [u8], plane_bytes: usize, first: usize) {
    #[cfg(target_arch = "x86_64")]
    if wide::planes::from_words(words, planes, plane_bytes, first) {
        return;
    }
    from_words_portable(words, planes, plane_bytes, first);
}

fn from_words_portable(words: &[u16], planes: &mut [u8], plane_bytes: usize, first: usize) {
    for (group, words) in words.chunks(8).enumerate() {
        let mut halves = [[0u8; 8]; 2];
        for (i, word) in words.iter().enumerate() {
            let [low, high] = word.to_le_bytes();
            halves[0][i] = low;
            halves[1][i] = high;
        }
        let halves = halves.map(|half| transpose(u64::from_le_bytes(half)).to_le_bytes());
        for (i, plane) in planes.chunks_exact_mut(plane_bytes).enumerate() {
            plane[first + group] = halves[i / 8][i % 8];
        }
    }
}

/// Zeroes the bits of every plane beyond the last element.
pub(crate) fn clear_padding(planes: &mut [u8], plane_bytes: usize, elems: usize) {
    let used = elems % 8;
    if used != 0 {
        for plane in planes.chunks_exact_mut(plane_bytes) {
            plane[plane_bytes - 1] &= (1 << used) - 1;
        }
    }
}

/// The transposed 8 by 8 bit matrix: bit j of byte i goes to bit i of byte j (Hacker's Delight, section 7-3).
const fn transpose(mut x: u64) -> u64 {
    x = x & 0xAA55_AA55_AA55_AA55 | (x & 0x00AA_00AA_00AA_00AA) << 7 | x >> 7 & 0x00AA_00AA_00AA_00AA;
    x = x & 0xCCCC_3333_CCCC_3333 | (x & 0x0000_CCCC_0000_CCCC) << 14 | x >> 14 & 0x0000_CCCC_0000_CCCC;
    x & 0xF0F0_F0F0_0F0F_0F0F | (x & 0x0000_0000_F0F0_F0F0) << 28 | x >> 28 & 0x0000_0000_F0F0_F0F0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_planes_are_each_others_inverse() {
        for (elems, count) in [(1, 1), (8, 7), (9, 8), (1001, 10)] {
            let plane_bytes = usize::div_ceil(elems, 8);
            let words: Vec<u16> =
                (0..elems).map(|i| (i as u16).wrapping_mul(40503) & ((1 << count) - 1)).collect();
            for from_words in [from_words, from_words_portable] {
                let mut planes = vec![0xFF; count * plane_bytes];
                from_words(&words, &mut planes, plane_bytes, 0);
                for (i, word) in words.iter().enumerate() {
                    for plane in 0..count {
                        let bit = planes[plane * plane_bytes + i / 8] >> (i % 8) & 1;
                        assert_eq!(bit, (word >> plane & 1) as u8);
                    }
                }
                assert_eq!(*to_words(&planes, elems), words);
                let mut again = vec![0; elems];
                to_words_portable(&planes, plane_bytes, &mut again);
                assert_eq!(again, words);
            }
        }
    }
}
