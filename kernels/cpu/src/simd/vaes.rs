//! VAES with AVX-512: 32 blocks in eight 512-bit registers.
#![allow(unsafe_code)]

use std::arch::{asm, x86_64::*};

use super::{Aes128, BLOCK_BYTES, Kernel, Simd};

/// Proof that the machine has VAES, AES-NI, AVX-512 F, DQ, VL and VPOPCNTDQ, and BMI2.
#[derive(Clone, Copy)]
pub(super) struct Vaes(());

type Group = [__m512i; 8];

/// The low quadword of each of the four blocks of a register, as a mask over its eight quadwords.
const LOW: __mmask8 = 0b0101_0101;

/// `[f(0), .., f(7)]`, unrolled: a closure would not inherit the instruction set of the kernel.
macro_rules! lanes {
    ($i:ident => $e:expr) => {[
        { const $i: usize = 0; $e }, { const $i: usize = 1; $e }, { const $i: usize = 2; $e }, { const $i: usize = 3; $e },
        { const $i: usize = 4; $e }, { const $i: usize = 5; $e }, { const $i: usize = 6; $e }, { const $i: usize = 7; $e },
    ]};
}

impl Vaes {
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vpopcntdq")
            && is_x86_feature_detected!("bmi2");
        has.then_some(Self(()))
    }

    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "vaes,aes,avx512f,avx512dq,avx512vl,avx512vpopcntdq,bmi2")]
        fn entry<K: Kernel>(s: Vaes, kernel: K) -> K::Output {
            kernel.run(s)
        }
        // SAFETY: the token proves the features that `entry` is compiled with.
        unsafe { entry(self, kernel) }
    }

    /// `block` in all four lanes of a register.
    #[inline(always)]
    fn broadcast(self, block: u128) -> __m512i {
        // SAFETY: the token proves AVX-512F; the types are 16 bytes of plain data.
        unsafe { _mm512_broadcast_i32x4(std::mem::transmute::<u128, __m128i>(block)) }
    }

    /// (word mod 128) in the low quadword of each block, 64 less in the high one.
    #[inline(always)]
    fn shifts(self, words: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512F.
        unsafe {
            let counts = _mm512_and_si512(words, _mm512_set1_epi64(127));
            _mm512_sub_epi64(counts, _mm512_set_epi64(64, 0, 64, 0, 64, 0, 64, 0))
        }
    }
}

impl Simd for Vaes {
    const LANES: usize = 32;
    type Group = Group;
    type Key<'k> = [__m512i; 11];

    #[inline(always)]
    fn key(self, key: &Aes128) -> [__m512i; 11] {
        let mut keys = [self.broadcast(0); 11];
        for (wide, round) in keys.iter_mut().zip(key.rounds()) {
            *wide = self.broadcast(*round);
        }
        keys
    }

    #[inline(always)]
    fn encrypt(self, key: &[__m512i; 11], a: Group) -> Group {
        // SAFETY: the token proves the features of `rounds`.
        unsafe { rounds(key, a) }
    }

    #[inline(always)]
    fn splat(self, block: u128) -> Group {
        [self.broadcast(block); 8]
    }

    #[inline(always)]
    fn counters(self, first: u64) -> Group {
        // SAFETY: the token proves AVX-512F.
        unsafe {
            let base = _mm512_maskz_set1_epi64(LOW, first.cast_signed());
            lanes!(I => {
                const FIRST: i64 = 4 * I as i64;
                _mm512_add_epi64(base, _mm512_set_epi64(0, FIRST + 3, 0, FIRST + 2, 0, FIRST + 1, 0, FIRST))
            })
        }
    }

    #[inline(always)]
    fn words(self, values: &[u64]) -> Group {
        assert!(values.len() >= Self::LANES, "the group must lie in the buffer");
        // SAFETY: the slice has 32 values by the assertion; the token proves AVX-512F.
        unsafe {
            let twice = _mm512_set_epi64(3, 3, 2, 2, 1, 1, 0, 0);
            lanes!(I => {
                let four = _mm256_loadu_si256(values.as_ptr().add(4 * I).cast());
                _mm512_permutexvar_epi64(twice, _mm512_castsi256_si512(four))
            })
        }
    }

    #[inline(always)]
    fn spread(self, bits: u64) -> Group {
        // SAFETY: the token proves BMI2 and AVX-512F.
        unsafe {
            let masks = _pdep_u64(bits, u64::from_ne_bytes([LOW; 8]));
            lanes!(I => _mm512_maskz_set1_epi64((masks >> (8 * I)) as __mmask8, 1))
        }
    }

