//! `product`: the product of two masked wires, elementwise or as matrices, opened under a fresh mask in a ring of n'
//! bits.
//!
//! Let `x_hat = x + r` and `y_hat = y + s`. Then `x y = x_hat y_hat - x_hat s - r y_hat + r s`. The parties hold shares
//! of r and s ([`super::pads`]); the dealer ships shares of `r s`. One round of n' bits, n' bits of key for each
//! element that is made. Matrices are those of attention: `docs/protocols/products.md#products`.

use std::{ops::Range, sync::Arc};

use zeroize::Zeroizing;

use super::{
    Needed, Op, OpDef, Pad,
    fields::{SharedFields, shares},
    host::{DealHost, EvalHost, Loops},
    round::{self, Share},
};
use crate::{
    BackendError, Counts, DealJob, EvalJob, Field, Form, KeyBytes, KeyShape, NodeCost, Party, Ring,
    SecretBytes, Segment, Source, StagedPart, TensorShape, Width, Wire, layout::FieldId,
};

/// How attention's rows and columns are cut: `heads` heads and `tokens` tokens of a sequence. Tensors of tokens have a row for
/// each token of each sequence, and their columns are those of one head after another. Tensors of scores have a row for each
/// token of each head of each sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Heads, 1 or more.
    pub heads: u32,
    /// Tokens of a sequence, 1 or more.
    pub tokens: u32,
}

/// Which product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factors {
    /// Element by element, of two tensors of one shape.
    Elements,
    /// Scores: of each head, the matrix of x times that of y transposed. Both are tensors of tokens.
    Scores(Heads),
    /// Of each head, the matrix of x, a tensor of scores, times that of y, a tensor of tokens.
    Mix(Heads),
}

/// The product of two masked wires. It takes x, y, shares of the mask of x and of that of y, both in the ring that is
/// made. Scores may take a shared wire of the same ring as well, with one number for each token. The number is added to
/// all scores of that token, as a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    factors: Factors,
    /// The rings of x and y.
    from: [Ring; 2],
    to: Ring,
    is_added: bool,
    key_shape: KeyShape,
    exchanges: Vec<Vec<Segment>>,
}

impl Product {
    /// The product of wires of the rings `from`, in the ring `to`.
    ///
    /// # Errors
    /// When `to` is larger than one of `from`, or there are no heads or tokens, in words.
    pub fn new(factors: Factors, from: [Ring; 2], to: Ring) -> Result<Self, String> {
        if from.iter().any(|from| from.bits() < to.bits()) {
            let [x, y] = from.map(Ring::bits);
            return Err(format!(
                "a product of {x} and {y} bits cannot be made in a ring of {} bits",
                to.bits()
            ));
        }
        if let Factors::Scores(heads) | Factors::Mix(heads) = factors {
            heads.check()?;
        }
        let field = Field::new("product", Source::Shared, Width::Packed(to.bits()));
        let key_shape = KeyShape::new(false, [field]);
        Ok(Self { factors, from, to, is_added: false, key_shape, exchanges: round::exchange(to) })
    }

    /// Scores to which a shared wire is added.
    ///
    /// # Errors
    /// As [`Product::new`].
    pub fn masked_scores(heads: Heads, from: [Ring; 2], to: Ring) -> Result<Self, String> {
        Ok(Self { is_added: true, ..Self::new(Factors::Scores(heads), from, to)? })
    }

    /// Which product.
    #[must_use]
    pub fn factors(&self) -> Factors {
        self.factors
    }

    /// The rings of x and y.
    #[must_use]
    pub fn from(&self) -> [Ring; 2] {
        self.from
    }

    /// The ring of what is made.
    #[must_use]
    pub fn to(&self) -> Ring {
        self.to
    }

    /// Whether a shared wire is added.
    #[must_use]
    pub fn is_added(&self) -> bool {
        self.is_added
    }

