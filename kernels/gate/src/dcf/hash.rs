//! The two hashes of a tree: `docs/protocols/trees.md#half-tree`.

use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};

use super::{BLOCK_BYTES, Block};
use crate::prg::FixedKeys;

/// H and H' of the half-tree, of many nodes at a time.
pub trait TreeHash {
    /// Replaces each node by H of it.
    fn nodes(&self, blocks: &mut [Block]);

    /// Replaces each node by H' of it.
    fn leaves(&self, blocks: &mut [Block]);
}

/// [`TreeHash`] by the `aes` crate, on every machine. A backend may have a faster one.
pub struct LibraryHash {
    node: aes::Aes128,
    leaf: aes::Aes128,
}

impl LibraryHash {
    /// Under the fixed keys of a tile.
    #[must_use]
    pub fn new(keys: &FixedKeys) -> Self {
        let [node, leaf] = [keys.node, keys.leaf].map(|key| aes::Aes128::new(&key.into()));
        Self { node, leaf }
    }
}

impl std::fmt::Debug for LibraryHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LibraryHash")
    }
}

impl TreeHash for LibraryHash {
    fn nodes(&self, blocks: &mut [Block]) {
        hash(&self.node, blocks);
    }

    fn leaves(&self, blocks: &mut [Block]) {
        hash(&self.leaf, blocks);
    }
}

/// Blocks that the cipher has at a time.
const GROUP: usize = 16;

/// AES(S(x)) xor S(x) with S(high, low) = (high xor low, high).
fn hash(key: &aes::Aes128, blocks: &mut [Block]) {
    for group in blocks.chunks_mut(GROUP) {
        let mut moved = [Array([0; BLOCK_BYTES]); GROUP];
        for (moved, block) in moved.iter_mut().zip(&*group) {
            let block = u128::from_le_bytes(*block);
            let (high, low) = (block >> 64, block & u128::from(u64::MAX));
            moved.0 = ((high ^ low) << 64 | high).to_le_bytes();
        }
        let mut sealed = moved;
        key.encrypt_blocks(&mut sealed[..group.len()]);
        for ((block, sealed), moved) in group.iter_mut().zip(&sealed).zip(&moved) {
            *block = (u128::from_le_bytes(sealed.0) ^ u128::from_le_bytes(moved.0)).to_le_bytes();
        }
    }
}
