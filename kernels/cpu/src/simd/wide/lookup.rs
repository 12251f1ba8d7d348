//! The inner product of [`crate::lookup`] on 512-bit registers.
//!
//! The entries are cut into digits, a byte each; 64 bits of a vector are a mask under which the digits of 64 places are
//! added up in the bytes of a register. A digit has as many bits as allow sums over four such registers in a byte.
#![cfg_attr(target_arch = "x86_64", allow(unsafe_code))]

#[cfg(target_arch = "x86_64")]
use std::{arch::x86_64::*, hint::black_box};

#[cfg(target_arch = "x86_64")]
use zeroize::Zeroizing;

use crate::lookup::Sums;
#[cfg(target_arch = "x86_64")]
use crate::lookup::{COUNTED_AT, ENTRIES_AT};

/// Most digits of an entry.
const MAX_DIGITS: usize = 4;

/// Bits of a digit.
const DIGIT_BITS: u32 = 6;

/// Words of a vector whose digits are added up in the bytes of one register.
#[cfg(target_arch = "x86_64")]
const SUMMED: usize = (u8::MAX >> DIGIT_BITS) as usize + 1;

/// Most words of 64 bits in a vector.
const MAX_WORDS: usize = 16;

/// Elements whose sums are added up together.
#[cfg(target_arch = "x86_64")]
const GROUP: usize = 8;

/// 64 bytes, aligned as a register is.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u8; 64]);

/// Numbers of the eight words from word i on; a permutation takes them modulo the words that there are.
#[cfg(target_arch = "x86_64")]
static FROM: [Line; MAX_WORDS] = {
    let mut lines = [Line([0; 64]); MAX_WORDS];
    let mut i = 0;
    while i < 8 * MAX_WORDS {
        lines[i / 8].0[i % 8 * 8] = (i / 8 + i % 8) as u8;
        i += 1;
    }
    lines
};

/// A table whose entries are cut into digits.
pub(crate) struct DigitTable {
    /// Words of 64 bits in a vector.
    words: usize,
    /// Digits of an entry.
    digits: usize,
    /// What is added for every bit of a vector, besides the entry.
    least: i32,
    /// For each digit, the lowest first, those of all places.
    entries: Vec<Line>,
    /// The places that are counted, as 64-bit words.
    counted: [u64; MAX_WORDS],
}