    /// The product of what `rows` of the node read of x and y, modulo 2^64. This is the definition; a backend compiles it for its instructions.
    #[inline(always)]
    pub fn multiply(&self, rows: Range<u32>, x: &[u64], y: &[u64], out: &mut [u64]) {
        match self.factors {
            Factors::Elements => {
                out.iter_mut().zip(x.iter().zip(y)).for_each(|(out, (x, y))| *out = x.wrapping_mul(*y));
            }
            Factors::Scores(heads) => scores(heads, rows, x, y, out),
            Factors::Mix(heads) => mix(heads, rows, x, y, out),
        }
    }

    /// Both parties' keys of a part.
    pub(crate) fn deal(
        &self,
        job: &DealJob<'_>,
        host: &dyn DealHost,
    ) -> Result<[SecretBytes; 2], BackendError> {
        let masks = job.masks(host, 2)?;
        let rows = job.node().cut().rows(job.part.tile);
        let mut key = SharedFields::new(job, host);
        let products = host.loops().product(self, rows, job.elems(), &masks[0], &masks[1]);
        key.share(Zeroizing::new(products))?;
        Ok(key.finish())
    }
}

/// Rows of scores, of what they read.
#[inline(always)]
fn scores(heads: Heads, rows: Range<u32>, x: &[u64], y: &[u64], out: &mut [u64]) {
    let (count, tokens) = (heads.heads as usize, heads.tokens as usize);
    let first = heads.of_scores(&rows);
    // Of a tensor of tokens.
    let width = x.len() / (first.len() * tokens);
    let dim = width / count;
    // The matrix of y of one head, transposed.
    let mut turned = Zeroizing::new(vec![0; dim * tokens]);
    let mut of_head = None;
    for (row, out) in rows.zip(out.chunks_exact_mut(tokens)) {
        let row = row as usize - first.start as usize * count * tokens;
        let (sequence, head, token) = (row / (count * tokens), row / tokens % count, row % tokens);
        let of_token = |token: usize| (sequence * tokens + token) * width + head * dim;
        if of_head != Some((sequence, head)) {
            of_head = Some((sequence, head));
            for token in 0..tokens {
                for (i, y) in y[of_token(token)..][..dim].iter().enumerate() {
                    turned[i * tokens + token] = *y;
                }
            }
        }
        combine(&x[of_token(token)..][..dim], &turned, tokens, out);
    }
}

/// Rows of tokens, of what they read.
#[inline(always)]
fn mix(heads: Heads, rows: Range<u32>, x: &[u64], y: &[u64], out: &mut [u64]) {
    let (count, tokens) = (heads.heads as usize, heads.tokens as usize);
    let first = heads.of_tokens(&rows);
    let width = y.len() / (first.len() * tokens);
    let dim = width / count;
    for (row, out) in rows.zip(out.chunks_exact_mut(width)) {
        let row = row as usize - first.start as usize * tokens;
        let (sequence, token) = (row / tokens, row % tokens);
        for (head, out) in out.chunks_exact_mut(dim).enumerate() {
            let factors = &x[((sequence * count + head) * tokens + token) * tokens..][..tokens];
            combine(factors, &y[sequence * tokens * width + head * dim..], width, out);
        }
    }
}

/// The sum of rows times their `factors`. A row begins every `stride` numbers.
#[inline(always)]
fn combine(factors: &[u64], rows: &[u64], stride: usize, out: &mut [u64]) {
    let done = combine_blocks::<32>(factors, rows, stride, out);
    let done = done + combine_blocks::<8>(factors, &rows[done..], stride, &mut out[done..]);
    for (column, out) in out.iter_mut().enumerate().skip(done) {
        *out = 0;
        for (i, factor) in factors.iter().enumerate() {
            *out = out.wrapping_add(factor.wrapping_mul(rows[i * stride + column]));
        }
    }
}

/// The same of as many whole blocks of columns as there are, whose sums stay in registers. Gives the number of columns.
#[inline(always)]
fn combine_blocks<const BLOCK: usize>(
    factors: &[u64],
    rows: &[u64],
    stride: usize,
    out: &mut [u64],
) -> usize {
    let (blocks, _) = out.as_chunks_mut::<BLOCK>();
    for (block, out) in blocks.iter_mut().enumerate() {
        let mut sums = [0u64; BLOCK];
        for (i, factor) in factors.iter().enumerate() {
            let row = &rows[i * stride + block * BLOCK..][..BLOCK];
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum = sum.wrapping_add(factor.wrapping_mul(*x));
            }
        }
        *out = sums;
    }
    blocks.len() * BLOCK
}

