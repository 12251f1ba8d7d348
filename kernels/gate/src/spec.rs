//! Operator specifications of FuseFSS (`docs/protocols/suf.md`). A specification is data: helper bits over comparisons,
//! a piecewise polynomial, a table over a window, and a fixed post-processing. [`compile`] turns it into two FSS
//! evaluations on the public masked input and one-time tables. Their shapes do not depend on any mask.
//!
//! Everything piecewise sees the input rounded to a grid of 2^grid units: `t`. It is floor(x / 2^grid), or one more
//! with a probability equal to the fraction. This is unbiased, and exact for grid = 0. Polynomials and lines see x
//! itself. All values are integers mod 2^48. The packed comparison is Grotto's (Storrier et al., CCS 2023): any number
//! of thresholds from one DPF key by prefix parity.

pub mod compile;
pub mod dpf;
mod encoding;
mod file;
pub mod formula;
pub mod scalar;
mod sums;

use crate::curve::Curve;
use crate::ring::WIRE;
pub use compile::CompiledSpec;
pub use file::{SpecFile, is_spec_file};
pub use formula::Formula;

/// Highest degree of a piece.
pub const MAX_DEGREE: usize = 3;
/// Most pieces of a partition: each costs every party one walk down the tree.
pub const MAX_PIECES: usize = 256;
/// Most helpers of one specification.
pub const MAX_HELPERS: usize = 64;
/// Most terms of the post-processing.
pub const MAX_TERMS: usize = 64;
/// Most entries of the window's table, as in a curve.
pub const MAX_TABLE: usize = 1 << crate::curve::MAX_WINDOW_BITS;
/// Every table entry is smaller than this, so that its mask has at most 24 bits.
pub const MAX_ENTRY: i32 = 1 << 22;
/// Most words of 64 rectangles that the evaluation of all helpers may compute. [`MAX_HELPERS`] formulas of
/// [`formula::MAX_NODES`] nodes take 9 words for each node, if each has the [`compile::MAX_HELPER_INPUTS`] comparisons that a
/// helper may depend on. So only formulas with many comparisons that change nothing are refused, and a description is decoded
/// within a few milliseconds.
pub const MAX_WORK: u64 = 16 * (MAX_HELPERS * formula::MAX_NODES) as u64;
/// Bounds of N, the bits of the rounded input: one block of 128 leaves at least, the wire's 48 bits at most.
pub const DOMAIN_BITS: std::ops::RangeInclusive<u8> = 8..=48;
/// Largest number of low bits that a comparison of `x mod 2^f` may look at.
pub const MAX_LOW_BITS: u8 = 24;

/// Why a specification is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A number is out of its range.
    #[error("{what} = {value} is outside {min}..={max}")]
    Range {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: i64,
        /// Least value allowed.
        min: i64,
        /// Greatest value allowed.
        max: i64,
    },
    /// A threshold, cut or window edge does not lie on the grid.
    #[error("{what} {value} is not a multiple of the grid's 2^{grid}")]
    OffGrid {
        /// Which number.
        what: &'static str,
        /// Its value in units of 2^-frac.
        value: i64,
        /// Bits of the grid.
        grid: u8,
    },
    /// Cuts are not increasing, or their number does not fit the pieces.
    #[error("a partition of {pieces} pieces needs {} increasing cuts", pieces - 1)]
    Cuts {
        /// Number of pieces given.
        pieces: usize,
    },
    /// A term or formula names a helper that is not there, or one name is given twice.
    #[error("helper `{name}` {problem}")]
    Helper {
        /// The helper's name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A term uses a table or pieces that are not there.
    #[error("a term uses {what}, and the specification has none")]
    Missing {
        /// `a table` or `pieces`.
        what: &'static str,
    },
    /// A helper needs too large a truth table.
    #[error(
        "helper `{name}` depends on {inputs} comparisons, at most {} are possible",
        compile::MAX_HELPER_INPUTS
    )]
    TooManyInputs {
        /// The helper's name.
        name: String,
        /// The comparisons that its value depends on.
        inputs: usize,
    },
    /// The formulas take too long to evaluate.
    #[error(
        "up to helper `{name}` the formulas take more than {MAX_WORK} steps: leave out comparisons that change nothing"
    )]
    TooMuchWork {
        /// The helper at which the limit was passed.
        name: String,
    },
    /// Bytes that are not the canonical encoding of a specification.
    #[error("not an encoded specification: {reason}")]
    Encoding {
        /// What is wrong.
        reason: &'static str,
    },
}

