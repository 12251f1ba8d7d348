//! The backend that every machine has: AES, packing and tree walks on the processor's widest instructions, chosen at
//! run time. It is also what other backends are compared with.

pub mod pack;
pub mod prg;
pub mod simd;
pub mod tree;
