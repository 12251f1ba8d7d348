//! The one definition of what is computed: rings, gates, key layouts, messages, declared cost, and the trait a
//! backend implements. Nothing here does I/O, owns a thread or knows a network.
//!
//! `docs/protocols.md` and the pages below it describe the protocols: formulas, key layouts, costs, security. Papers are
//! cited where a construction comes from one.

pub mod activation;
pub mod backend;
pub mod catalog;
pub mod check;
pub mod cost;
pub mod curve;
pub mod dcf;
pub mod dpf;
pub mod gate;
pub mod gatefile;
pub mod layout;
pub mod limits;
pub mod load;
pub mod lookup;
pub mod onehot;
pub mod ops;
pub mod packing;
pub mod prg;
pub mod program;
pub mod ring;
pub mod rotation;
pub mod secret;
pub mod sigma;
pub mod spec;
pub mod suf;
pub mod suf_lut;
pub mod two_parties;
pub mod wire;

mod text;
mod value;

pub use backend::{
    Activity, Backend, BackendError, BackendInfo, Clocks, DealJob, EvalJob, PartEval, Span, StagedPart,
};
pub use cost::{Cost, NodeCost};
pub use curve::Curve;
pub use gate::{Gate, GateError, Protocol, Shape};
pub use layout::{Counts, Extent, Field, KeyShape, Segment, Side, Source, Width};
pub use limits::TILE_ELEMS;
pub use program::{Node, Program, ProgramError, Taken, WeightStore};
pub use ring::Ring;
pub use secret::{KeyBytes, SecretBytes};
pub use suf_wire::{NodeId, Part, Party, Seed};
pub use text::FileError;
pub use two_parties::TwoParties;
pub use value::{HostValue, Value};
pub use wire::{Form, Mask, TensorShape, Tiles, Wire};
