//! The last exchange opened. It is one addition for each element of two messages in the host's memory. A processor
//! adds while it takes them out, which is less work than copying them to the GPU.
//!
//! Memory takes the time. The messages were just written by the GPU and by another processor, and the sums' place was last
//! used for the input. So, where the processor can, the sums go past its caches: else it would fetch their lines first, which
//! takes a third of the time.

use suf_gate::ring::WIRE;

/// Bytes of a packed ring element.
pub(crate) const PACKED: usize = WIRE.bits() as usize / 8;

/// Elements that are opened at a time: no check of a bound for each.
const GROUP: usize = 8;

/// A group's bytes, and two more so that its last element can be read as a whole word too.
type GroupBytes = [u8; GROUP * PACKED + 2];

/// Adds the packed messages `mine` and `theirs`, of as many elements as `sums` has places.
pub(crate) fn open(mine: &[u8], theirs: &[u8], sums: &mut [u64]) {
    assert!(mine.len() == PACKED * sums.len() && theirs.len() == mine.len(), "whole messages");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::open(mine, theirs, sums) };
    }
    portable(mine, theirs, sums);
}

/// The same on any processor.
fn portable(mine: &[u8], theirs: &[u8], sums: &mut [u64]) {
    // At least one element follows the last whole group.
    let whole = sums.len().saturating_sub(1) / GROUP;
    let (groups, tail) = sums.split_at_mut(whole * GROUP);
    for (i, group) in groups.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
        let (mine, theirs) = (window(mine, i), window(theirs, i));
        for (j, sum) in group.iter_mut().enumerate() {
            // What a word has of the next element lies above the ring's bits.
            *sum = WIRE.add(word(mine, j), word(theirs, j));
        }
    }
    let rest = PACKED * GROUP * whole;
    let (mine, theirs) = (mine[rest..].as_chunks().0, theirs[rest..].as_chunks().0);
    for ((sum, mine), theirs) in tail.iter_mut().zip(mine).zip(theirs) {
        *sum = WIRE.add(element(*mine), element(*theirs));
    }
}

fn window(packed: &[u8], group: usize) -> &GroupBytes {
    packed[PACKED * GROUP * group..].first_chunk().expect("an element follows the group")
}

/// Element `i` of a group and what follows it.
fn word(window: &GroupBytes, i: usize) -> u64 {
    u64::from_le_bytes(
        *window[PACKED * i..].first_chunk().expect("a window is two bytes longer than its group"),
    )
}

/// A packed ring element.
pub(crate) fn element(packed: [u8; PACKED]) -> u64 {
    let mut word = [0; 8];
    word[..PACKED].copy_from_slice(&packed);
    u64::from_le_bytes(word)
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm_sfence, _mm256_add_epi64, _mm256_and_si256, _mm256_loadu2_m128i, _mm256_set1_epi64x,
        _mm256_setr_epi8, _mm256_shuffle_epi8, _mm256_stream_si256,
    };

    use super::{PACKED, WIRE, portable};

    /// Elements of a vector.
    const LANES: usize = 4;

    /// As [`portable`], past the caches.
    #[target_feature(enable = "avx2")]
    pub(super) fn open(mine: &[u8], theirs: &[u8], sums: &mut [u64]) {
        // SAFETY: any bits are four words, and four words a vector.
        let (head, vectors, tail) = unsafe { sums.align_to_mut::<__m256i>() };
        let (mine_head, mine) = mine.split_at(PACKED * head.len());
        let (theirs_head, theirs) = theirs.split_at(PACKED * head.len());
        let (mine, mine_tail) = mine.split_at(PACKED * LANES * vectors.len());
        let (theirs, theirs_tail) = theirs.split_at(PACKED * LANES * vectors.len());
        portable(mine_head, theirs_head, head);
        portable(mine_tail, theirs_tail, tail);

        let mask = _mm256_set1_epi64x(WIRE.mask().cast_signed());
        let (mine, theirs) = (mine.as_chunks().0, theirs.as_chunks().0);
        for ((sums, mine), theirs) in vectors.iter_mut().zip(mine).zip(theirs) {
            let sum = _mm256_and_si256(_mm256_add_epi64(elements(mine), elements(theirs)), mask);
            // SAFETY: the place is a vector's.
            unsafe { _mm256_stream_si256(sums, sum) };
        }
        // Whoever takes the sums over next, on whichever processor, finds them.
        _mm_sfence();
    }

    /// A vector's elements.
    #[target_feature(enable = "avx2")]
    fn elements(packed: &[u8; PACKED * LANES]) -> __m256i {
        // The halves start with bytes 0 and 8, and the second one's elements with byte 12.
        let places = _mm256_setr_epi8(
            0, 1, 2, 3, 4, 5, -1, -1, 6, 7, 8, 9, 10, 11, -1, -1, //
            4, 5, 6, 7, 8, 9, -1, -1, 10, 11, 12, 13, 14, 15, -1, -1,
        );
        // SAFETY: bytes 0 to 15 and 8 to 23 of 24.
        let halves = unsafe { _mm256_loadu2_m128i(packed[8..].as_ptr().cast(), packed.as_ptr().cast()) };
        _mm256_shuffle_epi8(halves, places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_every_length_are_added() {
        for elems in 1..40_u64 {
            let value = |i: u64, salt: u64| (i + salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) & WIRE.mask();
            let pack = |salt| -> Vec<u8> {
                (0..elems).flat_map(|i| value(i, salt).to_le_bytes()[..PACKED].to_vec()).collect()
            };
            let (mine, theirs) = (pack(1), pack(1000));
            let expected: Vec<_> = (0..elems).map(|i| WIRE.add(value(i, 1), value(i, 1000))).collect();
            // Four words in a row start with every place of a vector.
            let mut sums = vec![u64::MAX; elems as usize + 4];
            for (first, add) in
                (0..4).flat_map(|first| [(first, open as fn(&[u8], &[u8], &mut [u64])), (first, portable)])
            {
                let (before, rest) = sums.split_at_mut(first);
                let (sums, after) = rest.split_at_mut(elems as usize);
                add(&mine, &theirs, sums);
                assert_eq!(sums, expected, "{elems} elements from place {first}");
                assert!(before.iter().chain(&*after).all(|word| *word == u64::MAX), "{elems} elements");
                sums.fill(u64::MAX);
            }
        }
    }
}
