//! The GPU backend: keys are made and evaluated by CUDA kernels, bit for bit as the CPU does it.
//!
//! Nothing of CUDA is needed to build this crate. The driver and NVRTC are found at run time; without a driver
//! [`CudaBackend::new`] is a typed error. Kernels are compiled for the very GPU, for each gate with its numbers as
//! constants ([`nvrtc`]), and kept in a cache on disk. Without NVRTC the built-in gates run from PTX made ahead ([`ptx`]).
//!
//! Operations on whole wires have kernels that take their numbers as parameters (`ops`). A gate's kernels have them as constants.
//!
//! One kernel expands a tile's streams (AES-128 in counter mode) into the places of its fields. The gate's kernels, with a
//! thread for each element, work on those. No branch depends on a secret, and no index but those of the cipher's table: it is
//! looked up by secret bytes. It is copied into every bank of shared memory, so that look-ups should all take the same time,
//! which has not been measured.
//!
//! All unsafe code of the GPU side is here. The driver is called in `driver`, `memory` and `nvrtc`, and launches
//! take their addresses from `layout`.

mod backend;
mod cache;
mod cipher;
mod completion;
mod deal;
mod driver;
mod eval;
mod gates;
mod header;
mod hosted;
mod image;
mod layout;
mod management;
mod masks;
pub mod measure;
mod memory;
pub mod nvrtc;
mod opening;
mod ops;
pub mod ptx;
mod recent;

#[cfg(test)]
mod races;

pub use backend::CudaBackend;
