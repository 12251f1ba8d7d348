//! What the published second table times as SUF: one mask r and one key for a whole tensor, evaluated locally, nothing
//! sent. **Insecure as a protocol**: with one mask, x_hat - x_hat' is x - x' for every two elements. It is here to be
//! measured and lives nowhere else.
//!
//! A key has two helper bits and a table. A bit says whether x lies in an interval; it comes from a comparison tree
//! (BGI16) without early termination. The table is shifted by the mask, in additive shares. Lengths are those
//! published: 64 + 16 bytes a level for a helper, 32 + 8 bytes an entry for the table.

use std::array;

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use suf_gate::ring::WIRE;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Key of the fixed-key AES that extends the comparison trees' nodes.
const TREE_KEY: [u8; 16] = *b"suf/v1/tree-key!";

/// Helper bits of the published gates.
pub(crate) const HELPERS: usize = 2;

/// A function of k bits as a table, and the intervals of its helper bits.
pub(crate) struct OneMask {
    bits: u32,
    table: Vec<i32>,
    /// Where each helper's interval begins and ends, round the circle of 2^k.
    intervals: [[u64; 2]; HELPERS],
    node_key: aes::Aes128,
}

/// One party's key for a whole tensor.
pub(crate) struct Key {
    helpers: [HelperKey; HELPERS],
    table: TableKey,
}

/// One party's key of a helper bit 1\[x in interval\].
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct HelperKey {
    /// k, where the interval begins, and where it ends.
    bits: u64,
    start: u64,
    end: u64,
    /// Shares of the mask under which the bit would be opened: by XOR, and in the ring.
    mask: u64,
    ring_mask: u64,
    /// Correction of the right child's control bit, bit i for level i; the left child's is bit 0 of the word.
    right: u64,
    /// Bit 0 is the party.
    root: u128,
    words: Vec<u128>,
}

/// One party's share of the table, shifted by the mask.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct TableKey {
    /// k, and the fractional bits of the entries.
    bits: u64,
    frac: u64,
    /// Shares of the masks of input and output.
    r_in: u64,
    r_out: u64,
    entries: Vec<u64>,
}

/// What one party computes for a tensor.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Output {
    /// Additive shares of y + r_out.
    pub(crate) y: Vec<u64>,
    /// XOR shares of the helper bits under their masks, bit i that of helper i.
    pub(crate) helpers: Vec<u8>,
}

impl OneMask {
    /// Over a table of 2^k entries, entry i for the signed value of the k-bit i. The helpers are the sign and the middle
    /// half.
    ///
    /// # Panics
    /// When the table's length is no power of two from 4 to 2^32.
    pub(crate) fn new(table: &[i32]) -> Self {
        let size = table.len() as u64;
        assert!(size.is_power_of_two() && (4..=1 << 32).contains(&size), "a table over k bits");
        Self {
            bits: size.ilog2(),
            table: table.to_vec(),
            intervals: [[size / 2, 0], [3 * size / 4, size / 4]],
            node_key: aes::Aes128::new(&TREE_KEY.into()),
        }
    }

    /// Both parties' helper keys for mask `r`.
    pub(crate) fn deal_helpers(
        &self,
        r: u64,
        random: &mut impl FnMut(&mut [u8]),
    ) -> [[HelperKey; HELPERS]; 2] {
        let [first, second] = array::from_fn(|i| {
            let [first, second] = self.deal_helper(self.intervals[i], r, random);
            (first, second)
        });
        [[first.0, second.0], [first.1, second.1]]
    }

    /// Both parties' shares of the table for mask `r`.
    pub(crate) fn deal_table(&self, r: u64, random: &mut impl FnMut(&mut [u8])) -> [TableKey; 2] {
        let [r_in, r_out, share_in, share_out] = array::from_fn(|_| word(random));
        let mut bytes = vec![0; 8 * self.table.len()];
        random(&mut bytes);
        let low = self.size() - 1;
        let first: Vec<u64> =
            bytes.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight"))).collect();
        // Entry v of the shifted table is that of x = v - r.
        let second = first.iter().zip(0_u64..).map(|(share, v)| {
            let entry = self.table[(v.wrapping_sub(r) & low) as usize];
            WIRE.encode(i64::from(entry)).wrapping_sub(*share)
        });
        let key = |r_in, r_out, entries| TableKey {
            bits: self.bits.into(),
            frac: suf_gate::ring::FRAC.into(),
            r_in,
            r_out,
            entries,
        };
        let second = second.collect();
        bytes.zeroize();
        [
            key(share_in, share_out, first),
            key(r_in.wrapping_sub(share_in), r_out.wrapping_sub(share_out), second),
        ]
    }

