//! Whether a run of a program was right, node by node and exactly. Only who knows the dealer's masks can say so: tests and
//! benchmarks, which made them.
//!
//! Each wire is decoded, X = x_hat - r. Each node's integer function is applied to the decoded inputs and to the
//! rounding coins. The coins follow from x_hat and X (`docs/protocols.md#rounding`). The protocol's formulas are not
//! used. The result must be equal.

mod exponential;
mod integer;
mod private;
mod products;

use std::convert::Infallible;

use crate::{
    Form, Node, NodeId, Part, Party, Program, Ring, Side, Taken, Wire,
    layout::FieldId,
    ops::{Entry, GateOp, Linear, Op, Spline, spline::cut_of},
};

/// What was found of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCheck {
    /// The node.
    pub node: NodeId,
    /// Elements that differ from the reference.
    pub wrong: u64,
    /// Elements for which the node promises nothing, because an input is outside its domain.
    pub out_of_range: u64,
}

/// A run as the checker sees it.
pub trait Observed {
    /// What a part made at each party: both know a masked wire, and each has its shares of a shared wire or of an output.
    fn made(&self, part: Part) -> [&[u64]; 2];

    /// The mask of a masked wire's tile.
    fn mask(&self, part: Part) -> Vec<u64>;

    /// The matrix that the owner of the loaded model gave as this input of the load program, row after row. Empty if there is none.
    fn loaded(&self, input: NodeId) -> &[i64];

    /// The first bytes of each party's stream of a field of a part: rounding coins of exponentials follow from them.
    fn streams(&self, part: Part, field: FieldId, bytes: usize) -> [Vec<u8>; 2];
}

/// Checks all nodes of `program`.
#[must_use]
pub fn check(program: &Program, run: &dyn Observed) -> Vec<NodeCheck> {
    program.nodes().map(|(id, _)| check_node(program, id, run)).collect()
}

/// Checks one node.
#[must_use]
pub fn check_node(program: &Program, id: NodeId, run: &dyn Observed) -> NodeCheck {
    let node = program.node(id);
    let mut found = NodeCheck { node: id, wrong: 0, out_of_range: 0 };
    for tile in 0..node.tiles() {
        check_part(program, node, Part::new(id, tile), run, &mut found);
    }
    found
}

/// The values of the wire that a node makes, as integers; nothing of a node without a wire.
#[must_use]
pub fn in_the_clear(program: &Program, id: NodeId, run: &dyn Observed) -> Vec<i64> {
    let tiles = (0..program.node(id).tiles()).map(|tile| program.made(Part::new(id, tile)));
    tiles.filter_map(|made| decode(program, &made, run)).flat_map(|clear| clear.x).collect()
}

/// Rows of a wire in the clear.
struct Clear {
    wire: Wire,
    /// What both parties see; nothing of a shared wire.
    x_hat: Vec<u64>,
    x: Vec<i64>,
}

fn decode(program: &Program, taken: &Taken, run: &dyn Observed) -> Option<Clear> {
    let wire = *program.node(taken.wire).wire()?;
    let gather = |tile: &dyn Fn(Part) -> Vec<u64>| {
        let Ok(rows) = program.gather(taken, |part| Ok::<_, Infallible>(tile(part)));
        rows
    };
    let [mine, theirs] = [0, 1].map(|party| gather(&|part| run.made(part)[party].to_vec()));
    let ring = wire.ring;
    let (x_hat, x) = match wire.form {
        Form::Shared | Form::Pad => (Vec::new(), sums(ring, &mine, &theirs)),
        Form::Masked => {
            let mask = gather(&|part| run.mask(part));
            let x = mine.iter().zip(&mask).map(|(x_hat, r)| ring.decode(ring.sub(*x_hat, *r))).collect();
            (mine, x)
        }
    };
    Some(Clear { wire, x_hat, x })
}

fn sums(ring: Ring, mine: &[u64], theirs: &[u64]) -> Vec<i64> {
    mine.iter().zip(theirs).map(|(mine, theirs)| ring.decode(ring.add(*mine, *theirs))).collect()
}

