//! How a call failed, seen by the one who made it: the daemon said why, or no answer came that can be used.
//!
//! The libraries below report what they saw of a connection. Here their reports become sentences that say what to do.

use std::error::Error as StdError;

use tonic::{Code, Status};

use crate::{client::ConnectError, failure::CallFailure};

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The daemon answered that it cannot, and who has to act; or this side's configuration is wrong.
    Refused(CallFailure),
    /// The daemon that was called gave no answer, or none that can be used. A sentence says what to do.
    Unanswered(String),
}

/// The connection broke while a call was open, or could not be used for it.
const STOPPED: &str = "it stopped answering in the middle of a call. Its daemon ended or was restarted, its host \
                       stands still, or the network is cut. See that it runs, and its log, then try again";

/// What came is no message of this API, or the method is not known.
const OTHER_RELEASE: &str =
    "it does not speak this version of the control API: run the same release here and there";

/// A message is larger than one of the sides allows.
const TOO_LARGE: &str =
    "a message was larger than the control API allows: run the same release here and there";

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        if CallFailure::is_named_in(&status) {
            return Self::Refused(status.into());
        }
        // The connection was lost before, and could not be made anew.
        if let Some(error) = find::<ConnectError>(&status) {
            return error.into();
        }
        // Broken connections come under codes of many kinds, with this prefix.
        if status.message().starts_with("h2 protocol error") {
            return Self::Unanswered(STOPPED.into());
        }
        match status.code() {
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Aborted | Code::DeadlineExceeded => {
                Self::Unanswered(STOPPED.into())
            }
            Code::Internal | Code::DataLoss if status.message().starts_with("Unexpected EOF") => {
                Self::Unanswered(STOPPED.into())
            }
            Code::Internal | Code::DataLoss | Code::Unimplemented => Self::Unanswered(OTHER_RELEASE.into()),
            Code::OutOfRange | Code::ResourceExhausted => Self::Unanswered(TOO_LARGE.into()),
            _ => Self::Refused(status.into()),
        }
    }
}

impl From<&ConnectError> for CallError {
    fn from(error: &ConnectError) -> Self {
        use ConnectError as E;
        match error {
            E::NotListening { .. } | E::Unreachable { .. } | E::NotControl { .. } => {
                Self::Unanswered(error.to_string())
            }
            E::Address { .. } | E::ServerCertificate { .. } | E::OurCertificate { .. } => {
                Self::Refused(CallFailure::new(error.fault(), error.to_string()))
            }
        }
    }
}

/// The first error of type `E` in the chain of sources.
pub(crate) fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::Fault;

    #[test]
    fn a_status_of_a_librarys_making_becomes_a_sentence_without_its_words() {
        for (status, sentence) in [
            (Status::internal("h2 protocol error: error reading a body from connection"), STOPPED),
            (Status::unknown("h2 protocol error: http2 error"), STOPPED),
            (Status::unavailable("transport error"), STOPPED),
            (Status::cancelled("operation was canceled"), STOPPED),
            (Status::internal("Unexpected EOF decoding stream."), STOPPED),
            (Status::internal("failed to decode Protobuf message: buffer underflow"), OTHER_RELEASE),
            (Status::unimplemented(""), OTHER_RELEASE),
            (Status::out_of_range("Error, decoded message length too large"), TOO_LARGE),
        ] {
            assert_eq!(CallError::from(status), CallError::Unanswered(sentence.into()));
        }
    }

    #[test]
    fn what_the_daemon_said_itself_is_kept() {
        let failure = CallFailure::new(Fault::Dealer, "the dealer is gone; start it");
        assert_eq!(CallError::from(Status::from(failure.clone())), CallError::Refused(failure));
    }
}
