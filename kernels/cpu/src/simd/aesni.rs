//! AES-NI: eight blocks in 128-bit registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Aes128, BLOCK_BYTES, Simd, Vectorised, portable::one_hot};

/// Proof that the machine has AES-NI, SSSE3, SSE4.1 and POPCNT.
#[derive(Clone, Copy)]
pub(super) struct AesNi(());

type Group = [__m128i; 8];

/// [`Simd::prefetch`], at every level of this architecture.
#[inline(always)]
pub(super) fn prefetch(bytes: &[u8], at: usize) {
    // SAFETY: a prefetch reads nothing that the program could see, whatever the address, and every x86-64 has it.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().wrapping_add(at).cast()) }
}

impl AesNi {
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1")
            && is_x86_feature_detected!("popcnt");
        has.then_some(Self(()))
    }

    pub(super) fn run<K: Vectorised>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "aes,ssse3,sse4.1,popcnt")]
        fn entry<K: Vectorised>(s: AesNi, kernel: K) -> K::Output {
            kernel.run(s)
        }
        // SAFETY: the token proves the features that `entry` is compiled with.
        unsafe { entry(self, kernel) }
    }

    /// All rounds but the last.
    #[inline(always)]
    fn nine_rounds(self, key: &[__m128i; 11], a: Group) -> Group {
        // SAFETY: the token proves AES-NI.
        unsafe {
            let mut x = eight!(I => _mm_xor_si128(a[I], key[0]));
            for round in &key[1..10] {
                x = eight!(I => _mm_aesenc_si128(x[I], *round));
            }
            x
        }
    }

    /// The round keys of FIPS 197, section 5.2.
    pub(super) fn expand(self, key: &[u8; BLOCK_BYTES]) -> [u128; 11] {
        #[target_feature(enable = "aes")]
        fn entry(key: u128) -> [u128; 11] {
            let mut keys = [key; 11];
            keys[1] = next::<0x01>(keys[0]);
            keys[2] = next::<0x02>(keys[1]);
            keys[3] = next::<0x04>(keys[2]);
            keys[4] = next::<0x08>(keys[3]);
            keys[5] = next::<0x10>(keys[4]);
            keys[6] = next::<0x20>(keys[5]);
            keys[7] = next::<0x40>(keys[6]);
            keys[8] = next::<0x80>(keys[7]);
            keys[9] = next::<0x1B>(keys[8]);
            keys[10] = next::<0x36>(keys[9]);
            keys
        }

        #[target_feature(enable = "aes")]
        fn next<const ROUND: i32>(key: u128) -> u128 {
            // SAFETY: both types are 16 bytes of plain data.
            let assist: u128 = unsafe {
                let key: __m128i = std::mem::transmute(key);
                std::mem::transmute(_mm_shuffle_epi32::<0xFF>(_mm_aeskeygenassist_si128::<ROUND>(key)))
            };
            let twice = key ^ key << 32;
            twice ^ twice << 64 ^ assist
        }

        // SAFETY: the token proves AES-NI.
        unsafe { entry(u128::from_le_bytes(*key)) }
    }
}

impl Simd for AesNi {
    const LANES: usize = 8;
    type Group = Group;
    /// All ones or zero.
    type Mask = Group;
    type Key<'k> = [__m128i; 11];

    #[inline(always)]
    fn key(self, key: &Aes128) -> [__m128i; 11] {
        // SAFETY: both are arrays of 11 blocks of plain data.
        unsafe { std::mem::transmute(*key.rounds()) }
    }

    #[inline(always)]
    fn encrypt(self, key: &[__m128i; 11], a: Group) -> Group {
        // SAFETY: the token proves AES-NI.
        unsafe {
            let x = self.nine_rounds(key, a);
            eight!(I => _mm_aesenclast_si128(x[I], key[10]))
        }
    }

    #[inline(always)]
    fn hash(self, key: &[__m128i; 11], a: Group, onto: Group) -> Group {
        // SAFETY: the token proves AES-NI.
        unsafe {
            let x = self.nine_rounds(key, a);
            // The last round adds its key: what else is to be added is added to that, while the other rounds run.
            let last = eight!(I => _mm_xor_si128(_mm_xor_si128(key[10], a[I]), onto[I]));
            eight!(I => _mm_aesenclast_si128(x[I], last[I]))
        }
    }

    #[inline(always)]
    fn hash_odd(self, key: &[__m128i; 11], a: Group, odd: Group, onto: Group) -> Group {
        self.hash(key, self.with_odd(a, odd), onto)
    }

    #[inline(always)]
    fn splat(self, block: u128) -> Group {
        // SAFETY: both types are 16 bytes of plain data.
        [unsafe { std::mem::transmute::<u128, __m128i>(block) }; 8]
    }

    #[inline(always)]
    fn counters(self, first: u64) -> Group {
        // SAFETY: SSE2 is part of the architecture.
        unsafe { eight!(I => _mm_set_epi64x(0, (first + I as u64).cast_signed())) }
    }

    #[inline(always)]
    fn words(self, values: &[u64]) -> Group {
        // SAFETY: SSE2 is part of the architecture.
        unsafe { eight!(I => _mm_set1_epi64x(values[I].cast_signed())) }
    }

    #[inline(always)]
    fn mask(self, bits: u64) -> Group {
        // SAFETY: the token proves SSE4.1.
        unsafe {
            let bits = _mm_set1_epi64x(bits.cast_signed());
            eight!(I => {
                let bit = _mm_set1_epi64x(1 << I);
                _mm_cmpeq_epi64(_mm_and_si128(bits, bit), bit)
            })
        }
    }

