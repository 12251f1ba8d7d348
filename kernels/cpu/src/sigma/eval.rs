//! One party's evaluation of `sigma`.

use suf_gate::{
    Party,
    ring::WIRE,
    sigma::{
        BIT_MASKS, COMPARE_BITS, COMPARE_LEAF_CW, COMPARE_LEVELS, COMPARE_RIGHT_BITS, COMPARE_ROOT,
        COMPARE_SEED_CW, LOOKUP, LOW_MASK, LOW_TABLE, MUX, RELU, SHIFT, Sigma, T_BITS, TRUNCATION,
    },
};
use zeroize::Zeroizing;

use super::compare_tree;
use crate::{
    eval::GateEval,
    key::{PartKey, STRIP, strips},
    pack, planes,
    simd::BLOCK_BYTES,
    tree::{RightBits, TreeKeys},
    tree_lookup::{TreeLookup, element},
};

/// What has been opened, and this party's shares in the look-up.
pub(crate) struct SigmaEval {
    gate: Sigma,
    x_hat: Vec<u64>,
    /// The opened w under its mask.
    low: Vec<u16>,
    /// The opened t_hat.
    t_hat: Vec<u64>,
    /// The opened 1[t >= 0] in bit 0 and 1[|t| < 2^c] in bit 1.
    choices: Vec<u16>,
    /// The opened index of the table.
    indices: Vec<u64>,
    lookup: TreeLookup,
}

impl SigmaEval {
    /// Starts on the opened input.
    pub(crate) fn new(gate: &Sigma, x_hat: Vec<u64>) -> Self {
        let lookup = TreeLookup::new(LOOKUP, gate.clip(), gate.table());
        Self {
            gate: gate.clone(),
            x_hat,
            low: Vec::new(),
            t_hat: Vec::new(),
            choices: Vec::new(),
            indices: Vec::new(),
            lookup,
        }
    }

    /// Shares w = 1[x_hat mod 2^6 < r mod 2^6]: a row of the table.
    fn share_low(&self, key: &PartKey) -> Vec<u8> {
        let mut message = key.segment(1, [LOW_TABLE], |[table], i| {
            let table = u64::from_le_bytes(*table.as_array().expect("a word for each element"));
            table >> (self.x_hat[i] & ((1 << SHIFT) - 1))
        });
        key.mask_planes(LOW_MASK, &mut message);
        message
    }

    /// Shares t = (x_hat >> 6) - (r >> 6) - w under r_t.
    fn share_t(&self, key: &PartKey) -> Vec<u8> {
        let first = is_first(key);
        key.segment(T_BITS, [TRUNCATION], |[ring], i| {
            let (r_high, rho, r_t) = (element(ring, 0), element(ring, 1), element(ring, 2));
            // w = w_hat + (1 - 2 w_hat) rho.
            let low = u64::from(self.low[i]);
            let public = (self.x_hat[i] >> SHIFT).wrapping_sub(low) & first;
            let w = 1u64.wrapping_sub(2 * low).wrapping_mul(rho);
            public.wrapping_sub(r_high).wrapping_sub(w).wrapping_add(r_t)
        })
    }

