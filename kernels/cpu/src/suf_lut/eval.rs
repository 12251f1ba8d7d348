//! One party's evaluation of `suf-lut`.

use suf_gate::{
    BackendError, ChunkEval, Party, Shape,
    layout::R_IN,
    ring::WIRE,
    suf_lut::{LEAF_BITS, LEAF_CW, RIGHT_BITS, ROOT, SEED_CW, SELECT, SELECT_ELEMENTS, SIGN_MASK, SufLut},
};
use zeroize::Zeroizing;

use super::ELEMENT;
use crate::{
    key::{self, ChunkKey, TILE, tiles},
    lookup::{Lookup, Sums},
    pack, planes,
    tree::{RightBits, Rule, Tree, TreeKeys},
};

/// A chunk in evaluation.
pub(crate) struct SufLutEval {
    key: ChunkKey,
    gate: SufLut,
    /// This party's shares of x.
    shares: Zeroizing<Vec<u64>>,
    /// This party's shares of V: the table's entry, up to the sign.
    entries: Zeroizing<Vec<u64>>,
    /// The opened sign bits.
    signs: Vec<u16>,
    /// This party's message of the exchange before.
    sent: Vec<u8>,
}

/// This party's XOR share of the sign, from the number of leaves it sees set.
pub(super) fn sign_share(party: Party, leaves: u16) -> u16 {
    match party {
        Party::P0 => (leaves ^ leaves >> 1) & 1,
        Party::P1 => leaves >> 1 & 1,
    }
}

impl SufLutEval {
    /// Starts on this party's shares of x.
    pub(crate) fn new(key: ChunkKey, shares: Vec<u64>) -> Result<Self, BackendError> {
        let shares = Zeroizing::new(shares);
        let Shape::SufLut(gate) = key.job().gate.shape() else {
            return Err(BackendError::Misuse("the gate is not a suf-lut gate"));
        };
        if shares.len() != key.job().elems {
            return Err(BackendError::Misuse("an input of another length than the chunk's"));
        }
        let gate = gate.clone();
        Ok(Self { key, gate, shares, entries: Zeroizing::default(), signs: Vec::new(), sent: Vec::new() })
    }

    /// The low bits of this party's shares of the masked input.
    fn share_low_bits(&self) -> Vec<u8> {
        let mut masked = Zeroizing::new(key::wire_mask(self.key.job(), self.key.level(), R_IN));
        masked.iter_mut().zip(self.shares.iter()).for_each(|(mask, x)| *mask = WIRE.add(*mask, *x));
        let bits = self.gate.bits().into();
        let mut message = vec![0; pack::packed_bytes(bits, masked.len())];
        pack::pack(bits, &masked, &mut message);
        message
    }

    /// Opens the low bits, looks the table up and shares the sign.
    fn share_sign(&mut self, incoming: &[u8]) -> Vec<u8> {
        let elems = self.elems();
        let mut low = vec![0; elems];
        pack::unpack_sum(self.gate.bits().into(), &self.sent, incoming, &mut low);

        let party = self.key.job().party;
        let (table, bits) = (self.gate.table(), self.gate.bits());
        // Hot at r, seen from v = x + r: the entry for k = r - v is that of x = -k.
        let lookup = Lookup::new(bits, |place| table[(table.len() - place) % table.len()], |_| true);
        // P1's share is negated: where the leaves agree, the sums cancel.
        let negate = (party == Party::P1) != lookup.negated();

        let tree = Tree::at(self.key.level(), Rule::Bgi, self.gate.levels().into());
        let [roots, words, leaves, right] = [ROOT, SEED_CW, LEAF_CW, RIGHT_BITS].map(|id| self.key.field(id));
        let [mut scratch_0, mut scratch_1, mut scratch_2, mut scratch_3] =
            [(); 4].map(|()| Zeroizing::new(Vec::new()));
        let trees = TreeKeys {
            party: party.index() as u8,
            elems,
            roots: roots.read(0..16 * elems, &mut scratch_0),
            words: words.read(0..tree.word_bytes() * elems, &mut scratch_1),
            right: RightBits::Words(right.read(0..4 * elems, &mut scratch_2)),
            leaves: leaves.read(0..16 * elems, &mut scratch_3),
        };

        let elem_bytes = 16 << (bits - LEAF_BITS);
        let mut blocks = Zeroizing::new(vec![0; TILE * elem_bytes]);
        let mut places = [0u16; TILE];
        let mut sums = Zeroizing::new([Sums::default(); TILE]);
        let mut signs = Zeroizing::new([0u16; TILE]);
        let plane_bytes = elems.div_ceil(8);
        let mut message = vec![0; plane_bytes];
        let mut entries = Zeroizing::new(Vec::with_capacity(elems));
        for range in tiles(elems) {
            let n = range.len();
            let blocks = &mut blocks[..n * elem_bytes];
            tree.expand(&trees, range.clone(), blocks);
            places.iter_mut().zip(&low[range.clone()]).for_each(|(place, low)| *place = *low as u16);
            lookup.read(self.key.level(), blocks, &places[..n], &mut sums[..n]);
            for (sign, sums) in signs.iter_mut().zip(&sums[..n]) {
                *sign = sign_share(party, sums.counted());
                let entry = i64::from(sums.entries());
                entries.push(WIRE.encode(if negate { -entry } else { entry }));
            }
            planes::from_words(&signs[..n], &mut message, plane_bytes, range.start / 8);
        }
        self.entries = entries;
        pack::xor_into(&mut message, &self.key.field(SIGN_MASK).whole());
        planes::clear_padding(&mut message, plane_bytes, elems);
        message
    }

