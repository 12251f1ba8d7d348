//! `scale`: an extended matrix times an extended value of each row, opened under a fresh mask in a ring of n' bits.
//! `square sum`: the sum of the squares of each row of an extended matrix.
//!
//! The matrix is `x = T - mu + 2^a p c` ([`Extended`]). The value of a row is `y = T' - nu + 2^b p' c'`.
//!
//! ```text
//! x y = T T' - T nu - T' mu + mu nu + 2^b p' (T c' - c' mu) + 2^a p (T' c - c nu) + 2^(a+b) p p' c c'
//! x^2 = T^2 - 2 T mu + mu^2 + 2^(a+1) p (T c - c mu) + 2^(2a) p c
//! ```
//!
//! T, T', p and p' are public. Shares of mu, c, nu, c' and c mu are wires ([`super::pads`]), which both operations may take. The
//! others are fields of the key. What is multiplied by 2^k is shared modulo 2^(n'-k).
//! Formulas, cost and security: `docs/protocols/products.md#scale`.

use std::ops::Range;

use zeroize::Zeroizing;

use super::{
    Extended, Heads, Needed, Op, OpDef, Pad, PadOf,
    fields::{SharedFields, shares},
    host::{DealHost, EvalHost},
    round::{self, Share},
};
use crate::{
    BackendError, Counts, DealJob, EvalJob, Field, KeyBytes, KeyShape, NodeCost, Party, Ring, SecretBytes,
    Segment, Source, StagedPart, Width, Wire, layout::FieldId,
};

/// An extended matrix times an extended value of each row, or of each row of scores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The matrix, and the values.
    factors: [Extended; 2],
    /// If the values belong to scores: then each stands for the columns of its head.
    heads: Option<Heads>,
    to: Ring,
    key_shape: KeyShape,
    exchanges: Vec<Vec<Segment>>,
}

/// The sum of the squares of each row of an extended matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SquareSum {
    factor: Extended,
    to: Ring,
    key_shape: KeyShape,
    exchanges: Vec<Vec<Segment>>,
}

/// The ring of what is multiplied by 2^`bits` in the ring `to`; none where that is 0.
fn beside(to: Ring, bits: u8) -> Option<Ring> {
    to.bits().checked_sub(bits).filter(|bits| *bits > 0).map(Ring::new)
}

/// The same, where the wire would need no extension without it.
fn extended(to: Ring, factor: Extended, bits: u8) -> Result<Ring, String> {
    let refused = || format!("{} bits are kept, which is no less than the {} made", factor.kept(), to.bits());
    beside(to, bits).ok_or_else(refused)
}

fn packed(name: &'static str, ring: Ring) -> Field {
    Field::new(name, Source::Shared, Width::Packed(ring.bits()))
}

impl Scale {
    /// A matrix that is extended as `matrix` says, times values that are as `values` says, in the ring `to`. It takes the matrix, the
    /// values, and shares: mu modulo 2^n', c modulo 2^(n'-a), nu modulo 2^n', c' modulo 2^(n'-b).
    ///
    /// # Errors
    /// When a factor keeps as many bits as are made, or there are no heads or tokens, in words.
    pub fn new(matrix: Extended, values: Extended, heads: Option<Heads>, to: Ring) -> Result<Self, String> {
        heads.map(Heads::check).transpose()?;
        let (a, b) = (matrix.kept(), values.kept());
        let (past_a, past_b) = (extended(to, matrix, a)?, extended(to, values, b)?);
        let mut fields = vec![packed("mu_nu", to), packed("c_nu", past_a), packed("c_mu", past_b)];
        fields.extend(beside(to, a + b).map(|ring| packed("c_c", ring)));
        let key_shape = KeyShape::new(false, fields);
        Ok(Self { factors: [matrix, values], heads, to, key_shape, exchanges: round::exchange(to) })
    }

    /// The matrix, and the values.
    #[must_use]
    pub fn factors(&self) -> [Extended; 2] {
        self.factors
    }

    /// Whose scores the values belong to, if they do.
    #[must_use]
    pub fn heads(&self) -> Option<Heads> {
        self.heads
    }

    /// The ring of what is made.
    #[must_use]
    pub fn to(&self) -> Ring {
        self.to
    }

    /// For each element of a part, in order, the place of its value among those that the part reads. `rows` are the part's.
    pub(crate) fn places(&self, rows: Range<u32>, cols: u32) -> impl Iterator<Item = usize> + use<> {
        let heads = self.heads;
        let first = heads.map_or(rows.start, |heads| heads.scores_beside(&rows).start);
        rows.flat_map(move |row| {
            (0..cols).map(move |col| {
                let place = heads.map_or(row, |heads| heads.score_row(row, col / (cols / heads.heads)));
                (place - first) as usize
            })
        })
    }