    /// Party `party`'s shares for the public `x_hat`.
    pub(crate) fn eval(&self, party: u8, key: &Key, x_hat: &[u64]) -> Output {
        // One mask is one key, so elements with equal low bits have equal shares. 2^k of them are computed, and
        // the rest is looked up.
        let low = self.size() - 1;
        let helpers: [Vec<u8>; HELPERS] = array::from_fn(|i| self.helper_bits(party, &key.helpers[i]));
        let helpers: Vec<u8> =
            helpers[0].iter().zip(&helpers[1]).map(|(first, second)| first | second << 1).collect();
        let table: Vec<u64> =
            key.table.entries.iter().map(|entry| entry.wrapping_add(key.table.r_out)).collect();
        Output {
            y: x_hat.iter().map(|x| WIRE.reduce(table[(x & low) as usize])).collect(),
            helpers: x_hat.iter().map(|x| helpers[(x & low) as usize]).collect(),
        }
    }

    fn size(&self) -> u64 {
        1 << self.bits
    }

    fn deal_helper(
        &self,
        [start, end]: [u64; 2],
        r: u64,
        random: &mut impl FnMut(&mut [u8]),
    ) -> [HelperKey; 2] {
        let mut block = || {
            let mut bytes = [0; 16];
            random(&mut bytes);
            u128::from_le_bytes(bytes)
        };
        let roots = [block() & !1, block() | 1];
        let mut path = roots;
        let (mut words, mut right) = (Vec::new(), 0);
        for level in 0..self.bits {
            let go_right = u128::from(r >> (self.bits - 1 - level) & 1);
            let made = path.map(|node| [self.child(node, 0), self.child(node, 1)]);
            let [left_sum, right_sum] = [made[0][0] ^ made[1][0], made[0][1] ^ made[1][1]];
            // The child off the path becomes equal at both parties, control bits included; on the path they differ.
            let lost = if_bit(go_right, left_sum) ^ if_bit(go_right ^ 1, right_sum);
            let left_control = left_sum & 1 ^ 1 ^ go_right;
            let right_control = right_sum & 1 ^ go_right;
            let correction = lost & !1 | left_control;
            for (node, [left, right]) in path.iter_mut().zip(made) {
                let control = *node & 1;
                let kept = if_bit(go_right ^ 1, left) ^ if_bit(go_right, right);
                let kept_control = if_bit(go_right ^ 1, left_control) ^ if_bit(go_right, right_control);
                *node = kept ^ if_bit(control, correction & !1 | kept_control);
            }
            words.push(correction);
            right |= (right_control as u64) << level;
        }
        let (bit, share, ring) = (word(random) & 1, word(random) & 1, word(random));
        let key = |root, mask, ring_mask| HelperKey {
            bits: self.bits.into(),
            start,
            end,
            mask,
            ring_mask,
            right,
            root,
            words: words.clone(),
        };
        [key(roots[0], share, ring), key(roots[1], share ^ bit, bit.wrapping_sub(ring))]
    }

    /// This party's share of the helper bit at every x_hat, under its mask.
    fn helper_bits(&self, party: u8, key: &HelperKey) -> Vec<u8> {
        // The control bits of the last level are shares of 1[v = r].
        let mut nodes = vec![key.root];
        for (word, level) in key.words.iter().zip(0..) {
            let right = u128::from(key.right >> level & 1);
            nodes = nodes
                .iter()
                .flat_map(|node| {
                    let corrected = |child, control| child ^ if_bit(node & 1, word & !1 | control);
                    [corrected(self.child(*node, 0), word & 1), corrected(self.child(*node, 1), right)]
                })
                .collect();
        }
        // 1[r <= v], by the parity of a prefix.
        let mut reached = 0;
        let from: Vec<u8> = nodes
            .iter()
            .map(|node| {
                reached ^= (node & 1) as u8;
                reached
            })
            .collect();
        nodes.zeroize();
        let low = self.size() - 1;
        let length = key.end.wrapping_sub(key.start) & low;
        // x lies in the interval where v = x_hat - start does in r, r + 1, .. r + length - 1, which may run over the top;
        // the last comparison is public, and one party adds it.
        let bit = |x_hat: u64| {
            let v = x_hat.wrapping_sub(key.start) & low;
            let before = from[(v.wrapping_sub(length) & low) as usize];
            from[v as usize] ^ before ^ (u8::from(v < length) & (party ^ 1)) ^ key.mask as u8
        };
        (0..self.size()).map(bit).collect()
    }

