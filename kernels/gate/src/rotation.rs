//! 2^x of a masked x as a rotation: the exponential of softmax (`docs/protocols/exponential.md`).
//!
//! 2^m is 1 modulo M = 2^m - 1, so exponents count modulo m just as the masks of a wire wrap. The dealer shares
//! `beta = B 2^int(-r)`, B the mantissa of frac(-r), modulo M. With x_hat = x + r each party multiplies its share by the mantissa
//! of frac(x_hat) and rotates it by int(x_hat). The shares' sum is 2^x, scaled, if it fits below M. There is no message.
//!
//! Ancestors: Kelkar, Le, Raykova, Seth, USENIX Security 2022; and the splitting of 2^x in SPU (Ma et al., USENIX ATC 2023).

pub mod mantissa;
pub mod mersenne;

use mersenne::{Number, Sum, Word};

/// Fractional bits of an exponent.
pub const FRACTION: u32 = 12;

/// How 2^x is made: of x = X / 2^`fraction`, `2^(x + offset + 2 precision)` modulo 2^`bits` - 1, but for the mantissas' rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// m, a power of two.
    pub bits: u32,
    /// Fractional bits of the exponent: [`FRACTION`], or fewer in tests.
    pub fraction: u32,
    /// P: mantissas lie in 2^P to 2^(P+1).
    pub precision: u32,
    /// What is added to the exponent: x + offset is 1 at least, so that the two whole parts together are never negative.
    pub offset: u32,
}

impl Rotation {
    /// Bits of an exponent that count.
    #[must_use]
    pub const fn exponent_bits(&self) -> u32 {
        self.fraction + self.bits.trailing_zeros()
    }

    /// The whole part of an exponent, modulo m, and its fraction.
    #[inline(always)]
    fn split(&self, exponent: u64) -> (u32, u64) {
        let whole = (exponent >> self.fraction) as u32;
        (whole & (self.bits - 1), exponent & ((1 << self.fraction) - 1))
    }

    /// beta of the mask `r` of an element, of which only [`Rotation::exponent_bits`] bits count. In constant time.
    #[must_use]
    #[inline(always)]
    pub fn beta<W: Word, const L: usize>(&self, r: u64) -> Number<W, L> {
        let (whole, fraction) = self.split(r.wrapping_neg());
        Number::placed(W::low(mantissa::mantissa(self.precision, fraction, self.fraction)), whole)
    }

    /// By how much a party turns its product with the mantissa for the public `x_hat`.
    #[inline(always)]
    fn turn(&self, x_hat: u64) -> (u32, u64) {
        let (whole, fraction) = self.split(x_hat);
        (whole.wrapping_add(self.offset) & (self.bits - 1), fraction)
    }
}

/// Turns the seeded side's shares of beta, little-endian numbers one after another, into the explicit side's.
///
/// # Panics
/// If `shares` does not have the bytes of a number for each mask.
pub fn deal<W: Word, const L: usize>(
    rotation: &Rotation,
    masks: impl Iterator<Item = u64>,
    shares: &mut [u8],
) {
    for (r, share) in masks.zip(shares.chunks_exact_mut(Number::<W, L>::BYTES)) {
        let rest = rotation.beta(r).plus(Number::<W, L>::read(share).negated());
        rest.canonical().write(share);
    }
}

/// A party's share of the sum of the exponentials of a row, modulo M. `shares` are those of beta.
#[must_use]
#[inline(always)]
pub fn row_sum<W: Word, const L: usize>(
    rotation: &Rotation,
    mantissas: &[u16],
    shares: &[u8],
    row: impl Iterator<Item = u64>,
) -> Number<W, L> {
    let mut sum = Sum::new();
    for (x_hat, share) in row.zip(shares.chunks_exact(Number::<W, L>::BYTES)) {
        let (turn, fraction) = rotation.turn(x_hat);
        let by = W::low(mantissas[fraction as usize].into());
        sum.add(&Number::<W, L>::read(share).times(by), turn);
    }
    sum.reduced()
}

/// Which share of an exponential a party holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// e_0, of which the party takes `e_0 >> d`.
    Upper,
    /// e_1, of which the party takes `-((M - e_1) >> d)`.
    Lower,
}

/// A party's share of `floor(e / 2^d)` or of one more, for the exponential e of an element: the low [`Word::BITS`] bits. They are
/// right if d + [`Word::BITS`] is m at most. e has to be small against M, see `docs/protocols/exponential.md`.
#[must_use]
#[inline(always)]
pub fn truncated<W: Word, const L: usize>(
    rotation: &Rotation,
    mantissas: &[u16],
    dropped: u32,
    half: Half,
    share: &[u8],
    x_hat: u64,
) -> u64 {
    let (turn, fraction) = rotation.turn(x_hat);
    let by = W::low(mantissas[fraction as usize].into());
    let product = Number::<W, L>::read(share).times(by);
    // Bit d after the turn is bit d - turn before it. A number in canonical form stays in it.
    let at = dropped.wrapping_sub(turn) & (rotation.bits - 1);
    match half {
        Half::Upper => product.canonical().window(at).wide(),
        // Where e_1 is 0, M - e_1 is 0 too.
        Half::Lower => product.negated().canonical().window(at).wide().wrapping_neg(),
    }
}

#[cfg(test)]
mod tests;
