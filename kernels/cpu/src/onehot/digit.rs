//! A digit of the mask as a share of its one-hot vector: what a party reads off it, and how the dealer makes it.

#[cfg(target_arch = "x86_64")]
use crate::simd::wide;
use crate::simd::{Level, Simd, Vectorised};

/// Which states of a digit are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DigitKind {
    /// Between the window and the top: lt, eq, q.
    Lower,
    /// The highest digit: near, high.
    Top,
}

/// Reads the shares of the states of a strip's digits from `hot`, at the public digits `values`. `hot` has the shares
/// of the vectors of 2^`bits` bits. ORs the states into `states` from bit `at` on.
pub(super) fn read(
    level: Level,
    place: DigitKind,
    bits: u8,
    hot: &[u8],
    values: &[u16],
    states: &mut [u16],
    at: u8,
) {
    debug_assert_eq!(hot.len(), values.len() << (bits - 3));
    let lower = place == DigitKind::Lower;
    match bits {
        3 => level.dispatch(Read::<3> { lower, hot, values, states, at }),
        4 => level.dispatch(Read::<4> { lower, hot, values, states, at }),
        5 => level.dispatch(Read::<5> { lower, hot, values, states, at }),
        6 => level.dispatch(Read::<6> { lower, hot, values, states, at }),
        7 => level.dispatch(Read::<7> { lower, hot, values, states, at }),
        _ => unreachable!("a gate's digits have 3 to 7 bits"),
    }
}

struct Read<'a, const BITS: usize> {
    lower: bool,
    hot: &'a [u8],
    values: &'a [u16],
    states: &'a mut [u16],
    at: u8,
}

impl<const BITS: usize> Vectorised for Read<'_, BITS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { lower, hot, values, states, at } = self;
        let each = hot.chunks_exact(1 << (BITS - 3)).zip(values).zip(states);
        if lower {
            each.for_each(|((hot, v), states)| *states |= lower_state::<BITS>(load(hot), *v) << at);
        } else {
            each.for_each(|((hot, v), states)| *states |= top_state::<BITS>(load(hot), *v) << at);
        }
    }
}

/// lt, eq, q in bits 0, 1, 2.
#[inline(always)]
fn lower_state<const BITS: usize>(hot: [u64; 2], v: u16) -> u16 {
    let rotated = rotate::<BITS>(hot, v);
    // In the rotated vector, place k stands for r = v + k. So v < r without wrap for 1 <= k < 2^BITS - v.
    let size = 1u64 << BITS;
    let above = below(size - u64::from(v));
    let lt = parity([rotated[0] & above[0] & !1, rotated[1] & above[1]]);
    lt | (rotated[0] as u16 & 1) << 1 | last::<BITS>(rotated) << 2
}

/// near, high in bits 0, 1.
#[inline(always)]
fn top_state<const BITS: usize>(hot: [u64; 2], v: u16) -> u16 {
    let rotated = rotate::<BITS>(hot, v);
    let one_above = last::<BITS>(rotated);
    // v - r in the upper half: 1 <= r - v <= 2^BITS / 2.
    let upper = below((1 << (BITS - 1)) + 1);
    let upper = parity([rotated[0] & upper[0] & !1, rotated[1] & upper[1]]);
    ((rotated[0] as u16 & 1) ^ one_above) | (one_above ^ upper) << 1
}

/// The vector's bits, zero beyond its length.
#[inline(always)]
fn load(hot: &[u8]) -> [u64; 2] {
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    match hot.len() {
        16 => [word(&hot[..8]), word(&hot[8..16])],
        _ => [word(hot), 0],
    }
}

/// Bit k of the result is bit (k + v) mod 2^BITS. The digit v is public.
#[inline(always)]
fn rotate<const BITS: usize>(hot: [u64; 2], v: u16) -> [u64; 2] {
    match BITS {
        7 => {
            let [low, high] = if v & 64 == 0 { hot } else { [hot[1], hot[0]] };
            let shift = u32::from(v & 63);
            // Two shifts, since one by 64 is none.
            [low >> shift | high << 1 << (63 - shift), high >> shift | low << 1 << (63 - shift)]
        }
        6 => [hot[0].rotate_right(u32::from(v)), 0],
        _ => {
            let size = 1 << BITS;
            [(hot[0] | hot[0] << size) >> v & ((1 << size) - 1), 0]
        }
    }
}

