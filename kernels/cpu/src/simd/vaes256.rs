//! VAES with AVX2, for processors that have no AVX-512: 16 blocks in eight 256-bit registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Aes128, BLOCK_BYTES, Simd, Vectorised};

/// Proof that the machine has VAES, VPCLMULQDQ, AES-NI, AVX2, BMI2 and POPCNT.
#[derive(Clone, Copy)]
pub(super) struct Vaes256(());

/// Two blocks in each register.
type Group = [__m256i; 8];

/// The low quadword of each of the 16 blocks, among a bit for every quadword.
const LOWS: u32 = 0x5555_5555;

impl Vaes256 {
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("vpclmulqdq")
            && is_x86_feature_detected!("bmi2")
            // For kernels that count bits one by one.
            && is_x86_feature_detected!("popcnt");
        has.then_some(Self(()))
    }

    pub(super) fn run<K: Vectorised>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "vaes,aes,avx2,vpclmulqdq,bmi2,popcnt")]
        fn entry<K: Vectorised>(s: Vaes256, kernel: K) -> K::Output {
            kernel.run(s)
        }
        // SAFETY: the token proves the features that `entry` is compiled with.
        unsafe { entry(self, kernel) }
    }

    /// `block` in both lanes of a register.
    #[inline(always)]
    fn broadcast(self, block: u128) -> __m256i {
        // SAFETY: the token proves AVX2; the types are 16 bytes of plain data.
        unsafe { _mm256_broadcastsi128_si256(std::mem::transmute::<u128, __m128i>(block)) }
    }

    /// All rounds but the last.
    #[inline(always)]
    fn nine_rounds(self, key: &[__m256i; 11], a: Group) -> Group {
        // SAFETY: the token proves VAES and AVX2.
        unsafe {
            let mut x = eight!(I => _mm256_xor_si256(a[I], key[0]));
            for round in &key[1..10] {
                x = eight!(I => _mm256_aesenc_epi128(x[I], *round));
            }
            x
        }
    }

    /// A bit for each lane, of registers of which the sign bits of a lane's low quadword are meant.
    #[inline(always)]
    fn signs(self, a: Group) -> u64 {
        // SAFETY: the token proves AVX2 and BMI2.
        unsafe {
            let signs = eight!(I => _mm256_movemask_pd(_mm256_castsi256_pd(a[I])).cast_unsigned() << (4 * I));
            _pext_u32(signs.iter().fold(0, |all, sign| all | sign), LOWS).into()
        }
    }

    /// (word mod 128) in the low quadword of each block, 64 less in the high one.
    #[inline(always)]
    fn shifts(self, words: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe {
            let counts = _mm256_and_si256(words, _mm256_set1_epi64x(127));
            _mm256_sub_epi64(counts, _mm256_set_epi64x(64, 0, 64, 0))
        }
    }
}

impl Simd for Vaes256 {
    const LANES: usize = 16;
    type Group = Group;
    /// All ones or zero.
    type Mask = Group;
    type Key<'k> = [__m256i; 11];

    #[inline(always)]
    fn key(self, key: &Aes128) -> [__m256i; 11] {
        let mut keys = [self.broadcast(0); 11];
        for (wide, round) in keys.iter_mut().zip(key.rounds()) {
            *wide = self.broadcast(*round);
        }
        keys
    }

    #[inline(always)]
    fn encrypt(self, key: &[__m256i; 11], a: Group) -> Group {
        // SAFETY: the token proves VAES and AVX2.
        unsafe {
            let x = self.nine_rounds(key, a);
            eight!(I => _mm256_aesenclast_epi128(x[I], key[10]))
        }
    }

    #[inline(always)]
    fn hash(self, key: &[__m256i; 11], a: Group, onto: Group) -> Group {
        // SAFETY: the token proves VAES and AVX2.
        unsafe {
            let x = self.nine_rounds(key, a);
            // The last round adds its key: what else is to be added is added to that, while the other rounds run.
            let last = eight!(I => _mm256_xor_si256(_mm256_xor_si256(key[10], a[I]), onto[I]));
            eight!(I => _mm256_aesenclast_epi128(x[I], last[I]))
        }
    }

