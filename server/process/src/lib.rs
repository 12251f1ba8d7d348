//! What both daemons share beside their work: options, configuration file, output, logs and signals. Memory is hardened and
//! measured here, identities are renewed, and the backend is chosen.
//!
//! This crate knows no run and no batch. What a daemon does is in its own crate.

pub mod admin;
pub mod backend;
pub mod config;
pub mod examine;
pub mod hardening;
pub mod identity;
pub mod memory;
pub mod model;
pub mod output;
pub mod service;
pub mod signals;
pub mod telemetry;
pub mod weights;

mod daemon;
mod decoder;
mod fault;
mod with_fallback;

pub use backend::BackendChoice;
pub use config::{ConfigError, Configuration};
pub use daemon::{Args, Start, bind_control, run, say_ready};
pub use decoder::{Description, ProgramDecoder};
pub use fault::at_fault;
pub use model::{LoadedModel, ModelEntry, ModelFolder, listed};
pub use suf_cpu::KeyMemory;

/// The allocator of every program of ours; see [`ALLOCATOR`].
pub type Allocator = zeroizing_alloc::ZeroAlloc<mimalloc::MiMalloc>;

/// Keeps the memory of keys and messages between tiles. The system's allocator returns it and faults it in again, which
/// takes a quarter of SIGMA's evaluation. All memory is wiped when it is freed: key bytes pass through buffers of the QUIC
/// stack, which knows nothing of secrets.
pub const ALLOCATOR: Allocator = zeroizing_alloc::ZeroAlloc(mimalloc::MiMalloc);
