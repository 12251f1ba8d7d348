//! A strip of packed ring elements, several for each element, as columns: one array for each of the several.

use crate::key::{PACKED, STRIP};
#[cfg(target_arch = "x86_64")]
use crate::simd::wide;

/// Unpacks `columns.len()` ring elements for each element of a strip. What stands in the columns beyond is undefined.
pub(crate) fn split(packed: &[u8], columns: &mut [[u64; STRIP]]) {
    check(packed.len(), columns.len());
    #[cfg(target_arch = "x86_64")]
    if wide::columns::split(packed, columns) {
        return;
    }
    split_portable(packed, columns);
}

/// Packs the low 48 bits of the columns: the inverse of [`split`].
pub(crate) fn join(columns: &[[u64; STRIP]], packed: &mut [u8]) {
    check(packed.len(), columns.len());
    #[cfg(target_arch = "x86_64")]
    if wide::columns::join(columns, packed) {
        return;
    }
    join_portable(columns, packed);
}

fn split_portable(packed: &[u8], columns: &mut [[u64; STRIP]]) {
    for (e, row) in packed.chunks_exact(columns.len() * PACKED).enumerate() {
        for (column, bytes) in columns.iter_mut().zip(row.as_chunks::<PACKED>().0) {
            let mut word = [0; 8];
            word[..PACKED].copy_from_slice(bytes);
            column[e] = u64::from_le_bytes(word);
        }
    }
}

fn join_portable(columns: &[[u64; STRIP]], packed: &mut [u8]) {
    for (e, row) in packed.chunks_exact_mut(columns.len() * PACKED).enumerate() {
        for (column, bytes) in columns.iter().zip(row.as_chunks_mut::<PACKED>().0) {
            bytes.copy_from_slice(&column[e].to_le_bytes()[..PACKED]);
        }
    }
}

fn check(bytes: usize, columns: usize) {
    assert!(
        bytes.is_multiple_of(columns * PACKED) && bytes <= STRIP * columns * PACKED,
        "whole rows of a strip"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_the_rows_elements() {
        for count in [1, 5, 8, 11] {
            for elems in [1, 7, 8, 9, STRIP] {
                let packed: Vec<u8> = (0..elems * count * PACKED).map(|i| (i * 167 + i / 7) as u8).collect();
                let mut columns = vec![[0; STRIP]; count];
                split(&packed, &mut columns);
                let mut expected = vec![[0; STRIP]; count];
                split_portable(&packed, &mut expected);
                for (column, expected) in columns.iter().zip(&expected) {
                    assert_eq!(column[..elems], expected[..elems], "{count} columns of {elems}");
                }
                // What exceeds 48 bits is dropped.
                columns.iter_mut().flatten().for_each(|element| *element |= 0xABCD << 48);
                for join in [join, join_portable] {
                    let mut again = vec![0; packed.len()];
                    join(&columns, &mut again);
                    assert_eq!(again, packed, "{count} columns of {elems}");
                }
            }
        }
    }
}
