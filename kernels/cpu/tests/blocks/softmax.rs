//! Softmax as a program, and scores for it.

use std::sync::Arc;

use suf_gate::{
    Form, NodeId, Program, Ring, TensorShape,
    ops::{Exp2, Function, Input, Linear, Op, Output, RowExponent, Scores, Spline, Weights},
};

use super::numbers;

/// Fractional bits of scores and of their exponentials.
pub(crate) const FRAC: u8 = 24;

/// The ring of exponentials.
pub(crate) const OUT: Ring = Ring::new(48);

/// Scores that take all of what m holds, as far from the middle as the ring holds them.
pub(crate) fn widest(bits: u16, cols: u32) -> Scores {
    let spread = bits as i16 - 98 - 2 * cols.next_power_of_two().trailing_zeros() as i16;
    let high = (spread / 2) & !1;
    Scores { bits, cols, low: high - spread, high, row_low: high - spread }
}

pub(crate) fn score_ring(bits: u16) -> Ring {
    Ring::new(FRAC + bits.trailing_zeros() as u8)
}

pub(crate) fn ones(cols: u32) -> Arc<Weights> {
    Arc::new(Weights::new(cols, 1, vec![1; cols as usize], vec![]).expect("they fit"))
}

/// Scores, their exponents, the exponentials, their sums, and one over these.
pub(crate) fn softmax(rows: u32, scores: Scores) -> Program {
    let node = |op, inputs: &[u16]| (op, inputs.iter().copied().map(NodeId).collect());
    let shape = TensorShape::new(rows, scores.cols).expect("a tensor");
    let unit = 1u64 << FRAC;
    let (least, most) = (unit / u64::from(scores.cols) * 15 / 16, 4 * unit + unit / 8);
    let reciprocal = Spline::new(Function::Reciprocal, OUT, FRAC, 36, least, most).expect("pieces");
    Program::new([
        node(Op::Input(Input::new(shape, score_ring(scores.bits), FRAC, Form::Masked)), &[]),
        node(Op::RowExponent(RowExponent::new(scores).expect("they fit")), &[0]),
        node(Op::Exp2(Exp2::new(scores.bits, OUT, FRAC).expect("a modulus")), &[0, 1]),
        node(Op::Linear(Linear::new(ones(scores.cols), 0)), &[2]),
        // 4
        node(Op::Spline(reciprocal), &[3]),
        node(Op::Output(Output), &[2]),
        node(Op::Output(Output), &[4]),
    ])
    .expect("a program")
}

/// Rows between the bounds: all at one end, one score at the top, and random ones.
pub(crate) fn rows_of(rows: u32, scores: &Scores) -> Vec<i64> {
    let (low, high) = (i64::from(scores.low) << FRAC, i64::from(scores.high) << FRAC);
    let mut random = numbers(7);
    let mut next = || low + (random.next().expect("without end") % ((high - low) as u64 + 1)) as i64;
    let cols = scores.cols as usize;
    let row = |row: u32| -> Vec<i64> {
        match row % 5 {
            0 => vec![low; cols],
            1 => vec![high; cols],
            2 => (0..cols).map(|col| if col == row as usize % cols { high } else { low }).collect(),
            3 => {
                let middle = next();
                (0..cols).map(|_| (middle + (next() >> 6)).clamp(low, high)).collect()
            }
            _ => (0..cols).map(|_| next()).collect(),
        }
    };
    (0..rows).flat_map(row).collect()
}
