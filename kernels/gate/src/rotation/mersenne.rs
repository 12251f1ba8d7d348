//! Numbers modulo M = 2^m - 1, m a power of two, in constant time.
//!
//! 2^m is 1 modulo M. What leaves a number at the top comes in at the bottom, and a product with a power of two is a rotation.
//! Zero has two forms, all zeros and all ones; [`Number::canonical`] takes the second to the first.

use zeroize::Zeroize;

/// A word of a number. Numbers of the parties have words of 64 bits; tests go through all residues with words of 8 bits.
pub trait Word: Copy + Default + Eq + Zeroize + 'static {
    /// Bits of a word.
    const BITS: u32;

    /// `self * by + carry`: the low word and the high one.
    fn multiply_add(self, by: Self, carry: Self) -> (Self, Self);
    /// `self + other + carry`: the low word and what is carried, 0 or 1.
    fn add(self, other: Self, carry: Self) -> (Self, Self);
    /// All bits inverted.
    fn inverted(self) -> Self;
    /// Bitwise and.
    fn and(self, other: Self) -> Self;
    /// Bitwise or.
    fn or(self, other: Self) -> Self;
    /// `self << by`, and the bits that leave the word. `by` is below [`Word::BITS`].
    fn shifted(self, by: u32) -> [Self; 2];
    /// All ones if the words are equal, else zero, without a branch.
    fn equal(self, other: Self) -> Self;
    /// The low bits of a number.
    fn low(value: u64) -> Self;
    /// The word as a number.
    fn wide(self) -> u64;
    /// The word that little-endian bytes stand for.
    fn read(bytes: &[u8]) -> Self;
    /// Writes the word as little-endian bytes.
    fn write(self, bytes: &mut [u8]);
}

macro_rules! word {
    ($word:ty, $wide:ty) => {
        impl Word for $word {
            const BITS: u32 = <$word>::BITS;

            #[inline(always)]
            fn multiply_add(self, by: Self, carry: Self) -> (Self, Self) {
                let product = <$wide>::from(self) * <$wide>::from(by) + <$wide>::from(carry);
                (product as Self, (product >> Self::BITS) as Self)
            }

            #[inline(always)]
            fn add(self, other: Self, carry: Self) -> (Self, Self) {
                let sum = <$wide>::from(self) + <$wide>::from(other) + <$wide>::from(carry);
                (sum as Self, (sum >> Self::BITS) as Self)
            }

            #[inline(always)]
            fn inverted(self) -> Self {
                !self
            }

            #[inline(always)]
            fn and(self, other: Self) -> Self {
                self & other
            }

            #[inline(always)]
            fn or(self, other: Self) -> Self {
                self | other
            }

            #[inline(always)]
            fn shifted(self, by: u32) -> [Self; 2] {
                [self << by, self >> 1 >> (Self::BITS - 1 - by)]
            }

            #[inline(always)]
            fn equal(self, other: Self) -> Self {
                let differs = self ^ other;
                // The highest bit of d | -d is 1 exactly if d is not 0.
                ((differs | differs.wrapping_neg()) >> (Self::BITS - 1)).wrapping_sub(1)
            }

            #[inline(always)]
            fn low(value: u64) -> Self {
                value as Self
            }

            #[inline(always)]
            fn wide(self) -> u64 {
                self.into()
            }

            #[inline(always)]
            fn read(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("the bytes of a word"))
            }

            #[inline(always)]
            fn write(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
        }
    };
}

word!(u64, u128);
#[cfg(test)]
word!(u8, u16);

/// A number modulo 2^m - 1 of `L` words, lowest first; `L` is a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number<W, const L: usize>(pub [W; L]);

impl<W: Word, const L: usize> Number<W, L> {
    /// m.
    pub const BITS: u32 = W::BITS * L as u32;
    /// Bytes of a number.
    pub const BYTES: usize = Self::BITS as usize / 8;

    /// Zero.
    #[must_use]
    pub fn zero() -> Self {
        Self([W::default(); L])
    }

    /// The number that little-endian bytes stand for.
    ///
    /// # Panics
    /// If there are not as many bytes as a number has.
    #[must_use]
    #[inline(always)]
    pub fn read(bytes: &[u8]) -> Self {
        assert_eq!(bytes.len(), Self::BYTES, "the bytes of a number");
        let mut words = bytes.chunks_exact(W::BITS as usize / 8);
        Self(std::array::from_fn(|_| W::read(words.next().expect("as many words as a number has"))))
    }

