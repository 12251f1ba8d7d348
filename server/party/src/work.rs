//! The computing of a run, as values that any thread can carry out.

use std::fmt;

use bytes::Bytes;
use suf_gate::{Backend, ChunkEval, EvalJob, Input, KeyBytes, Party, Span, StagedKey, layout, ring::WIRE};

use crate::Failure;

/// Bytes of an opened ring element on the wire: 48 bits.
const WIRE_BYTES: usize = WIRE.bits() as usize / 8;

/// Something to compute.
pub enum Work {
    /// Mask the client's shares with the input mask: this party's half of x_hat.
    Mask {
        /// The chunk.
        job: EvalJob,
        /// The client's shares.
        shares: Vec<u64>,
    },
    /// Add the two halves of x_hat.
    Unite {
        /// The chunk.
        chunk: u32,
        /// This party's half.
        mine: Vec<u64>,
        /// The peer's, packed.
        theirs: Bytes,
    },
    /// Take a key to its device.
    Stage {
        /// The chunk.
        job: EvalJob,
        /// Its key.
        key: KeyBytes,
    },
    /// Take the input to where the key is.
    Load {
        /// The chunk.
        chunk: u32,
        /// Its key.
        staged: Box<dyn StagedKey>,
        /// x_hat or shares.
        input: Input,
    },
    /// Make the message of exchange `step`.
    Step {
        /// The chunk.
        chunk: u32,
        /// Its evaluation.
        eval: Box<dyn ChunkEval>,
        /// Which exchange.
        step: usize,
        /// The peer's message of the exchange before; empty for the first.
        incoming: Bytes,
    },
    /// Open y_hat.
    Finish {
        /// The chunk.
        chunk: u32,
        /// Its evaluation.
        eval: Box<dyn ChunkEval>,
        /// The peer's last message.
        incoming: Bytes,
    },
    /// Turn y_hat into this party's output share.
    Unmask {
        /// The chunk.
        job: EvalJob,
        /// The public output.
        y_hat: Vec<u64>,
    },
    /// Drop an evaluation that is over, which wipes its key.
    Wipe(Box<dyn ChunkEval>),
}

/// What came of it.
pub enum Done {
    /// Of [`Work::Mask`].
    Masked {
        /// The chunk.
        chunk: u32,
        /// This party's half of x_hat.
        mine: Vec<u64>,
        /// The same, packed for the peer.
        message: Bytes,
    },
    /// Of [`Work::Unite`].
    United {
        /// The chunk.
        chunk: u32,
        /// The public masked input.
        x_hat: Vec<u64>,
    },
    /// Of [`Work::Stage`].
    Staged {
        /// The chunk.
        chunk: u32,
        /// The key, in place.
        staged: Box<dyn StagedKey>,
    },
    /// Of [`Work::Load`].
    Loaded {
        /// The chunk.
        chunk: u32,
        /// Its evaluation, ready for the first exchange.
        eval: Box<dyn ChunkEval>,
    },
    /// Of [`Work::Step`].
    Stepped {
        /// The chunk.
        chunk: u32,
        /// Its evaluation.
        eval: Box<dyn ChunkEval>,
        /// The message for the peer.
        message: Bytes,
    },
    /// Of [`Work::Finish`].
    Finished {
        /// The chunk.
        chunk: u32,
        /// The public masked output.
        y_hat: Vec<u64>,
        /// The evaluation, which holds the chunk's key: wiping it is for when nobody waits.
        spent: Box<dyn ChunkEval>,
    },
    /// Of [`Work::Unmask`].
    Unmasked {
        /// The chunk.
        chunk: u32,
        /// This party's share of y.
        shares: Vec<u64>,
    },
    /// Of [`Work::Wipe`].
    Wiped,
}

