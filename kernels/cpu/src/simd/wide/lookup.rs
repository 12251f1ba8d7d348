//! The inner product of [`crate::lookup`] on 512-bit registers.
//!
//! Sixteen elements' vectors are transposed, so that a register holds the same 32 places of all of them. The sum of the
//! entries under four bits of a vector is then looked up. A byte permutation is a table of 64 bytes, sixteen for each
//! of the four bytes of a lane. A product with ones adds a lane's bytes up.
#![cfg_attr(target_arch = "x86_64", allow(unsafe_code))]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use zeroize::DefaultIsZeroes;
#[cfg(target_arch = "x86_64")]
use zeroize::Zeroizing;

#[cfg(target_arch = "x86_64")]
use super::prefetch;

use crate::lookup::Sums;
#[cfg(target_arch = "x86_64")]
use crate::lookup::{COUNTED_AT, ENTRIES_AT};

/// Bytes that a sum of four entries may have.
const DIGITS: [usize; 2] = [2, 4];

/// Bits of the longest vectors.
const MAX_BITS: u8 = 12;

/// Elements that are transposed together: the lanes of a register.
#[cfg(target_arch = "x86_64")]
const GROUP: usize = 16;

/// How many bytes ahead a key is asked for.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 4096;

/// Bytes of a register.
const WIDE: usize = 64;

/// 64 bytes, aligned as a register is.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u8; WIDE]);

impl Default for Line {
    fn default() -> Self {
        Self([0; WIDE])
    }
}

impl DefaultIsZeroes for Line {}

/// A table whose sums over each four places are cut into bytes.
pub(crate) struct NibbleTable {
    bits: u8,
    /// Bytes of a sum, of which the highest is signed.
    digits: usize,
    /// For each 32 places, for the low and the high four bits of their four bytes, the lines of all digits, the lowest
    /// first.
    sums: Vec<Line>,
    /// For each 32 places, those that are counted.
    counted: Vec<u32>,
    /// Whether the bits above the public place are wanted.
    above: bool,
}

