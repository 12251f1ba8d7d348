//! One party's evaluation of `dpf`.

use std::mem;

use suf_gate::{
    Party,
    dpf::{Dpf, ENTRY_MASK, LEAF_CW, RING, ROOT, SEED_CW, SIGN_MASK},
    lookup::LEAF_BITS,
    ring::WIRE,
};
use zeroize::Zeroizing;

use crate::{
    eval::GateEval,
    key::{PartKey, STRIP, strips},
    line::{self, Opened, OutputLine},
    lookup::{Lookup, Sums},
    pack, planes,
    simd::BLOCK_BYTES,
    tree::{RightBits, TreeKeys},
};

/// What has been opened, and in the end this party's shares of y_hat.
pub(crate) struct DpfEval {
    gate: Dpf,
    /// The masked wire until the last exchange, from then on this party's shares of y_hat.
    wire: Vec<u64>,
    /// The opened m.
    entries: Vec<u16>,
    /// 1 in bit 0, since w is 1; the opened pos in bit 1.
    choices: Vec<u16>,
}

impl DpfEval {
    /// Starts on the opened input.
    pub(crate) fn new(gate: &Dpf, x_hat: Vec<u64>) -> Self {
        Self { gate: gate.clone(), wire: x_hat, entries: Vec::new(), choices: Vec::new() }
    }

    /// Shares pos and m.
    fn share_window(&self, key: &PartKey) -> Vec<u8> {
        let (elems, curve, party) = (self.wire.len(), self.gate.curve(), key.job().party);
        let tree = key.tree(super::tree(&self.gate));
        let [roots, words, leaves] = [ROOT, SEED_CW, LEAF_CW].map(|id| key.field(id));
        let [mut scratch_0, mut scratch_1, mut scratch_2, mut scratch] =
            [(); 4].map(|()| Zeroizing::new(Vec::new()));
        let trees = TreeKeys {
            party: party.index() as u8,
            elems,
            roots: roots.read(0..BLOCK_BYTES * elems, &mut scratch_0),
            words: words.read(0..tree.word_bytes() * elems, &mut scratch_1),
            right: RightBits::None,
            leaves: leaves.read(0..BLOCK_BYTES * elems, &mut scratch_2),
        };
        let masks = key.field(ENTRY_MASK);

        let bits = self.gate.window_bits();
        let table = window_table(&self.gate);
        let (height, elem_bytes) = (u32::from(bits - LEAF_BITS), 1 << (bits - 3));
        let tree_bits = self.gate.t_bits() - 1;
        // P0 takes the public summand of pos. P1's share of the entry is negated: where the leaves agree, the sums cancel.
        let (first, negate) = (u8::from(party == Party::P0), party == Party::P1);

        let plane_bytes = elems.div_ceil(8);
        let mut message = vec![0; key.job().gate().message_bytes(0, elems)];
        let (positive, packed) = message.split_at_mut(plane_bytes);
        let mut centres = [0u64; STRIP];
        let mut places = [0u16; STRIP];
        let mut blocks = Zeroizing::new(vec![0; STRIP * elem_bytes]);
        let mut sums = Zeroizing::new([Sums::default(); STRIP]);
        let mut entries = Zeroizing::new([0u64; STRIP]);
        for range in strips(elems) {
            let n = range.len();
            let mut tops = [0u8; STRIP / 8];
            for (e, x_hat) in self.wire[range.clone()].iter().enumerate() {
                let v = x_hat >> curve.shift;
                tops[e / 8] |= ((v >> tree_bits & 1) as u8 & first) << (e % 8);
                centres[e] = !v & ((1 << tree_bits) - 1);
                places[e] = (centres[e] % (1 << LEAF_BITS)) as u16;
            }
            let positive = &mut positive[range.start / 8..][..n.div_ceil(8)];
            let blocks = &mut blocks[..n * elem_bytes];
            tree.window(&trees, range.clone(), height, &centres[..n], blocks, positive);
            // t is negative as its highest bit, that of r' and the borrow say; that of r' is in the mask.
            for (positive, top) in positive.iter_mut().zip(tops) {
                *positive ^= top ^ first.wrapping_neg();
            }
            table.read(key.level(), blocks, &places[..n], &mut sums[..n]);
            let masks = masks.read(2 * range.start..2 * range.end, &mut scratch);
            for ((entry, sums), mask) in entries.iter_mut().zip(&*sums).zip(masks.as_chunks::<2>().0) {
                let share = sums.entries() as u16;
                let share = if negate { share.wrapping_neg() } else { share };
                *entry = share.wrapping_add(u16::from_le_bytes(*mask)).into();
            }
            let bits = curve.mask_bits().into();
            let place = pack::packed_bytes(bits, range.start)..pack::packed_bytes(bits, range.end);
            pack::pack(bits, &entries[..n], &mut packed[place]);
        }
        key.mask_planes(SIGN_MASK, positive);
        message
    }

    /// Opens pos and m.
    fn open_window(&mut self, mine: &[u8], theirs: &[u8]) {
        let elems = self.wire.len();
        let (my_planes, my_entries) = mine.split_at(elems.div_ceil(8));
        let (their_planes, their_entries) = theirs.split_at(elems.div_ceil(8));
        let positive = planes::open(my_planes, their_planes, elems);
        self.choices = positive.iter().map(|pos| 1 | pos << 1).collect();
        let bits = self.gate.curve().mask_bits();
        self.entries = line::open_entries(bits, my_entries, their_entries, elems);
    }

    /// Shares y_hat.
    fn share_output(&mut self, key: &PartKey) -> Vec<u8> {
        let line = OutputLine::new(self.gate.curve(), false, key.job().party);
        let opened = Opened { wire: &mut self.wire, entries: &self.entries, choices: &self.choices };
        line.message(key, RING, opened)
    }
}

impl GateEval for DpfEval {
    fn share(&mut self, key: &PartKey, step: usize) -> Vec<u8> {
        match step {
            0 => self.share_window(key),
            _ => self.share_output(key),
        }
    }

    fn open(&mut self, _: &PartKey, _: usize, mine: &[u8], theirs: &[u8]) {
        self.open_window(mine, theirs);
    }

    fn open_output(&mut self, _: &PartKey, _: &[u8], theirs: &[u8]) -> Vec<u64> {
        // This party's shares are kept unpacked in the place of the wire.
        let mut outputs = mem::take(&mut self.wire);
        pack::add_unpacked(WIRE.bits().into(), theirs, &mut outputs);
        outputs
    }
}

/// The residuals, seen from the window's first point: entry k stands for t = k - 2^(bits - 1).
fn window_table(gate: &Dpf) -> Lookup {
    let half = 1i64 << (gate.window_bits() - 1);
    // A residual fits its mask of 16 bits.
    Lookup::new(gate.window_bits(), |k| gate.curve().residual_at(k as i64 - half) as i32, |_| false)
}