fn check_part(program: &Program, node: &Node, part: Part, run: &dyn Observed, found: &mut NodeCheck) {
    let taken: Vec<Clear> = program.taken(part).filter_map(|taken| decode(program, &taken, run)).collect();
    let [mine, theirs] = run.made(part);
    let made = match node.wire() {
        Some(wire) => {
            if wire.form == Form::Masked && mine != theirs {
                found.wrong += mine.iter().zip(theirs).filter(|(mine, theirs)| mine != theirs).count() as u64;
                return;
            }
            decode(program, &program.made(part), run).map(|clear| clear.x).unwrap_or_default()
        }
        None => taken.first().map(|taken| sums(taken.wire.ring, mine, theirs)).unwrap_or_default(),
    };
    let mut expect = |expected: &mut dyn Iterator<Item = Option<i64>>| {
        for (made, expected) in made.iter().zip(expected) {
            match expected {
                Some(expected) => found.wrong += u64::from(*made != expected),
                None => found.out_of_range += 1,
            }
        }
    };
    let ring = node.ring();
    let rows = node.cut().rows(part.tile);
    let reduced = move |x: i64| ring.map(|ring| ring.decode(ring.encode(x)));
    match (node.op(), &taken[..]) {
        // What the client gave is compared by whoever gave it.
        (Op::Input(_), _) => {}
        (Op::Output(_), [x]) => expect(&mut x.x.iter().copied().map(Some)),
        // What is kept is what both parties see.
        (Op::Keep(_), [x]) => found.wrong += u64::from([mine, theirs] != [&x.x_hat[..]; 2]),
        (Op::Gate(op), [x]) => expect(&mut x.elements().map(|(x_hat, x)| gate(op, x_hat, x))),
        (Op::Open(op), [x]) => {
            let ring = x.wire.ring;
            expect(&mut x.elements().map(|(x_hat, x)| {
                if x.unsigned_abs() >= 1 << (ring.bits() - 2) && op.form() == Form::Masked {
                    return None;
                }
                reduced(rounded(x_hat, x, op.dropped()))
            }));
        }
        (Op::Linear(op), [x]) => expect(&mut product(op, &x.x).into_iter().map(reduced)),
        (Op::Add(_), [a, b]) => {
            expect(&mut a.x.iter().zip(&b.x).map(|(a, b)| reduced(a.wrapping_add(*b))));
        }
        (Op::Shift(op), [x]) => expect(&mut x.x.iter().map(|x| reduced(x << op.0))),
        (Op::Drop(op), [x]) => {
            expect(&mut x.elements().map(|(x_hat, x)| reduced(rounded(x_hat, x, op.0))));
        }
        (Op::RowExponent(op), [x]) => {
            expect(&mut exponential::of_rows(op, x, part, run).map(|y| y.and_then(reduced)))
        }
        (Op::Exp2(op), [x, k]) => {
            let seeded = program.side(Party::P0, part) == Side::Seeded;
            expect(&mut exponential::of_elements(op, (x, k), part, seeded, run).map(|y| y.and_then(reduced)));
        }
        (Op::Spline(op), [x]) => {
            expect(&mut x.elements().map(|(x_hat, x)| spline(op, x_hat, x)).map(|y| y.and_then(reduced)));
        }
        (Op::Slice(op), [x]) => {
            let columns = op.first as usize..(op.first + op.count) as usize;
            let rows = x.x.chunks_exact(x.wire.shape.cols() as usize);
            expect(&mut rows.flat_map(|row| row[columns.clone()].iter().copied().map(Some)));
        }
        (Op::Gain(op), [x]) => {
            let factors = op.weights().values().iter().enumerate().cycle();
            let bias = |column: usize| op.weights().bias().get(column).copied().unwrap_or(0);
            expect(&mut x.x.iter().zip(factors).map(|(x, (column, factor))| {
                reduced(x.wrapping_mul((*factor).into()).wrapping_add(bias(column)))
            }));
        }
        (Op::SubtractRow(_), [x, values]) => {
            let rows = x.x.chunks_exact(x.wire.shape.cols() as usize).zip(&values.x);
            expect(&mut rows.flat_map(|(row, value)| row.iter().map(|x| reduced(x.wrapping_sub(*value)))));
        }
        (Op::Pads(op), [x]) => {
            let mask = |(x_hat, value)| x.wire.ring.sub(x_hat, x.wire.ring.encode(value));
            expect(&mut x.elements().map(|element| reduced(op.pad().value(mask(element)).cast_signed())));
        }
        (Op::Product(op), _) => expect(&mut products::product(op, rows, &taken).into_iter().map(reduced)),
        (Op::Private(op), _) => match private::sums(op, &taken, run) {
            Some(sums) => expect(&mut sums.into_iter().map(reduced)),
            None => found.wrong += made.len() as u64,
        },
        (Op::Scale(op), _) => {
            let scaled = products::scale(op, rows, &taken).into_iter();
            expect(&mut scaled.map(|x| reduced(x?)));
        }
        (Op::SquareSum(op), [x, ..]) => {
            expect(&mut products::square_sums(op, x).into_iter().map(|x| reduced(x?)));
        }
        _ => found.wrong += made.len() as u64,
    }
}

