//! The level of every machine: 128-bit integers and the `aes` crate, which is constant-time on all of them.

use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};

use super::{Aes128, BLOCK_BYTES, Simd};

/// Needs nothing.
#[derive(Clone, Copy)]
pub(super) struct Portable;

pub(super) fn expand(key: &[u8; BLOCK_BYTES]) -> aes::Aes128 {
    aes::Aes128::new(key.into())
}

impl Simd for Portable {
    const LANES: usize = 8;
    type Group = [u128; 8];
    /// All ones or zero.
    type Mask = [u128; 8];
    type Key<'k> = &'k aes::Aes128;

    #[inline(always)]
    fn key(self, key: &Aes128) -> &aes::Aes128 {
        key.library()
    }

    #[inline(always)]
    fn encrypt(self, key: &&aes::Aes128, a: [u128; 8]) -> [u128; 8] {
        let mut blocks = a.map(|block| Array(block.to_le_bytes()));
        key.encrypt_blocks(&mut blocks);
        blocks.map(|block| u128::from_le_bytes(block.0))
    }

    #[inline(always)]
    fn hash(self, key: &&aes::Aes128, a: [u128; 8], onto: [u128; 8]) -> [u128; 8] {
        let sealed = self.encrypt(key, a);
        std::array::from_fn(|i| sealed[i] ^ a[i] ^ onto[i])
    }

    #[inline(always)]
    fn hash_odd(self, key: &&aes::Aes128, a: [u128; 8], odd: [u128; 8], onto: [u128; 8]) -> [u128; 8] {
        self.hash(key, self.with_odd(a, odd), onto)
    }

    #[inline(always)]
    fn splat(self, block: u128) -> [u128; 8] {
        [block; 8]
    }

    #[inline(always)]
    fn counters(self, first: u64) -> [u128; 8] {
        std::array::from_fn(|i| u128::from(first) + i as u128)
    }

    #[inline(always)]
    fn words(self, values: &[u64]) -> [u128; 8] {
        std::array::from_fn(|i| u128::from(values[i]) << 64 | u128::from(values[i]))
    }

    #[inline(always)]
    fn mask(self, bits: u64) -> [u128; 8] {
        std::array::from_fn(|i| ones_if(u128::from(bits >> i)))
    }

    #[inline(always)]
    fn bits(self, mask: [u128; 8]) -> u64 {
        mask.iter().rev().fold(0, |bits, lane| bits << 1 | *lane as u64 & 1)
    }

    #[inline(always)]
    fn bits_of(self, values: &[u64], bit: u32) -> u64 {
        values[..8].iter().rev().fold(0, |bits, value| bits << 1 | value >> bit & 1)
    }

    #[inline(always)]
    fn odd(self, a: [u128; 8]) -> [u128; 8] {
        a.map(ones_if)
    }

    #[inline(always)]
    fn parity(self, a: [u128; 8]) -> [u128; 8] {
        a.map(|block| ones_if(block.count_ones().into()))
    }

    #[inline(always)]
    fn load(self, bytes: &[u8], first: usize, stride: usize) -> [u128; 8] {
        std::array::from_fn(|i| {
            let lane = &bytes[first + i * stride..][..BLOCK_BYTES];
            u128::from_le_bytes(lane.try_into().expect("the slice has a block's length"))
        })
    }

    #[inline(always)]
    fn prefetch(self, _bytes: &[u8], _at: usize) {}

    #[inline(always)]
    fn store(self, a: [u128; 8], bytes: &mut [u8], first: usize, stride: usize) {
        for (i, block) in a.iter().enumerate() {
            bytes[first + i * stride..][..BLOCK_BYTES].copy_from_slice(&block.to_le_bytes());
        }
    }

    #[inline(always)]
    fn xor(self, a: [u128; 8], b: [u128; 8]) -> [u128; 8] {
        std::array::from_fn(|i| a[i] ^ b[i])
    }

    #[inline(always)]
    fn and(self, a: [u128; 8], b: [u128; 8]) -> [u128; 8] {
        std::array::from_fn(|i| a[i] & b[i])
    }

    #[inline(always)]
    fn xor_where(self, mask: [u128; 8], a: [u128; 8], b: [u128; 8]) -> [u128; 8] {
        std::array::from_fn(|i| a[i] ^ (b[i] & mask[i]))
    }

    #[inline(always)]
    fn select(self, mask: [u128; 8], on: [u128; 8], off: [u128; 8]) -> [u128; 8] {
        std::array::from_fn(|i| off[i] ^ ((on[i] ^ off[i]) & mask[i]))
    }

    #[inline(always)]
    fn only_where(self, mask: [u128; 8], b: [u128; 8]) -> [u128; 8] {
        self.and(mask, b)
    }

    #[inline(always)]
    fn with_odd(self, a: [u128; 8], odd: [u128; 8]) -> [u128; 8] {
        std::array::from_fn(|i| a[i] & !1 | odd[i] & 1)
    }

    #[inline(always)]
    fn with_odd_where(self, a: [u128; 8], clear: [u128; 8], set: [u128; 8]) -> [u128; 8] {
        std::array::from_fn(|i| a[i] & !(clear[i] & 1) | set[i] & 1)
    }

    #[inline(always)]
    fn orthomorphism(self, a: [u128; 8]) -> [u128; 8] {
        a.map(|block| block.rotate_left(64) ^ (block >> 64 << 64))
    }

    #[inline(always)]
    fn one_hot(self, words: [u128; 8]) -> [u128; 8] {
        words.map(one_hot)
    }

    #[inline(always)]
    fn below(self, words: [u128; 8]) -> [u128; 8] {
        words.map(|word| one_hot(word) - 1)
    }
}

/// All ones if bit 0 of `block`, else zero.
#[inline(always)]
fn ones_if(block: u128) -> u128 {
    0u128.wrapping_sub(block & 1)
}

/// 2^(word mod 128), by masks: the compiler is left no reason to branch on a secret shift of a double word.
#[inline(always)]
pub(super) fn one_hot(word: u128) -> u128 {
    let high = 0u64.wrapping_sub((word >> 6) as u64 & 1);
    let bit = 1u64 << (word as u64 & 63);
    u128::from(bit & high) << 64 | u128::from(bit & !high)
}
