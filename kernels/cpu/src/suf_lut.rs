//! The gate `suf-lut` ([`suf_gate::suf_lut`]): the low bits are opened, and the look-up does the rest.

use suf_gate::{
    ring::WIRE,
    suf_lut::{LOOKUP, SufLut},
};
use zeroize::Zeroizing;

use crate::{
    eval::GateEval,
    key::{KeyWriter, PartKey},
    pack,
    tree_lookup::{self, TreeLookup},
};

/// Writes both parties' keys of a tile.
pub(crate) fn deal(gate: &SufLut, key: &mut KeyWriter<'_>) {
    let r_in = key.input_masks();
    let r_out = key.output_masks();
    tree_lookup::deal(key, LOOKUP, gate.bits(), &r_in, |i| r_out[i]);
}

/// This party's shares of x and in the look-up, and what has been opened.
pub(crate) struct SufLutEval {
    bits: u8,
    /// This party's shares of x.
    shares: Zeroizing<Vec<u64>>,
    /// The opened low bits of the masked input.
    low: Vec<u64>,
    lookup: TreeLookup,
}

impl SufLutEval {
    /// Starts on this party's shares of x.
    pub(crate) fn new(gate: &SufLut, shares: Vec<u64>) -> Self {
        let (bits, lookup) = (gate.bits(), TreeLookup::new(LOOKUP, gate.bits(), gate.table()));
        Self { bits, shares: Zeroizing::new(shares), low: Vec::new(), lookup }
    }

    /// The low bits of this party's shares of the masked input.
    fn share_low_bits(&self, key: &PartKey) -> Vec<u8> {
        let mut masked = Zeroizing::new(key.input_mask());
        masked.iter_mut().zip(self.shares.iter()).for_each(|(mask, x)| *mask = WIRE.add(*mask, *x));
        let mut message = vec![0; pack::packed_bytes(self.bits.into(), masked.len())];
        pack::pack(self.bits.into(), &masked, &mut message);
        message
    }
}

impl GateEval for SufLutEval {
    fn share(&mut self, key: &PartKey, step: usize) -> Vec<u8> {
        match step {
            0 => self.share_low_bits(key),
            1 => self.lookup.share_sign(key, &self.low),
            2 => self.lookup.share_value(key),
            _ => key.segment(WIRE.bits(), [LOOKUP.select], |[select], i| self.lookup.output(select, i)),
        }
    }

    fn open(&mut self, _: &PartKey, step: usize, mine: &[u8], theirs: &[u8]) {
        match step {
            0 => {
                self.low = vec![0; self.shares.len()];
                pack::unpack_sum(self.bits.into(), mine, theirs, &mut self.low);
            }
            1 => self.lookup.open_sign(mine, theirs),
            _ => self.lookup.open_value(mine, theirs),
        }
    }
}
