//! The table look-up by a DPF ([`suf_gate::lookup`]): dealing and evaluation, for the gates that contain one.
//!
//! Let n_b be the number of leaves that party b sees set. Then n_0 - n_1 is the sign s, and the two low bits of both
//! numbers determine it. s = 1 exactly if bit 0 of n_0, bit 1 of n_0 and bit 1 of n_1 have an odd sum. SIGMA (PETS
//! 2024, section 4.2) uses the same bits. These are XOR shares of the sign, opened under a mask.

use suf_gate::{
    Party,
    lookup::{ELEMENT_BYTES, LEAF_BITS, LookupIds},
    ring::WIRE,
};
use zeroize::Zeroizing;

use crate::{
    key::{KeyWriter, PartKey, STRIP, TreeIds, strips},
    lookup::{Lookup, Sums},
    pack, planes,
    simd::BLOCK_BYTES,
    tree::{RightBits, Rule, TreeKeys, TreeShape},
};

fn tree(bits: u8) -> TreeShape {
    TreeShape { rule: Rule::Bgi, levels: (bits - LEAF_BITS).into() }
}

/// Writes a look-up's fields into both parties' keys: `masks` are those of the index, of which the low `bits` count. The
/// result's shares add up to the table's entry and `offset`.
pub(crate) fn deal(
    key: &mut KeyWriter<'_>,
    ids: LookupIds,
    bits: u8,
    masks: &[u64],
    offset: impl Fn(usize) -> u64,
) {
    let elems = key.elems();
    let roots = key.own(ids.root);
    let alphas = Zeroizing::new(masks.iter().map(|r| r & ((1 << bits) - 1)).collect::<Vec<_>>());
    // Which side holds the 1: here the parties open that themselves.
    let trees = TreeIds { words: ids.seed_cw, right: Some(ids.right_bits) };
    let _hot = key.trees(tree(bits), &roots, &alphas, trees);

    let sign_masks = planes::to_words(&key.own_planes(ids.sign_mask), elems);
    let masks = key.dealers(ids.select, ELEMENT_BYTES * elems);
    let masks = masks.as_chunks::<ELEMENT_BYTES>().0;
    key.shared_elements(ids.select, |i| {
        let mask = WIRE.reduce(u64::from_le_bytes(masks[i]));
        // An opened sign bit of h stands for the sign 2 (h xor mask) - 1.
        let factor = |h: u64| (2 * (h ^ u64::from(sign_masks[i]))).wrapping_sub(1);
        let constant = |h: u64| offset(i).wrapping_sub(factor(h).wrapping_mul(mask));
        [mask, factor(0), factor(1), constant(0), constant(1)]
    });
}

/// One party's look-up of a tile.
pub(crate) struct TreeLookup {
    ids: LookupIds,
    bits: u8,
    table: Lookup,
    /// This party's shares of the entries, up to the sign.
    entries: Zeroizing<Vec<u64>>,
    /// The opened sign bits.
    signs: Vec<u16>,
    /// The opened V.
    values: Vec<u64>,
}

impl TreeLookup {
    /// Of the `table` of 2^`bits` entries.
    pub(crate) fn new(ids: LookupIds, bits: u8, table: &[i32]) -> Self {
        // Hot at r, seen from v = i + r: the entry for k = r - v is that of i = -k.
        let table = Lookup::new(bits, |place| table[(table.len() - place) % table.len()], |_| true);
        Self { ids, bits, table, entries: Zeroizing::default(), signs: Vec::new(), values: Vec::new() }
    }