impl NibbleTable {
    /// The table of `entries`, 2^`bits` of them; none where the machine or the table's size does not allow it.
    pub(crate) fn new(bits: u8, entries: &[i32], counted: &[u64], above: bool) -> Option<Self> {
        if bits > MAX_BITS || !super::supported() {
            return None;
        }
        // Of four entries under the bits of `nibble`.
        let sum = |first: usize, nibble: usize| {
            (0..4).filter(|i| nibble >> i & 1 != 0).map(|i| i64::from(entries[first + i])).sum::<i64>()
        };
        let all = || (0..entries.len()).step_by(4).flat_map(|first| (0..16).map(move |n| (first, n)));
        let fits = |digits: usize| {
            let half = 1i64 << (8 * digits - 1);
            all().all(|(first, nibble)| (-half..half).contains(&sum(first, nibble)))
        };
        let digits = DIGITS.into_iter().find(|digits| fits(*digits))?;
        let line = |first: usize, digit: usize| {
            Line(std::array::from_fn(|i| (sum(first + i / 16 * 8, i % 16) >> (8 * digit)) as u8))
        };
        Some(Self {
            bits,
            digits,
            sums: (0..entries.len())
                .step_by(32)
                .flat_map(|first| [first, first + 4])
                .flat_map(|first| (0..digits).map(move |digit| (first, digit)))
                .map(|(first, digit)| line(first, digit))
                .collect(),
            counted: counted.iter().flat_map(|word| [*word as u32, (word >> 32) as u32]).collect(),
            above,
        })
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl NibbleTable {
    pub(crate) fn read(&self, _hot: &[u8], _places: &[u16], _out: &mut [Sums]) {
        unreachable!("there is no such table on this machine")
    }
}

/// Calls a function with constants for the places in 32s and the digits of a sum.
#[cfg(target_arch = "x86_64")]
macro_rules! with_shape {
    ($table:ident, $arguments:tt) => {
        with_shape!($table, $arguments, 6 2, 7 4, 8 8, 9 16, 10 32, 11 64, 12 128)
    };
    ($table:ident, $arguments:tt, $($bits:literal $dwords:literal),*) => {
        match ($table.bits, $table.digits) {
            $(
                ($bits, 2) => read::<$dwords, 2> $arguments,
                ($bits, _) => read::<$dwords, 4> $arguments,
            )*
            (bits, _) => unreachable!("a table of 2^{bits} entries"),
        }
    };
}

#[cfg(target_arch = "x86_64")]
impl NibbleTable {
    /// Reads shares of vectors of 2^bits bits, one for each of the public places.
    pub(crate) fn read(&self, hot: &[u8], places: &[u16], out: &mut [Sums]) {
        let bytes = 1 << (self.bits - 3);
        assert!(hot.len() == bytes * places.len() && out.len() == places.len(), "lengths of a strip");
        let (groups, rest) = out.as_chunks_mut::<GROUP>();
        let whole = groups.len() * GROUP;
        self.read_groups(&hot[..whole * bytes], places[..whole].as_chunks().0, groups);
        if !rest.is_empty() {
            let mut padded = Zeroizing::new(vec![0; GROUP * bytes]);
            padded[..rest.len() * bytes].copy_from_slice(&hot[whole * bytes..]);
            let mut padded_places = [0; GROUP];
            padded_places[..rest.len()].copy_from_slice(&places[whole..]);
            let mut sums = Zeroizing::new([Sums::default(); GROUP]);
            self.read_groups(&padded, &[padded_places], std::slice::from_mut(&mut *sums));
            rest.copy_from_slice(&sums[..rest.len()]);
        }
    }

    fn read_groups(&self, hot: &[u8], places: &[[u16; GROUP]], out: &mut [[Sums; GROUP]]) {
        // SAFETY: a table exists only where `supported` found the instructions.
        unsafe { with_shape!(self, (self, hot, places, out)) }
    }
}

/// Vectors of 32 `DWORDS` places.
#[cfg(target_arch = "x86_64")]
#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni,avx512vpopcntdq"
)]
fn read<const DWORDS: usize, const DIGITS: usize>(
    table: &NibbleTable,
    hot: &[u8],
    places: &[[u16; GROUP]],
    out: &mut [[Sums; GROUP]],
) {
    let mut words = Zeroizing::new([Line::default(); DWORDS]);
    for ((hot, places), out) in hot.chunks_exact(4 * DWORDS * GROUP).zip(places).zip(out) {
        prefetch(hot, AHEAD);
        turn::<DWORDS>(hot, places, &mut words);
        // SAFETY: the array is half a register long.
        let by = _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(places.as_ptr().cast()) });
        let mut parts = GroupCounts::<DIGITS>::new();
        let first = load(&words[0].0);
        let mut above = if table.above {
            // Shifts by vectors of counts do not take them modulo 32; funnel shifts do.
            let by = _mm512_and_si512(by, _mm512_set1_epi32(31));
            _mm512_and_si512(first, _mm512_sllv_epi32(_mm512_set1_epi32(-2), by))
        } else {
            _mm512_setzero_si512()
        };
        // The first word that is turned past the vector's end.
        let end = _mm512_sub_epi32(_mm512_set1_epi32(DWORDS as i32), _mm512_srli_epi32::<5>(by));
        let mut word = first;
        let lines = table.sums.chunks_exact(2 * DIGITS);
        for (i, (lines, counted)) in lines.zip(&table.counted).enumerate().take(DWORDS) {
            let next = if i + 1 == DWORDS { first } else { load(&words[i + 1].0) };
            if table.above && i > 0 {
                let inside = _mm512_cmpgt_epi32_mask(end, _mm512_set1_epi32(i as i32));
                above = _mm512_mask_xor_epi32(above, inside, above, word);
            }
            let rotated = _mm512_shrdv_epi32(word, next, by);
            parts.count(rotated, *counted);
            parts.add(rotated, lines);
            word = next;
        }
        let above = _mm512_and_si512(_mm512_popcnt_epi32(above), _mm512_set1_epi32(1));
        let counts = _mm512_or_si512(above, _mm512_slli_epi32::<COUNTED_AT>(parts.counted()));
        store(parts.entries(), counts, out);
    }
}

