//! The running hash of a run's frames. Both parties compute it over the same frames; they compare it at the end
//! ([`crate::Finished`]), so that a frame altered, dropped or moved between steps cannot pass unseen.

use std::collections::VecDeque;

use crate::id::{Digest, PartyId, RunId};
use crate::peer::DataFrame;

/// Payload bytes of one direction that may wait to be hashed: those of two million elements under the widest gate but SIGMA.
const MOST_WAITING: usize = 16 << 20;

/// One hash for each direction: frames of one direction have one order at both ends, frames of two directions do not.
#[derive(Debug, Clone)]
pub struct Transcript {
    directions: [Direction; 2],
}

/// Frames of the exchanges are hashed when the exchanges are over, or when too many wait: the peer waits for the next frame
/// meanwhile, and hashing one takes as long as sending it over a fast link. The payloads are shared, not copied.
#[derive(Debug, Clone)]
struct Direction {
    hasher: blake3::Hasher,
    waiting: VecDeque<DataFrame>,
    waiting_bytes: usize,
}

impl Transcript {
    const DOMAIN: &'static [u8] = b"suf/v1/transcript";

    /// An empty transcript, bound to the run and its gate.
    pub fn new(run: RunId, gate: Digest) -> Self {
        let directions = PartyId::BOTH.map(|from| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(Self::DOMAIN).update(&run.0).update(&gate.0).update(&[from as u8]);
            Direction { hasher, waiting: VecDeque::new(), waiting_bytes: 0 }
        });
        Self { directions }
    }

    /// Adds the next frame that `from` sent.
    pub fn absorb(&mut self, from: PartyId, frame: &DataFrame) {
        let direction = &mut self.directions[from.index()];
        direction.waiting_bytes += frame.payload.len();
        direction.waiting.push_back(frame.clone());
        // Nobody's exchange waits while the inputs are opened.
        let at_once = frame.step == DataFrame::OPEN;
        while (at_once || direction.waiting_bytes > MOST_WAITING) && direction.hash_oldest() {}
    }

    /// The hash of all so far: BLAKE3 of party 0's direction, then party 1's.
    pub fn digest(&mut self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(Self::DOMAIN);
        for direction in &mut self.directions {
            while direction.hash_oldest() {}
            hasher.update(direction.hasher.finalize().as_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}

impl Direction {
    /// Hashes the frame that waits longest; false if none waits.
    fn hash_oldest(&mut self) -> bool {
        let Some(DataFrame { step, depth, chunk, bits, payload }) = self.waiting.pop_front() else {
            return false;
        };
        self.waiting_bytes -= payload.len();
        self.hasher.update(&[step, depth.depth()]);
        self.hasher.update(&chunk.to_le_bytes());
        self.hasher.update(&bits.to_le_bytes());
        self.hasher.update(&(payload.len() as u64).to_le_bytes());
        self.hasher.update(&payload);
        true
    }
}
