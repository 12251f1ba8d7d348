//! What a comparison yields where it holds: an element of a group.

use zeroize::Zeroize;

use super::Block;

/// An element of Z_{2^8}, Z_{2^16}, or of pairs in Z_{2^64}.
pub trait Payload: Copy + Default + PartialEq + std::fmt::Debug + Zeroize {
    /// Bytes of an element.
    const BYTES: usize;

    /// The element that a pseudo-random block stands for.
    fn of_block(block: &Block) -> Self;
    /// Reads little-endian bytes.
    fn read(bytes: &[u8]) -> Self;
    /// Writes little-endian bytes.
    fn write(self, bytes: &mut [u8]);
    /// The sum.
    #[must_use]
    fn plus(self, other: Self) -> Self;
    /// Minus the element.
    #[must_use]
    fn negated(self) -> Self;
    /// The element where `bit` is 1, zero where it is 0, without a branch.
    #[must_use]
    fn only_where(self, bit: u64) -> Self;

    /// Minus the element where `bit` is 1, else the element, without a branch.
    #[must_use]
    #[inline(always)]
    fn negated_where(self, bit: u64) -> Self {
        self.negated().only_where(bit).plus(self.only_where(1 ^ bit))
    }
}

macro_rules! number {
    ($number:ty) => {
        impl Payload for $number {
            const BYTES: usize = size_of::<Self>();

            #[inline(always)]
            fn of_block(block: &Block) -> Self {
                Self::read(&block[..Self::BYTES])
            }

            #[inline(always)]
            fn read(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("the bytes of a payload"))
            }

            #[inline(always)]
            fn write(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }

            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            #[inline(always)]
            fn negated(self) -> Self {
                self.wrapping_neg()
            }

            #[inline(always)]
            fn only_where(self, bit: u64) -> Self {
                self & (bit as Self).wrapping_neg()
            }
        }
    };
}

number!(u8);
number!(u16);
number!(u64);

impl Payload for [u64; 2] {
    const BYTES: usize = 16;

    #[inline(always)]
    fn of_block(block: &Block) -> Self {
        Self::read(block)
    }

    #[inline(always)]
    fn read(bytes: &[u8]) -> Self {
        let [first, second] = bytes.as_chunks::<8>().0 else { panic!("the bytes of a payload") };
        [u64::from_le_bytes(*first), u64::from_le_bytes(*second)]
    }

    #[inline(always)]
    fn write(self, bytes: &mut [u8]) {
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(self) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        [self[0].wrapping_add(other[0]), self[1].wrapping_add(other[1])]
    }

    #[inline(always)]
    fn negated(self) -> Self {
        self.map(u64::wrapping_neg)
    }

    #[inline(always)]
    fn only_where(self, bit: u64) -> Self {
        self.map(|word| word & bit.wrapping_neg())
    }
}