/// A named Boolean formula.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    /// Name used by terms: as a curve's.
    pub name: String,
    /// Its value.
    pub formula: Formula,
}

/// A partition of the domain with an integer polynomial on each interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    /// Where the next piece begins, in units of 2^-frac, increasing, multiples of 2^grid: one fewer than the pieces.
    pub cuts: Vec<i64>,
    /// Coefficients of each piece, constant first, in the ring: at most [`MAX_DEGREE`] + 1, at least one.
    pub polynomials: Vec<Vec<i64>>,
}

/// A table over grid points `start / 2^grid`, one more, ...; 0 elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// First input of the window, in units of 2^-frac, a multiple of 2^grid.
    pub start: i64,
    /// One entry per grid point, each smaller than [`MAX_ENTRY`].
    pub values: Vec<i32>,
}

/// What a term adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A fixed polynomial in x, constant first: at most [`MAX_DEGREE`] + 1 coefficients.
    Fixed(Vec<i64>),
    /// The active piece's value, times a constant.
    Pieces(i64),
    /// The table's entry, times a constant.
    Table(i64),
}

/// One summand of the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Index of the helper that switches it on; none: always on.
    pub when: Option<usize>,
    /// What it adds.
    pub value: Value,
}

/// A validated specification; made by [`Spec::new`], [`SpecFile::parse`], [`Spec::from_curve`] or [`Spec::decode`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    parts: SpecParts,
}

/// The parts of a specification, before validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecParts {
    /// N: the domain is |x| < 2^(N - 2 + grid).
    pub domain_bits: u8,
    /// Bits that rounding drops before anything piecewise.
    pub grid: u8,
    /// f of the comparisons `x mod 2^f < bound`.
    pub low_bits: u8,
    /// Low bits to drop from the output once its mask is off: a polynomial's scale is that of a product.
    pub output_shift: u8,
    /// Named bits.
    pub helpers: Vec<Helper>,
    /// The piecewise polynomial.
    pub pieces: Option<Pieces>,
    /// The table.
    pub table: Option<Table>,
    /// The post-processing: their sum is the output.
    pub terms: Vec<Term>,
}

impl Spec {
    /// Validates.
    ///
    /// # Errors
    /// [`SpecError`]: the first thing that is wrong.
    pub fn new(parts: SpecParts) -> Result<Self, SpecError> {
        validate(&parts)?;
        Ok(Self { parts })
    }

    /// A curve as a specification: sign and window as helpers, `y = line + window * residual[t]`, N = `domain_bits`.
    ///
    /// # Errors
    /// [`SpecError::Range`] when the domain does not hold the window, or the ring not the domain.
    pub fn from_curve(curve: &Curve, domain_bits: u8) -> Result<Self, SpecError> {
        let half = 1_i64 << (curve.window_bits - 1 + curve.shift);
        let below = |bound| Formula::Below(bound);
        let helpers = vec![
            Helper { name: "negative".to_owned(), formula: below(0) },
            Helper { name: "window".to_owned(), formula: below(half).and(below(-half).not()) },
        ];
        let fixed = |line: crate::curve::Line| vec![line.intercept, line.slope];
        let step: Vec<i64> = fixed(curve.left).iter().zip(fixed(curve.right)).map(|(l, r)| l - r).collect();
        Self::new(SpecParts {
            domain_bits,
            grid: curve.shift,
            low_bits: 0,
            output_shift: 0,
            helpers,
            pieces: None,
            table: Some(Table { start: -half, values: curve.residual.clone() }),
            terms: vec![
                Term { when: None, value: Value::Fixed(fixed(curve.right)) },
                Term { when: Some(0), value: Value::Fixed(step) },
                Term { when: Some(1), value: Value::Table(1) },
            ],
        })
    }