    /// Writes the number as little-endian bytes.
    #[inline(always)]
    pub fn write(&self, bytes: &mut [u8]) {
        for (word, bytes) in self.0.iter().zip(bytes.chunks_exact_mut(W::BITS as usize / 8)) {
            word.write(bytes);
        }
    }

    /// The same residue, never as all ones.
    #[must_use]
    #[inline(always)]
    pub fn canonical(self) -> Self {
        let all = self.0.iter().fold(W::default().inverted(), |all, word| all.and(*word));
        let kept = all.equal(W::default().inverted()).inverted();
        let mut same = self;
        same.0.iter_mut().for_each(|word| *word = word.and(kept));
        same
    }

    /// The sum.
    #[must_use]
    #[inline(always)]
    pub fn plus(self, other: Self) -> Self {
        let (mut sum, mut carry) = (self, W::default());
        for (word, other) in sum.0.iter_mut().zip(other.0) {
            (*word, carry) = word.add(other, carry);
        }
        // Two numbers of at most 2^m - 1: a second carry cannot come.
        sum.plus_word(carry).0
    }

    /// M minus the number.
    #[must_use]
    #[inline(always)]
    pub fn negated(self) -> Self {
        let mut rest = self;
        rest.0.iter_mut().for_each(|word| *word = word.inverted());
        rest
    }

    /// The product with a word that is not the largest one.
    #[must_use]
    #[inline(always)]
    pub fn times(self, by: W) -> Self {
        let (mut product, mut high) = (self, W::default());
        for word in &mut product.0 {
            (*word, high) = word.multiply_add(by, high);
        }
        product.plus_carried(high)
    }

    /// The sum with what was carried out of the top. If that carries again, the number is less than the word: the last 1 goes no
    /// further than the lowest word.
    #[inline(always)]
    fn plus_carried(self, high: W) -> Self {
        let (mut sum, carry) = self.plus_word(high);
        sum.0[0] = sum.0[0].add(carry, W::default()).0;
        sum
    }

    /// The sum with a word, and what is carried.
    #[inline(always)]
    fn plus_word(mut self, word: W) -> (Self, W) {
        let mut carry = word;
        for word in &mut self.0 {
            (*word, carry) = word.add(carry, W::default());
        }
        (self, carry)
    }

    /// `value * 2^at` for a secret `at` below m.
    #[must_use]
    #[inline(always)]
    pub fn placed(value: W, at: u32) -> Self {
        let [low, high] = value.shifted(at % W::BITS);
        let first = at / W::BITS;
        let next = (first + 1) % L as u32;
        Self(std::array::from_fn(|i| {
            let here = |place: u32| W::low((i as u64) ^ u64::from(place)).equal(W::default());
            here(first).and(low).or(here(next).and(high))
        }))
    }

    /// The word of bits `at` to `at` + [`Word::BITS`] - 1, after the top from the bottom on. `at` is public and below m.
    #[must_use]
    #[inline(always)]
    pub fn window(&self, at: u32) -> W {
        let word = |i: u32| self.0[i as usize % L];
        let (first, by) = (at / W::BITS, at % W::BITS);
        // A shift by all bits of a word moves them into the next.
        let high = if by == 0 { W::default() } else { word(first + 1).shifted(W::BITS - by)[0] };
        let low = if by == 0 { word(first) } else { word(first).shifted(W::BITS - by)[1] };
        high.or(low)
    }
}

/// The sum of numbers that were rotated by public amounts.
pub struct Sum<const L: usize>([u128; L]);

impl<const L: usize> Sum<L> {
    /// Of no number.
    #[must_use]
    pub fn new() -> Self {
        Self([0; L])
    }

    /// Adds `number * 2^by` for a public `by` below m. Fewer numbers are added than the largest word is, so that what is carried
    /// out of the top is a word.
    #[inline(always)]
    pub fn add<W: Word>(&mut self, number: &Number<W, L>, by: u32) {
        let (first, by) = ((by / W::BITS) as usize, by % W::BITS);
        let mut below = number.0[L - 1].shifted(by)[1];
        for (i, word) in number.0.iter().enumerate() {
            let [low, high] = word.shifted(by);
            self.0[(first + i) % L] += u128::from(low.or(below).wide());
            below = high;
        }
    }

