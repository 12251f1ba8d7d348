//! Columns: one number mod 2^64 for each element of a strip. What stands beyond a strip's last element means nothing.

use crate::key::STRIP;

/// A strip's numbers.
pub(super) type Column = [u64; STRIP];

/// All zero.
pub(super) const ZERO: Column = [0; STRIP];

/// Bits of a plane, as 0 or 1.
#[inline(always)]
pub(super) fn from_plane(plane: &[u8], out: &mut Column) {
    for (out, byte) in out.as_chunks_mut::<8>().0.iter_mut().zip(plane) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = u64::from(byte >> i & 1);
        }
    }
}

/// XORs the lowest bits into a plane.
#[inline(always)]
pub(super) fn xor_into_plane(column: &Column, plane: &mut [u8]) {
    for (column, byte) in column.as_chunks::<8>().0.iter().zip(plane) {
        *byte ^= column.iter().enumerate().fold(0, |byte, (i, v)| byte | ((v & 1) as u8) << i);
    }
}

/// sum + v * factor.
#[inline(always)]
pub(super) fn add_scaled(sum: &mut Column, v: &Column, factor: u64) {
    for (sum, v) in sum.iter_mut().zip(v) {
        *sum = sum.wrapping_add(v.wrapping_mul(factor));
    }
}

/// sum + a * b * factor.
#[inline(always)]
pub(super) fn add_product(sum: &mut Column, a: &Column, b: &Column, factor: u64) {
    for ((sum, a), b) in sum.iter_mut().zip(a).zip(b) {
        *sum = sum.wrapping_add(a.wrapping_mul(*b).wrapping_mul(factor));
    }
}

/// a * b.
#[inline(always)]
pub(super) fn multiply(a: &mut Column, b: &Column) {
    for (a, b) in a.iter_mut().zip(b) {
        *a = a.wrapping_mul(*b);
    }
}

/// +1 for 1, -1 for 0.
#[inline(always)]
pub(super) fn sign(column: &mut Column) {
    for v in column {
        *v = v.wrapping_mul(2).wrapping_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_columns_of_bits() {
        let plane: Vec<u8> = (0..STRIP / 8).map(|i| (i * 37 + 11) as u8).collect();
        let mut column = ZERO;
        from_plane(&plane, &mut column);
        assert_eq!(column[9], u64::from(plane[1] >> 1 & 1));
        let mut back = vec![0; plane.len()];
        xor_into_plane(&column, &mut back);
        assert_eq!(back, plane);
    }
}
