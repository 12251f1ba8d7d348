//! What exponentials of masked numbers should be: products of two mantissas, over the integers. Which mantissas depends on the
//! public fraction of x_hat, a rounding coin.

use super::{Clear, Observed, integer::Integer, rounded};
use crate::{
    Part,
    ops::{
        Exp2, RowExponent, exp2,
        row_exponent::{self, powers},
    },
    rotation::{FRACTION, Rotation, mantissa::mantissa},
};

/// x in units of 2^-12, and x_hat.
#[derive(Clone, Copy)]
struct Exponent {
    x: i64,
    x_hat: u64,
}

/// 2^(x + offset + 2 P) as the mantissas give it; none where a number is not whole.
fn exponential(rotation: &Rotation, exponent: Exponent, offset: i64) -> Option<Integer> {
    let fraction = |number: i64| number & ((1 << FRACTION) - 1);
    let first = fraction(exponent.x_hat.cast_signed());
    let second = fraction(exponent.x - first);
    let whole = ((exponent.x - first - second) >> FRACTION) + offset;
    // Below 2^12, hence not negative.
    let of = |fraction: i64| mantissa(rotation.precision, fraction.cast_unsigned(), FRACTION);
    Some(Integer::shifted(of(first) * of(second), usize::try_from(whole).ok()?))
}

/// k / 2 of each row; none where a score is out of its range.
pub(super) fn of_rows(
    op: &RowExponent,
    scores: &Clear,
    part: Part,
    run: &dyn Observed,
) -> impl Iterator<Item = Option<i64>> {
    let cols = scores.wire.shape.cols() as usize;
    let bits = op.scores().sum_bits();
    let rows = scores.x.len() / cols;
    let width = bits / 8;
    let masks = run.streams(part, row_exponent::SUM_MASK, rows * width);
    let reference = move |row: usize| {
        let [mut mask, theirs] =
            masks.each_ref().map(|bytes| Integer::of_bytes(&bytes[row * width..][..width]));
        mask.add(&theirs);
        let elements = scores.elements().skip(row * cols).take(cols);
        of_row(op, scores.wire.frac, elements.collect(), &mask.modulo(bits))
    };
    (0..rows).map(reference).collect::<Vec<_>>().into_iter()
}

fn of_row(op: &RowExponent, frac: u8, row: Vec<(u64, i64)>, mask: &Integer) -> Option<i64> {
    let known = op.scores();
    let [low, high, row_low] = [known.low, known.high, known.row_low].map(|bound| i64::from(bound) << frac);
    let greatest = row.iter().map(|(_, x)| *x).max()?;
    if row.iter().any(|(_, x)| !(low..=high).contains(x)) || greatest < row_low {
        return None;
    }
    let (rotation, drop) = (op.rotation(), RowExponent::dropped(frac));
    let mut sum = Integer::zero();
    for (x_hat, x) in row {
        let half = Exponent { x: rounded(x_hat, x, drop as u8), x_hat: x_hat >> drop };
        sum.add(&exponential(&rotation, half, known.whole_offset().into())?);
    }
    let reached = known.thresholds().filter(|threshold| {
        // The comparison looks at the high bits of sum + mask minus those of the mask: it sees the carry.
        let dropped = powers::dropped(*threshold);
        let mut low = sum.bits(0, dropped);
        low.add(&mask.bits(0, dropped));
        let mut seen = sum.clone();
        if low.bit(dropped) {
            seen.add(&Integer::shifted(1, dropped));
        }
        seen.length() > *threshold
    });
    Some((known.least() + reached.count()) as i64 - i64::from(known.bias()))
}

/// 2^(x - k) of each element; none where x - k is out of its range.
pub(super) fn of_elements(
    op: &Exp2,
    (scores, exponents): (&Clear, &Clear),
    part: Part,
    first_is_seeded: bool,
    run: &dyn Observed,
) -> impl Iterator<Item = Option<i64>> {
    let (cols, bits) = (scores.wire.shape.cols() as usize, usize::from(op.bits()));
    let drop = u32::from(scores.wire.frac) - FRACTION;
    let width = bits / 8;
    let [first, second] = run.streams(part, exp2::BETA, scores.x.len() * width);
    let shares = if first_is_seeded { first } else { second };
    let reference = move |(i, (x_hat, x)): (usize, (u64, i64))| {
        let k = exponents.x[i / cols] << (FRACTION + 1);
        // x - k is known modulo m, and below 3.
        let turn = (bits as i64) << FRACTION;
        let most = 3 << FRACTION;
        let x = most - (most - (rounded(x_hat, x, drop as u8) - k)).rem_euclid(turn);
        if x < (98 - bits as i64) << FRACTION {
            return None;
        }
        let (rotation, exponent) = (op.rotation(), Exponent { x, x_hat: x_hat >> drop });
        let e = exponential(&rotation, exponent, rotation.offset.into())?;
        // The seeded party's share of the exponential: its share of beta times the public factor.
        let mut share = Integer::zero();
        let beta = Integer::of_bytes(&shares[i * width..][..width]);
        let k_hat = exponents.x_hat[i / cols] << (FRACTION + 1);
        let z_hat = (x_hat >> drop).wrapping_sub(k_hat);
        let turned = (u64::from(rotation.offset) + (z_hat >> FRACTION)) % bits as u64;
        let factor = mantissa(rotation.precision, z_hat & ((1 << FRACTION) - 1), FRACTION);
        for i in (0..bits).filter(|i| beta.bit(*i)) {
            share.add(&Integer::shifted(factor, i));
        }
        let share = share.modulo(bits).turned(turned as usize, bits);
        // Party 0's share decides, whoever has the seed.
        let mut upper = share;
        if !first_is_seeded {
            upper = upper.below(bits);
            upper.add(&e);
            upper = upper.modulo(bits);
        }
        let dropped = op.dropped() as usize;
        let coin = u64::from(upper.is_less(&e, dropped));
        Some((e.bits(dropped, 64).low() + coin).cast_signed())
    };
    scores.elements().enumerate().map(reference).collect::<Vec<_>>().into_iter()
}
