//! `private linear`: a sum of products with matrices of a [loaded model](crate::load), opened under a fresh mask.
//!
//! Let `x_hat = X + r`, and let `W_hat = W + R` be what the parties opened once and keep. Then `X W = x_hat W_hat - x_hat R
//! - r W_hat + r R`. The parties hold shares of r ([`super::pads`]) and of R, which they expand from their seeds of the
//! load. The dealer ships shares of `r R`, summed over all terms. So a node costs one round and n' bits for each element
//! that is made, and as many of key: `docs/protocols/products.md#private-linear`.

mod evaluation;

use std::{ops::Range, sync::Arc};

pub(crate) use evaluation::stage;

use super::{Needed, OpDef, Pad, round};
use crate::{
    Counts, Field, Form, KeyShape, NodeCost, NodeId, Ring, Segment, Source, TensorShape, Width, Wire,
};

/// The ring of loaded matrices.
pub const LOADED: Ring = Ring::new(64);

/// Most terms of a sum. A transformer needs one for each modulus of its exponentials, and two more.
pub const MAX_TERMS: usize = 16;

/// A matrix of a load: what everybody knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// The input of the load program that took it in.
    pub input: NodeId,
    /// Inputs by outputs.
    pub shape: TensorShape,
    /// Fractional bits.
    pub frac: u8,
}

/// Some rows or columns, in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen(Vec<Range<u32>>);

/// One summand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The matrix.
    pub matrix: Matrix,
    /// The rows of it that count.
    pub rows: Chosen,
    /// The columns of it that count: those that are made.
    pub cols: Chosen,
    /// What it is multiplied by.
    pub factor: Factor,
}

/// What a matrix is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// The rows of a wire: `X W`.
    Rows(Left),
    /// The elements of a wire; the matrix has one row: `x_j g_j`.
    Elements(Left),
    /// One; the matrix has one row, which is added: `b_j`.
    One,
}

/// A wire that is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its ring.
    pub ring: Ring,
    /// Bits by which it is shifted left, so that all terms have one scale.
    pub shift: u8,
}

/// A sum of products with loaded matrices. It takes the wires of its terms, then shares of their masks, in the order of the terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Private {
    load: [u8; 32],
    terms: Arc<[Term]>,
    to: Ring,
    frac: u8,
    key_shape: KeyShape,
    exchanges: Vec<Vec<Segment>>,
}

impl Chosen {
    /// All of `count`.
    #[must_use]
    pub fn all(count: u32) -> Self {
        Self(std::iter::once(0..count).collect())
    }

    /// These ranges.
    ///
    /// # Errors
    /// When there is none, or one is empty or does not lie behind the one before, in words. Neighbouring ranges are one.
    pub fn new(ranges: Vec<Range<u32>>) -> Result<Self, String> {
        let is_apart = ranges.windows(2).all(|pair| pair[0].end < pair[1].start);
        if ranges.is_empty() || !is_apart || ranges.iter().any(Range::is_empty) {
            return Err("ranges are not empty, and each lies behind the one before".into());
        }
        Ok(Self(ranges))
    }

    /// The ranges.
    #[must_use]
    pub fn ranges(&self) -> &[Range<u32>] {
        &self.0
    }

    /// How many are chosen.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Each of them.
    pub fn each(&self) -> impl Iterator<Item = usize> {
        self.0.iter().flat_map(|range| range.start as usize..range.end as usize)
    }

    fn is_within(&self, count: u32) -> bool {
        self.0.last().is_some_and(|range| range.end <= count)
    }
}

impl Term {
    /// The wire that it multiplies; none of a summand alone.
    #[must_use]
    pub fn left(&self) -> Option<Left> {
        match self.factor {
            Factor::Rows(left) | Factor::Elements(left) => Some(left),
            Factor::One => None,
        }
    }

    /// Columns of the wire that it multiplies.
    fn width(&self) -> u32 {
        match self.factor {
            Factor::Rows(_) => self.rows.count(),
            Factor::Elements(_) | Factor::One => self.cols.count(),
        }
    }

