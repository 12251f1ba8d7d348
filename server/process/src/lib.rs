//! What every daemon is around its work: its options, its configuration file, the hardening of its memory and how much of it
//! there is, output, logs, signals, the renewal of its identity, and the backend it computes with.
//!
//! This crate knows no run and no batch. What a daemon does is in its own crate.

pub mod backend;
pub mod config;
pub mod examine;
pub mod hardening;
pub mod identity;
pub mod memory;
pub mod output;
pub mod signals;
pub mod telemetry;
pub mod weights;

mod daemon;
mod decoder;
mod fault;
mod until_lost;

pub use backend::BackendChoice;
pub use config::{ConfigError, Configuration};
pub use daemon::{Args, Start, bind_control, run, say_ready};
pub use decoder::{Description, ProgramDecoder};
pub use fault::at_fault;
pub use suf_cpu::KeyMemory;

/// The allocator of every program of ours; see [`ALLOCATOR`].
pub type Allocator = zeroizing_alloc::ZeroAlloc<mimalloc::MiMalloc>;

/// Keeps the memory of keys and messages between tiles; the system's allocator gives it back and faults it in again, which
/// costs SIGMA's evaluation a quarter of its time. All memory is wiped when it is freed: key bytes pass through buffers of
/// the QUIC stack, which knows nothing of secrets.
pub const ALLOCATOR: Allocator = zeroizing_alloc::ZeroAlloc(mimalloc::MiMalloc);
