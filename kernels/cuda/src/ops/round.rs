//! The shares of what a node opens, of values that are on the GPU and of fields of its key.

use suf_gate::{
    BackendError, EvalJob, Party,
    ops::{self, Factors, Op},
};

use super::{
    lane::Lane,
    tasks::{Kind, Opening, Product, Scale, Squares},
};

/// Queues one party's shares of what `job` opens, modulo 2^64, as a word for each element at `out`. `taken` are the addresses of what
/// it takes of each wire, `fields` those of its key.
///
/// # Safety
/// They are those of this part, and there is room for what it makes.
pub(super) unsafe fn share(
    lane: &Lane,
    job: &EvalJob,
    out: u64,
    taken: &[u64],
    fields: &[u64],
) -> Result<(), BackendError> {
    let (elems, is_first) = (job.elems() as u32, u32::from(job.party == Party::P0));
    let (shape, cut) = (job.node().shape(), job.node().cut());
    let first_row = cut.rows(job.part.tile).start;
    let field = |index: usize| fields.get(index).copied().unwrap_or(0);
    match (job.node().op(), taken) {
        (Op::Open(op), [x]) => {
            let from = ops::Extended { ring: op.from(), drop: op.dropped() };
            let task =
                Opening { out, x: *x, masks: field(0), wraps: field(1), elems, is_first, from: from.into() };
            // SAFETY: by the caller's promise.
            unsafe { lane.start(&task) }
        }
        (Op::Product(op), [x, y, r, s, added @ ..]) => {
            let width = job.program.node(job.node().inputs()[1]).shape().cols();
            let task = Product {
                r: *r,
                s: *s,
                products: field(0),
                added: added.first().copied().unwrap_or(0),
                is_first,
                ..product(op, out, [*x, *y], (elems, shape.cols(), width, first_row))
            };
            // SAFETY: by the caller's promise.
            unsafe { lane.start(&task) }
        }
        (Op::Scale(op), [x, y, mu, c, nu, c_row]) => {
            let task = Scale {
                mu: *mu,
                c: *c,
                nu: *nu,
                c_row: *c_row,
                mu_nu: field(0),
                c_nu: field(1),
                c_mu: field(2),
                c_c: field(3),
                is_first,
                ..scale(op, out, [*x, *y], (elems, shape.cols(), first_row))
            };
            // SAFETY: by the caller's promise.
            unsafe { lane.start(&task) }
        }
        (Op::SquareSum(op), [x, mu, c, c_mu]) => {
            let cols = job.program.node(job.node().inputs()[0]).shape().cols();
            let task = Squares {
                mu: *mu,
                c: *c,
                c_mu: *c_mu,
                squares: field(0),
                is_first,
                ..squares(op, out, *x, (elems, cols))
            };
            // SAFETY: by the caller's promise.
            unsafe { lane.start(&task) }
        }
        _ => Err(BackendError::Misuse("an operation whose shares the GPU does not make, or of other wires")),
    }
}

/// The product of x and y as they are.
pub(super) fn product(
    op: &ops::Product,
    out: u64,
    [x, y]: [u64; 2],
    (elems, cols, width, first_row): (u32, u32, u32, u32),
) -> Product {
    let (kind, heads, tokens) = match op.factors() {
        Factors::Elements => (Kind::Elements, 0, 0),
        Factors::Scores(heads) => (Kind::Scores, heads.heads, heads.tokens),
        Factors::Mix(heads) => (Kind::Mix, heads.heads, heads.tokens),
    };
    Product {
        out,
        x,
        y,
        r: 0,
        s: 0,
        products: 0,
        added: 0,
        elems,
        cols,
        kind,
        is_first: 0,
        heads,
        tokens,
        width,
        first_row,
    }
}

/// The scale of x by y, without shares.
pub(super) fn scale(
    op: &ops::Scale,
    out: u64,
    [x, y]: [u64; 2],
    (elems, cols, first_row): (u32, u32, u32),
) -> Scale {
    let [matrix, values] = op.factors().map(Into::into);
    let (heads, tokens) = op.heads().map_or((0, 1), |heads| (heads.heads, heads.tokens));
    Scale {
        out,
        x,
        y,
        mu: 0,
        c: 0,
        nu: 0,
        c_row: 0,
        mu_nu: 0,
        c_nu: 0,
        c_mu: 0,
        c_c: 0,
        elems,
        cols,
        is_first: 0,
        heads,
        tokens,
        first_row,
        what: 0,
        ring: 64,
        matrix,
        values,
    }
}

/// The sums of squares of rows of x, without shares.
pub(super) fn squares(op: &ops::SquareSum, out: u64, x: u64, (rows, cols): (u32, u32)) -> Squares {
    let (ring, from) = (op.to().bits().into(), op.factor().into());
    Squares { out, x, mu: 0, c: 0, c_mu: 0, squares: 0, rows, cols, is_first: 0, ring, from }
}
