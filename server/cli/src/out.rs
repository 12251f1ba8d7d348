//! What `suf` prints. All of it goes through here: standard output for results, standard error for notes.
//!
//! A reader that has seen enough (`suf runs | head -n 1`) is no failure: what it does not read is dropped. Any other failed
//! write ends the command with exit status 1.

use std::fmt::Display;

use suf_control::v1::Fault;
use suf_process::output::{self, unwritten};
pub(crate) use suf_process::output::{Reader, answer, is_stdout, note};

use crate::error::Error;

/// Prints `text` and the end of a line.
///
/// # Errors
/// When standard output does not take it; the work that it tells of is done.
pub(crate) fn line(text: impl Display) -> Result<Reader, Error> {
    output::line(text).map_err(|error| failed(&error))
}

/// Prints `text` as it is.
///
/// # Errors
/// As for [`line`].
pub(crate) fn raw(text: &[u8]) -> Result<Reader, Error> {
    output::raw(text).map_err(|error| failed(&error))
}

/// Prints `value` as JSON over several lines.
///
/// # Errors
/// As for [`line`].
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), Error> {
    line(serde_json::to_string_pretty(value).map_err(Error::usage)?).map(|_| ())
}

fn failed(error: &std::io::Error) -> Error {
    Error::here(Fault::Device, unwritten(error))
}