/// The highest bit of the vector.
#[inline(always)]
fn last<const BITS: usize>(hot: [u64; 2]) -> u16 {
    (if BITS == 7 { hot[1] >> 63 } else { hot[0] >> ((1 << BITS) - 1) }) as u16 & 1
}

/// The bits below place `end`, at most 128.
#[inline(always)]
fn below(end: u64) -> [u64; 2] {
    let ones = |count: u64| if count == 0 { 0 } else { !0 >> (64 - count) };
    [ones(end.min(64)), ones(end.saturating_sub(64))]
}

#[inline(always)]
fn parity(bits: [u64; 2]) -> u16 {
    (bits[0] ^ bits[1]).count_ones() as u16 & 1
}

/// XORs the one-hot vectors of the secret digits `values`, 2^`bits` bits each, into a strip's shares. Puts the shares'
/// own bits at the hot places into `held`.
pub(super) fn xor_hot(level: Level, bits: u8, shares: &mut [u8], values: &[u16], held: &mut [u16]) {
    debug_assert_eq!(shares.len(), values.len() << (bits - 3));
    #[cfg(target_arch = "x86_64")]
    if level == Level::Vaes && wide::hot::xor_hot(bits, shares, values, held) {
        return;
    }
    level.dispatch(XorHot { bytes: 1 << (bits - 3), shares, values, held });
}

struct XorHot<'a> {
    bytes: usize,
    shares: &'a mut [u8],
    values: &'a [u16],
    held: &'a mut [u16],
}

impl Vectorised for XorHot<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { bytes, shares, values, held } = self;
        for ((vector, r), held) in shares.chunks_exact_mut(bytes).zip(values).zip(held) {
            let mut under = 0;
            // Every byte is touched alike: which one holds the 1 is a secret.
            for (i, byte) in (0..).zip(vector) {
                let hot = u8::from(r / 8 == i) << (r % 8);
                under |= *byte & hot;
                *byte ^= hot;
            }
            *held = u16::from(under != 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use suf_gate::onehot::{LowState, TopState};

    use super::*;

    #[test]
    fn states_are_the_gates_at_every_digit_width_and_level() {
        for level in Level::ALL.into_iter().filter(|level| level.supported()) {
            for bits in 3..=7u8 {
                let size = 1usize << bits;
                // Every pair of digits, each in a strip of one mask digit.
                for r in 0..size {
                    let values: Vec<u16> = (0..size as u16).collect();
                    let hot_of = |r: u8| {
                        let mut share: Vec<u8> =
                            (0..size * size / 8).map(|i| (i * 37 + i / 5) as u8).collect();
                        let mut held = vec![0; size];
                        let before = share.clone();
                        xor_hot(level, bits, &mut share, &vec![r.into(); size], &mut held);
                        let bit = |e: usize| before[(e * size + usize::from(r)) / 8] >> (r % 8) & 1;
                        assert!((0..size).all(|e| held[e] == u16::from(bit(e))));
                        share
                    };
                    let shares =
                        [hot_of(r as u8), (0..size * size / 8).map(|i| (i * 37 + i / 5) as u8).collect()];
                    for place in [DigitKind::Lower, DigitKind::Top] {
                        let [mut mine, mut theirs] = [vec![0u16; size], vec![0u16; size]];
                        read(level, place, bits, &shares[0], &values, &mut mine, 2);
                        read(level, place, bits, &shares[1], &values, &mut theirs, 2);
                        for v in 0..size {
                            let expected = match place {
                                DigitKind::Lower => LowState::of(v as u64, r as u64, bits).to_bits(),
                                DigitKind::Top => TopState::of(v as u64, r as u64, bits).to_bits(),
                            };
                            assert_eq!(
                                usize::from(mine[v] ^ theirs[v]),
                                expected << 2,
                                "{bits} bits, v {v}, r {r}"
                            );
                        }
                    }
                }
            }
        }
    }
}
