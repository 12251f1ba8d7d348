//! The hash of a run's frames. Both parties compute it over the same frames and compare it at the end
//! ([`crate::Finished`]). A frame that was altered, dropped or moved between steps is thus noticed.

use std::collections::BTreeMap;

use crate::data::DataFrame;
use crate::id::{Digest, Party, RunId};
use crate::part::Part;

/// The hashes of each direction's frames by their place. Frames of two lanes, and of two directions, have no common order
/// at both ends; a frame's place is the same at both.
#[derive(Debug, Clone)]
pub struct Transcript {
    run: RunId,
    program: Digest,
    directions: [BTreeMap<(Part, u8), blake3::Hash>; 2],
}

impl Transcript {
    const DOMAIN: &'static [u8] = b"suf/v3/transcript";

    /// An empty transcript, bound to the run and its program.
    pub fn new(run: RunId, program: Digest) -> Self {
        Self { run, program, directions: Default::default() }
    }

    /// Hashes a frame that `from` sent; the order does not matter. Each place is sent and received once: the run's machine
    /// refuses a second frame.
    pub fn absorb(&mut self, from: Party, frame: &DataFrame) {
        let DataFrame { part, step, depth, bits, payload } = frame;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&part.node.0.to_le_bytes()).update(&[*step]).update(&part.tile.to_le_bytes());
        hasher.update(&depth.depth().to_le_bytes()).update(&bits.to_le_bytes());
        hasher.update(&(payload.len() as u64).to_le_bytes()).update(payload);
        self.directions[from.index()].insert((*part, *step), hasher.finalize());
    }

    /// The hash of all so far: BLAKE3 of the run, the program, and each direction's frames by node, tile and step, party 0's
    /// first.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(Self::DOMAIN).update(&self.run.0).update(&self.program.0);
        for hashes in &self.directions {
            hasher.update(&(hashes.len() as u64).to_le_bytes());
            for hash in hashes.values() {
                hasher.update(hash.as_bytes());
            }
        }
        *hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::part::NodeId;

    fn frame(node: u16, tile: u32, step: u8, byte: u8) -> DataFrame {
        DataFrame::new(Part::new(NodeId(node), tile), step, 8, Bytes::copy_from_slice(&[byte]))
    }

    fn digest(frames: &[(Party, DataFrame)]) -> [u8; 32] {
        let mut transcript = Transcript::new(RunId([1; 16]), Digest([2; 32]));
        frames.iter().for_each(|(from, frame)| transcript.absorb(*from, frame));
        transcript.digest()
    }

    #[test]
    fn frames_may_come_in_any_order() {
        let mut frames = vec![
            (Party::P0, frame(0, 0, 0, 1)),
            (Party::P0, frame(1, 0, 0, 2)),
            (Party::P1, frame(1, 0, 0, 3)),
            (Party::P0, frame(1, 1, 0, 4)),
            (Party::P0, frame(1, 1, 1, 5)),
        ];
        let expected = digest(&frames);
        for _ in 0..frames.len() {
            frames.rotate_left(1);
            assert_eq!(digest(&frames), expected);
        }
    }

    #[test]
    fn whatever_is_altered_dropped_or_moved_is_seen() {
        let frames = [(Party::P0, frame(1, 0, 0, 2)), (Party::P1, frame(1, 0, 1, 3))];
        let mut all = vec![digest(&frames), digest(&frames[..1]), digest(&frames[1..]), digest(&[])];
        for altered in [frame(1, 0, 0, 9), frame(1, 0, 1, 2), frame(1, 1, 0, 2), frame(2, 0, 0, 2)] {
            all.push(digest(&[(Party::P0, altered), frames[1].clone()]));
        }
        all.push(digest(&[(Party::P1, frame(1, 0, 0, 2)), (Party::P0, frame(1, 0, 1, 3))]));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
