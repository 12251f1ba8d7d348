//! 512-bit registers for what is not AES: masks, byte permutations and counts of bits.
//!
//! Each routine has a portable form beside its caller, and a test that compares the two.

#[cfg(target_arch = "x86_64")]
pub(crate) mod columns;
pub(crate) mod copy;
#[cfg(target_arch = "x86_64")]
pub(crate) mod hot;
pub(crate) mod line;
pub(crate) mod lookup;
#[cfg(target_arch = "x86_64")]
pub(crate) mod pack;
#[cfg(target_arch = "x86_64")]
pub(crate) mod planes;
#[cfg(target_arch = "x86_64")]
pub(crate) mod row;

/// Whether the machine has AVX-512 F, BW, DQ, VL, VBMI, VBMI2, IFMA, VNNI and VPOPCNTDQ, and BMI2: the processors with VAES
/// on 512 bits do.
#[cfg(target_arch = "x86_64")]
pub(crate) fn supported() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("avx512ifma")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512vpopcntdq")
        && is_x86_feature_detected!("bmi2")
}

/// Never, on other processors.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn supported() -> bool {
    false
}

/// Prefetches as many bytes as `piece` has, from `ahead` bytes after its start on. Pieces of keys are read one after
/// another, but across cache lines or several at a time. The processor does not recognise such streams.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn prefetch(piece: &[u8], ahead: usize) {
    const CACHE_LINE: usize = 64;
    for at in (ahead..ahead + piece.len()).step_by(CACHE_LINE) {
        super::aesni::prefetch(piece, at);
    }
}

/// Nothing: other processors are left to guess.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn prefetch(_piece: &[u8], _ahead: usize) {}
