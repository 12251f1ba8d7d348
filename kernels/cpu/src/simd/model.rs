//! The processor's name, as it gives it itself.

/// The model, or the architecture where the processor does not tell.
#[cfg(target_arch = "x86_64")]
pub(crate) fn name() -> String {
    use std::arch::x86_64::__cpuid;

    // The leaves of the brand string: 48 bytes, padded with zeros (AMD APM volume 3, E.4.2).
    let mut brand = Vec::with_capacity(48);
    if __cpuid(0x8000_0000).eax >= 0x8000_0004 {
        for leaf in 0x8000_0002..=0x8000_0004 {
            let part = __cpuid(leaf);
            brand.extend([part.eax, part.ebx, part.ecx, part.edx].into_iter().flat_map(u32::to_le_bytes));
        }
    }
    let brand = String::from_utf8_lossy(&brand);
    match brand.trim_matches(|c: char| c == '\0' || c.is_whitespace()) {
        "" => std::env::consts::ARCH.to_owned(),
        model => model.to_owned(),
    }
}

/// The architecture.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn name() -> String {
    std::env::consts::ARCH.to_owned()
}
