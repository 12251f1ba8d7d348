//! The backend that every machine has: AES, packing and tree walks on the processor's widest instructions, chosen at
//! run time. It is also what other backends are compared with.

mod backend;
mod columns;
pub mod costs;
mod dpf;
mod eval;
mod host;
mod key;
mod line;
mod lookup;
mod loops;
mod masks;
mod memory;
mod onehot;
pub mod pack;
mod planes;
pub mod prg;
mod sigma;
pub mod simd;
mod suf;
mod suf_lut;
pub mod tree;
mod tree_hash;
mod tree_lookup;
mod wrap;

pub use backend::CpuBackend;
pub use memory::KeyMemory;
