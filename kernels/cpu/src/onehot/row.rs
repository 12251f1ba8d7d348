//! The row of a one-time truth table which an element's public state selects.

use zeroize::Zeroizing;

#[cfg(target_arch = "x86_64")]
use crate::simd::wide::row as wide;
use crate::{key::STRIP, planes, simd::Level};

/// Selects for every element of a strip the row that its state names, in each of `OUTPUTS` tables of `ROWS` rows. The
/// tables of an element stand one after another. A state begins at bit `at`. The bits go to planes of `plane_bytes`
/// bytes each, from byte `first` of every plane on.
pub(super) fn read<const OUTPUTS: usize, const ROWS: usize>(
    level: Level,
    tables: &[u8],
    states: &[u16],
    at: u8,
    planes: &mut [u8],
    plane_bytes: usize,
    first: usize,
) {
    let n = states.len();
    debug_assert!(n <= STRIP && tables.len() == n * OUTPUTS * ROWS / 8);
    let mut rows = [0u16; STRIP];
    rows.iter_mut().zip(states).for_each(|(row, state)| *row = (state >> at) % ROWS as u16);
    let done = read_wide::<OUTPUTS, ROWS>(level, tables, &rows[..n], planes, plane_bytes, first);
    if done < n {
        let tables = &tables[done * OUTPUTS * ROWS / 8..];
        read_words::<OUTPUTS, ROWS>(tables, &rows[done..n], planes, plane_bytes, first + done / 8);
    }
}

/// As many elements as wide registers can; returns how many.
#[cfg(target_arch = "x86_64")]
fn read_wide<const OUTPUTS: usize, const ROWS: usize>(
    level: Level,
    tables: &[u8],
    rows: &[u16],
    planes: &mut [u8],
    plane_bytes: usize,
    first: usize,
) -> usize {
    if level != Level::Vaes || (OUTPUTS, ROWS) != (2, 128) {
        return 0;
    }
    let whole = rows.len() / wide::GROUP * wide::GROUP;
    let (one, other) = planes.split_at_mut(plane_bytes);
    let planes = [one, other].map(|plane| &mut plane[first..][..whole / 8]);
    if wide::read(&tables[..whole * wide::TABLE], &rows[..whole], planes) { whole } else { 0 }
}

#[cfg(not(target_arch = "x86_64"))]
fn read_wide<const OUTPUTS: usize, const ROWS: usize>(
    _level: Level,
    _tables: &[u8],
    _rows: &[u16],
    _planes: &mut [u8],
    _plane_bytes: usize,
    _first: usize,
) -> usize {
    0
}

fn read_words<const OUTPUTS: usize, const ROWS: usize>(
    tables: &[u8],
    rows: &[u16],
    planes: &mut [u8],
    plane_bytes: usize,
    first: usize,
) {
    let mut words = Zeroizing::new([0u16; STRIP]);
    for ((word, table), row) in words.iter_mut().zip(tables.chunks_exact(OUTPUTS * ROWS / 8)).zip(rows) {
        let row = usize::from(*row);
        let bit = |output: usize| u16::from(table[output * ROWS / 8 + row / 8] >> (row % 8) & 1);
        *word = (0..OUTPUTS).fold(0, |word, output| word | bit(output) << output);
    }
    planes::from_words(&words[..rows.len()], planes, plane_bytes, first);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<const OUTPUTS: usize, const ROWS: usize>() {
        let number = |i: usize| (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        let bytes = OUTPUTS * ROWS / 8;
        for n in [1, 8, 31, 32, 33, 100, STRIP] {
            let tables: Vec<u8> = (0..n * bytes).map(|i| (number(i) >> 13) as u8).collect();
            let states: Vec<u16> = (0..n).map(|i| (number(i) >> 40) as u16).collect();
            let (first, plane_bytes) = (3, 3 + n.div_ceil(8));
            for level in Level::ALL.into_iter().filter(|level| level.supported()) {
                let mut planes = vec![0; OUTPUTS * plane_bytes];
                read::<OUTPUTS, ROWS>(level, &tables, &states, 2, &mut planes, plane_bytes, first);
                for (i, state) in states.iter().enumerate() {
                    for output in 0..OUTPUTS {
                        let row = output * ROWS + usize::from(state >> 2) % ROWS;
                        let expected = tables[i * bytes + row / 8] >> (row % 8) & 1;
                        let plane = &planes[output * plane_bytes + first..];
                        assert_eq!(plane[i / 8] >> (i % 8) & 1, expected, "{i} of {n} elements, {level}");
                    }
                }
            }
        }
    }

    #[test]
    fn bits_are_those_of_the_row_at_every_level() {
        check::<2, 128>();
        check::<2, 16>();
        check::<3, 64>();
    }
}
