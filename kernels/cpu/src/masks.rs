//! The masks of a batch's wires, for whoever made its seeds: checkers of tests and benchmarks.

use suf_gate::{Part, TwoParties};

use crate::{CpuBackend, key::wire_masks};

impl CpuBackend {
    /// The mask of a tile of the masked wire that `part`'s node makes, in the wire's ring.
    #[must_use]
    pub fn mask(&self, batch: &TwoParties, part: Part) -> Vec<u64> {
        wire_masks(&batch.deal_job(part), self.level(), part.node).to_vec()
    }
}
