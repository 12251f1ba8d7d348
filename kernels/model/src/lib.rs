//! The model compiler: from the folder of a model, as Hugging Face has it, to a program of operations over wires.
//!
//! A folder becomes a model with float weights, the model and a plan become quantised weights and a program. The plan says how
//! large the values within the model get. [`bert`] is one architecture; what does not depend on it stands beside it.
//! Nothing here does I/O: whoever has a folder gives its files through [`Folder`].

pub mod bert;
pub mod builtin;
pub mod folder;
pub mod heads;
pub mod nodes;
pub mod plan;
pub mod pooling;
pub mod quantise;
pub mod ranges;
pub mod tensors;
pub mod text;

mod error;
mod json;

pub use error::ModelError;
pub use folder::Folder;
pub use plan::Plan;
pub use pooling::{Pooling, Summary};
pub use text::{TextError, Tokens};