/// What has been read of a group's vectors.
#[cfg(target_arch = "x86_64")]
struct GroupCounts<const DIGITS: usize> {
    /// The digits' sums over the low and the high four bits of all bytes.
    sums: [[__m512i; DIGITS]; 2],
    /// How many bits are counted at each place of the words: bits of one and of two, modulo 4.
    counts: [__m512i; 2],
}

#[cfg(target_arch = "x86_64")]
impl<const DIGITS: usize> GroupCounts<DIGITS> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new() -> Self {
        let zero = _mm512_setzero_si512();
        Self { sums: [[zero; DIGITS]; 2], counts: [zero; 2] }
    }

    /// Adds the entries under the bits of a word.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vbmi,avx512vnni")]
    fn add(&mut self, word: __m512i, lines: &[Line]) {
        /// (a and b) or c, as a table of truth.
        const TAKE_OR: i32 = 0b1110_1010;
        let (taken, ones) = (_mm512_set1_epi8(0x0F), _mm512_set1_epi8(1));
        // Above four bits of each byte, the byte's number in the lane.
        let number = _mm512_set1_epi32(0x3020_1000);
        let low = _mm512_ternarylogic_epi32::<TAKE_OR>(word, taken, number);
        let high = _mm512_ternarylogic_epi32::<TAKE_OR>(_mm512_srli_epi32::<4>(word), taken, number);
        for (half, index) in [low, high].into_iter().enumerate() {
            for digit in 0..DIGITS {
                let sum = &mut self.sums[half][digit];
                let bytes = _mm512_permutexvar_epi8(index, load(&lines[half * DIGITS + digit].0));
                // The first factor's bytes are unsigned, the second's signed.
                *sum = if digit + 1 == DIGITS {
                    _mm512_dpbusd_epi32(*sum, ones, bytes)
                } else {
                    _mm512_dpbusd_epi32(*sum, bytes, ones)
                };
            }
        }
    }

    /// Counts the bits of a word in the places `counted`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn count(&mut self, word: __m512i, counted: u32) {
        if counted != 0 {
            let taken = _mm512_and_si512(word, _mm512_set1_epi32(counted.cast_signed()));
            let [ones, twos] = &mut self.counts;
            *twos = _mm512_xor_si512(*twos, _mm512_and_si512(*ones, taken));
            *ones = _mm512_xor_si512(*ones, taken);
        }
    }

    /// The sums of the entries.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn entries(&self) -> __m512i {
        let mut entries = _mm512_setzero_si512();
        for digit in (0..DIGITS).rev() {
            let sum = _mm512_add_epi32(self.sums[0][digit], self.sums[1][digit]);
            entries = _mm512_add_epi32(_mm512_slli_epi32::<8>(entries), sum);
        }
        entries
    }

    /// How many bits have been counted, modulo 4.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vpopcntdq")]
    fn counted(&self) -> __m512i {
        let [ones, twos] = [_mm512_popcnt_epi32(self.counts[0]), _mm512_popcnt_epi32(self.counts[1])];
        _mm512_and_si512(_mm512_add_epi32(ones, _mm512_slli_epi32::<1>(twos)), _mm512_set1_epi32(3))
    }
}

/// Each vector turned down by the whole words of its place, all transposed: line i has the words i.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn turn<const DWORDS: usize>(hot: &[u8], places: &[u16; GROUP], out: &mut [Line; DWORDS]) {
    for (block, out) in out.chunks_mut(GROUP).enumerate() {
        macro_rules! rows {
            ($($i:literal)*) => { [$(
                turned::<DWORDS>(&hot[$i * 4 * DWORDS..][..4 * DWORDS], block, (places[$i] / 32).into()),
            )*] };
        }
        let columns = transpose(rows!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15));
        for (out, column) in out.iter_mut().zip(columns) {
            // SAFETY: a line is as long as a register.
            unsafe { _mm512_store_si512(out.0.as_mut_ptr().cast(), column) };
        }
    }
}

