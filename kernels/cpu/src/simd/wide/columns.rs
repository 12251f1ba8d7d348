//! Columns of packed ring elements: eight rows in eight registers, transposed.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use crate::key::{PACKED, STRIP};

/// Rows and columns of a transposition.
const GROUP: usize = 8;

/// Bytes of a register.
const WIDE: usize = 64;

/// As [`crate::columns::split`]; false where the machine cannot.
pub(crate) fn split(packed: &[u8], columns: &mut [[u64; STRIP]]) -> bool {
    if columns.len() > GROUP || !super::supported() {
        return false;
    }
    // SAFETY: `supported` found the instructions.
    unsafe { split_wide(packed, columns) };
    true
}

/// As [`crate::columns::join`]; false where the machine cannot.
pub(crate) fn join(columns: &[[u64; STRIP]], packed: &mut [u8]) -> bool {
    if columns.len() > GROUP || !super::supported() {
        return false;
    }
    // SAFETY: `supported` found the instructions.
    unsafe { join_wide(columns, packed) };
    true
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn split_wide(packed: &[u8], columns: &mut [[u64; STRIP]]) {
    let row_bytes = PACKED * columns.len();
    let used = bytes_of(row_bytes);
    // Byte b of qword q comes from byte 6 q + b of the row; the two high bytes are zero.
    let places = table(|i| if i % 8 < PACKED { i / 8 * PACKED + i % 8 } else { WIDE });
    let low =
        _mm512_movepi8_mask(_mm512_xor_si512(_mm512_slli_epi16::<1>(places), _mm512_set1_epi8(i8::MIN)));
    for (group, bytes) in packed.chunks(GROUP * row_bytes).enumerate() {
        let mut rows = [_mm512_setzero_si512(); GROUP];
        for (row, bytes) in rows.iter_mut().zip(bytes.chunks_exact(row_bytes)) {
            // SAFETY: the bytes that are read are those of the slice.
            let bytes = unsafe { _mm512_maskz_loadu_epi8(used, bytes.as_ptr().cast()) };
            *row = _mm512_maskz_permutexvar_epi8(low, places, bytes);
        }
        for (column, lanes) in columns.iter_mut().zip(transpose(rows)) {
            let lanes_out: &mut [u64; GROUP] =
                (&mut column[group * GROUP..][..GROUP]).try_into().expect("a group of the strip");
            // SAFETY: the array is as long as a register.
            unsafe { _mm512_storeu_si512(lanes_out.as_mut_ptr().cast(), lanes) };
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn join_wide(columns: &[[u64; STRIP]], packed: &mut [u8]) {
    let row_bytes = PACKED * columns.len();
    let used = bytes_of(row_bytes);
    // Byte 6 q + b of the row comes from byte b of qword q.
    let places = table(|i| i / PACKED * 8 + i % PACKED);
    for (group, bytes) in packed.chunks_mut(GROUP * row_bytes).enumerate() {
        let mut lanes = [_mm512_setzero_si512(); GROUP];
        for (lanes, column) in lanes.iter_mut().zip(columns) {
            let lanes_in: &[u64; GROUP] =
                column[group * GROUP..][..GROUP].try_into().expect("a group of the strip");
            // SAFETY: the array is as long as a register.
            *lanes = unsafe { _mm512_loadu_si512(lanes_in.as_ptr().cast()) };
        }
        for (row, bytes) in transpose(lanes).into_iter().zip(bytes.chunks_exact_mut(row_bytes)) {
            let row = _mm512_permutexvar_epi8(places, row);
            // SAFETY: the bytes that are written are those of the slice.
            unsafe { _mm512_mask_storeu_epi8(bytes.as_mut_ptr().cast(), used, row) };
        }
    }
}

/// Lane j of result i is lane i of row j.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512i; GROUP]) -> [__m512i; GROUP] {
    let even = [0, 2, 4, 6].map(|i| _mm512_unpacklo_epi64(rows[i], rows[i + 1]));
    let odd = [0, 2, 4, 6].map(|i| _mm512_unpackhi_epi64(rows[i], rows[i + 1]));
    // Each pair's blocks 0, 2 and 1, 3; then the same of two pairs: the transposition of the blocks.
    let blocks = |[a, b, c, d]: [__m512i; 4]| {
        let [ab_even, cd_even] = [(a, b), (c, d)].map(|(x, y)| _mm512_shuffle_i64x2::<0b10_00_10_00>(x, y));
        let [ab_odd, cd_odd] = [(a, b), (c, d)].map(|(x, y)| _mm512_shuffle_i64x2::<0b11_01_11_01>(x, y));
        [
            _mm512_shuffle_i64x2::<0b10_00_10_00>(ab_even, cd_even),
            _mm512_shuffle_i64x2::<0b10_00_10_00>(ab_odd, cd_odd),
            _mm512_shuffle_i64x2::<0b11_01_11_01>(ab_even, cd_even),
            _mm512_shuffle_i64x2::<0b11_01_11_01>(ab_odd, cd_odd),
        ]
    };
    let [e0, e2, e4, e6] = blocks(even);
    let [o1, o3, o5, o7] = blocks(odd);
    [e0, o1, e2, o3, e4, o5, e6, o7]
}

/// The first `count` bytes of a register.
fn bytes_of(count: usize) -> u64 {
    debug_assert!((1..=WIDE).contains(&count));
    u64::MAX >> (WIDE - count)
}

/// A register of byte indices; only the low six bits of each count in a permutation.
#[inline]
#[target_feature(enable = "avx512f")]
fn table(index: impl Fn(usize) -> usize) -> __m512i {
    let bytes: [u8; WIDE] = std::array::from_fn(|i| index(i) as u8);
    // SAFETY: the array is as long as a register.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}
