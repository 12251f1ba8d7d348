//! The window digit: the inner product of a one-hot share with the rotated table, and two parities.

use suf_gate::Curve;

use crate::simd::{Kernel, Level, Simd, window};

/// Bits of each of the two counts in an [`Inner`].
const COUNT_BITS: u32 = 16;

/// What a party reads off its share of a window vector: the number of its bits that tell c, in bits 0..16, those that
/// tell p, in bits 16..32, and the sum of the table's entries under its bits, from bit 32 on, modulo 2^32. Sums of
/// parts are sums of these.
#[derive(Clone, Copy, Default)]
pub(crate) struct Inner(pub(crate) u64);

impl Inner {
    /// A sum of entries with the two counts.
    #[inline(always)]
    pub(crate) fn new(entries: i64, c: u64, p: u64) -> Self {
        Self((entries.cast_unsigned() << (2 * COUNT_BITS)).wrapping_add(p << COUNT_BITS).wrapping_add(c))
    }

    /// Shares of c and p in bits 0 and 1.
    #[inline(always)]
    pub(super) fn states(self) -> u16 {
        (self.0 & 1) as u16 | (self.0 >> (COUNT_BITS - 1)) as u16 & 2
    }

    /// Share of the entry, up to the sign that the dealer knows; to be reduced modulo 2^k, k <= 16.
    #[inline(always)]
    pub(super) fn entry(self) -> u16 {
        (self.0 >> (2 * COUNT_BITS)) as u16
    }
}

/// The table of residuals in bit planes over the places k = r - v mod 2^L of a rotated window vector. The entry for
/// place k is that of t = (-k mod 2^L) - 2^(L-1).
pub(crate) struct WindowTable {
    bits: u8,
    /// Whether the planes hold the negated entries: done where no entry is positive, which saves the sign's plane.
    negated: bool,
    /// Whether the highest plane is that of the sign, of negative weight.
    signed: bool,
    /// Planes of 2^L bits, the lowest first.
    planes: Vec<Vec<u64>>,
    /// The places where v - r lies in the upper half: p.
    upper: Vec<u64>,
}

impl WindowTable {
    /// The table of a curve.
    pub(super) fn new(curve: &Curve) -> Self {
        let size = curve.window_len();
        let negated = curve.residual.iter().all(|entry| *entry <= 0);
        let signed = !negated && curve.residual.iter().any(|entry| *entry < 0);
        let entry = |place: usize| {
            let entry = i64::from(curve.residual[(size - place) % size]);
            if negated { -entry } else { entry }
        };
        // |entry| < 2^(k-2): k - 2 planes of magnitude, and one of the sign.
        let count = curve.mask_bits() - 2 + u8::from(signed);
        let plane = |test: &dyn Fn(usize) -> bool| {
            let word = |word: usize| (0..64).fold(0, |bits, i| bits | u64::from(test(64 * word + i)) << i);
            (0..size / 64).map(word).collect()
        };
        Self {
            bits: curve.window_bits,
            negated,
            signed,
            planes: (0..count).map(|bit| plane(&|place| entry(place) >> bit & 1 != 0)).collect(),
            upper: plane(&|place| (1..=size / 2).contains(&place)),
        }
    }

    /// L.
    pub(crate) fn bits(&self) -> u8 {
        self.bits
    }

    /// The planes, the highest first, and whether that one has negative weight.
    pub(crate) fn planes(&self) -> (&[Vec<u64>], bool) {
        (&self.planes, self.signed)
    }

    /// The places that tell p.
    pub(crate) fn upper(&self) -> &[u64] {
        &self.upper
    }

    /// The sign that the sum of a party's planes takes on its way to its share of the entry.
    pub(super) fn negated(&self) -> bool {
        self.negated
    }

    /// Reads a tile of shares, 2^L bits for each of the public digits `values`.
    pub(super) fn read(&self, level: Level, hot: &[u8], values: &[u16], out: &mut [Inner]) {
        debug_assert_eq!(hot.len(), values.len() << (self.bits - 3));
        if level == Level::Vaes && window::read(self, hot, values, out) {
            return;
        }
        level.dispatch(Read { table: self, hot, values, out });
    }
}

struct Read<'a> {
    table: &'a WindowTable,
    hot: &'a [u8],
    values: &'a [u16],
    out: &'a mut [Inner],
}

impl Kernel for Read<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { table, hot, values, out } = self;
        let words = 1 << (table.bits - 6);
        for ((hot, v), out) in hot.chunks_exact(8 * words).zip(values).zip(out) {
            let hot = hot.as_chunks::<8>().0;
            let word = |i: usize| u64::from_le_bytes(hot[i & (words - 1)]);
            let (start, shift) = (usize::from(v / 64), u32::from(v % 64));
            let mut inner = 0u64;
            for i in 0..words {
                let rotated = word(start + i) >> shift | word(start + i + 1) << 1 << (63 - shift);
                // Bit j of the vector itself stands for r = j: v < r above place v.
                let above = match i.cmp(&start) {
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
                let [c, p] = [word(i) & above, rotated & table.upper[i]].map(|bits| u64::from(bits.count_ones()));
                inner = inner.wrapping_add(Inner::new(entries, c, p).0);
            }
            *out = Inner(inner);
        }
    }
}
