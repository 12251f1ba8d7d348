//! Which backend computes.

use std::sync::Arc;

use serde::Deserialize;
use suf_gate::{Backend, BackendError};

use crate::with_fallback::WithFallback;

/// The key `backend`: what computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendChoice {
    /// A GPU where there is one, for as long as it is there; else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, or an error.
    Cuda,
}

impl BackendChoice {
    /// The backend that is asked for. Where there are several GPUs, processes with different `index` take different ones.
    ///
    /// # Errors
    /// When a GPU is asked for and there is none to use.
    pub fn backend(self, index: usize) -> Result<Arc<dyn Backend>, BackendError> {
        match self {
            Self::Cpu => Ok(cpu()),
            Self::Cuda => gpu(index),
            Self::Auto => match gpu(index) {
                Ok(gpu) => Ok(Arc::new(WithFallback::new(gpu, cpu()))),
                Err(reason) => {
                    tracing::info!(%reason, "no GPU is used, the CPU computes");
                    Ok(cpu())
                }
            },
        }
    }
}

fn cpu() -> Arc<dyn Backend> {
    Arc::new(suf_cpu::CpuBackend::new())
}

#[cfg(feature = "cuda")]
fn gpu(index: usize) -> Result<Arc<dyn Backend>, BackendError> {
    Ok(Arc::new(suf_cuda::CudaBackend::spread(index)?))
}

#[cfg(not(feature = "cuda"))]
fn gpu(_index: usize) -> Result<Arc<dyn Backend>, BackendError> {
    Err(BackendError::Unavailable("this build has no GPU backend (feature `cuda`)".into()))
}
