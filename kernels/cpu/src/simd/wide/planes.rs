//! Bit planes: 32 elements' words in a register, a plane's bits of them as a mask.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

/// Words of a register.
const LANES: usize = 32;

/// Bytes of a plane for as many elements.
const GROUP: usize = LANES / 8;

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
    let bytes = words.len().div_ceil(8);
    let (whole, rest) = words.as_chunks::<LANES>();
    let mut bit = _mm512_set1_epi16(1);
    for plane in planes.chunks_exact_mut(plane_bytes) {
        let (places, last) = plane[first..][..bytes].split_at_mut(whole.len() * GROUP);
        for (place, words) in places.as_chunks_mut::<GROUP>().0.iter_mut().zip(whole) {
            // SAFETY: the array is as long as a register.
            let lanes = unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
            *place = _mm512_test_epi16_mask(lanes, bit).to_le_bytes();
        }
        if !rest.is_empty() {
            // SAFETY: the lanes that are read are those of the slice.
            let lanes = unsafe { _mm512_maskz_loadu_epi16(lanes_of(rest.len()), rest.as_ptr().cast()) };
            last.copy_from_slice(&_mm512_test_epi16_mask(lanes, bit).to_le_bytes()[..last.len()]);
        }
        bit = _mm512_slli_epi16::<1>(bit);
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn to_words_wide(planes: &[u8], plane_bytes: usize, words: &mut [u16]) {
    let (whole, rest) = words.as_chunks_mut::<LANES>();
    let inner = whole.len() * GROUP;
    for (group, words) in whole.iter_mut().enumerate() {
        let mut lanes = _mm512_setzero_si512();
        let mut bit = _mm512_set1_epi16(1);
        for plane in planes.chunks_exact(plane_bytes) {
            let bits: &[u8; GROUP] =
                plane[group * GROUP..][..GROUP].try_into().expect("the slice was cut to this length");
            lanes = _mm512_mask_add_epi16(lanes, u32::from_le_bytes(*bits), lanes, bit);
            bit = _mm512_slli_epi16::<1>(bit);
        }
        // SAFETY: the array is as long as a register.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), lanes) };
    }
    if !rest.is_empty() {
        let mut lanes = _mm512_setzero_si512();
        let mut bit = _mm512_set1_epi16(1);
        for plane in planes.chunks_exact(plane_bytes) {
            let mut bits = [0; GROUP];
            bits[..plane_bytes - inner].copy_from_slice(&plane[inner..]);
            lanes = _mm512_mask_add_epi16(lanes, u32::from_le_bytes(bits), lanes, bit);
            bit = _mm512_slli_epi16::<1>(bit);
        }
        // SAFETY: the lanes that are written are those of the slice.
        unsafe { _mm512_mask_storeu_epi16(rest.as_mut_ptr().cast(), lanes_of(rest.len()), lanes) };
    }
}

/// The first `count` lanes.
fn lanes_of(count: usize) -> u32 {
    debug_assert!((1..=LANES).contains(&count));
    u32::MAX >> (LANES - count)
}
