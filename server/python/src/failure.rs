//! Errors as the package's exceptions.

use std::fmt::Display;

use pyo3::{PyErr, PyResult, Python, types::PyAnyMethods};
use suf_cli::error::Error;
use suf_control::v1::Fault;

/// The module with the exceptions.
const MODULE: &str = "suf._errors";

/// The exception for `error`: its class says who has to act.
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    let (class, place) = match error {
        Error::Usage(_) => ("InputError", ""),
        Error::Run { place, failure } => (class(failure.fault), place.trim_end_matches(": ")),
        Error::Unanswered { place, .. } => ("PeerError", place.as_str()),
    };
    exception(py, class, &error.to_string(), place)
}

/// The exception for arguments that cannot be taken.
pub(crate) fn input(py: Python<'_>, message: &dyn Display) -> PyErr {
    exception(py, "InputError", &message.to_string(), "")
}

/// The exception for a client that takes no calls.
pub(crate) fn closed(py: Python<'_>, message: &str) -> PyErr {
    exception(py, "ClosedError", message, "")
}

/// The exception for a call that was ended from elsewhere in this process.
pub(crate) fn interrupted(py: Python<'_>, error: &Error) -> PyErr {
    exception(py, "InterruptedCall", &error.to_string(), "")
}

fn class(fault: Fault) -> &'static str {
    match fault {
        Fault::Peer => "PeerError",
        Fault::Dealer => "DealerError",
        Fault::Device => "DeviceError",
        Fault::Config => "ConfigurationError",
        Fault::Caller => "RequestError",
        Fault::Bug | Fault::Unspecified => "InternalError",
    }
}

fn exception(py: Python<'_>, class: &str, message: &str, place: &str) -> PyErr {
    let made = || -> PyResult<_> { py.import(MODULE)?.as_any().getattr(class)?.call1((message, place)) };
    made().map_or_else(|error| error, PyErr::from_value)
}