    #[inline(always)]
    fn bits(self, mask: Group) -> u64 {
        // SAFETY: SSE2 is part of the architecture.
        let bits = unsafe { eight!(I => ((_mm_cvtsi128_si64(mask[I]) & 1) as u64) << I) };
        bits.iter().fold(0, |all, bit| all | bit)
    }

    #[inline(always)]
    fn bits_of(self, values: &[u64], bit: u32) -> u64 {
        let bits = eight!(I => (values[I] >> bit & 1) << I);
        bits.iter().fold(0, |all, bit| all | bit)
    }

    #[inline(always)]
    fn odd(self, a: Group) -> Group {
        // SAFETY: SSE2 is part of the architecture.
        unsafe { eight!(I => _mm_srai_epi32::<31>(_mm_slli_epi32::<31>(_mm_shuffle_epi32::<0>(a[I])))) }
    }

    #[inline(always)]
    fn parity(self, a: Group) -> Group {
        // SAFETY: the token proves SSE4.1 and POPCNT.
        unsafe {
            let counts = eight!(I => {
                let folded = _mm_cvtsi128_si64(a[I]) ^ _mm_extract_epi64::<1>(a[I]);
                _mm_cvtsi64_si128(i64::from(_popcnt64(folded)))
            });
            self.odd(counts)
        }
    }

    #[inline(always)]
    fn load(self, bytes: &[u8], first: usize, stride: usize) -> Group {
        assert!(first + 7 * stride + BLOCK_BYTES <= bytes.len(), "the group must lie in the buffer");
        // SAFETY: the last lane ends inside the slice by the assertion, and the others start before it.
        unsafe { eight!(I => _mm_loadu_si128(bytes.as_ptr().add(first + I * stride).cast())) }
    }

    #[inline(always)]
    fn prefetch(self, bytes: &[u8], at: usize) {
        prefetch(bytes, at);
    }

    #[inline(always)]
    fn store(self, a: Group, bytes: &mut [u8], first: usize, stride: usize) {
        assert!(first + 7 * stride + BLOCK_BYTES <= bytes.len(), "the group must lie in the buffer");
        // SAFETY: as in `load`.
        unsafe { eight!(I => _mm_storeu_si128(bytes.as_mut_ptr().add(first + I * stride).cast(), a[I])) };
    }

    #[inline(always)]
    fn xor(self, a: Group, b: Group) -> Group {
        // SAFETY: SSE2 is part of the architecture.
        unsafe { eight!(I => _mm_xor_si128(a[I], b[I])) }
    }

    #[inline(always)]
    fn and(self, a: Group, b: Group) -> Group {
        // SAFETY: SSE2 is part of the architecture.
        unsafe { eight!(I => _mm_and_si128(a[I], b[I])) }
    }

    #[inline(always)]
    fn xor_where(self, mask: Group, a: Group, b: Group) -> Group {
        // SAFETY: SSE2 is part of the architecture.
        unsafe { eight!(I => _mm_xor_si128(a[I], _mm_and_si128(b[I], mask[I]))) }
    }

    #[inline(always)]
    fn select(self, mask: Group, on: Group, off: Group) -> Group {
        // SAFETY: the token proves SSE4.1.
        unsafe { eight!(I => _mm_blendv_epi8(off[I], on[I], mask[I])) }
    }

    #[inline(always)]
    fn only_where(self, mask: Group, b: Group) -> Group {
        self.and(mask, b)
    }

    #[inline(always)]
    fn with_odd(self, a: Group, odd: Group) -> Group {
        // SAFETY: SSE2 is part of the architecture.
        unsafe {
            let one = _mm_set_epi64x(0, 1);
            eight!(I => _mm_or_si128(_mm_andnot_si128(one, a[I]), _mm_and_si128(one, odd[I])))
        }
    }

    #[inline(always)]
    fn with_odd_where(self, a: Group, clear: Group, set: Group) -> Group {
        // SAFETY: SSE2 is part of the architecture.
        unsafe {
            let one = _mm_set_epi64x(0, 1);
            eight!(I => {
                let cleared = _mm_andnot_si128(_mm_and_si128(clear[I], one), a[I]);
                _mm_or_si128(cleared, _mm_and_si128(set[I], one))
            })
        }
    }

    #[inline(always)]
    fn orthomorphism(self, a: Group) -> Group {
        // SAFETY: SSE2 is part of the architecture.
        unsafe {
            let high = _mm_set_epi64x(-1, 0);
            eight!(I => _mm_xor_si128(_mm_shuffle_epi32::<0x4E>(a[I]), _mm_and_si128(a[I], high)))
        }
    }

    #[inline(always)]
    fn one_hot(self, words: Group) -> Group {
        // SAFETY: SSE2 is part of the architecture; the types are 16 bytes of plain data.
        unsafe {
            eight!(I => std::mem::transmute::<u128, __m128i>(one_hot(_mm_cvtsi128_si64(words[I]).cast_unsigned().into())))
        }
    }

    #[inline(always)]
    fn below(self, words: Group) -> Group {
        // SAFETY: SSE2 is part of the architecture; the types are 16 bytes of plain data.
        unsafe {
            eight!(I => {
                let bit = one_hot(_mm_cvtsi128_si64(words[I]).cast_unsigned().into());
                std::mem::transmute::<u128, __m128i>(bit - 1)
            })
        }
    }
}
