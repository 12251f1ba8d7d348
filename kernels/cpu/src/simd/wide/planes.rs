//! Bit planes: 32 elements' words in a register, a plane's bits of them as a mask.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

/// Words of a register.
const LANES: usize = 32;

/// As [`crate::planes::from_words`]; false where the machine cannot.
pub(crate) fn from_words(words: &[u16], planes: &mut [u8], plane_bytes: usize, first: usize) -> bool {
    if !super::supported() {
        return false;
    }
    // SAFETY: `supported` found the instructions.
    unsafe { from_words_wide(words, planes, plane_bytes, first) };
    true
}

/// As [`crate::planes::to_words`]; false where the machine cannot.
pub(crate) fn to_words(planes: &[u8], plane_bytes: usize, words: &mut [u16]) -> bool {
    if !super::supported() {
        return false;
    }
    // SAFETY: `supported` found the instructions.
    unsafe { to_words_wide(planes, plane_bytes, words) };
    true
}

#[target_feature(enable = "avx512f,avx512bw")]
fn from_words_wide(words: &[u16], planes: &mut [u8], plane_bytes: usize, first: usize) {
    for (group, words) in words.chunks(LANES).enumerate() {
        // SAFETY: the lanes that are read are those of the slice.
        let lanes = unsafe { _mm512_maskz_loadu_epi16(lanes_of(words.len()), words.as_ptr().cast()) };
        let mut bit = _mm512_set1_epi16(1);
        for plane in planes.chunks_exact_mut(plane_bytes) {
            let bits = _mm512_test_epi16_mask(lanes, bit).to_le_bytes();
            let bytes = words.len().div_ceil(8);
            plane[first + group * LANES / 8..][..bytes].copy_from_slice(&bits[..bytes]);
            bit = _mm512_slli_epi16::<1>(bit);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn to_words_wide(planes: &[u8], plane_bytes: usize, words: &mut [u16]) {
    for (group, words) in words.chunks_mut(LANES).enumerate() {
        let mut lanes = _mm512_setzero_si512();
        let mut bit = _mm512_set1_epi16(1);
        for plane in planes.chunks_exact(plane_bytes) {
            let mut bits = [0; LANES / 8];
            let bytes = words.len().div_ceil(8);
            bits[..bytes].copy_from_slice(&plane[group * LANES / 8..][..bytes]);
            let bits = u32::from_le_bytes(bits);
            lanes = _mm512_mask_add_epi16(lanes, bits, lanes, bit);
            bit = _mm512_slli_epi16::<1>(bit);
        }
        // SAFETY: the lanes that are written are those of the slice.
        unsafe { _mm512_mask_storeu_epi16(words.as_mut_ptr().cast(), lanes_of(words.len()), lanes) };
    }
}

/// The first `count` lanes.
fn lanes_of(count: usize) -> u32 {
    debug_assert!((1..=LANES).contains(&count));
    u32::MAX >> (LANES - count)
}