impl Clear {
    /// Each element as both see it, and in the clear.
    fn elements(&self) -> impl Iterator<Item = (u64, i64)> {
        let x_hat = self.x_hat.iter().copied().chain(std::iter::repeat(0));
        x_hat.zip(self.x.iter().copied())
    }
}

/// x / 2^d, rounded up where the masked low bits are less than those of x.
fn rounded(x_hat: u64, x: i64, d: u8) -> i64 {
    let low = (1u64 << d) - 1;
    (x >> d) + i64::from(x_hat & low < x.cast_unsigned() & low)
}

/// The gate's output; none if the input is outside its domain, or too large for an extended wire.
fn gate(op: &GateOp, x_hat: u64, x: i64) -> Option<i64> {
    let (gate, entry) = (op.gate(), op.entry());
    let Entry { ring, drop } = entry;
    if entry.is_extended() && x.unsigned_abs() >= 1 << (ring.bits() - 2) {
        return None;
    }
    let x = rounded(x_hat, x, drop);
    let (low, high) = gate.domain();
    if !(low..=high).contains(&x) {
        return None;
    }
    let [down, up] = gate.wire_reference(x);
    if down == up {
        return Some(down);
    }
    let grid = gate.grid()?;
    let (entered, _) = entry.enter(x_hat);
    Some(if rounded(entered, x, grid) > x >> grid { up } else { down })
}

/// The line of the piece of x, which each of its ends sees rounded to the bits that are compared; none outside the bounds.
fn spline(op: &Spline, x_hat: u64, x: i64) -> Option<i64> {
    let pieces = op.pieces();
    u64::try_from(x).ok().filter(|x| (pieces.low()..pieces.high()).contains(x))?;
    let is_reached = |end: &u64| {
        let cut = cut_of(*end);
        rounded(x_hat, x, cut as u8) >= (end >> cut).cast_signed()
    };
    let piece = pieces.pieces()[pieces.ends().filter(is_reached).count()];
    Some(piece.slope.wrapping_mul(x).wrapping_add(piece.offset))
}

/// X W + b over the integers modulo 2^64.
fn product(op: &Linear, x: &[i64]) -> Vec<i64> {
    let weights = op.weights();
    let (rows, cols) = (weights.rows() as usize, weights.cols() as usize);
    let of_row = |row: &[i64]| {
        let mut sums: Vec<i64> = (0..cols).map(|col| weights.bias().get(col).copied().unwrap_or(0)).collect();
        for (x, weights) in row.iter().zip(weights.values().chunks_exact(cols)) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = sum.wrapping_add(x.wrapping_mul((*weight).into()));
            }
        }
        sums
    };
    x.chunks_exact(rows).flat_map(of_row).collect()
}