    /// Looks the table up at the public masked `indices` and shares the sign.
    pub(crate) fn share_sign(&mut self, key: &PartKey, indices: &[u64]) -> Vec<u8> {
        let (elems, party) = (indices.len(), key.job().party);
        // P1's share is negated: where the leaves agree, the sums cancel.
        let negate = party == Party::P1;

        let tree = key.tree(tree(self.bits));
        let LookupIds { root, seed_cw, leaf_cw, right_bits, sign_mask, .. } = self.ids;
        let [roots, words, leaves, right] = [root, seed_cw, leaf_cw, right_bits].map(|id| key.field(id));
        let [mut scratch_0, mut scratch_1, mut scratch_2, mut scratch_3] =
            [(); 4].map(|()| Zeroizing::new(Vec::new()));
        let trees = TreeKeys {
            party: party.index() as u8,
            elems,
            roots: roots.read(0..BLOCK_BYTES * elems, &mut scratch_0),
            words: words.read(0..tree.word_bytes() * elems, &mut scratch_1),
            right: RightBits::Words(right.read(0..4 * elems, &mut scratch_2)),
            leaves: leaves.read(0..BLOCK_BYTES * elems, &mut scratch_3),
        };

        let elem_bytes = BLOCK_BYTES << (self.bits - LEAF_BITS);
        let mut blocks = Zeroizing::new(vec![0; STRIP * elem_bytes]);
        let mut places = [0u16; STRIP];
        let mut sums = Zeroizing::new([Sums::default(); STRIP]);
        let mut signs = Zeroizing::new([0u16; STRIP]);
        let plane_bytes = elems.div_ceil(8);
        let mut message = vec![0; plane_bytes];
        let mut entries = Zeroizing::new(Vec::with_capacity(elems));
        for range in strips(elems) {
            let n = range.len();
            let blocks = &mut blocks[..n * elem_bytes];
            tree.expand(&trees, range.clone(), blocks);
            places.iter_mut().zip(&indices[range.clone()]).for_each(|(place, index)| *place = *index as u16);
            self.table.read(key.level(), blocks, &places[..n], &mut sums[..n]);
            for (sign, sums) in signs.iter_mut().zip(&sums[..n]) {
                *sign = sign_share(party, sums.counted());
                let entry = i64::from(sums.entries());
                entries.push(WIRE.encode(if negate { -entry } else { entry }));
            }
            planes::from_words(&signs[..n], &mut message, plane_bytes, range.start / 8);
        }
        self.entries = entries;
        key.mask_planes(sign_mask, &mut message);
        message
    }

    /// Opens the sign from this party's message and the peer's.
    pub(crate) fn open_sign(&mut self, sent: &[u8], incoming: &[u8]) {
        self.signs = planes::open(sent, incoming, self.entries.len());
    }

    /// Shares V under the mask a.
    pub(crate) fn share_value(&self, key: &PartKey) -> Vec<u8> {
        key.segment(WIRE.bits(), [self.ids.select], |[select], i| {
            self.entries[i].wrapping_add(element(select, 0))
        })
    }

    /// Opens V.
    pub(crate) fn open_value(&mut self, sent: &[u8], incoming: &[u8]) {
        self.values = vec![0; self.signs.len()];
        pack::unpack_sum(WIRE.bits().into(), sent, incoming, &mut self.values);
    }

    /// This party's share of the result for element `i`, from its bytes in the field `select`: k V + c. The opened sign
    /// bit selects k and c.
    #[inline(always)]
    pub(crate) fn output(&self, select: &[u8], i: usize) -> u64 {
        let sign = usize::from(self.signs[i] & 1);
        element(select, 1 + sign).wrapping_mul(self.values[i]).wrapping_add(element(select, 3 + sign))
    }
}

/// Ring element `i` of an element's bytes, in a field of whole words.
#[inline(always)]
pub(crate) fn element(bytes: &[u8], i: usize) -> u64 {
    u64::from_le_bytes(bytes.as_chunks::<ELEMENT_BYTES>().0[i])
}

/// This party's XOR share of the sign, from the number of leaves it sees set.
fn sign_share(party: Party, leaves: u16) -> u16 {
    match party {
        Party::P0 => (leaves ^ leaves >> 1) & 1,
        Party::P1 => leaves >> 1 & 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_bits_of_the_counts_share_the_sign() {
        for count in 0..1024u16 {
            for (mine, theirs, plus) in [(count + 1, count, 1), (count, count + 1, 0)] {
                let shares = sign_share(Party::P0, mine) ^ sign_share(Party::P1, theirs);
                assert_eq!(shares, plus, "{mine} and {theirs} leaves");
            }
        }
    }
}
