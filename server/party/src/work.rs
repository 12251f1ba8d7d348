//! The computing of a run, as values that any thread can carry out.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use suf_gate::{Backend, EvalJob, KeyBytes, PartEval, Program, SecretBytes, Span, StagedPart, Value};
use suf_wire::Part;

use crate::RunFailure;

/// Something to compute.
pub enum Work {
    /// Take a key to its device.
    Stage {
        /// The part.
        job: EvalJob,
        /// Its key.
        key: KeyBytes,
    },
    /// Take the inputs to where the key is.
    Begin {
        /// The part.
        part: Part,
        /// Where its key is.
        start: Start,
        /// The tiles that it takes; a node `input` takes the client's shares.
        inputs: Vec<Arc<dyn Value>>,
    },
    /// Make the message of exchange `step`.
    Step {
        /// The part.
        part: Part,
        /// Its evaluation.
        eval: Box<dyn PartEval>,
        /// Which exchange.
        step: usize,
        /// The peer's message of the exchange before; empty for the first.
        incoming: Bytes,
    },
    /// Make the part's value.
    Finish {
        /// The part.
        part: Part,
        /// Its evaluation.
        eval: Box<dyn PartEval>,
        /// The peer's last message; empty where there is no exchange.
        incoming: Bytes,
    },
    /// Drop an evaluation that is over, which wipes its key.
    Wipe(Box<dyn PartEval>),
}

/// What a part begins from.
pub enum Start {
    /// A key that is where it will be used.
    Staged(Box<dyn StagedPart>),
    /// Nothing: the part has no key.
    Keyless(EvalJob),
}

/// The result of computing.
pub enum Done {
    /// The result of [`Work::Stage`].
    Staged {
        /// The part.
        part: Part,
        /// The key, in place.
        staged: Box<dyn StagedPart>,
    },
    /// The result of [`Work::Begin`].
    Begun {
        /// The part.
        part: Part,
        /// Its evaluation, ready for the first exchange.
        eval: Box<dyn PartEval>,
    },
    /// The result of [`Work::Step`].
    Stepped {
        /// The part.
        part: Part,
        /// Its evaluation.
        eval: Box<dyn PartEval>,
        /// The message for the peer.
        message: Bytes,
    },
    /// The result of [`Work::Finish`].
    Finished {
        /// The part.
        part: Part,
        /// What it made.
        value: Arc<dyn Value>,
        /// The evaluation, which holds the part's key. It is wiped when nobody waits.
        spent: Box<dyn PartEval>,
    },
    /// The result of [`Work::Wipe`].
    Wiped,
}

impl Work {
    /// Carries it out.
    ///
    /// # Errors
    /// When the device fails; the run is over then.
    pub fn run(self, backend: &dyn Backend) -> Result<Done, RunFailure> {
        Ok(match self {
            Self::Stage { job, key } => Done::Staged { part: job.part, staged: backend.stage(&job, key)? },
            Self::Begin { part, start, inputs } => {
                let staged = match start {
                    Start::Staged(staged) => staged,
                    Start::Keyless(job) => backend.stage(&job, SecretBytes::default().into())?,
                };
                Done::Begun { part, eval: staged.begin(inputs)? }
            }
            Self::Step { part, mut eval, step, incoming } => {
                let message = eval.step(step, &incoming)?;
                Done::Stepped { part, eval, message }
            }
            Self::Finish { part, mut eval, incoming } => {
                let value = eval.finish(&incoming)?;
                Done::Finished { part, value, spent: eval }
            }
            Self::Wipe(spent) => {
                drop(spent);
                Done::Wiped
            }
        })
    }

    /// The part of `program` to which this exchange belongs, if the parties wait for the exchange. `comp_ms` counts
    /// these. None for other work, such as opening inputs and making outputs.
    #[must_use]
    pub fn exchange_of(&self, program: &Program) -> Option<Part> {
        match self {
            Self::Step { part, .. } | Self::Finish { part, .. } => {
                let node = program.node(part.node);
                (!node.is_input() && !node.is_result()).then_some(*part)
            }
            _ => None,
        }
    }

    /// The same, if it takes microseconds.
    #[must_use]
    pub fn prompt_exchange_of(&self, program: &Program) -> Option<Part> {
        match self {
            Self::Step { eval, .. } | Self::Finish { eval, .. } if eval.is_prompt() => {
                self.exchange_of(program)
            }
            _ => None,
        }
    }

    /// The part whose evaluation this is; none where a key is only put in place, or wiped.
    #[must_use]
    pub fn evaluates(&self) -> Option<Part> {
        match self {
            Self::Begin { part, .. } | Self::Step { part, .. } | Self::Finish { part, .. } => Some(*part),
            Self::Stage { .. } | Self::Wipe(_) => None,
        }
    }

    /// Its name, for logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stage { .. } => "stage",
            Self::Begin { .. } => "begin",
            Self::Step { .. } => "step",
            Self::Finish { .. } => "finish",
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

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Staged(_) => "Staged",
            Self::Keyless(_) => "Keyless",
        })
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Staged { .. } => "Done(stage)",
            Self::Begun { .. } => "Done(begin)",
            Self::Stepped { .. } => "Done(step)",
            Self::Finished { .. } => "Done(finish)",
            Self::Wiped => "Done(wipe)",
        })
    }
}