    #[inline(always)]
    fn hash_odd(self, key: &[__m256i; 11], a: Group, odd: Group, onto: Group) -> Group {
        self.hash(key, self.with_odd(a, odd), onto)
    }

    #[inline(always)]
    fn splat(self, block: u128) -> Group {
        [self.broadcast(block); 8]
    }

    #[inline(always)]
    fn counters(self, first: u64) -> Group {
        // SAFETY: the token proves AVX2.
        unsafe {
            eight!(I => {
                let low = (first + 2 * I as u64).cast_signed();
                let high = (first + 2 * I as u64 + 1).cast_signed();
                _mm256_set_epi64x(0, high, 0, low)
            })
        }
    }

    #[inline(always)]
    fn words(self, values: &[u64]) -> Group {
        let values: &[u64; 16] = values.first_chunk().expect("a value for each lane");
        // SAFETY: the array holds two values for each register; the token proves AVX2.
        unsafe {
            eight!(I => {
                let two = _mm_loadu_si128(values.as_ptr().add(2 * I).cast());
                _mm256_permute4x64_epi64::<0b01_01_00_00>(_mm256_castsi128_si256(two))
            })
        }
    }

    #[inline(always)]
    fn mask(self, bits: u64) -> Group {
        // SAFETY: the token proves AVX2.
        unsafe {
            let bits = _mm256_set1_epi64x(bits.cast_signed());
            eight!(I => {
                let bit = _mm256_set_epi64x(2 << (2 * I), 2 << (2 * I), 1 << (2 * I), 1 << (2 * I));
                _mm256_cmpeq_epi64(_mm256_and_si256(bits, bit), bit)
            })
        }
    }

    #[inline(always)]
    fn bits(self, mask: Group) -> u64 {
        self.signs(mask)
    }

    #[inline(always)]
    fn bits_of(self, values: &[u64], bit: u32) -> u64 {
        let values: &[u64; 16] = values.first_chunk().expect("a value for each lane");
        // SAFETY: the array is as long as four registers; the token proves AVX2.
        unsafe {
            let first = values.as_ptr().cast::<__m256i>();
            let up = _mm_cvtsi32_si128(63 - bit.cast_signed());
            let signs = |at| {
                let four = _mm256_sll_epi64(_mm256_loadu_si256(first.add(at)), up);
                u64::from(_mm256_movemask_pd(_mm256_castsi256_pd(four)).cast_unsigned()) << (4 * at)
            };
            signs(0) | signs(1) | signs(2) | signs(3)
        }
    }

    #[inline(always)]
    fn odd(self, a: Group) -> Group {
        // SAFETY: the token proves AVX2.
        unsafe {
            eight!(I => _mm256_srai_epi32::<31>(_mm256_slli_epi32::<31>(_mm256_shuffle_epi32::<0>(a[I]))))
        }
    }

    #[inline(always)]
    fn odd_bits(self, a: Group) -> u64 {
        // SAFETY: the token proves AVX2.
        self.signs(unsafe { eight!(I => _mm256_slli_epi64::<63>(a[I])) })
    }

    #[inline(always)]
    fn parity(self, a: Group) -> Group {
        // SAFETY: the token proves AVX2 and VPCLMULQDQ.
        unsafe {
            let ones = _mm256_set1_epi64x(-1);
            eight!(I => {
                let folded = _mm256_xor_si256(a[I], _mm256_shuffle_epi32::<0x4E>(a[I]));
                // Without carries, bit 63 of a word times all ones is the sum of its bits.
                let sums = _mm256_clmulepi64_epi128::<0>(folded, ones);
                _mm256_srai_epi32::<31>(_mm256_shuffle_epi32::<0x55>(sums))
            })
        }
    }

    #[inline(always)]
    fn load(self, bytes: &[u8], first: usize, stride: usize) -> Group {
        assert!(first + 15 * stride + BLOCK_BYTES <= bytes.len(), "the group must lie in the buffer");
        // SAFETY: the last lane ends inside the slice by the assertion, and the others start before it.
        unsafe {
            let start = bytes.as_ptr().add(first);
            if stride == BLOCK_BYTES {
                return eight!(I => _mm256_loadu_si256(start.add(32 * I).cast()));
            }
            eight!(I => {
                let low = start.add(2 * I * stride);
                _mm256_loadu2_m128i(low.add(stride).cast(), low.cast())
            })
        }
    }

