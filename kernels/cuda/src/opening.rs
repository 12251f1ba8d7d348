//! The last exchange opened. It is one addition for each element of two messages that are both in the host's memory: a
//! processor does it while it takes them out, which is less work than copying them to where the GPU could.

use suf_gate::ring::WIRE;

/// Bytes of a packed ring element.
pub(crate) const PACKED: usize = WIRE.bits() as usize / 8;

/// Elements that are opened at a time: no check of a bound for each.
const GROUP: usize = 8;

/// A group's bytes, and two more so that its last element can be read as a whole word too.
type Window = [u8; GROUP * PACKED + 2];

/// Adds the packed messages `mine` and `theirs`, of as many elements as `sums` has places.
pub(crate) fn open(mine: &[u8], theirs: &[u8], sums: &mut [u64]) {
    assert!(mine.len() == PACKED * sums.len() && theirs.len() == mine.len(), "whole messages");
    // At least one element follows the last whole group.
    let whole = sums.len().saturating_sub(1) / GROUP;
    let (groups, tail) = sums.split_at_mut(whole * GROUP);
    for (i, group) in groups.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
        let (mine, theirs) = (window(mine, i), window(theirs, i));
        for (j, sum) in group.iter_mut().enumerate() {
            // What a word has of the next element lies above the ring's bits.
            *sum = WIRE.add(word(mine, j), word(theirs, j));
        }
    }
    let rest = PACKED * GROUP * whole;
    let (mine, theirs) = (mine[rest..].as_chunks().0, theirs[rest..].as_chunks().0);
    for ((sum, mine), theirs) in tail.iter_mut().zip(mine).zip(theirs) {
        *sum = WIRE.add(element(*mine), element(*theirs));
    }
}

fn window(packed: &[u8], group: usize) -> &Window {
    packed[PACKED * GROUP * group..].first_chunk().expect("an element follows the group")
}

/// Element `i` of a group and what follows it.
fn word(window: &Window, i: usize) -> u64 {
    u64::from_le_bytes(
        *window[PACKED * i..].first_chunk().expect("a window is two bytes longer than its group"),
    )
}

/// A packed ring element.
pub(crate) fn element(packed: [u8; PACKED]) -> u64 {
    let mut word = [0; 8];
    word[..PACKED].copy_from_slice(&packed);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_every_length_are_added() {
        for elems in 1..40_u64 {
            let value = |i: u64, salt: u64| (i + salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) & WIRE.mask();
            let pack = |salt| -> Vec<u8> {
                (0..elems).flat_map(|i| value(i, salt).to_le_bytes()[..PACKED].to_vec()).collect()
            };
            let mut sums = vec![u64::MAX; elems as usize];
            open(&pack(1), &pack(1000), &mut sums);
            let expected = (0..elems).map(|i| WIRE.add(value(i, 1), value(i, 1000)));
            assert!(expected.eq(sums), "{elems} elements");
        }
    }
}
