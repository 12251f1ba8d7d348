//! Table look-up by a share of a one-hot vector. It computes the inner product of the vector with the rotated table,
//! and counts of the vector's bits in two sets of places.

use std::cmp::Ordering;

use zeroize::DefaultIsZeroes;

use crate::simd::{Level, Simd, Vectorised, wide::lookup::NibbleTable};

/// Where the count of the places that the table counts stands in the word of a [`Sums`].
pub(crate) const COUNTED_AT: u32 = 16;

/// Where the sum of the entries stands.
pub(crate) const ENTRIES_AT: u32 = 32;

/// What a party reads off its share of a vector. Bit 0: whether the number of its bits above the public place is odd.
/// Bits 16 and 17: how many of its bits the table counts, modulo 4. From bit 32 on: the sum of the entries under its
/// bits, modulo 2^32.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub(crate) struct Sums(u64);

impl DefaultIsZeroes for Sums {}

impl Sums {
    /// From counts of which the lowest bits are kept.
    #[inline(always)]
    fn new(entries: u32, above: u32, counted: u32) -> Self {
        Self(u64::from(entries) << ENTRIES_AT | u64::from(counted & 3) << COUNTED_AT | u64::from(above & 1))
    }

    /// Whether the number of bits above the public place is odd, as 0 or 1. Only of a table that has
    /// [`Lookup::with_above`].
    #[inline(always)]
    pub(crate) fn above(self) -> u16 {
        self.0 as u16
    }

    /// How many bits the table counts, modulo 4.
    #[inline(always)]
    pub(crate) fn counted(self) -> u16 {
        (self.0 >> COUNTED_AT) as u16
    }

    /// The sum of the entries.
    #[inline(always)]
    pub(crate) fn entries(self) -> i32 {
        (self.0 >> ENTRIES_AT) as i32
    }
}

/// A table. Against a vector that is hot at r, seen from a public place v, the entry k = r - v mod 2^bits is read.
pub(crate) struct Lookup {
    bits: u8,
    entries: Vec<i32>,
    /// The least entry. What is in `planes` is by how much the others exceed it.
    least: i32,
    /// The excesses in planes of 2^bits bits, the lowest first.
    planes: Vec<Vec<u64>>,
    /// The places k whose bits are counted.
    counted: Vec<u64>,
    /// The same for wide registers, if the machine has them.
    nibbles: Option<NibbleTable>,
}

impl Lookup {
    /// The table of 2^`bits` entries, at least 64, each below 2^(31 - `bits`) in magnitude so that sums fit 32 bits.
    pub(crate) fn new(bits: u8, entry: impl Fn(usize) -> i32, counted: impl Fn(usize) -> bool) -> Self {
        let size = 1usize << bits;
        let entries: Vec<i32> = (0..size).map(entry).collect();
        let least = entries.iter().copied().min().unwrap_or(0);
        let excesses: Vec<u32> = entries.iter().map(|entry| entry.abs_diff(least)).collect();
        let width = excesses.iter().map(|excess| u32::BITS - excess.leading_zeros()).max().unwrap_or(0);
        let plane = |test: &dyn Fn(usize) -> bool| {
            let word = |word: usize| (0..64).fold(0, |bits, i| bits | u64::from(test(64 * word + i)) << i);
            (0..size / 64).map(word).collect::<Vec<u64>>()
        };
        let counted = plane(&counted);
        Self {
            bits,
            least,
            planes: (0..width).map(|bit| plane(&|place| excesses[place] >> bit & 1 != 0)).collect(),
            nibbles: NibbleTable::new(bits, &entries, &counted, false),
            entries,
            counted,
        }
    }

    /// The same table, from which [`Sums::above`] can be read.
    pub(crate) fn with_above(self) -> Self {
        Self { nibbles: NibbleTable::new(self.bits, &self.entries, &self.counted, true), ..self }
    }