    /// Shares 1[t >= 0] and 1[|t| < 2^c].
    fn share_bits(&self, key: &PartKey) -> Vec<u8> {
        let elems = self.x_hat.len();
        let tree = key.tree(compare_tree());
        let [roots, words, leaves, right] =
            [COMPARE_ROOT, COMPARE_SEED_CW, COMPARE_LEAF_CW, COMPARE_RIGHT_BITS].map(|id| key.field(id));
        let [mut scratch_0, mut scratch_1, mut scratch_2, mut scratch_3] =
            [(); 4].map(|()| Zeroizing::new(Vec::new()));
        let plane_bytes = elems.div_ceil(8);
        let trees = TreeKeys {
            party: key.job().party.index() as u8,
            elems,
            roots: roots.read(0..BLOCK_BYTES * elems, &mut scratch_0),
            words: words.read(0..tree.word_bytes() * elems, &mut scratch_1),
            right: RightBits::Planes(
                right.read(0..usize::from(COMPARE_LEVELS) * plane_bytes, &mut scratch_2),
            ),
            leaves: leaves.read(0..BLOCK_BYTES * elems, &mut scratch_3),
        };

        let inside = 1u64 << self.gate.clip();
        // t itself, and what is negative exactly where t < 1 - 2^c, and where t < 2^c.
        let shifts = [0, inside - 1, inside.wrapping_neg()];
        let first = is_first(key);
        let mut points = [[0u64; STRIP]; 3];
        let mut below = Zeroizing::new([[0u8; STRIP / 8]; 3]);
        let mut message = vec![0; 2 * plane_bytes];
        let (positive, within) = message.split_at_mut(plane_bytes);
        for range in strips(elems) {
            let (n, bytes) = (range.len(), range.len().div_ceil(8));
            let mut tops = [[0u8; STRIP / 8]; 3];
            for ((points, top), shift) in points.iter_mut().zip(&mut tops).zip(shifts) {
                for (e, (point, t_hat)) in points.iter_mut().zip(&self.t_hat[range.clone()]).enumerate() {
                    let moved = t_hat.wrapping_add(shift);
                    top[e / 8] |= ((moved >> COMPARE_BITS & 1) as u8) << (e % 8);
                    *point = !moved & ((1 << COMPARE_BITS) - 1);
                }
            }
            let [below_0, below_1, below_2] = &mut *below;
            tree.compare(
                &trees,
                range.clone(),
                &points.each_ref().map(|points| &points[..n]),
                &mut [&mut below_0[..bytes], &mut below_1[..bytes], &mut below_2[..bytes]],
            );
            // The sign is the sum of the number's highest bit, that of r_t, and the borrow. The mask includes the
            // highest bit of r_t. In the difference of two signs it cancels.
            let place = range.start / 8..range.start / 8 + bytes;
            for (byte, (positive, within)) in
                positive[place.clone()].iter_mut().zip(&mut within[place]).enumerate()
            {
                let [sign, low, high] = [0, 1, 2].map(|i| below[i][byte] ^ tops[i][byte] & first as u8);
                *positive = sign ^ first as u8;
                *within = low ^ high;
            }
        }
        key.mask_planes(BIT_MASKS, &mut message);
        message
    }

    /// Shares the clipped |t| under r_idx.
    fn share_index(&self, key: &PartKey) -> Vec<u8> {
        let row = |i: usize| usize::from(self.choices[i] & 3);
        if self.gate.mux_bytes() == 1 {
            key.segment(self.gate.clip(), [MUX], |[mux], i| {
                let mux: &[u8; 8] = mux.as_array().expect("eight numbers of a byte");
                u64::from(mux[row(i)]).wrapping_mul(self.t_hat[i]).wrapping_add(mux[4 + row(i)].into())
            })
        } else {
            key.segment(self.gate.clip(), [MUX], |[mux], i| {
                let mux: &[u8; 16] = mux.as_array().expect("eight numbers of two bytes");
                let number = |at: usize| u64::from(u16::from_le_bytes([mux[2 * at], mux[2 * at + 1]]));
                number(row(i)).wrapping_mul(self.t_hat[i]).wrapping_add(number(4 + row(i)))
            })
        }
    }

    /// Shares y_hat = relu(x) - T + r_out.
    fn share_output(&self, key: &PartKey) -> Vec<u8> {
        key.segment(WIRE.bits(), [LOOKUP.select, RELU], |[select, relu], i| {
            let positive = usize::from(self.choices[i] & 1);
            let relu_share = element(relu, positive).wrapping_mul(self.x_hat[i]);
            relu_share
                .wrapping_add(element(relu, 2 + positive))
                .wrapping_add(element(relu, 4))
                .wrapping_sub(self.lookup.output(select, i))
        })
    }

    /// Opens ring elements of `bits` bits.
    fn opened(&self, bits: u8, mine: &[u8], theirs: &[u8]) -> Vec<u64> {
        let mut opened = vec![0; self.x_hat.len()];
        pack::unpack_sum(bits.into(), mine, theirs, &mut opened);
        opened
    }
}

impl GateEval for SigmaEval {
    fn share(&mut self, key: &PartKey, step: usize) -> Vec<u8> {
        match step {
            0 => self.share_low(key),
            1 => self.share_t(key),
            2 => self.share_bits(key),
            3 => self.share_index(key),
            4 => self.lookup.share_sign(key, &self.indices),
            5 => self.lookup.share_value(key),
            _ => self.share_output(key),
        }
    }

    fn open(&mut self, _: &PartKey, step: usize, mine: &[u8], theirs: &[u8]) {
        match step {
            0 => self.low = planes::open(mine, theirs, self.x_hat.len()),
            1 => self.t_hat = self.opened(T_BITS, mine, theirs),
            2 => self.choices = planes::open(mine, theirs, self.x_hat.len()),
            3 => self.indices = self.opened(self.gate.clip(), mine, theirs),
            4 => self.lookup.open_sign(mine, theirs),
            _ => self.lookup.open_value(mine, theirs),
        }
    }
}

/// All ones at the party that takes the public summands.
fn is_first(key: &PartKey) -> u64 {
    match key.job().party {
        Party::P0 => u64::MAX,
        Party::P1 => 0,
    }
}
