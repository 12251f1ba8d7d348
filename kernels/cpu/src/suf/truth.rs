//! One-time truth tables in planes: plane i holds every element's row i.

use crate::pack;

/// Reads of every element the row that its public bits name, bit i from `inputs[i]`; the answers are left in the first
/// plane. `rows` are 2^inputs planes.
pub(super) fn select(rows: &mut [u8], inputs: &[&[u8]]) {
    for (i, input) in inputs.iter().enumerate().rev() {
        let (low, high) = rows[..input.len() << (i + 1)].split_at_mut(input.len() << i);
        for (low, high) in low.chunks_exact_mut(input.len()).zip(high.chunks_exact(input.len())) {
            for ((low, high), input) in low.iter_mut().zip(high).zip(*input) {
                *low ^= (*low ^ high) & input;
            }
        }
    }
}

/// The table `truth` re-indexed by secret masks of its inputs: row i of an element is the plain row i xor masks. Swapping
/// halves bit by bit touches every row whatever the masks are.
pub(super) fn masked(truth: &[bool], masks: &[&[u8]], rows: &mut [u8]) {
    let plane_bytes = rows.len() / truth.len();
    for (row, truth) in rows.chunks_exact_mut(plane_bytes).zip(truth) {
        row.fill(if *truth { 0xFF } else { 0 });
    }
    for (i, mask) in masks.iter().enumerate() {
        for pair in rows.chunks_exact_mut(plane_bytes << (i + 1)) {
            let (low, high) = pair.split_at_mut(plane_bytes << i);
            for (low, high) in low.chunks_exact_mut(plane_bytes).zip(high.chunks_exact_mut(plane_bytes)) {
                swap(low, high, mask);
            }
        }
    }
}

/// Swaps bits where the mask is 1.
fn swap(a: &mut [u8], b: &mut [u8], mask: &[u8]) {
    for ((a, b), mask) in a.iter_mut().zip(&mut *b).zip(mask) {
        let apart = (*a ^ *b) & mask;
        *a ^= apart;
        *b ^= apart;
    }
}

/// XORs `mask` into every plane.
pub(super) fn hide(rows: &mut [u8], mask: &[u8]) {
    for row in rows.chunks_exact_mut(mask.len()) {
        pack::xor_into(row, mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight elements with all masks and all inputs of a table of three, spread over the elements' bits.
    #[test]
    fn a_masked_row_is_found_at_the_masked_input() {
        let truth = [true, false, false, true, false, true, true, true];
        for seed in 0..64_u8 {
            let masks: Vec<[u8; 1]> = (0..3).map(|i| [seed.wrapping_mul(29).rotate_left(i) ^ 0x5A]).collect();
            let plain: Vec<[u8; 1]> = (0..3).map(|i| [seed.wrapping_mul(113).rotate_left(2 * i)]).collect();
            let mut rows = vec![0; 8];
            let mask_planes: Vec<&[u8]> = masks.iter().map(|mask| &mask[..]).collect();
            masked(&truth, &mask_planes, &mut rows);
            hide(&mut rows, &[seed]);
            let opened: Vec<[u8; 1]> = masks.iter().zip(&plain).map(|(a, b)| [a[0] ^ b[0]]).collect();
            let opened: Vec<&[u8]> = opened.iter().map(|plane| &plane[..]).collect();
            select(&mut rows, &opened);
            for element in 0..8 {
                let row = (0..3).fold(0, |row, i| row | usize::from(plain[i][0] >> element & 1) << i);
                assert_eq!((rows[0] ^ seed) >> element & 1 == 1, truth[row], "element {element}");
            }
        }
    }
}
