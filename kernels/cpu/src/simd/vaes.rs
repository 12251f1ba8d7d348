//! VAES with AVX-512: 16 blocks in four 512-bit registers.
#![allow(unsafe_code)]

use std::arch::{asm, x86_64::*};

use super::{Aes128, BLOCK_BYTES, Simd, Vectorised};

/// Proof that the machine has VAES, AES-NI, AVX-512 F, BW, DQ, VL and VPOPCNTDQ, and BMI2.
#[derive(Clone, Copy)]
pub(super) struct Vaes(());

type Group = [__m512i; 4];

/// Which of the eight quadwords of a register are meant, for four registers: both of a block, or neither.
type Mask = [__mmask8; 4];

/// The low quadword of each of the four blocks of a register, as a mask over its eight quadwords.
const LOW: __mmask8 = 0b0101_0101;

/// The same for four registers.
const LOWS: u32 = u32::from_ne_bytes([LOW; 4]);

/// `[f(0), .., f(3)]`, unrolled: a closure would not inherit the instruction set of the kernel.
macro_rules! lanes {
    ($i:ident => $e:expr) => {[
        { const $i: usize = 0; $e }, { const $i: usize = 1; $e }, { const $i: usize = 2; $e }, { const $i: usize = 3; $e },
    ]};
}

