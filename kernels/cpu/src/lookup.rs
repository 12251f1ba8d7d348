//! Table look-up by a share of a one-hot vector: the inner product of the vector with the rotated table, and counts of
//! its bits in two sets of places.

use zeroize::DefaultIsZeroes;

use crate::simd::{Kernel, Level, Simd};

/// Bits of each of the two counts in a [`Sums`].
const COUNT_BITS: u32 = 16;

/// What a party reads off its share of a vector: in bits 0..16 how many of its bits stand above the public place, in bits
/// 16..32 how many are counted by the table, and from bit 32 on the sum of the entries under its bits, modulo 2^32. The
/// sums of parts of a vector add up to those of the whole.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sums(u64);

impl DefaultIsZeroes for Sums {}

impl Sums {
    #[inline(always)]
    fn new(entries: i64, above: u64, counted: u64) -> Self {
        Self(
            (entries.cast_unsigned() << (2 * COUNT_BITS))
                .wrapping_add(counted << COUNT_BITS)
                .wrapping_add(above),
        )
    }

    /// How many bits stand above the public place.
    #[inline(always)]
    pub(crate) fn above(self) -> u16 {
        self.0 as u16
    }

    /// How many bits the table counts.
    #[inline(always)]
    pub(crate) fn counted(self) -> u16 {
        (self.0 >> COUNT_BITS) as u16
    }

    /// The sum of the entries, as the table holds them.
    #[inline(always)]
    pub(crate) fn entries(self) -> i32 {
        (self.0 >> (2 * COUNT_BITS)) as i32
    }
}

/// A table in bit planes. Against a vector that is hot at r, seen from a public place v, its entry for k = r - v mod 2^bits
/// is read.
pub(crate) struct Lookup {
    bits: u8,
    /// Whether the planes hold the negated entries: done where no entry is positive, which saves the sign's plane.
    negated: bool,
    /// Whether the highest plane is that of the sign, of negative weight.
    signed: bool,
    /// Planes of 2^bits bits, the lowest first.
    planes: Vec<Vec<u64>>,
    /// The places k whose bits are counted.
    counted: Vec<u64>,
}

impl Lookup {
    /// The table of 2^`bits` entries, at least 64, each below 2^(31 - `bits`) in magnitude so that sums fit 32 bits.
    pub(crate) fn new(bits: u8, entry: impl Fn(usize) -> i32, counted: impl Fn(usize) -> bool) -> Self {
        let size = 1usize << bits;
        let entries: Vec<i32> = (0..size).map(entry).collect();
        let negated = entries.iter().all(|entry| *entry <= 0);
        let signed = !negated && entries.iter().any(|entry| *entry < 0);
        let largest = entries.iter().map(|entry| entry.unsigned_abs()).max().unwrap_or(0);
        let count = u32::BITS - largest.leading_zeros() + u32::from(signed);
        let plane = |test: &dyn Fn(usize) -> bool| {
            let word = |word: usize| (0..64).fold(0, |bits, i| bits | u64::from(test(64 * word + i)) << i);
            (0..size / 64).map(word).collect()
        };
        let held = |place: usize| if negated { -entries[place] } else { entries[place] };
        Self {
            bits,
            negated,
            signed,
            planes: (0..count).map(|bit| plane(&|place| held(place) >> bit & 1 != 0)).collect(),
            counted: plane(&counted),
        }
    }

    /// Whether [`Sums::entries`] comes negated.
    pub(crate) fn negated(&self) -> bool {
        self.negated
    }

    /// Reads shares of vectors of 2^bits bits, one for each of the public places `places`.
    pub(crate) fn read(&self, level: Level, hot: &[u8], places: &[u16], out: &mut [Sums]) {
        debug_assert_eq!(hot.len(), places.len() << (self.bits - 3));
        level.dispatch(Read { table: self, hot, places, out });
    }
}

struct Read<'a> {
    table: &'a Lookup,
    hot: &'a [u8],
    places: &'a [u16],
    out: &'a mut [Sums],
}

impl Kernel for Read<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { table, hot, places, out } = self;
        let words = 1 << (table.bits - 6);
        for ((hot, v), out) in hot.chunks_exact(8 * words).zip(places).zip(out) {
            let hot = hot.as_chunks::<8>().0;
            let word = |i: usize| u64::from_le_bytes(hot[i & (words - 1)]);
            let (start, shift) = (usize::from(v / 64), u32::from(v % 64));
            let mut sums = 0u64;
            for i in 0..words {
                let rotated = word(start + i) >> shift | word(start + i + 1) << 1 << (63 - shift);
                // In the vector itself, not the rotated one.
                let places_above = match i.cmp(&start) {
                    std::cmp::Ordering::Less => 0,
                    std::cmp::Ordering::Equal => !0 << 1 << shift,
                    std::cmp::Ordering::Greater => !0,
                };
                let ones = |bits: u64| i64::from(bits.count_ones());
                let mut planes = table.planes.iter().rev();
                let mut entries = 0;
                if table.signed {
                    entries = planes.next().map_or(0, |plane| -ones(plane[i] & rotated));
                }
                for plane in planes {
                    entries = 2 * entries + ones(plane[i] & rotated);
                }
                let [above, counted] = [word(i) & places_above, rotated & table.counted[i]]
                    .map(|bits| u64::from(bits.count_ones()));
                sums = sums.wrapping_add(Sums::new(entries, above, counted).0);
            }
            *out = Sums(sums);
        }
    }
}
