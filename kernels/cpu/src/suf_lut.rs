//! The gate `suf-lut` ([`suf_gate::suf_lut`]): the low bits are opened, and the look-up does the rest.

use bytes::Bytes;
use suf_gate::{
    BackendError, ChunkEval, Shape,
    layout::{R_IN, R_OUT},
    ring::WIRE,
    suf_lut::{LOOKUP, SufLut},
};
use zeroize::Zeroizing;

use crate::{
    key::{self, ChunkKey, KeyWriter},
    pack,
    tree_lookup::{self, TreeLookup},
};

/// Writes both parties' keys of a chunk.
pub(crate) fn deal(gate: &SufLut, key: &mut KeyWriter<'_>) {
    let r_in = key.own_elements(R_IN);
    let r_out = key.own_elements(R_OUT);
    tree_lookup::deal(key, LOOKUP, gate.bits(), &r_in, |i| r_out[i]);
}

/// One party's evaluation of a chunk.
pub(crate) struct SufLutEval {
    key: ChunkKey,
    bits: u8,
    /// This party's shares of x.
    shares: Zeroizing<Vec<u64>>,
    lookup: TreeLookup,
    /// This party's message of the exchange before.
    sent: Vec<u8>,
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
        let (bits, lookup) = (gate.bits(), TreeLookup::new(LOOKUP, gate.bits(), gate.table()));
        Ok(Self { key, bits, shares, lookup, sent: Vec::new() })
    }

    /// The low bits of this party's shares of the masked input.
    fn share_low_bits(&self) -> Vec<u8> {
        let mut masked = Zeroizing::new(key::wire_mask(self.key.job(), self.key.level(), R_IN));
        masked.iter_mut().zip(self.shares.iter()).for_each(|(mask, x)| *mask = WIRE.add(*mask, *x));
        let mut message = vec![0; pack::packed_bytes(self.bits.into(), masked.len())];
        pack::pack(self.bits.into(), &masked, &mut message);
        message
    }

    /// Opens the low bits and looks the table up.
    fn share_sign(&mut self, incoming: &[u8]) -> Vec<u8> {
        let mut low = vec![0; self.shares.len()];
        pack::unpack_sum(self.bits.into(), &self.sent, incoming, &mut low);
        self.lookup.share_sign(&self.key, &low)
    }

    fn share_value(&mut self, incoming: &[u8]) -> Vec<u8> {
        self.lookup.open_sign(&self.sent, incoming);
        self.lookup.share_value(&self.key)
    }

    fn share_output(&mut self, incoming: &[u8]) -> Vec<u8> {
        self.lookup.open_value(&self.sent, incoming);
        self.key.segment(WIRE.bits(), [LOOKUP.select], |[select], i| self.lookup.output(select, i))
    }
}

impl ChunkEval for SufLutEval {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError> {
        self.key.check_turn(step, &self.sent, incoming)?;
        let message = match step {
            0 => self.share_low_bits(),
            1 => self.share_sign(incoming),
            2 => self.share_value(incoming),
            3 => self.share_output(incoming),
            _ => return Err(BackendError::Misuse("a step that the gate does not have")),
        };
        self.sent.clone_from(&message);
        Ok(message.into())
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Vec<u64>, BackendError> {
        self.key.check_turn(4, &self.sent, incoming)?;
        let mut outputs = vec![0; self.shares.len()];
        pack::unpack_sum(WIRE.bits().into(), &self.sent, incoming, &mut outputs);
        Ok(outputs)
    }
}