    /// Reads shares of vectors of 2^bits bits, one for each of the public places `places`.
    pub(crate) fn read(&self, level: Level, hot: &[u8], places: &[u16], out: &mut [Sums]) {
        assert_eq!(hot.len(), places.len() << (self.bits - 3), "a vector for each place");
        assert_eq!(places.len(), out.len(), "a result for each place");
        match (level, &self.nibbles) {
            (Level::Vaes, Some(nibbles)) => nibbles.read(hot, places, out),
            _ => level.dispatch(Read { table: self, hot, places, out }),
        }
    }
}

struct Read<'a> {
    table: &'a Lookup,
    hot: &'a [u8],
    places: &'a [u16],
    out: &'a mut [Sums],
}

impl Vectorised for Read<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { table, hot, places, out } = self;
        let words = 1 << (table.bits - 6);
        for ((hot, v), out) in hot.chunks_exact(8 * words).zip(places).zip(out) {
            let hot = hot.as_chunks::<8>().0;
            let word = |i: usize| u64::from_le_bytes(hot[i & (words - 1)]);
            let (start, shift) = (usize::from(v / 64), u32::from(v % 64));
            let (mut entries, mut above, mut count) = (0u32, 0, 0);
            for i in 0..words {
                let rotated = word(start + i) >> shift | word(start + i + 1) << 1 << (63 - shift);
                // In the vector itself, not the rotated one.
                let places_above = match i.cmp(&start) {
                    Ordering::Less => 0,
                    Ordering::Equal => !0 << 1 << shift,
                    Ordering::Greater => !0,
                };
                let excess = |sum: u32, plane: &Vec<u64>| 2 * sum + (plane[i] & rotated).count_ones();
                let excess = table.planes.iter().rev().fold(0, excess);
                let least = table.least.wrapping_mul(rotated.count_ones().cast_signed());
                entries = entries.wrapping_add(excess).wrapping_add(least.cast_unsigned());
                above += (word(i) & places_above).count_ones();
                count += (rotated & table.counted[i]).count_ones();
            }
            *out = Sums::new(entries, above, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every width, entries of one sign and of both, against sums over single bits.
    #[test]
    fn sums_are_those_of_the_bits_at_every_level() {
        let number = |i: usize| (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        for bits in 6..=12u8 {
            let size = 1usize << bits;
            let tables: [&dyn Fn(usize) -> i32; 4] = [
                &|_| 0,
                &|place| -(number(place) as i32 & 0x3FF),
                &|place| (number(place) as i32 & 0x7FFF) - 0x4000,
                &|place| (number(place) as i32 & 0x1F_FFFF) - 0x10_0000,
            ];
            for entry in tables {
                let is_counted = |place: usize| number(place) & 1 << 40 != 0;
                let table = Lookup::new(bits, entry, is_counted).with_above();
                let elems = 77;
                let hot: Vec<u8> = (0..elems * size / 8).map(|i| (number(i) >> 32) as u8).collect();
                let places: Vec<u16> = (0..elems).map(|i| (number(i) >> 20) as u16 % size as u16).collect();
                for level in Level::ALL.into_iter().filter(|level| level.supported()) {
                    let mut out = vec![Sums::default(); elems];
                    table.read(level, &hot, &places, &mut out);
                    for (i, sums) in out.iter().enumerate() {
                        let (mut entries, mut above, mut counted) = (0, 0, 0);
                        for r in (0..size).filter(|r| hot[(i * size + r) / 8] >> (r % 8) & 1 != 0) {
                            let place = (r + size - usize::from(places[i])) % size;
                            entries += entry(place);
                            above += u16::from(r > usize::from(places[i]));
                            counted += u16::from(is_counted(place));
                        }
                        assert_eq!(
                            (sums.entries(), sums.above(), sums.counted()),
                            (entries, above % 2, counted % 4),
                            "{bits} bits, element {i}, {level}"
                        );
                    }
                }
            }
        }
    }
}
