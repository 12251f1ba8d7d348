//! What is counted, and where: here and nowhere else (`docs/protocols.md#what-is-counted`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use suf_wire::{Causal, DataFrame};

/// Payload, frames and depth of one channel's data frames. Clones count together.
///
/// The opening of x_hat ([`DataFrame::OPEN`]) precedes the gate and is kept apart.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    counted: Arc<Mutex<Counted>>,
}

/// What a meter has counted.
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
    pub rounds: u8,
}

#[derive(Debug, Default)]
struct Counted {
    gate: Counts,
    opening: Counts,
}

impl Meter {
    /// The gate's exchanges.
    pub fn gate(&self) -> Counts {
        self.lock().gate
    }

    /// The opening of x_hat.
    pub fn opening(&self) -> Counts {
        self.lock().opening
    }

    /// Begins again from nothing, for the next run on the same channel.
    pub fn reset(&self) {
        *self.lock() = Counted::default();
    }

    pub(crate) fn sent(&self, frame: &DataFrame) {
        let mut counted = self.lock();
        let counts = counted.of(frame.step);
        counts.bits_sent += frame.bits;
        counts.frames_sent += 1;
        counts.deepen(frame.depth);
    }

    pub(crate) fn received(&self, frame: &DataFrame) {
        let mut counted = self.lock();
        let counts = counted.of(frame.step);
        counts.bits_received += frame.bits;
        counts.frames_received += 1;
        counts.deepen(frame.depth);
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        // Each update is a few additions that cannot panic half way.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn of(&mut self, step: u8) -> &mut Counts {
        if step == DataFrame::OPEN { &mut self.opening } else { &mut self.gate }
    }
}

impl Counts {
    fn deepen(&mut self, depth: Causal) {
        self.rounds = self.rounds.max(depth.depth());
    }
}
