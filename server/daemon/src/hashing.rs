//! The transcript, kept on a thread of its own. The thread hashes after the exchanges, or when many bytes wait. Until
//! then the link's thread has to encrypt, and the other threads are needed too, even while the peer is awaited.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
};

use suf_party::Plan;
use suf_wire::{DataFrame, Party, Transcript};
use tokio::{runtime::Handle, sync::oneshot};

/// Payload bytes that are handed to the thread at a time. Waking it takes the caller longer than keeping a frame, and
/// delays the exchanges of a short run. So the exchanges of a usual run fit: SIGMA's on BERT-base are 19 MB, inputs
/// included.
const HANDED_BYTES: usize = 24 << 20;

/// Where the frames of a run go to be hashed, each direction's in its order. The thread ends with this.
#[derive(Debug)]
pub(crate) struct Hashing {
    thread: mpsc::Sender<Item>,
    kept: Mutex<Kept>,
}

/// Frames that the thread does not have yet.
#[derive(Debug, Default)]
struct Kept {
    frames: Vec<(Party, DataFrame)>,
    bytes: usize,
}

#[derive(Debug)]
enum Item {
    Frames(Vec<(Party, DataFrame)>),
    Digest(oneshot::Sender<[u8; 32]>),
}

impl Hashing {
    /// Starts the thread, out of the pool for blocking work of `runtime`.
    pub(crate) fn start(runtime: &Handle, plan: &Plan) -> Self {
        Self::of(runtime, Transcript::new(plan.run, plan.digest()))
    }

    fn of(runtime: &Handle, mut transcript: Transcript) -> Self {
        let (thread, items) = mpsc::channel();
        runtime.spawn_blocking(move || {
            for item in items {
                match item {
                    Item::Frames(frames) => {
                        frames.iter().for_each(|(from, frame)| transcript.absorb(*from, frame));
                    }
                    // An error says that the receiver has gone, and needs no answer.
                    Item::Digest(asked) => drop(asked.send(transcript.digest())),
                }
            }
        });
        Self { thread, kept: Mutex::default() }
    }

    /// Adds the next frame that `from` sent, to be hashed after the exchanges or when much waits. Its payload is shared, not copied.
    pub(crate) fn absorb(&self, from: Party, frame: &DataFrame) {
        let mut kept = self.kept();
        kept.bytes += frame.payload.len();
        kept.frames.push((from, frame.clone()));
        if kept.bytes > HANDED_BYTES {
            self.hand_over(&mut kept);
        }
    }

    fn hand_over(&self, kept: &mut Kept) {
        let Kept { frames, .. } = mem::take(kept);
        // The thread ends after this does, or with the process.
        let _ = self.thread.send(Item::Frames(frames));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hash of all so far; none when the process ends.
    pub(crate) async fn digest(&self) -> Option<[u8; 32]> {
        let (answer, asked) = oneshot::channel();
        self.hand_over(&mut self.kept());
        let _ = self.thread.send(Item::Digest(answer));
        asked.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use suf_wire::{Digest, NodeId, Part, RunId};

    use super::*;

    #[test]
    fn the_hash_is_the_transcripts() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let frame = |tile| DataFrame::new(Part::new(NodeId(1), tile), 0, 8, Bytes::from_static(&[7]));
        let mut plain = Transcript::new(RunId([1; 16]), Digest([2; 32]));
        let hashing = Hashing::of(runtime.handle(), plain.clone());
        for (from, tile) in [(Party::P0, 0), (Party::P1, 0), (Party::P0, 1)] {
            plain.absorb(from, &frame(tile));
            hashing.absorb(from, &frame(tile));
        }
        assert_eq!(runtime.block_on(hashing.digest()), Some(plain.digest()));
    }
}
