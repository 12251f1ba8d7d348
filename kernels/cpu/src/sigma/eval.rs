//! One party's evaluation of `sigma`.

use bytes::Bytes;
use suf_gate::{
    BackendError, ChunkEval, Party, Shape,
    ring::WIRE,
    sigma::{
        BIT_MASKS, COMPARE_BITS, COMPARE_LEAF_CW, COMPARE_LEVELS, COMPARE_RIGHT_BITS, COMPARE_ROOT,
        COMPARE_SEED_CW, LOOKUP, LOW_MASK, LOW_TABLE, MUX, RELU, SHIFT, Sigma, T_BITS, TRUNCATION,
    },
};
use zeroize::Zeroizing;

use super::compare_tree;
use crate::{
    key::{ChunkKey, TILE, tiles},
    pack, planes,
    simd::BLOCK_BYTES,
    tree::{RightBits, TreeKeys},
    tree_lookup::{TreeLookup, element},
};

/// A chunk in evaluation. Besides the key and the shares in the look-up, what it holds has been opened.
pub(crate) struct SigmaEval {
    key: ChunkKey,
    gate: Sigma,
    x_hat: Vec<u64>,
    /// The opened t_hat.
    t_hat: Vec<u64>,
    /// The opened 1[t >= 0] in bit 0 and 1[|t| < 2^c] in bit 1.
    choices: Vec<u16>,
    lookup: TreeLookup,
    /// This party's message of the exchange before.
    sent: Vec<u8>,
}

impl SigmaEval {
    /// Starts on the opened input.
    pub(crate) fn new(key: ChunkKey, x_hat: Vec<u64>) -> Result<Self, BackendError> {
        let Shape::Sigma(gate) = key.job().gate.shape() else {
            return Err(BackendError::Misuse("the gate is not a sigma gate"));
        };
        if x_hat.len() != key.job().elems {
            return Err(BackendError::Misuse("an input of another length than the chunk's"));
        }
        let gate = gate.clone();
        let lookup = TreeLookup::new(LOOKUP, gate.clip(), gate.table());
        Ok(Self { key, gate, x_hat, t_hat: Vec::new(), choices: Vec::new(), lookup, sent: Vec::new() })
    }

    /// Shares w = 1[x_hat mod 2^6 < r mod 2^6]: a row of the table.
    fn share_low(&self) -> Vec<u8> {
        let mut message = self.key.segment(1, [LOW_TABLE], |[table], i| {
            let table = u64::from_le_bytes(*table.as_array().expect("a word for each element"));
            table >> (self.x_hat[i] & ((1 << SHIFT) - 1))
        });
        self.key.mask_planes(LOW_MASK, &mut message);
        message
    }

    /// Opens w and shares t = (x_hat >> 6) - (r >> 6) - w under r_t.
    fn share_t(&self, incoming: &[u8]) -> Vec<u8> {
        let low = planes::open(&self.sent, incoming, self.x_hat.len());
        let first = self.is_first();
        self.key.segment(T_BITS, [TRUNCATION], |[ring], i| {
            let (r_high, rho, r_t) = (element(ring, 0), element(ring, 1), element(ring, 2));
            // w = w_hat + (1 - 2 w_hat) rho.
            let low = u64::from(low[i]);
            let public = (self.x_hat[i] >> SHIFT).wrapping_sub(low) & first;
            let w = 1u64.wrapping_sub(2 * low).wrapping_mul(rho);
            public.wrapping_sub(r_high).wrapping_sub(w).wrapping_add(r_t)
        })
    }

