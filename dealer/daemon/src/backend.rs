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
        BackendChoice::Cpu => Ok(cpu()),
        BackendChoice::Cuda => gpu(),
        BackendChoice::Auto => gpu().or_else(|reason| {
            tracing::info!(%reason, "no GPU is used, the CPU makes the keys");
            Ok(cpu())
        }),
    }
}

fn cpu() -> Arc<dyn Backend> {
    Arc::new(suf_cpu::CpuBackend::new())
}

#[cfg(feature = "cuda")]
fn gpu() -> Result<Arc<dyn Backend>, BackendError> {
    Ok(Arc::new(suf_cuda::CudaBackend::spread(0)?))
}

#[cfg(not(feature = "cuda"))]
fn gpu() -> Result<Arc<dyn Backend>, BackendError> {
    Err(BackendError::Unavailable("this build has no GPU backend (feature `cuda`)".into()))
}
