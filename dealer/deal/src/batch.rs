//! A batch in the making.

use std::sync::Arc;

use bytes::Bytes;
use suf_gate::{
    Backend, BackendError, DealJob, Program,
    load::{Dealt, LoadId},
    ops::MaskCache,
};
use suf_wire::{BatchId, Digest, Header, KeyPart, Part, Party, Seed};

/// The randomness of one batch: 256 bits for each party and for the dealer, from the operating system.
#[derive(Debug)]
pub struct Entropy {
    /// Seeds of party 0 and party 1.
    pub parties: [Seed; 2],
    /// Seed of what the dealer alone knows.
    pub dealer: Seed,
}

/// One batch: everything needed to make the keys of its parts, in any order, on any thread.
#[derive(Debug)]
pub struct Batch {
    id: BatchId,
    program: Arc<Program>,
    /// Number of parts that have keys.
    keyed: u32,
    entropy: Entropy,
    masks: MaskCache,
    load: Option<Arc<Dealt>>,
}

impl Batch {
    /// A batch that both parties asked for, under fresh entropy.
    #[must_use]
    pub fn new(id: BatchId, program: Arc<Program>, entropy: Entropy) -> Self {
        let keyed = program.nodes().filter(|(_, node)| node.is_keyed()).map(|(_, node)| node.tiles()).sum();
        Self { id, program, keyed, entropy, masks: MaskCache::default(), load: None }
    }

    /// The same for a program that takes the matrices of `load`.
    #[must_use]
    pub fn with_load(self, load: Arc<Dealt>) -> Self {
        Self { load: Some(load), ..self }
    }

    /// What the dealer keeps of a batch with which a model is loaded, for the programs that take its matrices.
    #[must_use]
    pub fn dealt(&self) -> Dealt {
        let load = LoadId { program: Arc::clone(&self.program), batch: self.id.0 };
        Dealt::new(load, self.entropy.parties.clone())
    }

    /// The batch's id.
    #[must_use]
    pub fn id(&self) -> BatchId {
        self.id
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// Number of keys of each party.
    #[must_use]
    pub fn parts(&self) -> u32 {
        self.keyed
    }

    /// What precedes the keys of `party`: among it, the party's own seed.
    #[must_use]
    pub fn header(&self, party: Party) -> Header {
        Header {
            batch: self.id,
            digest: Digest(*self.program.digest()),
            parts: self.keyed,
            seed: self.entropy.parties[party.index()].clone(),
        }
    }

    /// Makes the keys of `part` for party 0 and party 1.
    ///
    /// # Errors
    /// When the backend fails; the batch is then of no use.
    ///
    /// # Panics
    /// When the program has no such part, or the part no key.
    pub fn deal(&self, part: Part, backend: &dyn Backend) -> Result<[KeyPart; 2], BackendError> {
        assert!(self.program.has(part) && self.program.node(part.node).is_keyed(), "{part} has no key");
        let keys = backend.deal(&DealJob {
            program: &self.program,
            batch: self.id.0,
            part,
            party_seeds: &self.entropy.parties,
            dealer_seed: &self.entropy.dealer,
            masks: &self.masks,
            load: self.load.as_deref(),
        })?;
        let [first, second] = keys.map(Bytes::from_owner);
        Ok([KeyPart::new(self.id, Party::P0, part, first), KeyPart::new(self.id, Party::P1, part, second)])
    }
}
