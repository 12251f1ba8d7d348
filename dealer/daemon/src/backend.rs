//! Which backend makes the keys.

use std::sync::Arc;

use suf_gate::{Backend, BackendError};

use crate::config::BackendChoice;

/// The backend that `choice` asks for.
///
/// # Errors
/// When a GPU is asked for and there is none to use.
pub(crate) fn choose(choice: BackendChoice) -> Result<Arc<dyn Backend>, BackendError> {
    match choice {
        BackendChoice::Auto | BackendChoice::Cpu => Ok(Arc::new(suf_cpu::CpuBackend::new())),
        BackendChoice::Cuda => Err(BackendError::Unavailable(
            "this build has no GPU backend; set backend = \"cpu\" or \"auto\"".into(),
        )),
    }
}
