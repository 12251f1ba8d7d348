//! A batch in the making.

use std::sync::Arc;

use bytes::Bytes;
use suf_gate::{Backend, BackendError, DealJob, Gate, Seed, layout};
use suf_wire::{BatchId, Digest, Header, KeyChunk, PartyId};

/// The randomness of one batch: 256 bits for each party and for the dealer, from the operating system.
#[derive(Debug)]
pub struct Entropy {
    /// Seeds of party 0 and party 1.
    pub parties: [Seed; 2],
    /// Seed of what the dealer alone knows.
    pub dealer: Seed,
}

/// One batch: everything needed to make its chunks, in any order, on any thread.
#[derive(Debug)]
pub struct Batch {
    id: BatchId,
    gate: Arc<Gate>,
    elems: u64,
    entropy: Entropy,
}

impl Batch {
    /// A batch that both parties asked for, under fresh entropy.
    #[must_use]
    pub fn new(id: BatchId, gate: Arc<Gate>, elems: u64, entropy: Entropy) -> Self {
        Self { id, gate, elems, entropy }
    }

    /// The batch's id.
    #[must_use]
    pub fn id(&self) -> BatchId {
        self.id
    }

    /// The gate.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Elements of the batch.
    #[must_use]
    pub fn elems(&self) -> u64 {
        self.elems
    }

    /// Number of chunks.
    #[must_use]
    pub fn chunks(&self) -> u32 {
        layout::chunk_count(self.elems)
    }

    /// What precedes the chunks of `party`: among it, the seed that is nobody else's.
    #[must_use]
    pub fn header(&self, party: PartyId) -> Header {
        Header {
            batch: self.id,
            digest: Digest(*self.gate.digest()),
            elems: self.elems,
            chunks: self.chunks(),
            seed: suf_wire::Seed::new(*self.entropy.parties[party.index()].expose()),
        }
    }

    /// Makes chunk `index` for party 0 and party 1.
    ///
    /// # Errors
    /// When the backend fails; the batch is then of no use.
    ///
    /// # Panics
    /// When there is no chunk `index`.
    pub fn chunk(&self, index: u32, backend: &dyn Backend) -> Result<[KeyChunk; 2], BackendError> {
        assert!(index < self.chunks(), "chunk {index} of {}", self.chunks());
        let keys = backend.deal(&DealJob {
            gate: &self.gate,
            batch: self.id.0,
            chunk: index,
            elems: layout::chunk_elems(self.elems, index),
            party_seeds: &self.entropy.parties,
            dealer_seed: &self.entropy.dealer,
        })?;
        let [first, second] = keys.map(Bytes::from_owner);
        Ok([
            KeyChunk::new(self.id, PartyId::P0, index, first),
            KeyChunk::new(self.id, PartyId::P1, index, second),
        ])
    }
}
