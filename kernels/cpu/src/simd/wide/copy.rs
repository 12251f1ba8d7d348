//! Copies past the cache: what is written once and read much later costs half the memory traffic if its lines are not
//! fetched first.
#![cfg_attr(target_arch = "x86_64", allow(unsafe_code))]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Bytes of a register and of a cache line.
#[cfg(target_arch = "x86_64")]
const WIDE: usize = 64;

/// Copies `from` to `to`, of the same length, which is not expected to be read soon. Another thread may read it only after
/// this one has called [`settle`].
pub(crate) fn copy_past_cache(from: &[u8], to: &mut [u8]) {
    assert_eq!(from.len(), to.len(), "a copy of the same length");
    #[cfg(target_arch = "x86_64")]
    if super::supported() {
        // SAFETY: `supported` found the instructions.
        unsafe { stream(from, to) };
        return;
    }
    to.copy_from_slice(from);
}

/// Orders all such copies of this thread before its later writes. Without this they are unordered: a thread that is
/// told of them could read what was there before.
pub(crate) fn settle() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of the architecture.
    unsafe {
        _mm_sfence();
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn stream(from: &[u8], to: &mut [u8]) {
    let head = to.as_ptr().align_offset(WIDE).min(to.len());
    let (from_head, from) = from.split_at(head);
    let (to_head, to) = to.split_at_mut(head);
    to_head.copy_from_slice(from_head);
    let (from, from_tail) = from.as_chunks::<WIDE>();
    let (to, to_tail) = to.as_chunks_mut::<WIDE>();
    for (from, to) in from.iter().zip(to) {
        // SAFETY: both arrays are as long as a register, and `to` starts at a multiple of that.
        unsafe { _mm512_stream_si512(to.as_mut_ptr().cast(), _mm512_loadu_si512(from.as_ptr().cast())) };
    }
    to_tail.copy_from_slice(from_tail);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_at_any_place_and_length() {
        let from: Vec<u8> = (0..1000).map(|i| (i * 7) as u8).collect();
        for start in [0, 1, 15, 63, 64] {
            for len in [0, 1, 63, 64, 65, 200, 800] {
                let mut to = vec![0xEE; 1000];
                copy_past_cache(&from[5..5 + len], &mut to[start..start + len]);
                assert_eq!(to[start..start + len], from[5..5 + len], "{len} bytes to {start}");
                let around = to[..start].iter().chain(&to[start + len..]);
                assert!(around.copied().all(|byte| byte == 0xEE), "{len} bytes to {start}");
            }
        }
    }
}
