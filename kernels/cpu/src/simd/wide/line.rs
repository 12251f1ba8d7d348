//! The last exchange's linear function ([`crate::line`]) on 512-bit registers: of an element's row of shares, a byte
//! permutation picks those that its public bits select.
#![cfg_attr(target_arch = "x86_64", allow(unsafe_code))]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

#[cfg(target_arch = "x86_64")]
use super::prefetch;
use crate::key::PACKED;
#[cfg(target_arch = "x86_64")]
use crate::key::STRIP;

/// Elements that are worked on together: the lanes of a register.
pub(crate) const GROUP: usize = 8;

/// How many bytes ahead a key is asked for.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 1536;

/// Bytes of a register.
const WIDE: usize = 64;

/// The numbers of the shares that count for an element, in its row: factor of x_hat, factor of the entry, two summands.
/// None stands for 0.
pub(crate) type Picked = [Option<usize>; 4];

/// 64 bytes, aligned as a register is.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Places([u8; WIDE]);

/// How a row's shares are picked.
pub(crate) struct Picks {
    row_bytes: usize,
    /// Which byte of the row becomes which of the four shares, twice. There is an entry for each choice of q (bit 0), w
    /// (bit 1) and pos (bit 2).
    places: [Places; 8],
    /// As in [`crate::line::OutputLine`].
    slopes: u64,
    entry_bits: u8,
}

/// A strip whose elements are a multiple of [`GROUP`].
pub(crate) struct Strip<'a> {
    /// This party's shares of the ring elements.
    pub(crate) rows: &'a [u8],
    /// As in [`crate::line::Opened`].
    pub(crate) wire: &'a mut [u64],
    /// See [`Strip::wire`].
    pub(crate) entries: &'a [u16],
    /// See [`Strip::wire`].
    pub(crate) choices: &'a [u16],
    /// The packed shares of y_hat.
    pub(crate) message: &'a mut [u8],
}

impl Picks {
    /// Of rows of `count` shares; none where the machine cannot.
    pub(crate) fn new(
        count: usize,
        slopes: u64,
        entry_bits: u8,
        picked: impl Fn(usize) -> Picked,
    ) -> Option<Self> {
        if !super::supported() {
            return None;
        }
        // Past the row there are zeros.
        const ZERO: u8 = WIDE as u8 - 1;
        let row_bytes = count * PACKED;
        assert!(row_bytes < WIDE, "a row and a zero fit a register");
        let place = |picked: Picked, i: usize| match picked[i / 8 % 4] {
            Some(share) if i % 8 < PACKED => (share * PACKED + i % 8) as u8,
            _ => ZERO,
        };
        let places = |choice| Places(std::array::from_fn(|i| place(picked(choice), i)));
        Some(Self { row_bytes, places: std::array::from_fn(places), slopes, entry_bits })
    }

