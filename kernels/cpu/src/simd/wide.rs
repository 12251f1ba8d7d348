//! 512-bit registers for what is not AES: masks, byte permutations and counts of bits.
//!
//! Each routine has a portable form beside its caller, and a test that compares the two.

#[cfg(target_arch = "x86_64")]
pub(crate) mod columns;
pub(crate) mod copy;
#[cfg(target_arch = "x86_64")]
pub(crate) mod hot;
pub(crate) mod lookup;
#[cfg(target_arch = "x86_64")]
pub(crate) mod planes;

/// Whether the machine has AVX-512 F, BW, DQ, VL, VBMI, VBMI2, VNNI and VPOPCNTDQ: the processors with VAES on 512 bits do.
#[cfg(target_arch = "x86_64")]
pub(crate) fn supported() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512vpopcntdq")
}

/// Never, on other processors.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn supported() -> bool {
    false
}