impl DigitTable {
    /// The table of `entries` of `width` bits; none where the machine or the table's size does not allow it.
    pub(crate) fn new(entries: &[u32], width: u32, least: i32, counted: &[u64]) -> Option<Self> {
        let words = entries.len() / 64;
        if words > MAX_WORDS || !super::supported() {
            return None;
        }
        let digits = width.div_ceil(DIGIT_BITS).max(1) as usize;
        if digits > MAX_DIGITS {
            return None;
        }
        let line = |digit: usize, word: usize| {
            let places = &entries[64 * word..];
            let shift = DIGIT_BITS * digit as u32;
            Line(std::array::from_fn(|i| (places[i] >> shift) as u8 & ((1 << DIGIT_BITS) - 1)))
        };
        let mut counted_words = [0; MAX_WORDS];
        counted_words[..words].copy_from_slice(counted);
        Some(Self {
            words,
            digits,
            least,
            entries: (0..digits)
                .flat_map(|digit| (0..words).map(move |word| (digit, word)))
                .map(|(digit, word)| line(digit, word))
                .collect(),
            counted: counted_words,
        })
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl DigitTable {
    pub(crate) fn read(&self, _hot: &[u8], _places: &[u16], _out: &mut [Sums]) {
        unreachable!("there is no such table on this machine")
    }
}

#[cfg(target_arch = "x86_64")]
impl DigitTable {
    /// Reads shares of vectors of 64 `words` bits, one for each of the public places.
    pub(crate) fn read(&self, hot: &[u8], places: &[u16], out: &mut [Sums]) {
        assert!(hot.len() == 8 * self.words * places.len() && out.len() == places.len(), "lengths of a tile");
        match self.words {
            1 => self.read_words::<1>(hot, places, out),
            2 => self.read_words::<2>(hot, places, out),
            4 => self.read_words::<4>(hot, places, out),
            8 => self.read_words::<8>(hot, places, out),
            16 => self.read_words::<16>(hot, places, out),
            _ => unreachable!("a vector has a power of 2 of words"),
        }
    }

    fn read_words<const WORDS: usize>(&self, hot: &[u8], places: &[u16], out: &mut [Sums]) {
        let bytes = 8 * WORDS;
        let (groups, rest) = out.as_chunks_mut::<GROUP>();
        let whole = groups.len() * GROUP;
        self.read_groups::<WORDS>(&hot[..whole * bytes], places[..whole].as_chunks().0, groups);
        if !rest.is_empty() {
            let mut padded = Zeroizing::new([0; 8 * MAX_WORDS * GROUP]);
            padded[..rest.len() * bytes].copy_from_slice(&hot[whole * bytes..]);
            let mut padded_places = [0; GROUP];
            padded_places[..rest.len()].copy_from_slice(&places[whole..]);
            let mut sums = [[Sums::default(); GROUP]];
            self.read_groups::<WORDS>(&padded[..GROUP * bytes], &[padded_places], &mut sums);
            rest.copy_from_slice(&sums[0][..rest.len()]);
        }
    }

    fn read_groups<const WORDS: usize>(
        &self,
        hot: &[u8],
        places: &[[u16; GROUP]],
        out: &mut [[Sums; GROUP]],
    ) {
        // SAFETY: a table exists only where `supported` found the instructions.
        unsafe {
            match self.digits {
                1 => read::<WORDS, 1>(self, hot, places, out),
                2 => read::<WORDS, 2>(self, hot, places, out),
                3 => read::<WORDS, 3>(self, hot, places, out),
                _ => read::<WORDS, 4>(self, hot, places, out),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi2,avx512vpopcntdq")]
fn read<const WORDS: usize, const DIGITS: usize>(
    table: &DigitTable,
    hot: &[u8],
    places: &[[u16; GROUP]],
    out: &mut [[Sums; GROUP]],
) {
    let mut entries = [[_mm512_setzero_si512(); WORDS]; DIGITS];
    for (lines, digits) in table.entries.chunks_exact(WORDS).zip(&mut entries) {
        for (line, digits) in lines.iter().zip(digits) {
            *digits = load(&line.0);
        }
    }
    let counted = [0, 8].map(|first| {
        let [a, b, c, d, e, f, g, h] = std::array::from_fn(|i| table.counted[first + i].cast_signed());
        _mm512_setr_epi64(a, b, c, d, e, f, g, h)
    });
    let mut rotated = Zeroizing::new([[0u64; MAX_WORDS]; GROUP]);
    for ((hot, places), out) in hot.chunks_exact(8 * WORDS * GROUP).zip(places).zip(out) {
        let mut sums = [_mm512_setzero_si512(); GROUP];
        let vectors = hot.chunks_exact(8 * WORDS).zip(places);
        for (((hot, place), rotated), sums) in vectors.zip(&mut *rotated).zip(&mut sums) {
            *sums = counts::<WORDS>(table, &counted, hot, *place, rotated);
        }
        // The masks are to come from memory: moving them over the integer registers takes twice as long.
        let masks = black_box(&mut rotated);
        for (masks, sums) in masks.iter().zip(&mut sums) {
            let entries = add_entries(&entries, masks.first_chunk().expect("at most as many words"));
            *sums = _mm512_add_epi64(*sums, _mm512_slli_epi64::<ENTRIES_AT>(entries));
        }
        let mut words = [0u64; GROUP];
        // SAFETY: the array is as long as a register.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), add_across(sums)) };
        *out = words.map(Sums::from_word);
    }
}

/// Rotates a vector down by the place; eight parts of the counts in its [`Sums`], and what every bit adds to the entries.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi2,avx512vpopcntdq")]
fn counts<const WORDS: usize>(
    table: &DigitTable,
    counted: &[__m512i; 2],
    hot: &[u8],
    place: u16,
    out: &mut [u64; MAX_WORDS],
) -> __m512i {
    let by = _mm512_set1_epi64(place.into());
    // From these on, in turn: a word of the rotated vector is made of two neighbours.
    let near = load(&FROM[usize::from(place / 64) % MAX_WORDS].0);

    // The vector, and the same rotated down by the place; as often as fits eight words.
    let (vector, rotated) = if WORDS == 16 {
        let [low, high] = [load(&hot[..64]), load(&hot[64..])];
        let far = _mm512_add_epi64(near, _mm512_set1_epi64(8));
        let [first, second] = [near, far].map(|index| _mm512_permutex2var_epi64(low, index, high));
        let next = [_mm512_alignr_epi64::<1>(second, first), _mm512_alignr_epi64::<1>(first, second)];
        ([low, high], [_mm512_shrdv_epi64(first, next[0], by), _mm512_shrdv_epi64(second, next[1], by)])
    } else {
        let word = |i: usize| i64::from_le_bytes(hot.as_chunks::<8>().0[i % WORDS]);
        let vector = if WORDS == 8 {
            load(hot)
        } else {
            _mm512_setr_epi64(word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7))
        };
        let near = _mm512_permutexvar_epi64(near, vector);
        let next = _mm512_alignr_epi64::<1>(near, near);
        ([vector; 2], [_mm512_shrdv_epi64(near, next, by); 2])
    };

    let mut sums = _mm512_setzero_si512();
    for half in 0..WORDS.div_ceil(8) {
        // SAFETY: both halves of the array are as long as a register.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().add(8 * half).cast(), rotated[half]) };
        // Lane i has the places from 64 i on: all above those of lanes before the place's own.
        let first = 512 * half as i64 - 1;
        let starts = _mm512_setr_epi64(
            first,
            first + 64,
            first + 128,
            first + 192,
            first + 256,
            first + 320,
            first + 384,
            first + 448,
        );
        let below = _mm512_max_epi64(_mm512_sub_epi64(by, starts), _mm512_setzero_si512());
        let valid = if WORDS < 8 { (1u8 << WORDS) - 1 } else { !0 };
        let above = _mm512_maskz_sllv_epi64(valid, _mm512_set1_epi64(-1), below);
        let above = _mm512_popcnt_epi64(_mm512_and_si512(vector[half], above));
        let counts = _mm512_popcnt_epi64(_mm512_and_si512(rotated[half], counted[half]));
        sums = _mm512_add_epi64(sums, _mm512_add_epi64(above, _mm512_slli_epi64::<COUNTED_AT>(counts)));
        if table.least != 0 {
            let all = _mm512_maskz_popcnt_epi64(valid, rotated[half]);
            let least = _mm512_mul_epi32(all, _mm512_set1_epi64(table.least.into()));
            sums = _mm512_add_epi64(sums, _mm512_slli_epi64::<ENTRIES_AT>(least));
        }
    }
    sums
}

/// Eight parts of the sum of the entries under the bits of `masks`.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add_entries<const WORDS: usize, const DIGITS: usize>(
    entries: &[[__m512i; WORDS]; DIGITS],
    masks: &[u64; WORDS],
) -> __m512i {
    let zero = _mm512_setzero_si512();
    let mut sums = [zero; DIGITS];
    for first in (0..WORDS).step_by(SUMMED) {
        let mut bytes = [zero; DIGITS];
        for word in first..WORDS.min(first + SUMMED) {
            for (bytes, digits) in bytes.iter_mut().zip(entries) {
                *bytes = _mm512_mask_add_epi8(*bytes, masks[word], *bytes, digits[word]);
            }
        }
        for (sum, bytes) in sums.iter_mut().zip(bytes) {
            *sum = _mm512_add_epi64(*sum, _mm512_sad_epu8(bytes, zero));
        }
    }
    let mut entries = zero;
    for sum in sums.into_iter().rev() {
        entries = _mm512_add_epi64(_mm512_slli_epi64::<DIGIT_BITS>(entries), sum);
    }
    entries
}

/// Lane i of the result is the sum of the lanes of `sums[i]`.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn add_across([a, b, c, d, e, f, g, h]: [__m512i; 8]) -> __m512i {
    add_blocks(add_blocks(add_pairs(a, b), add_pairs(c, d)), add_blocks(add_pairs(e, f), add_pairs(g, h)))
}

/// In each block of two lanes the sums of `a`'s block and of `b`'s.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn add_pairs(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
}

/// Sums of neighbouring blocks, those of `a` before those of `b`.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn add_blocks(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi64(_mm512_shuffle_i64x2::<0b10_00_10_00>(a, b), _mm512_shuffle_i64x2::<0b11_01_11_01>(a, b))
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8]) -> __m512i {
    let bytes: &[u8; 64] = bytes.try_into().expect("the bytes of a register");
    // SAFETY: 64 bytes are read from an array of 64.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}