    /// Makes a strip's shares of y_hat.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn output(&self, strip: Strip<'_>) {
        let n = strip.wire.len();
        assert!(n <= STRIP && n.is_multiple_of(GROUP), "whole groups of a strip");
        assert!(strip.entries.len() == n && strip.choices.len() == n, "lengths of a strip");
        assert!(
            strip.rows.len() == n * self.row_bytes && strip.message.len() == n * PACKED,
            "lengths of a strip"
        );
        // SAFETY: `supported` found the instructions.
        unsafe { output(self, strip) };
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn output(&self, _tile: Strip<'_>) {
        unreachable!("there are no such picks on this machine")
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512ifma")]
fn output(picks: &Picks, strip: Strip<'_>) {
    let Strip { rows, wire, entries, choices, message } = strip;
    let row_bytes = picks.row_bytes;
    let used = u64::MAX >> (WIDE - row_bytes);
    let quarter = 1i64 << (picks.entry_bits - 2);
    let quarters = _mm512_set1_epi64(quarter);
    let moved_bits = _mm512_set1_epi64(4 * quarter - 1);
    let top = _mm_cvtsi64_si128((picks.entry_bits - 1).into());
    let slopes = _mm512_set1_epi64(picks.slopes.cast_signed());
    let one = _mm512_set1_epi64(1);
    // From the bytes of eight ring elements to the message's.
    let mut packing = [0u8; WIDE];
    (0..GROUP * PACKED).for_each(|i| packing[i] = (i / PACKED * 8 + i % PACKED) as u8);
    let packing = load(&packing);
    let even = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
    let odd = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);

    let public = wire.as_chunks_mut::<GROUP>().0.iter_mut();
    let public = public.zip(entries.as_chunks::<GROUP>().0).zip(choices.as_chunks::<GROUP>().0);
    let groups = rows.chunks_exact(GROUP * row_bytes).zip(message.as_chunks_mut::<{ GROUP * PACKED }>().0);
    for (((wire, entries), choices), (rows, message)) in public.zip(groups) {
        prefetch(rows, AHEAD);
        // SAFETY: the arrays are as long as what is read.
        let [entries, choices, x_hat] = unsafe {
            [
                _mm512_cvtepu16_epi64(_mm_loadu_si128(entries.as_ptr().cast())),
                _mm512_cvtepu16_epi64(_mm_loadu_si128(choices.as_ptr().cast())),
                _mm512_loadu_si512(wire.as_ptr().cast()),
            ]
        };
        let moved = _mm512_and_si512(_mm512_add_epi64(entries, quarters), moved_bits);
        let q = _mm512_srl_epi64(moved, top);
        let selected = _mm512_or_si512(q, _mm512_add_epi64(choices, choices));
        let selected = _mm512_cvtepi64_epi8(selected);
        let selected = _mm_cvtsi128_si64(selected).to_le_bytes();
        let row = |i: usize| -> &[u8] { &rows[i * row_bytes..][..row_bytes] };
        macro_rules! picked {
            ($($i:literal)*) => { [$({
                let places = [&picks.places[usize::from(selected[$i] & 7)].0, &picks.places[usize::from(selected[4 + $i] & 7)].0];
                // SAFETY: the bytes that are read are those of the rows.
                let rows = unsafe {
                    [
                        _mm512_maskz_loadu_epi8(used, row($i).as_ptr().cast()),
                        _mm512_maskz_loadu_epi8(used, row(4 + $i).as_ptr().cast()),
                    ]
                };
                let low = _mm512_permutexvar_epi8(load(places[0]), rows[0]);
                _mm512_mask_permutexvar_epi8(low, !0 << 32, load(places[1]), rows[1])
            },)*] };
        }
        // Lanes 0 to 3 of register i are the shares of element i, lanes 4 to 7 those of element 4 + i.
        let [a, b, c, d] = picked!(0 1 2 3);
        let low = [_mm512_unpacklo_epi64(a, b), _mm512_unpacklo_epi64(c, d)];
        let high = [_mm512_unpackhi_epi64(a, b), _mm512_unpackhi_epi64(c, d)];
        let kappa = _mm512_permutex2var_epi64(low[0], even, low[1]);
        let tau = _mm512_permutex2var_epi64(high[0], even, high[1]);
        let summand = _mm512_add_epi64(
            _mm512_permutex2var_epi64(low[0], odd, low[1]),
            _mm512_permutex2var_epi64(high[0], odd, high[1]),
        );
        let right = _mm512_cmpgt_epi64_mask(choices, one);
        let kappa = _mm512_mask_sub_epi64(kappa, right, slopes, kappa);
        // Factors count modulo 2^52 and products are added modulo 2^52: enough for the ring of 2^48.
        let sum = _mm512_madd52lo_epu64(summand, kappa, x_hat);
        let sum = _mm512_madd52lo_epu64(sum, tau, _mm512_sub_epi64(moved, quarters));
        let sum = _mm512_and_si512(sum, _mm512_set1_epi64((1 << (8 * PACKED)) - 1));
        let packed = _mm512_permutexvar_epi8(packing, sum);
        // SAFETY: the arrays are as long as what is written: 64, and 32 + 16 bytes.
        unsafe {
            _mm512_storeu_si512(wire.as_mut_ptr().cast(), sum);
            let message = message.as_mut_ptr();
            _mm256_storeu_si256(message.cast(), _mm512_castsi512_si256(packed));
            _mm_storeu_si128(message.add(32).cast(), _mm512_extracti32x4_epi32::<2>(packed));
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; WIDE]) -> __m512i {
    // SAFETY: 64 bytes are read from an array of 64.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}
