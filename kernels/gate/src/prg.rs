//! Domain separation of the pseudo-random streams and of the trees' keys.
//!
//! Every field of every tile of every node has a stream of its own: AES-128 in counter mode. Its key and nonce are
//! keyed BLAKE3 of (version, batch, program, node, tile, field) under the owner's 256-bit seed. Block i encrypts i xor
//! nonce, both as 128-bit little-endian integers. The backends make the streams. See `docs/protocols.md#streams`.
//!
//! The fixed keys of the trees are fixed for one tile alone: BLAKE3 of (version, batch, program, node, tile). They are
//! public, and an attacker cannot prepare for them, nor attack the trees of two tiles at once.

use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

use crate::{Part, Seed, layout::FieldId};

/// Prefix of a stream's derivation; it changes when any layout or meaning of a stream changes.
pub const STREAM_DOMAIN: &[u8] = b"suf/v2/stream";

/// Prefix of the derivation of the trees' keys.
pub const TREE_DOMAIN: &[u8] = b"suf/v2/tree-keys";

/// The field of a wire's mask, in the domain of the node that makes the wire. No key has as many fields.
pub const MASK: FieldId = FieldId(u16::MAX);

/// What a stream belongs to, besides its owner's seed.
#[derive(Clone, Copy, Debug)]
pub struct Domain<'a> {
    /// The batch's id.
    pub batch: &'a [u8; 16],
    /// The program's digest.
    pub program: &'a [u8; 32],
    /// The tile of the node that the field belongs to, or that makes the wire.
    pub part: Part,
}

/// Key and nonce of a stream.
#[derive(Clone, PartialEq, Eq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct StreamKey {
    /// The AES-128 key.
    pub key: [u8; 16],
    /// What the number of a block is combined with.
    pub nonce: [u8; 16],
}

impl std::fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StreamKey(32 bytes)")
    }
}

/// The fixed AES-128 keys of a tile's trees. They are public. What they assume:
/// `docs/protocols/trees.md#the-fixed-keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedKeys {
    /// Extends a node to its children.
    pub node: [u8; 16],
    /// Turns a last node into its block of leaves.
    pub leaf: [u8; 16],
}

impl Domain<'_> {
    /// The stream of `field` under `seed`.
    #[must_use]
    pub fn stream(&self, seed: &Seed, field: FieldId) -> StreamKey {
        let mut hash = blake3::Hasher::new_keyed(seed.expose());
        hash.update(STREAM_DOMAIN);
        self.absorb(&mut hash);
        hash.update(&field.0.to_le_bytes());
        let [key, nonce] = halves(&hash);
        StreamKey { key, nonce }
    }

    /// The fixed keys of the trees.
    #[must_use]
    pub fn fixed_keys(&self) -> FixedKeys {
        let mut hash = blake3::Hasher::new();
        hash.update(TREE_DOMAIN);
        self.absorb(&mut hash);
        let [node, leaf] = halves(&hash);
        FixedKeys { node, leaf }
    }

    fn absorb(&self, hash: &mut blake3::Hasher) {
        let Part { node, tile } = self.part;
        hash.update(self.batch);
        hash.update(self.program);
        hash.update(&node.0.to_le_bytes());
        hash.update(&tile.to_le_bytes());
    }
}

/// The first bytes of a stream, by the `aes` crate, on every machine. A backend has a faster way.
#[must_use]
pub fn expand(stream: &StreamKey, bytes: usize) -> Zeroizing<Vec<u8>> {
    let cipher = aes::Aes128::new(&stream.key.into());
    let nonce = u128::from_le_bytes(stream.nonce);
    let mut out = Zeroizing::new(vec![0; bytes]);
    for (i, bytes) in out.chunks_mut(size_of::<u128>()).enumerate() {
        let mut block = Array((i as u128 ^ nonce).to_le_bytes());
        cipher.encrypt_block(&mut block);
        bytes.copy_from_slice(&block.0[..bytes.len()]);
    }
    out
}

fn halves(hash: &blake3::Hasher) -> [[u8; 16]; 2] {
    let mut halves = [[0; 16]; 2];
    hash.finalize_xof().fill(halves.as_flattened_mut());
    halves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;

    fn others(domain: Domain<'_>) -> [Domain<'_>; 4] {
        let Part { node, tile } = domain.part;
        [
            Domain { batch: &[9; 16], ..domain },
            Domain { program: &[9; 32], ..domain },
            Domain { part: Part::new(NodeId(9), tile), ..domain },
            Domain { part: Part::new(node, 9), ..domain },
        ]
    }

    const DOMAIN: Domain<'static> =
        Domain { batch: &[2; 16], program: &[3; 32], part: Part::new(NodeId(4), 5) };

    #[test]
    fn every_part_of_the_domain_changes_key_and_nonce() {
        let seed = Seed::new([1; 32]);
        let stream = DOMAIN.stream(&seed, FieldId(6));
        let mut changed: Vec<_> = others(DOMAIN).map(|domain| domain.stream(&seed, FieldId(6))).into();
        changed.push(DOMAIN.stream(&Seed::new([9; 32]), FieldId(6)));
        changed.push(DOMAIN.stream(&seed, FieldId(9)));
        changed.push(DOMAIN.stream(&seed, MASK));
        assert!(changed.iter().all(|other| other.key != stream.key && other.nonce != stream.nonce));
        assert_ne!(stream.key, stream.nonce);
    }

    #[test]
    fn every_part_of_the_domain_changes_both_fixed_keys() {
        let keys = DOMAIN.fixed_keys();
        let changed = others(DOMAIN).map(|domain| domain.fixed_keys());
        assert!(changed.iter().all(|other| other.node != keys.node && other.leaf != keys.leaf));
        assert_ne!(keys.node, keys.leaf);
    }

    #[test]
    fn keys_are_not_printed() {
        let stream = DOMAIN.stream(&Seed::new([1; 32]), FieldId(6));
        assert_eq!(format!("{stream:?}"), "StreamKey(32 bytes)");
    }
}
