//! The hash of a run's frames. Both parties compute it over the same frames; they compare it at the end
//! ([`crate::Finished`]), so that a frame altered, dropped or moved between steps cannot pass unseen.

use std::collections::{BTreeMap, VecDeque};

use crate::id::{Digest, Party, RunId};
use crate::peer::DataFrame;

/// Payload bytes of one direction that may wait to be hashed: those of two million elements under the widest gate but SIGMA.
const MOST_WAITING: usize = 16 << 20;

/// The hashes of each direction's frames by their place. Frames of two lanes, and of two directions, have no common order
/// at both ends; a frame's place is the same at both.
#[derive(Debug, Clone)]
pub struct Transcript {
    run: RunId,
    gate: Digest,
    directions: [Direction; 2],
}

/// Frames of the exchanges are hashed when the exchanges are over, or when too many wait: the peer waits for the next frame
/// meanwhile, and hashing one takes as long as sending it over a fast link. The payloads are shared, not copied.
#[derive(Debug, Clone, Default)]
struct Direction {
    /// The hash of each frame, by chunk and step.
    hashes: BTreeMap<(u32, u8), blake3::Hash>,
    waiting: VecDeque<DataFrame>,
    waiting_bytes: usize,
}

impl Transcript {
    const DOMAIN: &'static [u8] = b"suf/v2/transcript";

    /// An empty transcript, bound to the run and its gate.
    pub fn new(run: RunId, gate: Digest) -> Self {
        Self { run, gate, directions: Default::default() }
    }

    /// Adds a frame that `from` sent; the order does not matter.
    pub fn absorb(&mut self, from: Party, frame: &DataFrame) {
        let direction = &mut self.directions[from.index()];
        direction.waiting_bytes += frame.payload.len();
        direction.waiting.push_back(frame.clone());
        // Nobody's exchange waits while the inputs are opened.
        let at_once = frame.step == DataFrame::OPEN;
        while (at_once || direction.waiting_bytes > MOST_WAITING) && direction.hash_oldest() {}
    }

    /// The hash of all so far: BLAKE3 of the run, the gate, and each direction's frames by chunk and step, party 0's first.
    pub fn digest(&mut self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(Self::DOMAIN).update(&self.run.0).update(&self.gate.0);
        for direction in &mut self.directions {
            while direction.hash_oldest() {}
            hasher.update(&(direction.hashes.len() as u64).to_le_bytes());
            for hash in direction.hashes.values() {
                hasher.update(hash.as_bytes());
            }
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
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[step, depth.depth()]);
        hasher.update(&chunk.to_le_bytes());
        hasher.update(&bits.to_le_bytes());
        hasher.update(&(payload.len() as u64).to_le_bytes());
        hasher.update(&payload);
        // Each place is sent and received once: the run's machine refuses a second frame.
        self.hashes.insert((chunk, step), hasher.finalize());
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn frame(step: u8, chunk: u32, byte: u8) -> DataFrame {
        DataFrame::new(step, chunk, 8, Bytes::copy_from_slice(&[byte]))
    }

    fn digest(frames: &[(Party, DataFrame)]) -> [u8; 32] {
        let mut transcript = Transcript::new(RunId([1; 16]), Digest([2; 32]));
        frames.iter().for_each(|(from, frame)| transcript.absorb(*from, frame));
        transcript.digest()
    }

    #[test]
    fn frames_may_come_in_any_order() {
        let mut frames = vec![
            (Party::P0, frame(DataFrame::OPEN, 0, 1)),
            (Party::P0, frame(0, 0, 2)),
            (Party::P1, frame(0, 0, 3)),
            (Party::P0, frame(0, 1, 4)),
        ];
        let expected = digest(&frames);
        for _ in 0..frames.len() {
            frames.rotate_left(1);
            assert_eq!(digest(&frames), expected);
        }
    }

    #[test]
    fn whatever_is_altered_dropped_or_moved_is_seen() {
        let frames = [(Party::P0, frame(0, 0, 2)), (Party::P1, frame(1, 0, 3))];
        let mut all = vec![digest(&frames), digest(&frames[..1]), digest(&frames[1..]), digest(&[])];
        for altered in [frame(0, 0, 9), frame(1, 0, 2), frame(0, 1, 2)] {
            all.push(digest(&[(Party::P0, altered), frames[1].clone()]));
        }
        all.push(digest(&[(Party::P1, frame(0, 0, 2)), (Party::P0, frame(1, 0, 3))]));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 8);
    }
}