    /// Opens the sign bit and shares V under the mask a.
    fn share_entry(&mut self, incoming: &[u8]) -> Vec<u8> {
        let mut signs = self.sent.clone();
        pack::xor_into(&mut signs, incoming);
        self.signs = planes::to_words(&signs, self.elems()).to_vec();
        let entries = self.entries.iter();
        self.packed(|select, i| entries.as_slice()[i].wrapping_add(element(select, 0)))
    }

    /// Opens V and shares y_hat = k V + c, with k and c of the opened sign bit.
    fn share_output(&self, incoming: &[u8]) -> Vec<u8> {
        let mut entries = vec![0; self.elems()];
        pack::unpack_sum(WIRE.bits().into(), &self.sent, incoming, &mut entries);
        self.packed(|select, i| {
            let sign = usize::from(self.signs[i]);
            element(select, 1 + sign).wrapping_mul(entries[i]).wrapping_add(element(select, 3 + sign))
        })
    }

    /// A message of ring elements, made from each element's part of the select.
    fn packed(&self, value: impl Fn(&[u8], usize) -> u64) -> Vec<u8> {
        let width = ELEMENT * SELECT_ELEMENTS.len();
        let select = self.key.field(SELECT);
        let mut scratch = Zeroizing::new(Vec::new());
        let mut values = Zeroizing::new([0u64; TILE]);
        let mut message = vec![0; key::PACKED * self.elems()];
        for range in tiles(self.elems()) {
            let select = select.read(width * range.start..width * range.end, &mut scratch);
            let n = range.len();
            for ((out, select), i) in values.iter_mut().zip(select.chunks_exact(width)).zip(range.clone()) {
                *out = value(select, i);
            }
            let place = key::PACKED * range.start..key::PACKED * range.end;
            pack::pack(WIRE.bits().into(), &values[..n], &mut message[place]);
        }
        message
    }

    fn elems(&self) -> usize {
        self.key.job().elems
    }
}

impl ChunkEval for SufLutEval {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Vec<u8>, BackendError> {
        self.key.check_turn(step, &self.sent, incoming)?;
        let message = match step {
            0 => self.share_low_bits(),
            1 => self.share_sign(incoming),
            2 => self.share_entry(incoming),
            3 => self.share_output(incoming),
            _ => return Err(BackendError::Misuse("a step that the gate does not have")),
        };
        self.sent.clone_from(&message);
        Ok(message)
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Vec<u64>, BackendError> {
        self.key.check_turn(4, &self.sent, incoming)?;
        let mut outputs = vec![0; self.elems()];
        pack::unpack_sum(WIRE.bits().into(), &self.sent, incoming, &mut outputs);
        Ok(outputs)
    }
}

/// The share of the select's element `i`.
fn element(select: &[u8], i: usize) -> u64 {
    u64::from_le_bytes(select.as_chunks::<ELEMENT>().0[i])
}
