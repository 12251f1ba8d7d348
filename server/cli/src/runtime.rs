//! Running a command: one thread for its calls, and an orderly end on a signal.

use std::future::Future;

use suf_control::v1::Fault;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::Error;

/// Runs `work` to its end, or until SIGINT or SIGTERM. Either way everything that it owns is dropped, child processes
/// included.
///
/// # Errors
/// Its own error, or that it was interrupted.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let failed = |error: std::io::Error| Error::here(Fault::Device, format!("cannot start: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        tokio::select! {
            result = work => result,
            _ = interrupt.recv() => Err(interrupted()),
            _ = terminate.recv() => Err(interrupted()),
        }
    })
}

fn interrupted() -> Error {
    Error::here(Fault::Caller, "interrupted; what was started has been ended")
}