    /// Opens t_hat and shares 1[t >= 0] and 1[|t| < 2^c].
    fn share_bits(&mut self, incoming: &[u8]) -> Vec<u8> {
        let elems = self.x_hat.len();
        self.t_hat = vec![0; elems];
        pack::unpack_sum(T_BITS.into(), &self.sent, incoming, &mut self.t_hat);

        let tree = compare_tree(self.key.level());
        let [roots, words, leaves, right] =
            [COMPARE_ROOT, COMPARE_SEED_CW, COMPARE_LEAF_CW, COMPARE_RIGHT_BITS].map(|id| self.key.field(id));
        let [mut scratch_0, mut scratch_1, mut scratch_2, mut scratch_3] =
            [(); 4].map(|()| Zeroizing::new(Vec::new()));
        let plane_bytes = elems.div_ceil(8);
        let trees = TreeKeys {
            party: self.key.job().party.index() as u8,
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
        let first = self.is_first();
        let mut points = [[0u64; TILE]; 3];
        let mut below = Zeroizing::new([[0u8; TILE / 8]; 3]);
        let mut message = vec![0; 2 * plane_bytes];
        let (positive, within) = message.split_at_mut(plane_bytes);
        for range in tiles(elems) {
            let (n, bytes) = (range.len(), range.len().div_ceil(8));
            let mut tops = [[0u8; TILE / 8]; 3];
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
            // A number is negative as its highest bit, that of r_t and the borrow say; that of r_t is in the mask, and
            // in the difference of two signs it cancels.
            let place = range.start / 8..range.start / 8 + bytes;
            for (byte, (positive, within)) in
                positive[place.clone()].iter_mut().zip(&mut within[place]).enumerate()
            {
                let [sign, low, high] = [0, 1, 2].map(|i| below[i][byte] ^ tops[i][byte] & first as u8);
                *positive = sign ^ first as u8;
                *within = low ^ high;
            }
        }
        self.key.mask_planes(BIT_MASKS, &mut message);
        message
    }

    /// Opens the bits and shares the clipped |t| under r_idx.
    fn share_index(&mut self, incoming: &[u8]) -> Vec<u8> {
        self.choices = planes::open(&self.sent, incoming, self.x_hat.len());
        let row = |i: usize| usize::from(self.choices[i] & 3);
        if self.gate.mux_bytes() == 1 {
            self.key.segment(self.gate.clip(), [MUX], |[mux], i| {
                let mux: &[u8; 8] = mux.as_array().expect("eight numbers of a byte");
                u64::from(mux[row(i)]).wrapping_mul(self.t_hat[i]).wrapping_add(mux[4 + row(i)].into())
            })
        } else {
            self.key.segment(self.gate.clip(), [MUX], |[mux], i| {
                let mux: &[u8; 16] = mux.as_array().expect("eight numbers of two bytes");
                let number = |at: usize| u64::from(u16::from_le_bytes([mux[2 * at], mux[2 * at + 1]]));
                number(row(i)).wrapping_mul(self.t_hat[i]).wrapping_add(number(4 + row(i)))
            })
        }
    }

    /// Opens the index and looks the table up.
    fn share_sign(&mut self, incoming: &[u8]) -> Vec<u8> {
        let mut indices = vec![0; self.x_hat.len()];
        pack::unpack_sum(self.gate.clip().into(), &self.sent, incoming, &mut indices);
        self.lookup.share_sign(&self.key, &indices)
    }

    fn share_value(&mut self, incoming: &[u8]) -> Vec<u8> {
        self.lookup.open_sign(&self.sent, incoming);
        self.lookup.share_value(&self.key)
    }

    /// Shares y_hat = relu(x) - T + r_out.
    fn share_output(&mut self, incoming: &[u8]) -> Vec<u8> {
        self.lookup.open_value(&self.sent, incoming);
        self.key.segment(WIRE.bits(), [LOOKUP.select, RELU], |[select, relu], i| {
            let positive = usize::from(self.choices[i] & 1);
            let relu_share = element(relu, positive).wrapping_mul(self.x_hat[i]);
            relu_share
                .wrapping_add(element(relu, 2 + positive))
                .wrapping_add(element(relu, 4))
                .wrapping_sub(self.lookup.output(select, i))
        })
    }

    /// All ones at the party that takes the public summands.
    fn is_first(&self) -> u64 {
        match self.key.job().party {
            Party::P0 => u64::MAX,
            Party::P1 => 0,
        }
    }
}

impl ChunkEval for SigmaEval {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError> {
        self.key.check_turn(step, &self.sent, incoming)?;
        let message = match step {
            0 => self.share_low(),
            1 => self.share_t(incoming),
            2 => self.share_bits(incoming),
            3 => self.share_index(incoming),
            4 => self.share_sign(incoming),
            5 => self.share_value(incoming),
            6 => self.share_output(incoming),
            _ => return Err(BackendError::Misuse("a step that the gate does not have")),
        };
        self.sent.clone_from(&message);
        Ok(message.into())
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Vec<u64>, BackendError> {
        self.key.check_turn(7, &self.sent, incoming)?;
        let mut outputs = vec![0; self.x_hat.len()];
        pack::unpack_sum(WIRE.bits().into(), &self.sent, incoming, &mut outputs);
        Ok(outputs)
    }
}