impl Vaes {
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vpopcntdq")
            && is_x86_feature_detected!("bmi2");
        has.then_some(Self(()))
    }

    pub(super) fn run<K: Vectorised>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "vaes,aes,avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,bmi2")]
        fn entry<K: Vectorised>(s: Vaes, kernel: K) -> K::Output {
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

    /// AES(x) xor x xor `onto`, from `started` = x xor the first round key.
    #[inline(always)]
    fn finish_hash(self, key: &[__m512i; 11], started: Group, onto: Group) -> Group {
        // SAFETY: the token proves VAES, AVX-512F and the features of `nine_rounds`.
        unsafe {
            let x = nine_rounds(key, started);
            // The last round adds its key: what else is to be added is added to that, while the other rounds run.
            let keys = _mm512_xor_si512(key[0], key[10]);
            let last = lanes!(I => _mm512_ternarylogic_epi64::<0x96>(started[I], onto[I], keys));
            lanes!(I => _mm512_aesenclast_epi128(x[I], last[I]))
        }
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
    const LANES: usize = 16;
    type Group = Group;
    type Mask = Mask;
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
        // SAFETY: the token proves VAES, AVX-512F and the features of `nine_rounds`.
        unsafe {
            let x = nine_rounds(key, lanes!(I => _mm512_xor_si512(a[I], key[0])));
            lanes!(I => _mm512_aesenclast_epi128(x[I], key[10]))
        }
    }

    #[inline(always)]
    fn hash(self, key: &[__m512i; 11], a: Group, onto: Group) -> Group {
        // SAFETY: the token proves AVX-512F.
        unsafe { self.finish_hash(key, lanes!(I => _mm512_xor_si512(a[I], key[0])), onto) }
    }

    #[inline(always)]
    fn hash_odd(self, key: &[__m512i; 11], a: Group, odd: Mask, onto: Group) -> Group {
        // SAFETY: the token proves AVX-512F.
        unsafe {
            let (one, others) = (self.broadcast(1), self.broadcast(!1));
            // One operation from a block to the first round's input: (a and not 1) xor bit 0 and key.
            let started = lanes!(I => {
                let first = _mm512_mask_xor_epi64(key[0], odd[I], key[0], one);
                _mm512_ternarylogic_epi64::<0x78>(first, a[I], others)
            });
            self.finish_hash(key, started, onto)
        }
    }

    #[inline(always)]
    fn splat(self, block: u128) -> Group {
        [self.broadcast(block); 4]
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
        // SAFETY: the slice has 16 values by the assertion; the token proves AVX-512F.
        unsafe {
            let twice = _mm512_set_epi64(3, 3, 2, 2, 1, 1, 0, 0);
            lanes!(I => {
                let four = _mm256_loadu_si256(values.as_ptr().add(4 * I).cast());
                _mm512_permutexvar_epi64(twice, _mm512_castsi256_si512(four))
            })
        }
    }

    #[inline(always)]
    fn mask(self, bits: u64) -> Mask {
        // SAFETY: the token proves BMI2.
        let low = unsafe { _pdep_u32(bits as u32, LOWS) };
        (low | low << 1).to_le_bytes()
    }

    #[inline(always)]
    fn bits(self, mask: Mask) -> u64 {
        // SAFETY: the token proves AVX-512BW and BMI2.
        unsafe {
            let [a, b, c, d] = mask.map(__mmask16::from);
            let all = _mm512_kunpackw(_mm512_kunpackb(d, c).into(), _mm512_kunpackb(b, a).into());
            _pext_u32(all, LOWS).into()
        }
    }

    #[inline(always)]
    fn bits_of(self, values: &[u64], bit: u32) -> u64 {
        let values: &[u64; 16] = values.first_chunk().expect("a value for each lane");
        // SAFETY: the array is as long as two registers; the token proves AVX-512F.
        unsafe {
            let bit = _mm512_set1_epi64((1u64 << bit).cast_signed());
            let first = values.as_ptr().cast::<__m512i>();
            let low = _mm512_test_epi64_mask(_mm512_loadu_si512(first), bit);
            let high = _mm512_test_epi64_mask(_mm512_loadu_si512(first.add(1)), bit);
            _mm512_kunpackb(high.into(), low.into()).into()
        }
    }

    #[inline(always)]
    fn odd(self, a: Group) -> Mask {
        // SAFETY: the token proves AVX-512F, also for `test`.
        unsafe {
            let one = _mm512_set1_epi64(1);
            // Dwords 0, 1 of each block take the place of dwords 2, 3: both quadwords then hold bit 0.
            lanes!(I => test(_mm512_shuffle_epi32::<0x44>(a[I]), one))
        }
    }

    #[inline(always)]
    fn odd_bits(self, a: Group) -> u64 {
        // SAFETY: the token proves AVX-512F, also for `test`.
        unsafe {
            let one = _mm512_set1_epi64(1);
            // The high quadwords' bits are dropped.
            self.bits(lanes!(I => test(a[I], one)))
        }
    }

    #[inline(always)]
    fn parity(self, a: Group) -> Mask {
        // SAFETY: the token proves AVX-512F and VPOPCNTDQ.
        unsafe {
            let one = _mm512_set1_epi64(1);
            lanes!(I => {
                let folded = _mm512_xor_si512(a[I], _mm512_shuffle_epi32::<0x4E>(a[I]));
                test(_mm512_popcnt_epi64(folded), one)
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
                return lanes!(I => _mm512_loadu_si512(start.add(64 * I).cast()));
            }
            lanes!(I => load_four(start.add(4 * I * stride), stride, 3 * stride))
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
                lanes!(I => _mm512_storeu_si512(start.add(64 * I).cast(), a[I]));
                return;
            }
            lanes!(I => store_four(a[I], start.add(4 * I * stride), stride, 3 * stride));
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
    fn xor_where(self, mask: Mask, a: Group, b: Group) -> Group {
        // SAFETY: the token proves AVX-512F.
        unsafe { lanes!(I => _mm512_mask_xor_epi64(a[I], mask[I], a[I], b[I])) }
    }

    #[inline(always)]
    fn select(self, mask: Mask, on: Group, off: Group) -> Group {
        // SAFETY: the token proves AVX-512F.
        unsafe { lanes!(I => _mm512_mask_mov_epi64(off[I], mask[I], on[I])) }
    }

    #[inline(always)]
    fn only_where(self, mask: Mask, b: Group) -> Group {
        // SAFETY: the token proves AVX-512F.
        unsafe { lanes!(I => _mm512_maskz_mov_epi64(mask[I], b[I])) }
    }

    #[inline(always)]
    fn with_odd(self, a: Group, odd: Mask) -> Group {
        // SAFETY: the token proves AVX-512F.
        unsafe {
            let (one, others) = (self.broadcast(1), self.broadcast(!1));
            lanes!(I => {
                let bit = _mm512_maskz_mov_epi64(odd[I], one);
                _mm512_ternarylogic_epi64::<0x78>(bit, a[I], others)
            })
        }
    }

    #[inline(always)]
    fn with_odd_where(self, a: Group, clear: Mask, set: Mask) -> Group {
        // SAFETY: the token proves AVX-512F.
        unsafe {
            let one = self.broadcast(1);
            lanes!(I => {
                let cleared = _mm512_mask_andnot_epi64(a[I], clear[I], one, a[I]);
                _mm512_mask_or_epi64(cleared, set[I], cleared, one)
            })
        }
    }

    #[inline(always)]
    fn orthomorphism(self, a: Group) -> Group {
        // SAFETY: the token proves AVX-512F.
        unsafe { lanes!(I => xor_high(_mm512_shuffle_epi32::<0x4E>(a[I]), a[I])) }
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
}

/// Rounds 1 to 9 of four registers in step. They are in assembly, because the compiler's scheduler would save
/// registers: it runs one register through all rounds before the next. Then the AES units wait for latency.
#[inline]
#[target_feature(enable = "vaes,avx512f")]
fn nine_rounds(key: &[__m512i; 11], a: Group) -> Group {
    let [mut x0, mut x1, mut x2, mut x3] = a;
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
            )
        };
    }
    // A scratch register has to have a type; "_" would be given a narrower one.
    let _round_key: __m512i;
    // SAFETY: reads round keys, which are aligned to their size, and changes the operands alone.
    unsafe {
        asm!(
            round!("vaesenc", 1),
            round!("vaesenc", 2),
            round!("vaesenc", 3),
            round!("vaesenc", 4),
            round!("vaesenc", 5),
            round!("vaesenc", 6),
            round!("vaesenc", 7),
            round!("vaesenc", 8),
            round!("vaesenc", 9),
            key = in(reg) key.as_ptr(),
            k = out(zmm_reg) _round_key,
            x0 = inout(zmm_reg) x0,
            x1 = inout(zmm_reg) x1,
            x2 = inout(zmm_reg) x2,
            x3 = inout(zmm_reg) x3,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    [x0, x1, x2, x3]
}

/// Which quadwords have a bit in common with `bits`. In assembly, because the compiler would make two instructions of the
/// test for a single bit.
#[inline]
#[target_feature(enable = "avx512f")]
fn test(a: __m512i, bits: __m512i) -> __mmask8 {
    let mask: __mmask8;
    // SAFETY: computes on its operands alone.
    unsafe {
        asm!(
            "vptestmq {mask}, {a}, {bits}",
            mask = lateout(kreg) mask,
            a = in(zmm_reg) a,
            bits = in(zmm_reg) bits,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    mask
}

/// a, with b added to the high quadwords. In assembly, because the compiler would make two instructions of it.
#[inline]
#[target_feature(enable = "avx512f")]
fn xor_high(mut a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: computes on its operands alone.
    unsafe {
        asm!(
            "vpxorq {a}{{{high}}}, {a}, {b}",
            a = inout(zmm_reg) a,
            b = in(zmm_reg) b,
            high = in(kreg) !LOW,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    a
}

/// Four blocks, `stride` bytes apart from `first` on; `third` is three times that. In assembly, because the compiler would
/// multiply for each address.
///
/// # Safety
/// There are such blocks.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_four(first: *const u8, stride: usize, third: usize) -> __m512i {
    let (low, high): (__m256i, __m256i);
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "vmovdqu {low:x}, xmmword ptr [{first}]",
            "vmovdqu {high:x}, xmmword ptr [{first} + 2 * {stride}]",
            "vinserti128 {low}, {low}, xmmword ptr [{first} + {stride}], 1",
            "vinserti128 {high}, {high}, xmmword ptr [{first} + {third}], 1",
            first = in(reg) first,
            stride = in(reg) stride,
            third = in(reg) third,
            low = out(ymm_reg) low,
            high = out(ymm_reg) high,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

/// The reverse of [`load_four`], in assembly for the same reason.
///
/// # Safety
/// The blocks may be written.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store_four(a: __m512i, first: *mut u8, stride: usize, third: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "vextracti32x4 xmmword ptr [{first}], {a}, 0",
            "vextracti32x4 xmmword ptr [{first} + {stride}], {a}, 1",
            "vextracti32x4 xmmword ptr [{first} + 2 * {stride}], {a}, 2",
            "vextracti32x4 xmmword ptr [{first} + {third}], {a}, 3",
            a = in(zmm_reg) a,
            first = in(reg) first,
            stride = in(reg) stride,
            third = in(reg) third,
            options(nostack, preserves_flags),
        );
    }
}