impl Work {
    /// Carries it out.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run(self, backend: &dyn Backend) -> Result<Done, Failure> {
        Ok(match self {
            Self::Mask { job, mut shares } => {
                let mask = backend.wire_mask(&job, layout::R_IN)?;
                for (share, mask) in shares.iter_mut().zip(mask) {
                    *share = WIRE.add(*share, mask);
                }
                Done::Masked { chunk: job.chunk, message: pack(&shares), mine: shares }
            }
            Self::Unite { chunk, mut mine, theirs } => {
                for (mine, theirs) in mine.iter_mut().zip(unpack(&theirs)) {
                    *mine = WIRE.add(*mine, theirs);
                }
                Done::United { chunk, x_hat: mine }
            }
            Self::Stage { job, key } => Done::Staged { chunk: job.chunk, staged: backend.stage(&job, key)? },
            Self::Load { chunk, staged, input } => Done::Loaded { chunk, eval: staged.begin(input)? },
            Self::Step { chunk, mut eval, step, incoming } => {
                let message = eval.step(step, &incoming)?;
                Done::Stepped { chunk, eval, message }
            }
            Self::Finish { chunk, mut eval, incoming } => {
                let y_hat = eval.finish(&incoming)?;
                Done::Finished { chunk, y_hat, spent: eval }
            }
            Self::Unmask { job, mut y_hat } => {
                let mask = backend.wire_mask(&job, layout::R_OUT)?;
                for (y, mask) in y_hat.iter_mut().zip(mask) {
                    *y = match job.party {
                        Party::P0 => WIRE.sub(*y, mask),
                        Party::P1 => WIRE.sub(0, mask),
                    };
                }
                Done::Unmasked { chunk: job.chunk, shares: y_hat }
            }
            Self::Wipe(spent) => {
                drop(spent);
                Done::Wiped
            }
        })
    }

    /// The chunk of which this is one of the gate's exchanges, which `comp_ms` counts; none for other work.
    #[must_use]
    pub fn exchange_of(&self) -> Option<u32> {
        match self {
            Self::Step { chunk, .. } | Self::Finish { chunk, .. } => Some(*chunk),
            _ => None,
        }
    }

    /// The chunk of which this is an exchange that takes microseconds; none for all else.
    #[must_use]
    pub fn prompt_exchange_of(&self) -> Option<u32> {
        match self {
            Self::Step { chunk, eval, .. } | Self::Finish { chunk, eval, .. } => {
                eval.is_prompt().then_some(*chunk)
            }
            _ => None,
        }
    }

    /// Its name, for logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mask { .. } => "mask",
            Self::Unite { .. } => "unite",
            Self::Stage { .. } => "stage",
            Self::Load { .. } => "load",
            Self::Step { .. } => "step",
            Self::Finish { .. } => "finish",
            Self::Unmask { .. } => "unmask",
            Self::Wipe(_) => "wipe",
        }
    }
}

impl Done {
    /// What the device did for it, for whoever measures; empty the second time.
    pub fn take_spans(&mut self) -> Vec<Span> {
        match self {
            Self::Stepped { eval, .. } | Self::Finished { spent: eval, .. } => eval.take_spans(),
            _ => Vec::new(),
        }
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Work({})", self.name())
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Masked { .. } => "Done(mask)",
            Self::United { .. } => "Done(unite)",
            Self::Staged { .. } => "Done(stage)",
            Self::Loaded { .. } => "Done(load)",
            Self::Stepped { .. } => "Done(step)",
            Self::Finished { .. } => "Done(finish)",
            Self::Unmasked { .. } => "Done(unmask)",
            Self::Wiped => "Done(wipe)",
        })
    }
}

/// Bytes of an opening of x_hat for `elems` elements.
pub(crate) const fn opening_bytes(elems: usize) -> usize {
    WIRE_BYTES * elems
}

fn pack(values: &[u64]) -> Bytes {
    let mut out = Vec::with_capacity(opening_bytes(values.len()));
    for value in values {
        out.extend_from_slice(&value.to_le_bytes()[..WIRE_BYTES]);
    }
    out.into()
}

fn unpack(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(WIRE_BYTES).map(|element| {
        let mut value = [0; 8];
        value[..WIRE_BYTES].copy_from_slice(element);
        u64::from_le_bytes(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_round_trips() {
        let values = [0, 1, WIRE.mask(), 0x1234_5678_9abc];
        assert!(unpack(&pack(&values)).eq(values));
    }
}