    /// The sum modulo M.
    #[must_use]
    #[inline(always)]
    pub fn reduced<W: Word>(&self) -> Number<W, L> {
        let (mut number, mut carried) = (Number::zero(), 0);
        for (word, sum) in number.0.iter_mut().zip(self.0) {
            let sum = sum + carried;
            *word = W::low(sum as u64);
            carried = sum >> W::BITS;
        }
        number.plus_carried(W::low(carried as u64))
    }
}

impl<const L: usize> Default for Sum<L> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const L: usize> Drop for Sum<L> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: u32) -> Number<u8, 2> {
        Number([value as u8, (value >> 8) as u8])
    }

    fn value(number: Number<u8, 2>) -> u32 {
        let [low, high] = number.canonical().0;
        u32::from(low) | u32::from(high) << 8
    }

    const M: u32 = (1 << 16) - 1;

    #[test]
    fn every_residue_of_a_small_ring_adds_multiplies_and_turns() {
        for a in 0..=M {
            assert_eq!(value(number(a)), a % M);
            assert_eq!(value(number(a).negated()), (M - a) % M);
            for b in [0, 1, 2, 255, 256, 4095, 0x8000, 0xFF00, M - 1, M] {
                assert_eq!(value(number(a).plus(number(b))), (a + b) % M, "{a} + {b}");
            }
            for by in [0, 1, 2, 3, 127, 128, 254] {
                assert_eq!(value(number(a).times(by)), a * u32::from(by) % M, "{a} * {by}");
            }
            for by in 0..16 {
                let mut sum = Sum::new();
                sum.add(&number(a), by);
                assert_eq!(
                    u64::from(value(sum.reduced())),
                    (u64::from(a) << by) % u64::from(M),
                    "{a} << {by}"
                );
                let turned = (u64::from(a) << 16 | u64::from(a)) >> by;
                assert_eq!(number(a).window(by), turned as u8, "{a} from bit {by} on");
            }
        }
    }

    #[test]
    fn sums_of_many_numbers_are_those_of_integers() {
        let (mut sum, mut expected) = (Sum::<2>::new(), 0u64);
        for i in 0..254u64 {
            let (a, by) = (M as u64 - ((i * 40503) & 0x3FF), (i % 16) as u32);
            sum.add(&number(a as u32), by);
            expected += a << by;
            assert_eq!(u64::from(value(sum.reduced())), expected % u64::from(M));
        }
    }

    #[test]
    fn a_word_is_placed_at_every_bit() {
        for at in 0..16 {
            for word in 0..=255u8 {
                let expected = (u64::from(word) << at) % u64::from(M);
                assert_eq!(u64::from(value(Number::placed(word, at))), expected, "{word} at {at}");
            }
        }
        let one = Number::<u8, 1>::placed(0b1100_0001, 1);
        assert_eq!(one.0, [0b1000_0011]);
    }

    #[test]
    fn words_of_64_bits_agree_with_wide_integers() {
        let m = u128::MAX;
        let mut state = 1u128;
        for _ in 0..1000 {
            state = state.wrapping_mul(0xDA94_2042_E4DD_58B5_2D99_5E53_E0CD_93B9).wrapping_add(1);
            let a = Number::<u64, 2>::read(&state.to_le_bytes());
            let as_integer = |n: Number<u64, 2>| {
                let [low, high] = n.canonical().0;
                u128::from(low) | u128::from(high) << 64
            };
            let by = (state >> 70) as u64 & 0xFFFF;
            // (low, high) of the product, folded.
            let product = (state & u128::from(u64::MAX)) * u128::from(by);
            let high = (state >> 64) * u128::from(by) + (product >> 64);
            let low = product & u128::from(u64::MAX) | high << 64;
            let (sum, carry) = low.overflowing_add(high >> 64);
            let folded = sum + u128::from(carry);
            assert_eq!(as_integer(a.times(by)), folded % m);
            let turn = (state >> 3) as u32 % 128;
            let mut sum = Sum::new();
            sum.add(&a, turn);
            assert_eq!(as_integer(sum.reduced()), state.rotate_left(turn) % m);
            assert_eq!(a.window(turn), state.rotate_right(turn) as u64);
            let mut bytes = [0; 16];
            a.write(&mut bytes);
            assert_eq!(bytes, state.to_le_bytes());
        }
    }
}