    #[inline(always)]
    fn prefetch(self, bytes: &[u8], at: usize) {
        super::aesni::prefetch(bytes, at);
    }

    #[inline(always)]
    fn store(self, a: Group, bytes: &mut [u8], first: usize, stride: usize) {
        assert!(first + 15 * stride + BLOCK_BYTES <= bytes.len(), "the group must lie in the buffer");
        // SAFETY: as in `load`.
        unsafe {
            let start = bytes.as_mut_ptr().add(first);
            if stride == BLOCK_BYTES {
                eight!(I => _mm256_storeu_si256(start.add(32 * I).cast(), a[I]));
                return;
            }
            eight!(I => {
                let low = start.add(2 * I * stride);
                _mm256_storeu2_m128i(low.add(stride).cast(), low.cast(), a[I]);
            });
        }
    }

    #[inline(always)]
    fn xor(self, a: Group, b: Group) -> Group {
        // SAFETY: the token proves AVX2.
        unsafe { eight!(I => _mm256_xor_si256(a[I], b[I])) }
    }

    #[inline(always)]
    fn and(self, a: Group, b: Group) -> Group {
        // SAFETY: the token proves AVX2.
        unsafe { eight!(I => _mm256_and_si256(a[I], b[I])) }
    }

    #[inline(always)]
    fn xor_where(self, mask: Group, a: Group, b: Group) -> Group {
        // SAFETY: the token proves AVX2.
        unsafe { eight!(I => _mm256_xor_si256(a[I], _mm256_and_si256(b[I], mask[I]))) }
    }

    #[inline(always)]
    fn select(self, mask: Group, on: Group, off: Group) -> Group {
        // SAFETY: the token proves AVX2.
        unsafe { eight!(I => _mm256_blendv_epi8(off[I], on[I], mask[I])) }
    }

    #[inline(always)]
    fn only_where(self, mask: Group, b: Group) -> Group {
        self.and(mask, b)
    }

    #[inline(always)]
    fn with_odd(self, a: Group, odd: Group) -> Group {
        // SAFETY: the token proves AVX2.
        unsafe {
            let one = self.broadcast(1);
            eight!(I => _mm256_or_si256(_mm256_andnot_si256(one, a[I]), _mm256_and_si256(one, odd[I])))
        }
    }

    #[inline(always)]
    fn with_odd_where(self, a: Group, clear: Group, set: Group) -> Group {
        // SAFETY: the token proves AVX2.
        unsafe {
            let one = self.broadcast(1);
            eight!(I => {
                let cleared = _mm256_andnot_si256(_mm256_and_si256(clear[I], one), a[I]);
                _mm256_or_si256(cleared, _mm256_and_si256(set[I], one))
            })
        }
    }

    #[inline(always)]
    fn orthomorphism(self, a: Group) -> Group {
        // SAFETY: the token proves AVX2.
        unsafe {
            let high = _mm256_set_epi64x(-1, 0, -1, 0);
            eight!(I => _mm256_xor_si256(_mm256_shuffle_epi32::<0x4E>(a[I]), _mm256_and_si256(a[I], high)))
        }
    }

    #[inline(always)]
    fn one_hot(self, words: Group) -> Group {
        // SAFETY: the token proves AVX2.
        unsafe {
            let one = _mm256_set1_epi64x(1);
            // Counts of 64 and more, the negative ones of the high quadword among them, shift everything out.
            eight!(I => _mm256_sllv_epi64(one, self.shifts(words[I])))
        }
    }

    #[inline(always)]
    fn below(self, words: Group) -> Group {
        // SAFETY: the token proves AVX2.
        unsafe {
            let one = _mm256_set1_epi64x(1);
            eight!(I => {
                let shifts = self.shifts(words[I]);
                // All ones where the bit was shifted out at the top, which in the high quadword of a word below 64 it was not.
                let below = _mm256_sub_epi64(_mm256_sllv_epi64(one, shifts), one);
                _mm256_andnot_si256(_mm256_cmpgt_epi64(_mm256_setzero_si256(), shifts), below)
            })
        }
    }
}