impl Heads {
    /// Rows of a sequence in a tensor of scores.
    const fn score_rows(self) -> u32 {
        self.heads * self.tokens
    }

    /// The sequences of some rows of a tensor of scores.
    fn of_scores(self, rows: &Range<u32>) -> Range<u32> {
        rows.start / self.score_rows()..rows.end.div_ceil(self.score_rows())
    }

    /// The sequences of some rows of a tensor of tokens.
    fn of_tokens(self, rows: &Range<u32>) -> Range<u32> {
        rows.start / self.tokens..rows.end.div_ceil(self.tokens)
    }

    /// Rows of scores of some sequences.
    pub(crate) fn scores_of(self, sequences: Range<u32>) -> Range<u32> {
        sequences.start * self.score_rows()..sequences.end * self.score_rows()
    }

    /// Rows of tokens of some sequences.
    fn tokens_of(self, sequences: Range<u32>) -> Range<u32> {
        sequences.start * self.tokens..sequences.end * self.tokens
    }

    /// The row of scores of a row of tokens and a head.
    pub(crate) fn score_row(self, row: u32, head: u32) -> u32 {
        (row / self.tokens * self.heads + head) * self.tokens + row % self.tokens
    }

    /// The rows of a tensor of scores that belong to the sequences of some rows of a tensor of tokens.
    pub(crate) fn scores_beside(self, rows: &Range<u32>) -> Range<u32> {
        self.scores_of(self.of_tokens(rows))
    }

    /// The shape of scores of a tensor of tokens.
    ///
    /// # Errors
    /// When the tensor is none of such heads and tokens, in words.
    pub(crate) fn scores_shape(self, shape: TensorShape) -> Result<TensorShape, String> {
        let Self { heads, tokens } = self;
        let scores = shape.rows().checked_mul(heads).filter(|_| self.fits(shape));
        let scores = scores.and_then(|rows| TensorShape::new(rows, tokens));
        scores.ok_or_else(|| format!("{shape} has no {heads} heads of {tokens} tokens"))
    }

    /// Whether `shape` is that of a tensor of tokens.
    pub(crate) fn fits(self, shape: TensorShape) -> bool {
        shape.rows().is_multiple_of(self.tokens) && shape.cols().is_multiple_of(self.heads)
    }

    /// Whether there are heads and tokens.
    pub(crate) fn check(self) -> Result<Self, String> {
        let Self { heads, tokens } = self;
        match heads.checked_mul(tokens) {
            Some(1..) => Ok(self),
            _ => Err(format!("{heads} heads of {tokens} tokens are too many or none")),
        }
    }
}