    #[inline(always)]
    fn collect(self, a: Group) -> u64 {
        // SAFETY: the token proves BMI2 and AVX-512F.
        unsafe {
            let one = _mm512_set1_epi64(1);
            let masks = lanes!(I => u64::from(_mm512_test_epi64_mask(a[I], one)) << (8 * I));
            let all =
                (masks[0] | masks[1] | masks[2] | masks[3]) | (masks[4] | masks[5] | masks[6] | masks[7]);
            _pext_u64(all, u64::from_ne_bytes([LOW; 8]))
        }
    }

    #[inline(always)]
    fn load(self, bytes: &[u8], first: usize, stride: usize) -> Group {
        assert!(first + 31 * stride + BLOCK_BYTES <= bytes.len(), "the group must lie in the buffer");
        // SAFETY: the last lane ends inside the slice by the assertion, and the others start before it.
        unsafe {
            let start = bytes.as_ptr().add(first);
            if stride == BLOCK_BYTES {
                return lanes!(I => _mm512_loadu_si512(start.add(64 * I).cast()));
            }
            lanes!(I => {
                let lane = |i: usize| start.add((4 * I + i) * stride).cast::<__m128i>();
                let low = _mm256_inserti128_si256::<1>(
                    _mm256_castsi128_si256(_mm_loadu_si128(lane(0))),
                    _mm_loadu_si128(lane(1)),
                );
                let high = _mm256_inserti128_si256::<1>(
                    _mm256_castsi128_si256(_mm_loadu_si128(lane(2))),
                    _mm_loadu_si128(lane(3)),
                );
                _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
            })
        }
    }

    #[inline(always)]
    fn prefetch(self, bytes: &[u8], at: usize) {
        super::aesni::prefetch(bytes, at);
    }

    #[inline(always)]
    fn store(self, a: Group, bytes: &mut [u8], first: usize, stride: usize) {
        assert!(first + 31 * stride + BLOCK_BYTES <= bytes.len(), "the group must lie in the buffer");
        // SAFETY: as in `load`.
        unsafe {
            let start = bytes.as_mut_ptr().add(first);
            if stride == BLOCK_BYTES {
                lanes!(I => _mm512_storeu_si512(start.add(64 * I).cast(), a[I]));
                return;
            }
            lanes!(I => {
                let lane = |i: usize| start.add((4 * I + i) * stride).cast::<__m128i>();
                _mm_storeu_si128(lane(0), _mm512_castsi512_si128(a[I]));
                _mm_storeu_si128(lane(1), _mm512_extracti32x4_epi32::<1>(a[I]));
                _mm_storeu_si128(lane(2), _mm512_extracti32x4_epi32::<2>(a[I]));
                _mm_storeu_si128(lane(3), _mm512_extracti32x4_epi32::<3>(a[I]));
            });
        }
    }

    #[inline(always)]
    fn xor(self, a: Group, b: Group) -> Group {
        // SAFETY: the token proves AVX-512F.
        unsafe { lanes!(I => _mm512_xor_si512(a[I], b[I])) }
    }

    #[inline(always)]
    fn and(self, a: Group, b: Group) -> Group {
        // SAFETY: the token proves AVX-512F.
        unsafe { lanes!(I => _mm512_and_si512(a[I], b[I])) }
    }

    #[inline(always)]
    fn xor_if_odd(self, a: Group, b: Group, t: Group) -> Group {
        // SAFETY: the token proves AVX-512F.
        unsafe {
            let one = _mm512_set1_epi64(1);
            lanes!(I => {
                // Dwords 0, 1 of each block take the place of dwords 2, 3: both quadwords then hold bit 0.
                let odd = _mm512_test_epi64_mask(_mm512_shuffle_epi32::<0x44>(t[I]), one);
                _mm512_mask_xor_epi64(a[I], odd, a[I], b[I])
            })
        }
    }

    #[inline(always)]
    fn xor_if(self, a: Group, b: Group, words: Group, bit: u32) -> Group {
        // SAFETY: the token proves AVX-512F.
        unsafe {
            let one = _mm512_set1_epi64((1u64 << bit).cast_signed());
            lanes!(I => _mm512_mask_xor_epi64(a[I], _mm512_test_epi64_mask(words[I], one), a[I], b[I]))
        }
    }

