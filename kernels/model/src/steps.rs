//! A program before it is one: operations with their rings, scales and bounds, and what they cost. A step is refused if its ring
//! cannot hold its bound.

use std::{fmt, sync::Arc};

use suf_gate::{Gate, ops::Weights};

use crate::{heads::Group, ranges::Span};

/// Why a plan cannot be evaluated, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// The index of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepId(pub usize);

/// What a step makes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Made {
    /// Rows.
    pub rows: u32,
    /// Elements of a row.
    pub cols: u32,
    /// Bits of the ring.
    pub ring: u8,
    /// Fractional bits.
    pub frac: u8,
    /// Largest absolute value.
    pub bound: f64,
}

/// What a step does. Widths and heads follow from the steps that it takes.
#[derive(Clone, Debug)]
pub enum Kind {
    /// The client's shares of a value, opened.
    Input,
    /// The client's shares of what is added to the scores of padding; they stay shares.
    Mask,
    /// A product with public weights, which have so many fractional bits.
    Linear(Arc<Weights>, u8),
    /// A factor of each column with so many fractional bits.
    Gain(Vec<i32>, u8),
    /// A summand of each column.
    Bias(Vec<i64>),
    /// A column subtracted from each column.
    SubtractColumn,
    /// The sum of two values.
    Add,
    /// Without so many low bits.
    Drop(u8),
    /// Without so many low bits, opened again in a ring of its own.
    Open(u8),
    /// Q K^T of the group's heads, and a mask where a third step is taken.
    Scores(Group),
    /// An exponent near log2 of the sum of each row's exponentials.
    RowExponent(Group),
    /// 2^(score - exponent).
    Exponential(Group),
    /// The exponentials times the heads' values.
    Attend(Group),
    /// One over the sum of each row's exponentials, which lies within the span.
    Reciprocal(Span),
    /// A value without so many low bits, times a column, or each head's column, without so many.
    Scale(u8, u8),
    /// The sum of squares of each row, without so many low bits each.
    SquareSum(u8),
    /// A row's length over the root of its sum of squares, which lies within the span.
    InverseRoot(Span),
    /// A gate on a value without so many low bits.
    Gate(Arc<Gate>, u8),
    /// What the client gets.
    Output,
}

/// One step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which one, for people: `layer 3 scores 256`.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// The steps whose values it takes.
    pub takes: Vec<StepId>,
    /// What it makes.
    pub made: Made,
}

/// Steps, in an order in which each comes after those that it takes.
#[derive(Clone, Debug, Default)]
pub struct Steps(Vec<Step>);

impl Steps {
    /// Adds a step.
    ///
    /// # Errors
    /// When the ring cannot hold the bound.
    pub fn push(
        &mut self,
        name: String,
        kind: Kind,
        takes: impl Into<Vec<StepId>>,
        made: Made,
    ) -> Result<StepId, Refusal> {
        let takes = takes.into();
        for (step, spare, why) in self.rings(&kind, &takes, &made) {
            let (bits, room) = (step.bits(), i32::from(step.ring) - spare);
            if bits > f64::from(room) {
                return Err(Refusal(format!(
                    "{name}: absolute values up to {} with {} fractional bits take {bits:.1} bits, and a ring of {} bits \
                     holds {room} {why}",
                    step.bound, step.frac, step.ring
                )));
            }
        }
        self.0.push(Step { name, kind, takes, made });
        Ok(StepId(self.0.len() - 1))
    }

    /// The step `id`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn get(&self, id: StepId) -> &Step {
        &self.0[id.0]
    }

    /// All steps, in order.
    pub fn iter(&self) -> impl Iterator<Item = (StepId, &Step)> {
        self.0.iter().enumerate().map(|(at, step)| (StepId(at), step))
    }

    /// What has to be within a ring for a step to be right, how many bits are kept free, and for what.
    fn rings(&self, kind: &Kind, takes: &[StepId], made: &Made) -> Vec<(Made, i32, &'static str)> {
        let taken = |at: usize| self.get(takes[at]).made;
        let mut due = match kind {
            // Scores count modulo m, exponents too.
            Kind::Scores(_) | Kind::RowExponent(_) | Kind::Mask | Kind::Output => return Vec::new(),
            _ => vec![(*made, 1, "beside the sign")],
        };
        let extended = "where it is extended";
        match kind {
            Kind::Open(_) | Kind::Gate(..) | Kind::SquareSum(_) => due.push((taken(0), 2, extended)),
            Kind::Scale(..) => due.extend([(taken(0), 2, extended), (taken(1), 2, extended)]),
            _ => {}
        }
        due
    }
}

impl Made {
    /// Elements.
    #[must_use]
    pub fn elems(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.cols)
    }

    /// Bits of the largest absolute value as an integer.
    #[must_use]
    pub fn bits(&self) -> f64 {
        self.bound.max(f64::MIN_POSITIVE).log2() + f64::from(self.frac)
    }
}

impl Kind {
    /// The operation's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Mask => "mask",
            Self::Linear(..) => "linear",
            Self::Gain(..) => "gain",
            Self::Bias(_) => "bias",
            Self::SubtractColumn => "subtract",
            Self::Add => "add",
            Self::Drop(_) => "drop",
            Self::Open(_) => "open",
            Self::Scores(_) | Self::Attend(_) => "matmul",
            Self::RowExponent(_) => "row exponent",
            Self::Exponential(_) => "exp2",
            Self::Reciprocal(_) | Self::InverseRoot(_) => "spline",
            Self::Scale(..) => "scale",
            Self::SquareSum(_) => "square sum",
            Self::Gate(..) => "gate",
            Self::Output => "output",
        }
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
