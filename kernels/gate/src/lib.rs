//! The one definition of what is computed: rings, gates, key layouts, messages, declared cost, and the trait a
//! backend implements. Nothing here does I/O, owns a thread or knows a network.
//!
//! `docs/protocols.md` and the pages below it describe the protocols: formulas, key layouts, costs, security. Papers are
//! cited where a construction comes from one.

pub mod activation;
pub mod backend;
pub mod catalog;
pub mod cost;
pub mod curve;
pub mod dpf;
pub mod gate;
pub mod gatefile;
pub mod layout;
pub mod lookup;
pub mod onehot;
pub mod prg;
pub mod ring;
pub mod secret;
pub mod sigma;
pub mod spec;
pub mod suf;
pub mod suf_lut;

mod text;

pub use backend::{
    Activity, Backend, BackendError, BackendInfo, ChunkEval, Clocks, DealJob, EvalJob, Input, Span, StagedKey,
};
pub use cost::Cost;
pub use curve::Curve;
pub use gate::{Gate, GateError, Protocol, Shape};
pub use layout::{CHUNK_ELEMS, Field, KeyShape, Party, Role, Segment, Source, Width};
pub use ring::Ring;
pub use secret::{KeyBytes, SecretBytes, Seed};
pub use text::FileError;