impl OpDef for Product {
    fn name(&self) -> String {
        match self.factors {
            Factors::Elements => "product".into(),
            Factors::Scores(Heads { heads, .. }) => format!("scores of {heads} heads"),
            Factors::Mix(Heads { heads, .. }) => format!("mix of {heads} heads"),
        }
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let (factors, added) = inputs.split_at_checked(4).unwrap_or((inputs, &[]));
        let [x, y, pads @ ..] = factors else {
            return Err(format!("it takes two wires and shares of their masks, not {}", inputs.len()));
        };
        if pads.len() != 2 || added.len() != usize::from(self.is_added) {
            return Err(format!("it takes {} wires, not {}", 4 + usize::from(self.is_added), inputs.len()));
        }
        for (wire, ring) in [x, y].into_iter().zip(self.from) {
            if (wire.form, wire.ring) != (Form::Masked, ring) {
                return Err(format!("it takes a masked wire of {} bits, not {wire}", ring.bits()));
            }
        }
        let frac = x.frac.saturating_add(y.frac);
        if frac >= self.to.bits() {
            return Err(format!("{x} times {y} exceeds {} bits", self.to.bits()));
        }
        let shape = match self.factors {
            Factors::Elements if x.shape == y.shape => x.shape,
            Factors::Scores(heads) if x.shape == y.shape => heads.scores_shape(x.shape)?,
            Factors::Mix(heads) if heads.scores_shape(y.shape)? == x.shape => y.shape,
            _ => return Err(format!("{x} and {y} do not fit together")),
        };
        if let [added] = added {
            // One number for each token.
            let is_fit = added.shape == x.shape.column() && (added.ring, added.frac) == (self.to, frac);
            if !is_fit || added.form != Form::Shared {
                return Err(format!(
                    "it takes a shared wire of one column to add to the scores, not {added}"
                ));
            }
        }
        Ok(Some(Wire::fresh(shape, self.to, frac)))
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

    fn reads(&self, input: usize, rows: Range<u32>) -> Range<u32> {
        match self.factors {
            Factors::Elements => rows,
            Factors::Scores(heads) => heads.tokens_of(heads.of_scores(&rows)),
            // x and the shares of its mask.
            Factors::Mix(heads) if input.is_multiple_of(2) => heads.scores_beside(&rows),
            Factors::Mix(heads) => heads.tokens_of(heads.of_tokens(&rows)),
        }
    }

    fn pads(&self) -> Vec<Needed> {
        let pad = |of: usize| Needed { pad: Pad::whole(self.from[of], self.to), of, at: 2 + of };
        vec![pad(0), pad(1)]
    }
}

/// A part at one party.
pub(crate) fn stage(
    job: &EvalJob,
    key: &KeyBytes,
    host: &dyn EvalHost,
) -> Result<Box<dyn StagedPart>, BackendError> {
    let Op::Product(op) = job.node().op() else { unreachable!("asked of products alone") };
    let products = shares(job, key, host, FieldId(0))?;
    round::stage(job, host, Shares { op: op.clone(), products, loops: host.loops() })
}

struct Shares {
    op: Product,
    /// Shares of r s.
    products: Zeroizing<Vec<u64>>,
    loops: Arc<dyn Loops>,
}

impl Share for Shares {
    fn share(&self, job: &EvalJob, taken: Vec<Vec<u64>>) -> Vec<u64> {
        let mut taken = taken.into_iter();
        let mut next = || taken.next().expect("as many as the node takes");
        let (x_hat, y_hat, mut r, mut s) = (next(), next(), next(), next());
        // x_hat (1[party 0] y_hat - s) - r y_hat + r s.
        r.iter_mut().for_each(|r| *r = r.wrapping_neg());
        let is_first = u64::from(job.party == Party::P0);
        s.iter_mut().zip(&y_hat).for_each(|(s, y_hat)| *s = is_first.wrapping_mul(*y_hat).wrapping_sub(*s));
        let rows = job.node().cut().rows(job.part.tile);
        let product = |x: &[u64], y: &[u64]| self.loops.product(&self.op, rows.clone(), job.elems(), x, y);
        let (mut sums, others) = (product(&x_hat, &s), product(&r, &y_hat));
        for ((sum, other), product) in sums.iter_mut().zip(others).zip(self.products.iter()) {
            *sum = sum.wrapping_add(other).wrapping_add(*product);
        }
        if let (Factors::Scores(heads), true) = (self.op.factors, self.op.is_added) {
            heads.add_to_columns(rows, &next(), &mut sums);
        }
        sums
    }
}

impl Heads {
    /// Adds to each score, of a tensor's `rows`, the number of the token that is its column. `added` are those of all tokens of the
    /// rows' sequences.
    pub(crate) fn add_to_columns(self, rows: Range<u32>, added: &[u64], scores: &mut [u64]) {
        let first = self.of_scores(&rows).start;
        let tokens = self.tokens as usize;
        for (row, scores) in rows.zip(scores.chunks_exact_mut(tokens)) {
            let sequence = (row / self.score_rows() - first) as usize;
            let added = &added[sequence * tokens..][..tokens];
            scores.iter_mut().zip(added).for_each(|(score, added)| *score = score.wrapping_add(*added));
        }
    }
}