    /// Both parties' keys of a part.
    pub(crate) fn deal(
        &self,
        job: &DealJob<'_>,
        host: &dyn DealHost,
    ) -> Result<[SecretBytes; 2], BackendError> {
        let [matrix, values] = self.factors;
        let masks = job.masks(host, 2)?;
        let rows = job.node().cut().rows(job.part.tile);
        let places: Vec<_> = self.places(rows, job.node().shape().cols()).collect();
        let pairs = || masks[0].iter().zip(&places).map(|(r, place)| (*r, masks[1][*place]));
        let mut key = SharedFields::new(job, host);
        let mut share = |value: &dyn Fn(u64, u64) -> u64| {
            key.share(Zeroizing::new(pairs().map(|(r, s)| value(r, s)).collect()))
        };
        share(&|r, s| matrix.quotient(r).wrapping_mul(values.quotient(s)))?;
        share(&|r, s| matrix.top(r).wrapping_mul(values.quotient(s)))?;
        share(&|r, s| values.top(s).wrapping_mul(matrix.quotient(r)))?;
        if self.key_shape.fields().len() > 3 {
            share(&|r, s| matrix.top(r) & values.top(s))?;
        }
        Ok(key.finish())
    }
}

impl SquareSum {
    /// Of a matrix that is extended as `matrix` says, in the ring `to`. It takes the matrix and shares: mu modulo 2^n', c modulo
    /// 2^(n'-a), c mu modulo 2^(n'-a-1).
    ///
    /// # Errors
    /// When the matrix keeps as many bits as are made, or all but one, in words.
    pub fn new(matrix: Extended, to: Ring) -> Result<Self, String> {
        extended(to, matrix, matrix.kept() + 1)?;
        let key_shape = KeyShape::new(false, [packed("squares", to)]);
        Ok(Self { factor: matrix, to, key_shape, exchanges: round::exchange(to) })
    }

    /// The matrix.
    #[must_use]
    pub fn factor(&self) -> Extended {
        self.factor
    }

    /// The ring of what is made.
    #[must_use]
    pub fn to(&self) -> Ring {
        self.to
    }

    /// Both parties' keys of a part.
    pub(crate) fn deal(
        &self,
        job: &DealJob<'_>,
        host: &dyn DealHost,
    ) -> Result<[SecretBytes; 2], BackendError> {
        let masks = job.masks(host, 1)?;
        let square = |r: &u64| self.factor.quotient(*r).wrapping_mul(self.factor.quotient(*r));
        let sum = |row: &[u64]| row.iter().map(square).fold(0, u64::wrapping_add);
        let mut key = SharedFields::new(job, host);
        let cols = masks[0].len() / job.elems();
        key.share(Zeroizing::new(masks[0].chunks_exact(cols).map(sum).collect()))?;
        Ok(key.finish())
    }
}

impl OpDef for Scale {
    fn name(&self) -> String {
        "scale".into()
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let [matrix, values, _, _, _, _] = inputs else {
            return Err(format!(
                "it takes two wires and four of shares of their masks, not {}",
                inputs.len()
            ));
        };
        let [x, y] = self.factors;
        let frac = x.frac_of(matrix)?.saturating_add(y.frac_of(values)?);
        if frac >= self.to.bits() {
            return Err(format!("{matrix} times {values} exceeds {} bits", self.to.bits()));
        }
        let shape = match self.heads {
            None => matrix.shape.column(),
            Some(heads) => heads.scores_shape(matrix.shape)?.column(),
        };
        if values.shape != shape {
            return Err(format!("it takes {shape} values, not {values}"));
        }
        Ok(Some(Wire::fresh(matrix.shape, self.to, frac)))
    }

    fn key_shape(&self) -> &KeyShape {
        &self.key_shape
    }

    fn exchanges(&self) -> &[Vec<Segment>] {
        &self.exchanges
    }

    fn declared(&self, size: Counts) -> NodeCost {
        let [a, b] = self.factors.map(|factor| u64::from(factor.kept()));
        let (to, elems) = (u64::from(self.to.bits()), size.elems as u64);
        let key = to + (to - a) + (to - b) + to.saturating_sub(a + b);
        NodeCost { rounds: 1, bits: to * elems, seeded_key_bits: 0, explicit_key_bits: key * elems }
    }

    fn reads(&self, input: usize, rows: Range<u32>) -> Range<u32> {
        match (self.heads, input) {
            // The values and the shares of their masks.
            (Some(heads), 1 | 4 | 5) => heads.scores_beside(&rows),
            _ => rows,
        }
    }

    fn pads(&self) -> Vec<Needed> {
        let of_factor = |of: usize| {
            let from = self.factors[of];
            let at = 2 + 2 * of;
            let top = beside(self.to, from.kept()).map(|to| Pad { of: PadOf::Top, from, to });
            let quotient = Some(Pad { of: PadOf::Quotient, from, to: self.to });
            [quotient, top].into_iter().flatten().zip(at..).map(move |(pad, at)| Needed { pad, of, at })
        };
        (0..2).flat_map(of_factor).collect()
    }
}

