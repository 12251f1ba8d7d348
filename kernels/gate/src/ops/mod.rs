//! What the nodes of a program do. [`Op`] is the only list of operations; each says what it is in an [`OpDef`], beside
//! its own code.

mod cache;
mod derived;
pub mod exp2;
mod extended;
mod fields;
pub mod gate;
pub mod host;
pub mod input;
mod keep;
pub mod linear;
mod local;
pub mod open;
pub mod output;
mod pads;
pub mod private;
mod product;
mod round;
pub mod row_exponent;
mod rows;
mod scale;
pub mod spline;

use std::{ops::Range, sync::Arc};

pub use cache::MaskCache;
pub use derived::mask;
pub use exp2::Exp2;
pub use extended::Extended;
pub use gate::{Entry, GateOp};
pub use input::Input;
pub use keep::Keep;
pub use linear::{Linear, Weights};
pub use local::{Add, DropBits, Shift};
pub use open::Open;
pub use output::Output;
pub use pads::{Pad, PadOf, Pads};
pub use private::Private;
pub use product::{Factors, Heads, Product};
pub use row_exponent::{RowExponent, Scores};
pub use rows::{Gain, Slice, SubtractRow};
pub use scale::{Scale, SquareSum};
pub use spline::{Function, Spline};

use crate::{Counts, Form, Gate, KeyShape, NodeCost, Segment, Wire, layout::NO_KEY};

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Takes the client's shares of a tensor in.
    Input(Input),
    /// Gives each party its share of a wire, for the client.
    Output(Output),
    /// Keeps an input as a matrix of a loaded model.
    Keep(Keep),
    /// A gate on each element.
    Gate(GateOp),
    /// Opens a wire under a fresh mask.
    Open(Open),
    /// A product with public weights.
    Linear(Linear),
    /// The sum of two wires.
    Add(Add),
    /// A wire times a power of two.
    Shift(Shift),
    /// A wire without its lowest bits.
    Drop(DropBits),
    /// Some columns of a wire.
    Slice(Slice),
    /// Each column times a public integer.
    Gain(Gain),
    /// Each row minus a value of its own.
    SubtractRow(SubtractRow),
    /// Shares of a function of a wire's mask.
    Pads(Pads),
    /// The product of two wires.
    Product(Product),
    /// A sum of products with matrices of a loaded model.
    Private(Private),
    /// An extended matrix times a value of each row.
    Scale(Scale),
    /// The sum of the squares of each row.
    SquareSum(SquareSum),
    /// A number near the logarithm of the sum of each row's exponentials.
    RowExponent(RowExponent),
    /// 2 to the scores minus their rows' exponents.
    Exp2(Exp2),
    /// A piecewise linear function.
    Spline(Spline),
}

/// What an operation is. All of it is public, and the same for both parties and the dealer.
pub trait OpDef {
    /// The name in figures and messages.
    fn name(&self) -> String;

    /// The wire that the node makes from `inputs`; none where it makes none.
    ///
    /// # Errors
    /// When the operation does not take such wires, in words.
    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String>;

    /// The fields of the key of a tile. Operations that both parties do by themselves have none.
    fn key_shape(&self) -> &KeyShape {
        &NO_KEY
    }

    /// The exchanges, in order. Operations that both parties do by themselves have none.
    fn exchanges(&self) -> &[Vec<Segment>] {
        &[]
    }

    /// The declared cost of a node that has `size` entries of each extent. Tests compare it with keys and exchanges.
    fn declared(&self, _size: Counts) -> NodeCost {
        NodeCost::NONE
    }

    /// The rows of its wire number `input` that `rows` of this node's tensor are made of: the same ones, unless it says otherwise.
    /// They begin and end later with each row, and all rows need all of the wire.
    fn reads(&self, input: usize, rows: Range<u32>) -> Range<u32> {
        let _ = input;
        rows
    }

    /// The wires of shares of masks that the node takes.
    fn pads(&self) -> Vec<Needed> {
        Vec::new()
    }
}

/// A wire of shares of a mask that a node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needed {
    /// What is shared.
    pub pad: Pad,
    /// Which of the node's wires the mask belongs to.
    pub of: usize,
    /// Which of its wires has the shares.
    pub at: usize,
}

impl Op {
    /// A gate on the wire of a gate alone.
    #[must_use]
    pub fn gate(gate: Arc<Gate>) -> Self {
        Self::Gate(GateOp::new(gate))
    }

    /// What it is.
    #[must_use]
    pub fn def(&self) -> &dyn OpDef {
        match self {
            Self::Input(op) => op,
            Self::Output(op) => op,
            Self::Keep(op) => op,
            Self::Gate(op) => op,
            Self::Open(op) => op,
            Self::Linear(op) => op,
            Self::Add(op) => op,
            Self::Shift(op) => op,
            Self::Drop(op) => op,
            Self::Slice(op) => op,
            Self::Gain(op) => op,
            Self::SubtractRow(op) => op,
            Self::Pads(op) => op,
            Self::Product(op) => op,
            Self::Private(op) => op,
            Self::Scale(op) => op,
            Self::SquareSum(op) => op,
            Self::RowExponent(op) => op,
            Self::Exp2(op) => op,
            Self::Spline(op) => op,
        }
    }

    /// The gate that it is, if it is one.
    #[must_use]
    pub fn as_gate(&self) -> Option<&GateOp> {
        match self {
            Self::Gate(gate) => Some(gate),
            _ => None,
        }
    }
}

/// The only wire among `inputs`, which holds a value.
fn only(inputs: &[Wire]) -> Result<Wire, String> {
    match inputs {
        [wire] if wire.form == Form::Pad => Err("it takes no shares of masks".into()),
        [wire] => Ok(*wire),
        _ => Err(format!("it takes one wire, not {}", inputs.len())),
    }
}
