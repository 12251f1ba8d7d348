//! The hashes of the half-tree for many nodes at a time: what [`suf_gate::dcf`] walks its trees with.

use suf_gate::{
    dcf::{BLOCK_BYTES, Block, TreeHash},
    prg::FixedKeys,
};

use crate::simd::{Aes128, Level, Simd, Vectorised};

/// H and H' with the instructions of a level.
pub(crate) struct LevelHash {
    level: Level,
    node: Aes128,
    leaf: Aes128,
}

impl LevelHash {
    /// Under the fixed keys of a tile.
    pub(crate) fn new(level: Level, keys: &FixedKeys) -> Self {
        let [node, leaf] = [keys.node, keys.leaf].map(|key| Aes128::at(level, key));
        Self { level, node, leaf }
    }
}

impl TreeHash for LevelHash {
    fn nodes(&self, blocks: &mut [Block]) {
        self.level.dispatch(Hash { key: &self.node, blocks });
    }

    fn leaves(&self, blocks: &mut [Block]) {
        self.level.dispatch(Hash { key: &self.leaf, blocks });
    }
}

struct Hash<'a> {
    key: &'a Aes128,
    blocks: &'a mut [Block],
}

impl Vectorised for Hash<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { key, blocks } = self;
        let key = s.key(key);
        let none = s.splat(0);
        for group in blocks.chunks_mut(S::LANES) {
            let count = group.len();
            let bytes = group.as_flattened_mut();
            let nodes = s.load_some(bytes, 0, BLOCK_BYTES, count);
            let hashed = s.hash(&key, s.orthomorphism(nodes), none);
            s.store_some(hashed, bytes, 0, BLOCK_BYTES, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use suf_gate::dcf::LibraryHash;

    use super::*;

    #[test]
    fn every_level_hashes_as_the_library_does() {
        let keys = FixedKeys { node: [3; 16], leaf: [9; 16] };
        let library = LibraryHash::new(&keys);
        for count in [1, 7, 8, 16, 17, 40] {
            let blocks: Vec<Block> =
                (0..count).map(|i| std::array::from_fn(|byte| (31 * i + 7 * byte) as u8)).collect();
            for level in Level::ALL.into_iter().filter(|level| level.supported()) {
                let hash = LevelHash::new(level, &keys);
                for leaves in [false, true] {
                    let [mut found, mut expected] = [blocks.clone(), blocks.clone()];
                    let run = |hash: &dyn TreeHash, blocks: &mut [Block]| {
                        if leaves { hash.leaves(blocks) } else { hash.nodes(blocks) }
                    };
                    run(&hash, &mut found);
                    run(&library, &mut expected);
                    assert_eq!(found, expected, "{count} blocks, {level}");
                }
            }
        }
    }
}