    fn check(&self, to: Ring, frac: u8) -> Result<(), String> {
        let Self { matrix, rows, cols, factor } = self;
        let shape = matrix.shape;
        if !rows.is_within(shape.rows()) || !cols.is_within(shape.cols()) {
            return Err(format!("rows or columns that a matrix {shape} does not have"));
        }
        if !matches!(factor, Factor::Rows(_)) && shape.rows() != 1 {
            return Err(format!("a matrix {shape} has more rows than one"));
        }
        let Some(Left { ring, shift }) = self.left() else {
            return if matrix.frac == frac { Ok(()) } else { Err("a summand of another scale".into()) };
        };
        if u32::from(ring.bits()) + u32::from(shift) < u32::from(to.bits()) {
            return Err(format!(
                "a wire of {} bits shifted by {shift} cannot make one of {} bits",
                ring.bits(),
                to.bits()
            ));
        }
        // What has more fractional bits than the sum is refused with the wire.
        if u32::from(shift) + u32::from(matrix.frac) > u32::from(frac) {
            return Err("a product of another scale".into());
        }
        Ok(())
    }
}

impl Private {
    /// The sum of `terms` with matrices that the load program `load` takes in, in the ring `to` with `frac` fractional bits.
    ///
    /// # Errors
    /// When no term has a wire, there are more than [`MAX_TERMS`], or they do not fit together, in words.
    pub fn new(load: [u8; 32], terms: Vec<Term>, to: Ring, frac: u8) -> Result<Self, String> {
        if terms.len() > MAX_TERMS {
            return Err(format!("a sum has at most {MAX_TERMS} terms, not {}", terms.len()));
        }
        if terms.iter().all(|term| term.left().is_none()) {
            return Err("no term has a wire".into());
        }
        if frac >= to.bits() {
            return Err(format!("{frac} fractional bits exceed a ring of {}", to.bits()));
        }
        let made = terms[0].cols.count();
        if terms.iter().any(|term| term.cols.count() != made) {
            return Err("terms with unequal numbers of columns".into());
        }
        terms.iter().try_for_each(|term| term.check(to, frac))?;
        let field = Field::new("product", Source::Shared, Width::Packed(to.bits()));
        let key_shape = KeyShape::new(false, [field]);
        Ok(Self { load, terms: terms.into(), to, frac, key_shape, exchanges: round::exchange(to) })
    }

    /// Digest of the load program.
    #[must_use]
    pub fn load(&self) -> &[u8; 32] {
        &self.load
    }

    /// The terms.
    #[must_use]
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// The ring of what is made.
    #[must_use]
    pub fn to(&self) -> Ring {
        self.to
    }

    /// Fractional bits of what is made.
    #[must_use]
    pub fn frac(&self) -> u8 {
        self.frac
    }

    /// Number of wires, without shares of masks.
    fn wires(&self) -> usize {
        self.lefts().count()
    }

    fn lefts(&self) -> impl Iterator<Item = (&Term, Left)> {
        self.terms.iter().filter_map(|term| Some((term, term.left()?)))
    }

    /// Columns of what is made.
    fn cols(&self) -> u32 {
        self.terms[0].cols.count()
    }
}

impl OpDef for Private {
    fn name(&self) -> String {
        "private linear".into()
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let due = 2 * self.wires();
        if inputs.len() != due {
            return Err(format!("it takes {due} wires, not {}", inputs.len()));
        }
        let rows = inputs[0].shape.rows();
        for (wire, (term, left)) in inputs.iter().zip(self.lefts()) {
            if (wire.form, wire.ring) != (Form::Masked, left.ring) {
                return Err(format!("it takes a masked wire of {} bits, not {wire}", left.ring.bits()));
            }
            if (wire.shape.rows(), wire.shape.cols()) != (rows, term.width()) {
                return Err(format!("it takes a wire of {rows} x {}, not {wire}", term.width()));
            }
            let frac = u32::from(wire.frac) + u32::from(left.shift) + u32::from(term.matrix.frac);
            if frac != u32::from(self.frac) {
                return Err(format!("{wire} times its matrix has {frac} fractional bits, not {}", self.frac));
            }
        }
        let cols = self.cols();
        let shape = TensorShape::new(rows, cols).ok_or_else(|| format!("{rows} x {cols} is no tensor"))?;
        Ok(Some(Wire::fresh(shape, self.to, self.frac)))
    }

    fn key_shape(&self) -> &KeyShape {
        &self.key_shape
    }

    fn exchanges(&self) -> &[Vec<Segment>] {
        &self.exchanges
    }

    fn declared(&self, size: Counts) -> NodeCost {
        let bits = u64::from(self.to.bits()) * size.elems as u64;
        NodeCost { rounds: 1, bits, seeded_key_bits: 0, explicit_key_bits: bits }
    }

    fn pads(&self) -> Vec<Needed> {
        let wires = self.wires();
        let pad = |(of, (_, left)): (usize, (&Term, Left))| {
            let pad = Pad::whole(left.ring, left.ring);
            Needed { pad, of, at: wires + of }
        };
        self.lefts().enumerate().map(pad).collect()
    }
}
