//! What is counted, and where: here and nowhere else (`docs/protocols.md#what-is-counted`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use suf_wire::{DataFrame, NodeId};

/// Payload, frames and depth of one channel's data frames, node by node. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    /// By node, as far as frames were counted.
    nodes: Arc<Mutex<Vec<Counts>>>,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Payload bits sent, without padding.
    pub bits_sent: u64,
    /// Payload bits received, without padding.
    pub bits_received: u64,
    /// Frames sent.
    pub frames_sent: u64,
    /// Frames received.
    pub frames_received: u64,
    /// The deepest frame sent or received: the causal rounds.
    pub rounds: u16,
}

impl Meter {
    /// What was counted of each node that has sent or received, in the order of the nodes.
    pub fn nodes(&self) -> Vec<(NodeId, Counts)> {
        let nodes = self.lock();
        let counted = (0..).map(NodeId).zip(nodes.iter().copied());
        counted.filter(|(_, counts)| counts.frames_sent + counts.frames_received > 0).collect()
    }

    /// The sum over the nodes of `which`: the opening of inputs, for one, precedes what a program is measured by.
    pub fn total(&self, which: impl Fn(NodeId) -> bool) -> Counts {
        let nodes = self.nodes().into_iter().filter(|(node, _)| which(*node));
        nodes.fold(Counts::default(), |sum, (_, counts)| Counts {
            bits_sent: sum.bits_sent + counts.bits_sent,
            bits_received: sum.bits_received + counts.bits_received,
            frames_sent: sum.frames_sent + counts.frames_sent,
            frames_received: sum.frames_received + counts.frames_received,
            rounds: sum.rounds.max(counts.rounds),
        })
    }

    pub(crate) fn sent(&self, frame: &DataFrame) {
        self.count(frame, |counts| {
            counts.bits_sent += frame.bits;
            counts.frames_sent += 1;
        });
    }

    pub(crate) fn received(&self, frame: &DataFrame) {
        self.count(frame, |counts| {
            counts.bits_received += frame.bits;
            counts.frames_received += 1;
        });
    }

    fn count(&self, frame: &DataFrame, add: impl FnOnce(&mut Counts)) {
        let index = frame.part.node.index();
        let mut nodes = self.lock();
        if nodes.len() <= index {
            // At most as long as a program: a frame of another node was not admitted.
            nodes.resize(index + 1, Counts::default());
        }
        let counts = &mut nodes[index];
        add(counts);
        counts.rounds = counts.rounds.max(frame.depth.depth());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Counts>> {
        // Each update is a few additions that cannot panic half way.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
