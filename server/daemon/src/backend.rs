//! Which backend computes.

use std::sync::Arc;

use suf_gate::{Backend, BackendError};
use suf_wire::PartyId;

use crate::config::BackendChoice;

/// The backend that `choice` asks for. Where there are several GPUs, the parties take different ones.
///
/// # Errors
/// When a GPU is asked for and there is none to use.
pub(crate) fn choose(choice: BackendChoice, party: PartyId) -> Result<Arc<dyn Backend>, BackendError> {
    match choice {
        BackendChoice::Cpu => Ok(cpu()),
        BackendChoice::Cuda => gpu(party),
        BackendChoice::Auto => gpu(party).or_else(|reason| {
            tracing::info!(%reason, "no GPU is used, the CPU computes");
            Ok(cpu())
        }),
    }
}

fn cpu() -> Arc<dyn Backend> {
    Arc::new(suf_cpu::CpuBackend::new())
}

#[cfg(feature = "cuda")]
fn gpu(party: PartyId) -> Result<Arc<dyn Backend>, BackendError> {
    let index = match party {
        PartyId::P0 => 0,
        PartyId::P1 => 1,
    };
    Ok(Arc::new(suf_cuda::CudaBackend::spread(index)?))
}

#[cfg(not(feature = "cuda"))]
fn gpu(_party: PartyId) -> Result<Arc<dyn Backend>, BackendError> {
    Err(BackendError::Unavailable("this build has no GPU backend (feature `cuda`)".into()))
}
