//! The hash of the public parts of a segment's keys. Both parties hold the same correction words; a dealer that gave them
//! unequal ones would choose what a party's messages reveal. Each party hashes its own and says the hash when it is ready
//! ([`crate::PeerMessage::Ready`]), so that no exchange begins over unequal keys.

use crate::id::{BatchId, Digest};
use crate::part::Part;

/// The running hash of one party's common fields in one segment, part after part.
#[derive(Debug, Clone)]
pub struct CommonParts(blake3::Hasher);

impl CommonParts {
    const DOMAIN: &'static [u8] = b"suf/v2/common-parts";

    /// Nothing but what the segment is: all that parts without correction words have.
    pub fn new(batch: BatchId, program: Digest, segment: u16) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(Self::DOMAIN).update(&batch.0).update(&program.0).update(&segment.to_le_bytes());
        Self(hasher)
    }

    /// Adds `part`, the next one with a key, of which `fields` are the common fields in the order of the layout.
    pub fn absorb<'a>(&mut self, part: Part, fields: impl IntoIterator<Item = &'a [u8]>) {
        self.0.update(&part.node.0.to_le_bytes()).update(&part.tile.to_le_bytes());
        for field in fields {
            self.0.update(&(field.len() as u64).to_le_bytes()).update(field);
        }
    }

    /// The hash of all so far.
    pub fn digest(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}
