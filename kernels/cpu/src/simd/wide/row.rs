//! Two bits out of each of many tables of 128 rows ([`crate::onehot`]): bytes picked within blocks of 16, then bits.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

/// Elements of which two planes' bits fill a mask.
pub(crate) const GROUP: usize = 32;

/// Bytes of a table: its rows' first bits, then their second bits.
pub(crate) const TABLE: usize = 32;

/// Bytes of a register.
const WIDE: usize = 64;

/// For whole groups, selects the tables' bits in the public rows. The low seven bits of `rows` name a row. The bits go
/// to both planes. False where the machine cannot.
pub(crate) fn read(tables: &[u8], rows: &[u16], planes: [&mut [u8]; 2]) -> bool {
    if !super::supported() {
        return false;
    }
    assert!(rows.len().is_multiple_of(GROUP) && tables.len() == rows.len() * TABLE, "whole groups");
    assert!(planes.iter().all(|plane| plane.len() == rows.len() / 8), "a bit for each row");
    // SAFETY: `supported` found the instructions.
    unsafe { read_wide(tables, rows, planes) };
    true
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi2")]
fn read_wide(tables: &[u8], rows: &[u16], [first, second]: [&mut [u8]; 2]) {
    // A register holds the tables of two elements in four blocks. Byte i of the first two blocks will be about element 2 i,
    // of the others about element 2 i + 1.
    let spread: [u8; WIDE] = std::array::from_fn(|i| (4 * (i % 16) + i / 32 * 2) as u8);
    let spread = load(&spread);
    // In each block 2^(i mod 8) at byte i.
    let bits = _mm512_set1_epi64(i64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]));
    let planes = first.as_chunks_mut::<4>().0.iter_mut().zip(second.as_chunks_mut::<4>().0);
    let groups = tables.as_chunks::<{ GROUP * TABLE }>().0.iter().zip(rows.as_chunks::<GROUP>().0);
    for ((tables, rows), (first, second)) in groups.zip(planes) {
        // SAFETY: the array is as long as a register.
        let rows = unsafe { _mm512_loadu_si512(rows.as_ptr().cast()) };
        let rows = _mm512_permutexvar_epi8(spread, rows);
        let byte = _mm512_and_si512(_mm512_srli_epi16::<3>(rows), _mm512_set1_epi8(15));
        let bit = _mm512_shuffle_epi8(bits, _mm512_and_si512(rows, _mm512_set1_epi8(7)));
        let mut picked = _mm512_setzero_si512();
        let mut place = 0x0001_0001_0001_0001;
        for pair in tables.as_chunks::<WIDE>().0 {
            picked = _mm512_mask_shuffle_epi8(picked, place, load(pair), byte);
            place <<= 1;
        }
        let set = _mm512_test_epi8_mask(picked, bit);
        let plane = |even: u64, odd: u64| (_pdep_u64(even, 0x5555_5555) | _pdep_u64(odd, 0xAAAA_AAAA)) as u32;
        *first = plane(set, set >> 32).to_le_bytes();
        *second = plane(set >> 16, set >> 48).to_le_bytes();
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; WIDE]) -> __m512i {
    // SAFETY: 64 bytes are read from an array of 64.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}