/// Sixteen words of a vector from word 16 `block` + `words` on, after the last the first. Of a shorter vector all, as often
/// as they fit.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn turned<const DWORDS: usize>(vector: &[u8], block: usize, words: usize) -> __m512i {
    let from = vector.as_ptr();
    // SAFETY: the vector has as many bytes as are read in each case.
    let register = unsafe {
        match DWORDS {
            2 => _mm512_set1_epi64(from.cast::<i64>().read_unaligned()),
            4 => _mm512_broadcast_i32x4(_mm_loadu_si128(from.cast())),
            8 => _mm512_broadcast_i64x4(_mm256_loadu_si256(from.cast())),
            16 => _mm512_loadu_si512(from.cast()),
            _ => {
                // The lanes that are turned past a register's end come from the next.
                let at =
                    |i: usize| load(&vector[(block + words / GROUP + i) % (DWORDS / GROUP) * WIDE..][..WIDE]);
                _mm512_mask_mov_epi32(at(1), u16::MAX << (words % GROUP), at(0))
            }
        }
    };
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm512_permutexvar_epi32(_mm512_add_epi32(lanes, _mm512_set1_epi32(words as i32)), register)
}

/// Lane j of result i is lane i of row j.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512i; GROUP]) -> [__m512i; GROUP] {
    // In block b of quads[q][j]: lane 4 b + j of rows 4 q to 4 q + 3.
    let mut quads = [[rows[0]; 4]; 4];
    for (quads, rows) in quads.iter_mut().zip(rows.as_chunks::<4>().0) {
        let [a, b, c, d] = *rows;
        let [ab_low, ab_high] = [_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)];
        let [cd_low, cd_high] = [_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d)];
        *quads = [
            _mm512_unpacklo_epi64(ab_low, cd_low),
            _mm512_unpackhi_epi64(ab_low, cd_low),
            _mm512_unpacklo_epi64(ab_high, cd_high),
            _mm512_unpackhi_epi64(ab_high, cd_high),
        ];
    }
    let mut columns = rows;
    for j in 0..4 {
        let [a, b, c, d] = [quads[0][j], quads[1][j], quads[2][j], quads[3][j]];
        // Blocks 0, 2 and 1, 3 of each pair.
        let [ab_even, cd_even] = [even_blocks(a, b), even_blocks(c, d)];
        let [ab_odd, cd_odd] = [odd_blocks(a, b), odd_blocks(c, d)];
        columns[j] = even_blocks(ab_even, cd_even);
        columns[4 + j] = even_blocks(ab_odd, cd_odd);
        columns[8 + j] = odd_blocks(ab_even, cd_even);
        columns[12 + j] = odd_blocks(ab_odd, cd_odd);
    }
    columns
}

/// Blocks 0 and 2 of 128 bits of both.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn even_blocks(a: __m512i, b: __m512i) -> __m512i {
    _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b)
}

/// Blocks 1 and 3 of both.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn odd_blocks(a: __m512i, b: __m512i) -> __m512i {
    _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b)
}

/// Words of [`Sums`] from their low and high halves.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn store(high: __m512i, low: __m512i, out: &mut [Sums; GROUP]) {
    const { assert!(ENTRIES_AT == 32 && size_of::<Sums>() == 8) };
    for (i, out) in out.as_chunks_mut::<{ GROUP / 2 }>().0.iter_mut().enumerate() {
        let half = |lanes: __m512i| {
            _mm512_cvtepu32_epi64(if i == 0 {
                _mm512_castsi512_si256(lanes)
            } else {
                _mm512_extracti64x4_epi64::<1>(lanes)
            })
        };
        let words = _mm512_or_si512(half(low), _mm512_slli_epi64::<ENTRIES_AT>(half(high)));
        // SAFETY: eight sums, each a transparent word, are as long as a register.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), words) };
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8]) -> __m512i {
    let bytes: &[u8; WIDE] = bytes.try_into().expect("the bytes of a register");
    // SAFETY: 64 bytes are read from an array of 64.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}