impl OpDef for SquareSum {
    fn name(&self) -> String {
        "square sum".into()
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let [matrix, _, _, _] = inputs else {
            return Err(format!("it takes a wire and three of shares of its mask, not {}", inputs.len()));
        };
        let frac = self.factor.frac_of(matrix)?.saturating_mul(2);
        if frac >= self.to.bits() {
            return Err(format!("the square of {matrix} exceeds {} bits", self.to.bits()));
        }
        Ok(Some(Wire::fresh(matrix.shape.column(), self.to, frac)))
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
        let (from, a) = (self.factor, self.factor.kept());
        let pads = [(PadOf::Quotient, 0), (PadOf::Top, a), (PadOf::TopQuotient, a + 1)];
        let pads =
            pads.into_iter().filter_map(|(of, bits)| Some(Pad { of, from, to: beside(self.to, bits)? }));
        pads.zip(1..).map(|(pad, at)| Needed { pad, of: 0, at }).collect()
    }
}

/// A part of `scale` at one party.
pub(crate) fn stage(
    job: &EvalJob,
    key: &KeyBytes,
    host: &dyn EvalHost,
) -> Result<Box<dyn StagedPart>, BackendError> {
    let Op::Scale(op) = job.node().op() else { unreachable!("asked of scales alone") };
    let fields = (0..op.key_shape.fields().len()).map(|id| shares(job, key, host, FieldId(id as u16)));
    round::stage(job, host, ScaleShares { op: op.clone(), fields: fields.collect::<Result<_, _>>()? })
}

/// A part of `square sum` at one party.
pub(crate) fn stage_squares(
    job: &EvalJob,
    key: &KeyBytes,
    host: &dyn EvalHost,
) -> Result<Box<dyn StagedPart>, BackendError> {
    let Op::SquareSum(op) = job.node().op() else { unreachable!("asked of square sums alone") };
    round::stage(job, host, SquareShares { op: op.clone(), squares: shares(job, key, host, FieldId(0))? })
}

struct ScaleShares {
    op: Scale,
    /// Shares of mu nu, c nu, c' mu and c c'.
    fields: Vec<Zeroizing<Vec<u64>>>,
}

impl Share for ScaleShares {
    fn share(&self, job: &EvalJob, taken: Vec<Vec<u64>>) -> Vec<u64> {
        let [x_hat, y_hat, mu, c, nu, c_row] = &taken[..] else { unreachable!("it takes six wires") };
        let [matrix, values] = self.op.factors;
        let (a, b) = (matrix.kept(), values.kept());
        let is_first = u64::from(job.party == Party::P0);
        let [mu_nu, c_nu, c_mu, c_c @ ..] = &self.fields[..] else { unreachable!("it has three fields") };
        // What depends on the row alone.
        let rows: Vec<_> = y_hat
            .iter()
            .zip(nu.iter().zip(c_row))
            .map(|(y_hat, (nu, c_row))| {
                let (t, p) = values.public(*y_hat);
                // This party's share of y, of which c' mu and c c' are not part.
                (t, p, is_first.wrapping_mul(t).wrapping_sub(*nu).wrapping_add(p.wrapping_mul(*c_row) << b))
            })
            .collect();
        let places = self.op.places(job.node().cut().rows(job.part.tile), job.node().shape().cols());
        let share = |(i, place): (usize, usize)| {
            let (t, p) = matrix.public(x_hat[i]);
            let (t_row, p_row, y) = rows[place];
            let quotients = t_row.wrapping_mul(mu[i]).wrapping_sub(mu_nu[i]);
            let top = t_row.wrapping_mul(c[i]).wrapping_sub(c_nu[i]);
            let both = c_c.first().map_or(0, |c_c| p_row.wrapping_mul(c_c[i]) << (a + b));
            t.wrapping_mul(y)
                .wrapping_sub(quotients)
                .wrapping_sub(p_row.wrapping_mul(c_mu[i]) << b)
                .wrapping_add(p.wrapping_mul((top << a).wrapping_add(both)))
        };
        places.enumerate().map(share).collect()
    }
}

struct SquareShares {
    op: SquareSum,
    /// Shares of the sums of mu^2.
    squares: Zeroizing<Vec<u64>>,
}

impl Share for SquareShares {
    fn share(&self, job: &EvalJob, taken: Vec<Vec<u64>>) -> Vec<u64> {
        let [x_hat, mu, c, c_mu] = &taken[..] else { unreachable!("it takes four wires") };
        let a = self.op.factor.kept();
        let is_first = u64::from(job.party == Party::P0);
        let square = |i: usize| {
            let (t, p) = self.op.factor.public(x_hat[i]);
            let whole = t.wrapping_mul(is_first.wrapping_mul(t).wrapping_sub(mu[i] << 1));
            let twice = t.wrapping_mul(c[i]).wrapping_sub(c_mu[i]) << (a + 1);
            // 2^(2a) c, in two steps: 2a may be more than a word has bits.
            whole.wrapping_add(p.wrapping_mul(twice.wrapping_add((c[i] << a) << a)))
        };
        let cols = x_hat.len() / self.squares.len();
        let sum = |row: usize| (row * cols..(row + 1) * cols).map(square).fold(0, u64::wrapping_add);
        self.squares.iter().enumerate().map(|(row, squares)| squares.wrapping_add(sum(row))).collect()
    }
}
