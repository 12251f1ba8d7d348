//! Integers of any length that are not negative, as far as the references of exponentials need them.

/// An integer, lowest word first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Integer(Vec<u64>);

impl Integer {
    /// Zero.
    pub(super) fn zero() -> Self {
        Self(Vec::new())
    }

    /// The integer that little-endian bytes stand for.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        Self(bytes.chunks(8).map(word).collect())
    }

    /// `value * 2^by`.
    pub(super) fn shifted(value: u64, by: usize) -> Self {
        let mut words = vec![0; by / 64 + 2];
        let wide = u128::from(value) << (by % 64);
        (words[by / 64], words[by / 64 + 1]) = (wide as u64, (wide >> 64) as u64);
        Self(words)
    }

    /// Adds another.
    pub(super) fn add(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()) + 1, 0);
        let mut carry = false;
        for (i, word) in self.0.iter_mut().enumerate() {
            let (sum, first) = word.overflowing_add(other.word(i));
            let (sum, second) = sum.overflowing_add(carry.into());
            (*word, carry) = (sum, first || second);
        }
    }

    /// The residue modulo 2^`bits` - 1.
    pub(super) fn modulo(&self, bits: usize) -> Self {
        let mut sum = Self::zero();
        let mut from = 0;
        while from < self.length() {
            sum.add(&self.bits(from, bits));
            from += bits;
        }
        if sum.length() > bits { sum.modulo(bits) } else { sum.canonical(bits) }
    }

    /// Zero for 2^`bits` - 1.
    fn canonical(self, bits: usize) -> Self {
        if (0..bits).all(|i| self.bit(i)) { Self::zero() } else { self }
    }

    /// 2^`bits` - 1 minus the integer, which is not greater.
    pub(super) fn below(&self, bits: usize) -> Self {
        let words = (0..bits.div_ceil(64)).map(|i| !self.word(i)).collect();
        Self(words).bits(0, bits)
    }

    /// The integer, below 2^`bits`, times 2^`by` modulo 2^`bits` - 1.
    pub(super) fn turned(&self, by: usize, bits: usize) -> Self {
        let mut words = vec![0; bits.div_ceil(64)];
        let places = (0..bits).filter(|i| self.bit(*i)).map(|i| (i + by) % bits);
        places.for_each(|i| words[i / 64] |= 1 << (i % 64));
        Self(words)
    }

    /// Number of bits without leading zeros.
    pub(super) fn length(&self) -> usize {
        let top = self.0.iter().rposition(|word| *word != 0);
        top.map_or(0, |top| 64 * (top + 1) - self.0[top].leading_zeros() as usize)
    }

    /// Bit i.
    pub(super) fn bit(&self, i: usize) -> bool {
        self.word(i / 64) >> (i % 64) & 1 == 1
    }

    /// The `count` bits from bit `from` on.
    pub(super) fn bits(&self, from: usize, count: usize) -> Self {
        let mut words = vec![0; count.div_ceil(64)];
        (0..count).filter(|i| self.bit(from + i)).for_each(|i| words[i / 64] |= 1 << (i % 64));
        Self(words)
    }

    /// Whether the low `count` bits are a lesser number than another's.
    pub(super) fn is_less(&self, other: &Self, count: usize) -> bool {
        let differing = (0..count).rev().find(|i| self.bit(*i) != other.bit(*i));
        differing.is_some_and(|i| other.bit(i))
    }

    /// The low 64 bits.
    pub(super) fn low(&self) -> u64 {
        self.word(0)
    }

    fn word(&self, i: usize) -> u64 {
        self.0.get(i).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_those_of_128_bits() {
        let of = |value: u128| Integer::of_bytes(&value.to_le_bytes());
        let values = [0, 1, 255, 1 << 63, u128::from(u64::MAX), 1 << 64, 3 << 90, (1 << 100) - 1];
        for a in values {
            for b in values {
                let mut sum = of(a);
                sum.add(&of(b));
                assert!((0..128).all(|i| sum.bit(i) == ((a + b) >> i & 1 == 1)), "{a} + {b}");
                for bits in [1, 7, 64, 99] {
                    let low = (1u128 << bits) - 1;
                    assert_eq!(of(a).is_less(&of(b), bits), a & low < b & low);
                    assert_eq!(of(a).modulo(bits).low(), (a % low.max(1)) as u64, "{a} modulo 2^{bits} - 1");
                }
            }
            assert_eq!(of(a).length(), 128 - a.leading_zeros() as usize);
            assert_eq!(of(a).bits(3, 70).low(), (a >> 3) as u64);
            assert_eq!(of(a).turned(64, 128).low(), (a >> 64) as u64);
            assert_eq!(of(a).below(110).low(), (((1u128 << 110) - 1) - a) as u64);
        }
        assert_eq!(Integer::shifted(0x8000_0001, 100).bits(100, 64).low(), 0x8000_0001);
    }
}
