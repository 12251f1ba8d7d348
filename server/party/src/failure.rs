//! Why a run ended badly, and whose fault it was.

use std::fmt;

use suf_gate::BackendError;
use suf_wire::{Fault, Reason};

/// The end of a run that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Who is at fault.
    pub fault: Fault,
    /// What happened, where, and what to do about it.
    pub reason: String,
}

impl Failure {
    /// A failure.
    pub fn new(fault: Fault, reason: impl Into<String>) -> Self {
        Self { fault, reason: reason.into() }
    }

    /// The reason, shortened to what the wire carries.
    #[must_use]
    pub fn wire_reason(&self) -> Reason {
        Reason::new(&self.reason)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at fault: {}", self.fault, self.reason)
    }
}

impl std::error::Error for Failure {}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        let fault = match error {
            BackendError::Misuse(_) => Fault::Bug,
            BackendError::Unavailable(_)
            | BackendError::OutOfMemory(_)
            | BackendError::Failed(_)
            | BackendError::Lost(_) => Fault::Device,
        };
        Self::new(fault, error.to_string())
    }
}
