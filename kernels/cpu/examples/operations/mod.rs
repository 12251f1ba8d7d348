//! Programs with every operation but gates: for what steps through the operations, times them and fuzzes them.

use std::sync::Arc;

use suf_gate::{
    Form, NodeId, Program, Ring, TensorShape,
    ops::{
        Add, DropBits, Exp2, Extended, Factors, Function, Gain, Heads, Input, Linear, Op, Open, Output, Pad,
        PadOf, Pads, Product, RowExponent, Scale, Scores, Shift, Slice, Spline, SquareSum, SubtractRow,
        Weights,
    },
    ring::WIRE,
};

/// The ring of the matrices, and their fractional bits.
const MATRIX: (u8, u8) = (52, 12);
/// The same for the values of rows.
const VALUES: (u8, u8) = (48, 20);
const FULL: Ring = Ring::new(64);

/// Nodes in the making.
#[derive(Default)]
struct Nodes(Vec<(Op, Vec<NodeId>)>);

impl Nodes {
    fn add(&mut self, op: Op, inputs: &[NodeId]) -> NodeId {
        self.0.push((op, inputs.to_vec()));
        NodeId(self.0.len() as u16 - 1)
    }

    fn input(&mut self, shape: TensorShape, bits: u8, frac: u8, form: Form) -> NodeId {
        self.add(Op::Input(Input::new(shape, Ring::new(bits), frac, form)), &[])
    }

    fn dealt(&mut self, of: PadOf, from: Extended, to: u8, wire: NodeId) -> NodeId {
        self.add(Op::Pads(Pads::dealt(Pad { of, from, to: Ring::new(to) })), &[wire])
    }

    fn program(mut self, last: NodeId) -> Program {
        self.add(Op::Output(Output), &[last]);
        Program::new(self.0).expect("a program")
    }
}

/// A matrix of weights with a bias.
pub(crate) fn weights(rows: u32, cols: u32) -> Arc<Weights> {
    let values = (0..rows * cols).map(|i| i as i32 - 7).collect();
    Arc::new(Weights::new(rows, cols, values, vec![3; cols as usize]).expect("they fit"))
}

/// Products of masked wires in every form, and the operations that send nothing: on `texts` texts, whose heads have `dim` columns each.
pub(crate) fn products(texts: u32, heads: Heads, dim: u32) -> Program {
    let [x_ring, values_ring] = [MATRIX, VALUES].map(|(bits, _)| Ring::new(bits));
    let shape = TensorShape::new(texts * heads.tokens, heads.heads * dim).expect("few elements");
    let mut nodes = Nodes::default();
    let x = nodes.input(shape, MATRIX.0, MATRIX.1, Form::Masked);
    let values = nodes.input(shape.column(), VALUES.0, VALUES.1, Form::Masked);
    let added = nodes.input(shape.column(), MATRIX.0, 2 * MATRIX.1, Form::Shared);
    let own = |nodes: &mut Nodes, wire| {
        nodes.add(Op::Pads(Pads::own(x_ring, x_ring).expect("the same ring")), &[wire])
    };
    let product =
        |factors| Op::Product(Product::new(factors, [x_ring; 2], x_ring).expect("the rings are equal"));
    let of_x = own(&mut nodes, x);
    nodes.add(product(Factors::Elements), &[x, x, of_x, of_x]);
    let scores = nodes.add(product(Factors::Scores(heads)), &[x, x, of_x, of_x]);
    let masked = Product::masked_scores(heads, [x_ring; 2], x_ring).expect("the rings are equal");
    nodes.add(Op::Product(masked), &[x, x, of_x, of_x, added]);
    let of_scores = own(&mut nodes, scores);
    nodes.add(product(Factors::Mix(heads)), &[scores, x, of_scores, of_x]);

    let [wide, narrow] = [(x_ring, MATRIX.1), (values_ring, VALUES.1)]
        .map(|(ring, drop)| Extended::new(ring, drop).expect("bits are left"));
    let kept = [wide, narrow].map(|from| from.ring.bits() - from.drop);
    let quotient = nodes.dealt(PadOf::Quotient, wide, 64, x);
    let top = nodes.dealt(PadOf::Top, wide, 64 - kept[0], x);
    let both = nodes.dealt(PadOf::TopQuotient, wide, 64 - kept[0] - 1, x);
    let of_values = [
        nodes.dealt(PadOf::Quotient, narrow, 64, values),
        nodes.dealt(PadOf::Top, narrow, 64 - kept[1], values),
    ];
    let scale = Scale::new(wide, narrow, None, FULL).expect("bits are left");
    nodes.add(Op::Scale(scale), &[x, values, quotient, top, of_values[0], of_values[1]]);
    let squares = SquareSum::new(wide, FULL).expect("bits are left");
    nodes.add(Op::SquareSum(squares), &[x, quotient, top, both]);

    let opened = nodes.add(Op::Open(Open::shared(x_ring)), &[added]);
    nodes.add(Op::Shift(Shift(3)), &[opened]);
    let gained = nodes.add(Op::Gain(Gain::new(weights(1, shape.cols()), 2)), &[x]);
    let mean = nodes.add(Op::Linear(Linear::new(weights(shape.cols(), 1), 2)), &[x]);
    let centred = nodes.add(Op::SubtractRow(SubtractRow), &[gained, mean]);
    let sum = nodes.add(Op::Add(Add), &[centred, centred]);
    let part = nodes.add(Op::Slice(Slice { first: 1, count: shape.cols() - 1 }), &[sum]);
    let part = nodes.add(Op::Drop(DropBits(2)), &[part]);
    let whole = Open::masked(Ring::new(MATRIX.0 - 2), 10, FULL).expect("bits are left");
    let last = nodes.add(Op::Open(whole), &[part]);
    nodes.program(last)
}

/// A row exponent and exponentials of `rows` rows of `cols` scores, and a spline of as many elements.
pub(crate) fn softmax(rows: u32, cols: u32) -> Program {
    let scores = Scores { bits: 256, cols, low: -32, high: 32, row_low: -32 };
    let shape = TensorShape::new(rows, cols).expect("few elements");
    let spline = Spline::new(Function::Reciprocal, WIRE, 24, 36, 1 << 17, 1 << 26).expect("pieces");
    let mut nodes = Nodes::default();
    let x = nodes.input(shape, 32, 24, Form::Masked);
    let sums = nodes.input(shape, WIRE.bits(), 24, Form::Masked);
    let exponents = nodes.add(Op::RowExponent(RowExponent::new(scores).expect("they fit")), &[x]);
    nodes.add(Op::Exp2(Exp2::new(scores.bits, WIRE, 24).expect("a modulus")), &[x, exponents]);
    let last = nodes.add(Op::Spline(spline), &[sums]);
    nodes.program(last)
}