    /// The parts.
    #[must_use]
    pub fn parts(&self) -> &SpecParts {
        &self.parts
    }

    /// Smallest and largest input, in units of 2^-frac, for which the compiled form is right.
    #[must_use]
    pub fn domain(&self) -> (i64, i64) {
        let bound = 1_i64 << (self.parts.domain_bits - 2 + self.parts.grid);
        (-bound, bound - 1)
    }

    /// The output for input `x` rounded to grid point `t`, as a signed 48-bit number, before the output shift.
    #[must_use]
    pub fn value(&self, x: i64, t: i64) -> i64 {
        let parts = &self.parts;
        let sum = parts.terms.iter().fold(0_i64, |sum, term| {
            let on = term.when.is_none_or(|h| parts.helpers[h].formula.eval(t << parts.grid, parts.low(x)));
            let value = match &term.value {
                Value::Fixed(polynomial) => horner(polynomial, x),
                Value::Pieces(factor) => factor.wrapping_mul(parts.piece_value(x, t)),
                Value::Table(factor) => factor.wrapping_mul(parts.table_value(t)),
            };
            if on { sum.wrapping_add(value) } else { sum }
        });
        WIRE.decode(WIRE.encode(sum))
    }

    /// The outputs that unbiased rounding allows, before the output shift: at floor(x / 2^grid) and one above; both the same
    /// on the grid.
    #[must_use]
    pub fn reference(&self, x: i64) -> [i64; 2] {
        let grid = self.parts.grid;
        let t = x >> grid;
        let up = if x & ((1 << grid) - 1) == 0 { t } else { t + 1 };
        [self.value(x, t), self.value(x, up)]
    }

    /// Drops the low bits of an unmasked output, rounding down.
    #[must_use]
    pub fn finish(&self, y: i64) -> i64 {
        y >> self.parts.output_shift
    }

    /// Canonical bytes, for a gate's digest and for sending.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encoding::encode(&self.parts)
    }

    /// Reads what [`Self::encode`] wrote and nothing else.
    ///
    /// # Errors
    /// [`SpecError`] with what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, SpecError> {
        encoding::decode(bytes)
    }
}

impl SpecParts {
    /// x mod 2^f.
    fn low(&self, x: i64) -> u64 {
        x.cast_unsigned() & ((1 << self.low_bits) - 1)
    }

    fn piece_value(&self, x: i64, t: i64) -> i64 {
        self.pieces.as_ref().map_or(0, |pieces| {
            let active = pieces.cuts.iter().filter(|&&cut| t >= cut >> self.grid).count();
            horner(&pieces.polynomials[active], x)
        })
    }

    fn table_value(&self, t: i64) -> i64 {
        self.table.as_ref().map_or(0, |table| {
            let i = usize::try_from(t - (table.start >> self.grid)).ok();
            i.and_then(|i| table.values.get(i)).map_or(0, |&v| i64::from(v))
        })
    }
}

/// Value of a polynomial, constant first, mod 2^64.
fn horner(coefficients: &[i64], x: i64) -> i64 {
    coefficients.iter().rev().fold(0, |sum, &c| sum.wrapping_mul(x).wrapping_add(c))
}

