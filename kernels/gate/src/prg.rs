//! Domain separation of the pseudo-random streams.
//!
//! Every field of every chunk has a stream of its own, AES-128 in counter mode under a key derived from the owner's
//! 256-bit seed by keyed BLAKE3 over (version, batch, gate digest, chunk, field). The streams themselves are made by the
//! backends: block i encrypts i as a 128-bit little-endian integer. See `docs/protocols.md#streams`.

use crate::{Seed, layout::FieldId};

/// Prefix of the derivation's message; it changes when any layout or meaning of a stream changes.
pub const DOMAIN: &[u8] = b"suf/v1/prg";

/// Key of the fixed-key AES that extends tree nodes. What that assumes: `docs/protocols/trees.md#the-fixed-keys`.
pub const TREE_KEY: [u8; 16] = *b"suf/v1/tree-key!";

/// Key of the fixed-key AES that turns a tree's last node into a block of leaves.
pub const LEAF_KEY: [u8; 16] = *b"suf/v1/leaf-key!";

/// What a stream belongs to, besides the seed.
#[derive(Clone, Copy, Debug)]
pub struct StreamDomain<'a> {
    /// The batch's id.
    pub batch: &'a [u8; 16],
    /// The gate's digest.
    pub gate: &'a [u8; 32],
    /// Index of the chunk in the batch.
    pub chunk: u32,
}

impl StreamDomain<'_> {
    /// The AES-128 key of the stream of `field` under `seed`.
    #[must_use]
    pub fn key(&self, seed: &Seed, field: FieldId) -> [u8; 16] {
        let mut hash = blake3::Hasher::new_keyed(seed.expose());
        hash.update(DOMAIN);
        hash.update(self.batch);
        hash.update(self.gate);
        hash.update(&self.chunk.to_le_bytes());
        hash.update(&field.0.to_le_bytes());
        let mut key = [0; 16];
        hash.finalize_xof().fill(&mut key);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_domain_changes_the_key() {
        let seed = Seed::new([1; 32]);
        let domain = StreamDomain { batch: &[2; 16], gate: &[3; 32], chunk: 4 };
        let key = domain.key(&seed, FieldId(5));
        let others = [
            domain.key(&Seed::new([9; 32]), FieldId(5)),
            StreamDomain { batch: &[9; 16], ..domain }.key(&seed, FieldId(5)),
            StreamDomain { gate: &[9; 32], ..domain }.key(&seed, FieldId(5)),
            StreamDomain { chunk: 9, ..domain }.key(&seed, FieldId(5)),
            domain.key(&seed, FieldId(9)),
        ];
        assert!(others.iter().all(|other| *other != key));
    }
}