    #[inline(always)]
    fn select(self, words: Group, bit: u32, on: Group, off: Group) -> Group {
        // SAFETY: the token proves AVX-512F.
        unsafe {
            let one = _mm512_set1_epi64((1u64 << bit).cast_signed());
            lanes!(I => _mm512_mask_mov_epi64(off[I], _mm512_test_epi64_mask(words[I], one), on[I]))
        }
    }

    #[inline(always)]
    fn orthomorphism(self, a: Group) -> Group {
        // SAFETY: the token proves AVX-512F.
        unsafe {
            lanes!(I => {
                let swapped = _mm512_shuffle_epi32::<0x4E>(a[I]);
                _mm512_mask_xor_epi64(swapped, !LOW, swapped, a[I])
            })
        }
    }

    #[inline(always)]
    fn one_hot(self, words: Group) -> Group {
        // SAFETY: the token proves AVX-512F.
        unsafe {
            let one = _mm512_set1_epi64(1);
            // Counts of 64 and more, the negative ones of the high quadword among them, shift everything out.
            lanes!(I => _mm512_sllv_epi64(one, self.shifts(words[I])))
        }
    }

    #[inline(always)]
    fn below(self, words: Group) -> Group {
        // SAFETY: the token proves AVX-512F.
        unsafe {
            let ones = _mm512_set1_epi64(-1);
            lanes!(I => {
                let kept = _mm512_sllv_epi64(ones, _mm512_max_epi64(self.shifts(words[I]), _mm512_setzero_si512()));
                _mm512_andnot_si512(kept, ones)
            })
        }
    }

    #[inline(always)]
    fn parity(self, a: Group) -> Group {
        // SAFETY: the token proves AVX-512F and VPOPCNTDQ.
        unsafe {
            lanes!(I => {
                let counts = _mm512_popcnt_epi64(a[I]);
                _mm512_xor_si512(counts, _mm512_shuffle_epi32::<0x4E>(counts))
            })
        }
    }
}

/// All rounds of eight registers in step. In assembly, because the compiler's scheduler would save registers by running
/// one register through all rounds before the next, which leaves the AES units waiting for latency.
#[inline]
#[target_feature(enable = "vaes,avx512f")]
fn rounds(key: &[__m512i; 11], a: Group) -> Group {
    let [mut x0, mut x1, mut x2, mut x3, mut x4, mut x5, mut x6, mut x7] = a;
    macro_rules! round {
        ($operation:literal, $index:literal) => {
            concat!(
                "vmovdqa64 {k:z}, [{key} + 64 * ",
                $index,
                "]\n",
                $operation,
                " {x0:z}, {x0:z}, {k:z}\n",
                $operation,
                " {x1:z}, {x1:z}, {k:z}\n",
                $operation,
                " {x2:z}, {x2:z}, {k:z}\n",
                $operation,
                " {x3:z}, {x3:z}, {k:z}\n",
                $operation,
                " {x4:z}, {x4:z}, {k:z}\n",
                $operation,
                " {x5:z}, {x5:z}, {k:z}\n",
                $operation,
                " {x6:z}, {x6:z}, {k:z}\n",
                $operation,
                " {x7:z}, {x7:z}, {k:z}\n",
            )
        };
    }
    // A scratch register has to have a type; "_" would be given a narrower one.
    let _round_key: __m512i;
    // SAFETY: reads the eleven round keys, which are aligned to their size, and changes the operands alone.
    unsafe {
        asm!(
            round!("vpxorq", 0),
            round!("vaesenc", 1),
            round!("vaesenc", 2),
            round!("vaesenc", 3),
            round!("vaesenc", 4),
            round!("vaesenc", 5),
            round!("vaesenc", 6),
            round!("vaesenc", 7),
            round!("vaesenc", 8),
            round!("vaesenc", 9),
            round!("vaesenclast", 10),
            key = in(reg) key.as_ptr(),
            k = out(zmm_reg) _round_key,
            x0 = inout(zmm_reg) x0,
            x1 = inout(zmm_reg) x1,
            x2 = inout(zmm_reg) x2,
            x3 = inout(zmm_reg) x3,
            x4 = inout(zmm_reg) x4,
            x5 = inout(zmm_reg) x5,
            x6 = inout(zmm_reg) x6,
            x7 = inout(zmm_reg) x7,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    [x0, x1, x2, x3, x4, x5, x6, x7]
}
