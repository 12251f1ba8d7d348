//! One-hot vectors: a shift by more than a lane has leaves nothing in it.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

/// Bytes of a register.
const WIDE: usize = 64;

/// XORs the one-hot vectors of the secret `values`, 2^`bits` bits each, into `shares`. Puts the shares' own bits at the
/// hot places into `held`. False where the machine cannot, or a vector is not a power of 2 of words.
pub(crate) fn xor_hot(bits: u8, shares: &mut [u8], values: &[u16], held: &mut [u16]) -> bool {
    if !(6..=12).contains(&bits) || !super::supported() {
        return false;
    }
    assert!(shares.len() == values.len() << (bits - 3) && held.len() == values.len(), "lengths of a strip");
    // SAFETY: `supported` found the instructions.
    unsafe {
        match bits {
            6 => several::<1>(shares, values, held),
            7 => several::<2>(shares, values, held),
            8 => several::<4>(shares, values, held),
            _ => long(8 << (bits - 6), shares, values, held),
        }
    }
    true
}

/// Vectors of whole registers, `bytes` long.
#[target_feature(enable = "avx512f,avx512bw")]
fn long(bytes: usize, shares: &mut [u8], values: &[u16], held: &mut [u16]) {
    let first = _mm512_setr_epi64(0, 64, 128, 192, 256, 320, 384, 448);
    for ((vector, r), held) in shares.chunks_exact_mut(bytes).zip(values).zip(held) {
        let mut count = _mm512_sub_epi64(_mm512_set1_epi64((*r).into()), first);
        let mut under = 0;
        for line in vector.chunks_exact_mut(WIDE) {
            under |= xor_at(line, count);
            count = _mm512_sub_epi64(count, _mm512_set1_epi64(512));
        }
        *held = u16::from(under != 0);
    }
}

/// Vectors of `WORDS` words, 1, 2 or 4, as many as fit a register at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn several<const WORDS: usize>(shares: &mut [u8], values: &[u16], held: &mut [u16]) {
    let lanes = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    let element = _mm512_srlv_epi64(lanes, _mm512_set1_epi64(WORDS.ilog2().into()));
    let first = _mm512_slli_epi64::<6>(_mm512_and_si512(lanes, _mm512_set1_epi64(WORDS as i64 - 1)));
    let elems = 8 / WORDS;
    let groups = shares.chunks_mut(WIDE).zip(values.chunks(elems)).zip(held.chunks_mut(elems));
    for ((line, values), held) in groups {
        // SAFETY: the values that are read are those of the slice.
        let values = unsafe { _mm_maskz_loadu_epi16(u8::MAX >> (8 - values.len()), values.as_ptr().cast()) };
        let values = _mm512_permutexvar_epi64(element, _mm512_cvtepu16_epi64(values));
        let under = xor_at(line, _mm512_sub_epi64(values, first));
        for (i, held) in held.iter_mut().enumerate() {
            *held = u16::from(under >> (i * WORDS) & ((1u16 << WORDS) - 1) as u8 != 0);
        }
    }
}

/// XORs 2^`count` into each word of the at most 64 bytes, and tells which words had that bit set.
#[inline]
#[target_feature(enable = "avx512f")]
fn xor_at(line: &mut [u8], count: __m512i) -> u8 {
    debug_assert!((8..=WIDE).contains(&line.len()));
    let used = u8::MAX >> (8 - line.len() / 8);
    // SAFETY: the words that are read are those of the slice.
    let words = unsafe { _mm512_maskz_loadu_epi64(used, line.as_ptr().cast()) };
    // A count that is negative is a very large one.
    let hot = _mm512_sllv_epi64(_mm512_set1_epi64(1), count);
    // SAFETY: the words that are written are those of the slice.
    unsafe { _mm512_mask_storeu_epi64(line.as_mut_ptr().cast(), used, _mm512_xor_si512(words, hot)) };
    _mm512_mask_test_epi64_mask(used, words, hot)
}
