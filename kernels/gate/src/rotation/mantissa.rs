//! Mantissas: round(2^P 2^(i / 2^f)) for the f fractional bits i of an exponent, as integers.
//!
//! They are made of integers alone, hence are the same on every machine. No branch and no index depends on a fraction: the dealer
//! asks for those of secret ones.

/// Terms of the power series after the first. The next one is below 2^-39, and no mantissa of 15 bits is as near to a half.
pub const TERMS: usize = 12;

/// 2^64 ln 2, rounded down.
const LN_2: u64 = 0xB172_17F7_D1CF_79AB;

/// The coefficient of x^k in the series of 2^x, (ln 2)^k / k!, in units of 2^-64; from k = 1 on.
pub const SERIES: [u64; TERMS] = {
    let (mut series, mut k) = ([LN_2; TERMS], 1);
    while k < TERMS {
        let power = (series[k - 1] as u128 * LN_2 as u128) >> 64;
        series[k] = (power / (k as u128 + 1)) as u64;
        k += 1;
    }
    series
};

/// round(2^`precision` 2^(`fraction` / 2^`bits`)), for a fraction below 2^`bits`.
#[must_use]
#[inline(always)]
pub fn mantissa(precision: u32, fraction: u64, bits: u32) -> u64 {
    let x = fraction << (64 - bits);
    // 2^x - 1 in units of 2^-64, from the last term on.
    let series = SERIES.iter().rev().fold(0u64, |sum, term| {
        // Below 1, since 2^x - 1 is: each coefficient and what follows it are.
        ((u128::from(*term + sum) * u128::from(x)) >> 64) as u64
    });
    let half = 1u128 << (63 - precision);
    (((1u128 << 64) + u128::from(series) + half) >> (64 - precision)) as u64
}

/// The mantissas of all fractions of `bits` bits. A party indexes them by public fractions.
#[must_use]
pub fn table(precision: u32, bits: u32) -> Vec<u16> {
    (0..1 << bits).map(|fraction| mantissa(precision, fraction, bits) as u16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_the_nearest_integers() {
        for precision in 1..=15 {
            for (fraction, mantissa) in table(precision, 12).into_iter().enumerate() {
                let real = libm::exp2(f64::from(precision) + fraction as f64 / 4096.0);
                // Far from a half, as far as a double can tell.
                assert!((real - real.floor() - 0.5).abs() > 1e-9, "{fraction}");
                assert_eq!(f64::from(mantissa), real.round(), "{precision} {fraction}");
            }
        }
        assert_eq!((mantissa(15, 4095, 12), mantissa(6, 4095, 12), mantissa(6, 0, 12)), (65525, 128, 64));
    }

    #[test]
    fn fewer_fractional_bits_are_fewer_of_the_same_mantissas() {
        let (few, many) = (table(15, 3), table(15, 12));
        assert!(few.iter().eq(many.iter().step_by(512)));
    }
}
