//! How many calls of AES a comparison takes. Which nodes are visited depends on public numbers alone, so no key is needed.

use std::cell::Cell;

use suf_wire::Party;

use super::{BLOCK_BYTES, Block, Keys, Payload, Points, TreeHash, evaluate};

/// Counts, and hashes nothing.
#[derive(Default)]
struct Counter(Cell<u64>);

impl Counter {
    fn count(&self, blocks: &[Block]) {
        self.0.set(self.0.get() + blocks.len() as u64);
    }
}

impl TreeHash for Counter {
    fn nodes(&self, blocks: &mut [Block]) {
        self.count(blocks);
    }

    fn leaves(&self, blocks: &mut [Block]) {
        self.count(blocks);
    }
}

/// Calls of AES of [`evaluate`] on `rows` rows of `points`, on trees of `levels` levels.
pub fn calls<P: Payload>(points: &impl Points, rows: usize, levels: usize) -> u64 {
    let [roots, nodes, payloads] =
        [BLOCK_BYTES, levels * BLOCK_BYTES, levels * P::BYTES].map(|bytes| vec![0; rows * bytes]);
    let keys = Keys { party: Party::P0, levels, roots: &roots, nodes: &nodes, payloads: &payloads };
    let counter = Counter::default();
    evaluate(&counter, &keys, points, |_, _, _, _: P| ());
    counter.0.get()
}
