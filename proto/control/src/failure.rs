//! Failures of a call: who has to act, and one sentence of what to do.

use std::fmt;

use tonic::{Code, Status};

use crate::v1::{self, Fault};

/// Response metadata that carries the fault beside the gRPC status.
const FAULT_METADATA: &str = "suf-fault";

/// Why a call failed, on both sides of the API. Converts to and from [`Status`] without loss of the fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", Blame(*.fault))]
pub struct CallFailure {
    /// The side that has to act.
    pub fault: Fault,
    /// gRPC code for generic clients.
    pub code: Code,
    /// What happened and what to do, in one sentence.
    pub reason: String,
}

/// Prints a fault the way it reads at the start of a message.
struct Blame(Fault);

impl CallFailure {
    /// A failure with the gRPC code that generic clients expect for this fault.
    pub fn new(fault: Fault, reason: impl Into<String>) -> Self {
        let code = match fault {
            Fault::Caller => Code::InvalidArgument,
            Fault::Peer | Fault::Dealer => Code::Unavailable,
            Fault::Device => Code::ResourceExhausted,
            Fault::Config => Code::FailedPrecondition,
            Fault::Bug => Code::Internal,
            Fault::Unspecified => Code::Unknown,
        };
        Self { fault, code, reason: reason.into() }
    }

    /// The caller's request cannot be served as it stands.
    pub fn caller(reason: impl Into<String>) -> Self {
        Self::new(Fault::Caller, reason)
    }

    /// Whether `status` carries who has to act: then a daemon of ours made it, and no library.
    pub(crate) fn is_named_in(status: &Status) -> bool {
        status.metadata().contains_key(FAULT_METADATA)
    }

    /// The same failure under another gRPC code, such as `NotFound`.
    pub fn with_code(self, code: Code) -> Self {
        Self { code, ..self }
    }

    /// The failure as a run records it; `step` names where in the run it happened.
    pub fn at_step(self, step: impl Into<String>) -> v1::Failure {
        v1::Failure { fault: self.fault.into(), reason: self.reason, step: step.into() }
    }
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Fault::Peer => "the other party is at fault",
            Fault::Dealer => "the dealer is at fault",
            Fault::Device => "this machine is at fault",
            Fault::Config => "the configuration is at fault",
            Fault::Caller => "the request is at fault",
            Fault::Bug => "a defect in this software",
            Fault::Unspecified => "failed",
        })
    }
}

impl From<CallFailure> for Status {
    fn from(failure: CallFailure) -> Self {
        let mut status = Status::new(failure.code, failure.reason);
        let fault = failure.fault.as_str_name().parse().expect("names of protobuf enums are plain ASCII");
        status.metadata_mut().insert(FAULT_METADATA, fault);
        status
    }
}

impl From<Status> for CallFailure {
    fn from(status: Status) -> Self {
        let named = status.metadata().get(FAULT_METADATA).and_then(|value| value.to_str().ok());
        let fault = named.and_then(Fault::from_str_name).unwrap_or(match status.code() {
            Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::PermissionDenied => {
                Fault::Caller
            }
            _ => Fault::Unspecified,
        });
        Self { fault, code: status.code(), reason: status.message().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_crosses_the_wire_unchanged() {
        for fault in [Fault::Peer, Fault::Dealer, Fault::Device, Fault::Config, Fault::Caller, Fault::Bug] {
            let failure = CallFailure::new(fault, "what happened; what to do").with_code(Code::Aborted);
            assert_eq!(CallFailure::from(Status::from(failure.clone())), failure);
        }
    }

    #[test]
    fn a_status_of_another_making_keeps_its_message() {
        let failure = CallFailure::from(Status::not_found("no such run"));
        assert_eq!((failure.fault, failure.reason.as_str()), (Fault::Caller, "no such run"));
    }
}
