//! The transcript, kept on a thread of its own, which hashes when the exchanges are over or much waits: the link's thread has
//! the encryption to do, and so have the others while the peer waits.

use std::sync::mpsc;

use suf_party::Plan;
use suf_wire::{DataFrame, PartyId, Transcript};
use tokio::{runtime::Handle, sync::oneshot};

/// Where the frames of a run go to be hashed, each direction's in its order. The thread ends with the last handle.
#[derive(Clone, Debug)]
pub(crate) struct Hashing(mpsc::Sender<Item>);

#[derive(Debug)]
enum Item {
    Frame(PartyId, DataFrame),
    Digest(oneshot::Sender<[u8; 32]>),
}

impl Hashing {
    /// Starts the thread, out of the pool for blocking work of `runtime`.
    pub(crate) fn start(runtime: &Handle, plan: &Plan) -> Self {
        Self::of(runtime, Transcript::new(plan.run, plan.digest()))
    }

    fn of(runtime: &Handle, mut transcript: Transcript) -> Self {
        let (sender, items) = mpsc::channel();
        runtime.spawn_blocking(move || {
            for item in items {
                match item {
                    Item::Frame(from, frame) => transcript.absorb(from, &frame),
                    // Who does not wait any more does not need it.
                    Item::Digest(asked) => drop(asked.send(transcript.digest())),
                }
            }
        });
        Self(sender)
    }

    /// Adds the next frame that `from` sent. Its payload is shared, not copied.
    pub(crate) fn absorb(&self, from: PartyId, frame: &DataFrame) {
        // The thread ends after the handles do, or with the process.
        let _ = self.0.send(Item::Frame(from, frame.clone()));
    }

    /// The hash of all so far; none when the process ends.
    pub(crate) async fn digest(&self) -> Option<[u8; 32]> {
        let (answer, asked) = oneshot::channel();
        let _ = self.0.send(Item::Digest(answer));
        asked.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use suf_wire::{Digest, RunId};

    use super::*;

    #[test]
    fn the_hash_is_the_transcripts() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let frame = |chunk| DataFrame::new(0, chunk, 8, Bytes::from_static(&[7]));
        let mut plain = Transcript::new(RunId([1; 16]), Digest([2; 32]));
        let hashing = Hashing::of(runtime.handle(), plain.clone());
        for (from, chunk) in [(PartyId::P0, 0), (PartyId::P1, 0), (PartyId::P0, 1)] {
            plain.absorb(from, &frame(chunk));
            hashing.absorb(from, &frame(chunk));
        }
        assert_eq!(runtime.block_on(hashing.digest()), Some(plain.digest()));
    }
}