fn validate(parts: &SpecParts) -> Result<(), SpecError> {
    let range = |what, value, min, max| {
        if (min..=max).contains(&value) { Ok(()) } else { Err(SpecError::Range { what, value, min, max }) }
    };
    let count = |what, len: usize, max: usize| range(what, len as i64, 0, max as i64);
    let wire = i64::from(WIRE.bits());
    let (min, max) = (i64::from(*DOMAIN_BITS.start()), i64::from(*DOMAIN_BITS.end()));
    range("domain_bits", i64::from(parts.domain_bits), min, max)?;
    range("grid", i64::from(parts.grid), 0, wire - i64::from(parts.domain_bits))?;
    range("low_bits", i64::from(parts.low_bits), 0, i64::from(MAX_LOW_BITS))?;
    range("output_shift", i64::from(parts.output_shift), 0, wire - 1)?;
    count("number of helpers", parts.helpers.len(), MAX_HELPERS)?;
    count("number of terms", parts.terms.len(), MAX_TERMS)?;

    // Strictly inside: t - threshold then fits N bits for every t of the domain and its rounding.
    let bound = (1_i64 << (parts.domain_bits - 2 + parts.grid)) - 1;
    let on_grid = |what, value: i64| {
        range(what, value, -bound, bound)?;
        let off = value & ((1 << parts.grid) - 1) != 0;
        if off { Err(SpecError::OffGrid { what, value, grid: parts.grid }) } else { Ok(()) }
    };
    for (i, helper) in parts.helpers.iter().enumerate() {
        check_helper_name(&helper.name)?;
        if parts.helpers[..i].iter().any(|other| other.name == helper.name) {
            return Err(SpecError::Helper { name: helper.name.clone(), problem: "is there twice" });
        }
        count("operators of a formula", helper.formula.nodes(), formula::MAX_NODES)?;
        for threshold in helper.formula.thresholds() {
            on_grid("threshold", threshold)?;
        }
        for low in helper.formula.low_bounds() {
            // A bound of 0 or 2^f would be a constant, which needs no comparison.
            range("bound of a low comparison", low as i64, 1, (1 << parts.low_bits) - 1)?;
        }
    }
    if let Some(pieces) = &parts.pieces {
        let n = pieces.polynomials.len();
        range("number of pieces", n as i64, 1, MAX_PIECES as i64)?;
        if pieces.cuts.len() + 1 != n || pieces.cuts.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(SpecError::Cuts { pieces: n });
        }
        pieces.cuts.iter().try_for_each(|&cut| on_grid("cut", cut))?;
        pieces.polynomials.iter().try_for_each(|polynomial| check_polynomial(polynomial))?;
    }
    if let Some(table) = &parts.table {
        range("number of table entries", table.values.len() as i64, 1, MAX_TABLE as i64)?;
        on_grid("start of the table", table.start)?;
        range("end of the table", table.start + ((table.values.len() as i64) << parts.grid), -bound, bound)?;
        for &entry in &table.values {
            range("table entry", i64::from(entry), i64::from(1 - MAX_ENTRY), i64::from(MAX_ENTRY - 1))?;
        }
    }
    for term in &parts.terms {
        if let Some(h) = term.when {
            range("index of a helper", h as i64, 0, parts.helpers.len() as i64 - 1)?;
        }
        match &term.value {
            Value::Fixed(polynomial) => check_polynomial(polynomial)?,
            Value::Pieces(factor) | Value::Table(factor) => {
                range("factor", *factor, -MAX_COEFFICIENT, MAX_COEFFICIENT)?;
            }
        }
        match &term.value {
            Value::Pieces(_) if parts.pieces.is_none() => return Err(SpecError::Missing { what: "pieces" }),
            Value::Table(_) if parts.table.is_none() => return Err(SpecError::Missing { what: "a table" }),
            _ => {}
        }
    }
    Ok(())
}

/// Largest magnitude of a coefficient or factor: the signed 48-bit numbers.
const MAX_COEFFICIENT: i64 = (1 << 47) - 1;

fn check_polynomial(polynomial: &[i64]) -> Result<(), SpecError> {
    let (value, max) = (polynomial.len() as i64, MAX_DEGREE as i64 + 1);
    if !(1..=max).contains(&value) {
        return Err(SpecError::Range { what: "number of coefficients", value, min: 1, max });
    }
    match polynomial.iter().find(|c| c.unsigned_abs() > MAX_COEFFICIENT.unsigned_abs()) {
        Some(&value) => {
            Err(SpecError::Range { what: "coefficient", value, min: -MAX_COEFFICIENT, max: MAX_COEFFICIENT })
        }
        None => Ok(()),
    }
}

fn check_helper_name(name: &str) -> Result<(), SpecError> {
    let fail = |problem| Err(SpecError::Helper { name: name.to_owned(), problem });
    if !(1..=32).contains(&name.len())
        || !name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
    {
        return fail("must have 1 to 32 characters of a-z, 0-9 and `_`");
    }
    if formula::RESERVED.contains(&name) {
        return fail("has a reserved word for a name");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