    /// The node's child on side `side`, 0 or 1, before correction.
    fn child(&self, node: u128, side: u128) -> u128 {
        let input = node & !1 | side;
        let mut block = input.to_le_bytes().into();
        self.node_key.encrypt_block(&mut block);
        u128::from_le_bytes(block.into()) ^ input
    }
}

impl Key {
    pub(crate) fn new(helpers: [HelperKey; HELPERS], table: TableKey) -> Self {
        Self { helpers, table }
    }

    /// Bytes of the helpers' keys.
    pub(crate) fn helper_bytes(&self) -> usize {
        self.helpers.iter().map(|key| key.bytes().len()).sum()
    }

    /// Bytes of the table's key.
    pub(crate) fn table_bytes(&self) -> usize {
        self.table.bytes().len()
    }
}

impl HelperKey {
    fn bytes(&self) -> Vec<u8> {
        let Self { bits, start, end, mask, ring_mask, right, root, words } = self;
        let head = [bits, start, end, mask, ring_mask, right].into_iter().flat_map(|word| word.to_le_bytes());
        head.chain([root].into_iter().chain(words).flat_map(|block| block.to_le_bytes())).collect()
    }
}

impl TableKey {
    fn bytes(&self) -> Vec<u8> {
        let Self { bits, frac, r_in, r_out, entries } = self;
        [bits, frac, r_in, r_out].into_iter().chain(entries).flat_map(|word| word.to_le_bytes()).collect()
    }
}

fn word(random: &mut impl FnMut(&mut [u8])) -> u64 {
    let mut bytes = [0; 8];
    random(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// `value` where `bit` is 1, else 0; without a branch, for the dealer's masks are secret.
fn if_bit(bit: u128, value: u128) -> u128 {
    bit.wrapping_neg() & value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that differ from call to call; a test needs no more.
    fn numbers() -> impl FnMut(&mut [u8]) {
        let mut stream = blake3::Hasher::new().finalize_xof();
        move |out| stream.fill(out)
    }

    #[test]
    fn shares_are_those_of_the_table_and_of_the_helper_bits() {
        for bits in [8, 10] {
            let size = 1_u64 << bits;
            let table: Vec<i32> = (0..1 << bits).map(|i| 3 * i - 700).collect();
            let gate = OneMask::new(&table);
            let mut random = numbers();
            for r in [0, 1, size / 2, size - 1, 77] {
                let [first, second] = gate.deal_helpers(r, &mut random);
                let [table_0, table_1] = gate.deal_table(r, &mut random);
                let keys = [Key::new(first, table_0), Key::new(second, table_1)];
                let r_out = keys[0].table.r_out.wrapping_add(keys[1].table.r_out);
                let mask = |i: usize| keys[0].helpers[i].mask ^ keys[1].helpers[i].mask;
                let x_hat: Vec<u64> = (0..size).map(|x| x.wrapping_add(r)).collect();
                let [first, second] = [0, 1].map(|party| gate.eval(party, &keys[usize::from(party)], &x_hat));
                for (x, entry) in table.iter().enumerate() {
                    let y = first.y[x].wrapping_add(second.y[x]).wrapping_sub(r_out);
                    assert_eq!(WIRE.decode(WIRE.reduce(y)), i64::from(*entry), "x = {x}, r = {r}");
                    let signed = x as i64 - if x as u64 >= size / 2 { size as i64 } else { 0 };
                    let quarter = size as i64 / 4;
                    let expected = [signed < 0, (-quarter..quarter).contains(&signed)];
                    for (i, expected) in expected.into_iter().enumerate() {
                        let bit = (first.helpers[x] ^ second.helpers[x]) >> i & 1;
                        assert_eq!(
                            u64::from(bit) ^ mask(i),
                            u64::from(expected),
                            "helper {i}, x = {x}, r = {r}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn keys_have_the_published_lengths() {
        for (bits, helpers, table) in [(8, 384, 2080), (10, 448, 8224)] {
            let gate = OneMask::new(&vec![0; 1 << bits]);
            let mut random = numbers();
            let [first, _] = gate.deal_helpers(5, &mut random);
            let [share, _] = gate.deal_table(5, &mut random);
            let key = Key::new(first, share);
            assert_eq!((key.helper_bytes(), key.table_bytes()), (helpers, table));
        }
    }
}
