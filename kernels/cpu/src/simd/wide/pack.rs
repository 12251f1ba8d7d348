//! Sums of packed numbers of at most 16 bits: 16 of them in the lanes of a register.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

/// Numbers of a register. They fill whole bytes.
const LANES: usize = 16;

/// Bytes of a register.
const WIDE: usize = 64;

/// As [`crate::pack::unpack_words`]; false where the machine cannot.
pub(crate) fn unpack_words(width: u32, mine: &[u8], theirs: &[u8], values: &mut [u16]) -> bool {
    if !(1..=16).contains(&width) || !super::supported() {
        return false;
    }
    // SAFETY: `supported` found the instructions.
    unsafe { unpack_words_wide(width as usize, mine, theirs, values) };
    true
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn unpack_words_wide(width: usize, mine: &[u8], theirs: &[u8], values: &mut [u16]) {
    // Four bytes from the one on in which a number starts, which is at most its seventh bit.
    let from: [u8; WIDE] = std::array::from_fn(|i| (i / 4 * width / 8 + i % 4) as u8);
    let shift: [u32; LANES] = std::array::from_fn(|i| (i * width % 8) as u32);
    // SAFETY: the arrays are as long as a register.
    let (from, shift) =
        unsafe { (_mm512_loadu_si512(from.as_ptr().cast()), _mm512_loadu_si512(shift.as_ptr().cast())) };
    let mask = _mm512_set1_epi32((1 << width) - 1);
    let bytes = LANES * width / 8;
    for ((values, mine), theirs) in values.chunks_mut(LANES).zip(mine.chunks(bytes)).zip(theirs.chunks(bytes))
    {
        let [mine, theirs] = [load(mine), load(theirs)]
            .map(|bytes| _mm512_srlv_epi32(_mm512_permutexvar_epi8(from, bytes), shift));
        let sums = _mm512_and_si512(_mm512_add_epi32(mine, theirs), mask);
        let lanes = u16::MAX >> (LANES - values.len());
        // SAFETY: as many lanes are written as there are values.
        unsafe { _mm512_mask_cvtepi32_storeu_epi16(values.as_mut_ptr().cast(), lanes, sums) };
    }
}

/// At most 32 bytes, with zeros after them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(bytes: &[u8]) -> __m512i {
    let used = u64::MAX >> (WIDE - bytes.len());
    // SAFETY: the bytes that are read are those of the slice.
    unsafe { _mm512_maskz_loadu_epi8(used, bytes.as_ptr().cast()) }
}
