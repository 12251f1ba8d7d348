//! The running hash of a run's frames. Both parties compute it over the same frames; they compare it at the end
//! ([`crate::Finished`]), so that a frame altered, dropped or moved between steps cannot pass unseen.

use crate::id::{Digest, PartyId, RunId};
use crate::peer::DataFrame;

/// One hash for each direction: frames of one direction have one order at both ends, frames of two directions do not.
#[derive(Debug, Clone)]
pub struct Transcript {
    directions: [blake3::Hasher; 2],
}

impl Transcript {
    const DOMAIN: &'static [u8] = b"suf/v1/transcript";

    /// An empty transcript, bound to the run and its gate.
    pub fn new(run: RunId, gate: Digest) -> Self {
        let directions = PartyId::BOTH.map(|from| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(Self::DOMAIN).update(&run.0).update(&gate.0).update(&[from as u8]);
            hasher
        });
        Self { directions }
    }

    /// Adds the next frame that `from` sent.
    pub fn absorb(&mut self, from: PartyId, frame: &DataFrame) {
        let hasher = &mut self.directions[from.index()];
        hasher.update(&[frame.step, frame.depth.depth()]);
        hasher.update(&frame.chunk.to_le_bytes());
        hasher.update(&frame.bits.to_le_bytes());
        hasher.update(&(frame.payload.len() as u64).to_le_bytes());
        hasher.update(&frame.payload);
    }

    /// The hash of all so far: BLAKE3 of party 0's direction, then party 1's.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(Self::DOMAIN);
        for direction in &self.directions {
            hasher.update(direction.finalize().as_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}
