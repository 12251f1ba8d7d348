//! The hash of the public parts of a batch's keys. Both parties hold the same correction words; a dealer that gave them
//! unequal ones would choose what a party's messages reveal. Each party hashes its own and says the hash when it is ready
//! ([`crate::PeerMessage::Ready`]), so that no exchange of the gate begins over unequal keys.

use crate::id::{BatchId, Digest};

/// The running hash of one party's common fields, chunk after chunk.
#[derive(Debug, Clone)]
pub struct CommonParts(blake3::Hasher);

impl CommonParts {
    const DOMAIN: &'static [u8] = b"suf/v1/common-parts";

    /// Nothing but what the batch is: all that gates without correction words have.
    pub fn new(batch: BatchId, gate: Digest, elems: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(Self::DOMAIN).update(&batch.0).update(&gate.0).update(&elems.to_le_bytes());
        Self(hasher)
    }

    /// Adds chunk `index`, the next one, of which `parts` are the common fields in the order of the layout.
    pub fn absorb<'a>(&mut self, index: u32, parts: impl IntoIterator<Item = &'a [u8]>) {
        self.0.update(&index.to_le_bytes());
        for part in parts {
            self.0.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
    }

    /// The hash of all so far.
    pub fn digest(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}
