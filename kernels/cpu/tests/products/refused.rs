//! Wires that products do not take, and parameters that cannot be.

use suf_gate::{
    Form, NodeId, Program, ProgramError, Ring, TensorShape,
    ops::{
        Add, DropBits, Factors, Gain, Heads, Input, Linear, Op, Open, Output, Pad, PadOf, Pads, Product,
        Scale, Slice, SquareSum, SubtractRow,
    },
};

use super::{
    super::blocks::{FULL, weights},
    Nodes, extended,
};

fn shape(rows: u32, cols: u32) -> TensorShape {
    TensorShape::new(rows, cols).expect("a tensor")
}

#[track_caller]
fn refused(nodes: Vec<(Op, Vec<NodeId>)>, reason: &str) {
    let error = Program::new(nodes).expect_err(reason);
    assert!(matches!(error, ProgramError::Node { .. }) && error.to_string().contains(reason), "{error}");
}

fn node(op: Op, inputs: &[u16]) -> (Op, Vec<NodeId>) {
    (op, inputs.iter().copied().map(NodeId).collect())
}

fn input(shape: TensorShape, bits: u8, frac: u8, form: Form) -> (Op, Vec<NodeId>) {
    node(Op::Input(Input::new(shape, Ring::new(bits), frac, form)), &[])
}

fn own(from: u8, to: u8) -> Op {
    Op::Pads(Pads::own(Ring::new(from), Ring::new(to)).expect("a smaller ring"))
}

fn dealt(of: PadOf, bits: u8, drop: u8, to: u8) -> Op {
    Op::Pads(Pads::dealt(Pad { of, from: extended(bits, drop), to: Ring::new(to) }))
}

/// Two wires and shares of their masks.
fn pair(x: TensorShape, y: TensorShape, bits: u8, frac: u8) -> Vec<(Op, Vec<NodeId>)> {
    vec![
        input(x, bits, frac, Form::Masked),
        input(y, bits, frac, Form::Masked),
        node(own(bits, bits), &[0]),
        node(own(bits, bits), &[1]),
    ]
}

fn product(factors: Factors, bits: u8) -> Op {
    Op::Product(Product::new(factors, [Ring::new(bits); 2], Ring::new(bits)).expect("they fit"))
}

#[test]
fn products_take_wires_that_fit_with_shares_of_their_own_masks() {
    let heads = Heads { heads: 2, tokens: 3 };
    let (tokens, scores) = (shape(6, 4), shape(12, 3));
    let with = |mut nodes: Vec<_>, op, inputs: &[u16]| {
        nodes.push(node(op, inputs));
        nodes
    };
    let elements = || product(Factors::Elements, 48);
    let all = [0, 1, 2, 3];
    let same = || pair(tokens, tokens, 48, 12);
    refused(with(same(), elements(), &[0, 1, 3, 2]), "node 3 is not 48 bits of the mask");
    refused(with(same(), elements(), &[0, 1, 2, 2]), "node 2 is not 48 bits of the mask");
    refused(with(same(), elements(), &[0, 1, 0, 1]), "node 0 is not 48 bits of the mask");
    refused(with(same(), elements(), &[0, 1]), "it takes 4 wires, not 2");
    refused(with(same(), elements(), &[2, 1, 2, 3]), "it takes a masked wire of 48 bits");
    refused(with(same(), product(Factors::Elements, 40), &all), "it takes a masked wire of 40 bits");
    refused(with(pair(tokens, scores, 48, 12), elements(), &all), "do not fit together");
    refused(with(pair(tokens, tokens, 48, 24), elements(), &all), "exceeds 48 bits");
    refused(with(same(), product(Factors::Mix(heads), 48), &all), "do not fit together");
    let five = Heads { tokens: 5, ..heads };
    refused(with(same(), product(Factors::Scores(five), 48), &all), "has no 2 heads of 5 tokens");
    let three = Heads { heads: 3, ..heads };
    refused(with(same(), product(Factors::Scores(three), 48), &all), "has no 3 heads of 3 tokens");
    let masked = Product::masked_scores(heads, [Ring::new(48); 2], Ring::new(48)).expect("they fit");
    refused(with(same(), Op::Product(masked.clone()), &all), "it takes 5 wires, not 4");
    for (added, frac, form) in
        [(shape(6, 1), 23, Form::Shared), (shape(12, 1), 24, Form::Shared), (shape(6, 1), 24, Form::Masked)]
    {
        let nodes = with(same(), input(added, 48, frac, form).0, &[]);
        refused(with(nodes, Op::Product(masked.clone()), &[0, 1, 2, 3, 4]), "a shared wire of one column");
    }
    for heads in [
        Heads { heads: 0, tokens: 3 },
        Heads { heads: 3, tokens: 0 },
        Heads { heads: 1 << 16, tokens: 1 << 16 },
    ] {
        assert!(Product::new(Factors::Mix(heads), [FULL; 2], FULL).is_err());
    }
    assert!(Product::new(Factors::Elements, [FULL, Ring::new(40)], Ring::new(41)).is_err());
}

#[test]
fn shares_of_masks_go_nowhere_but_into_products() {
    let x = || input(shape(4, 8), 52, 12, Form::Masked);
    let column = || input(shape(4, 1), 52, 12, Form::Masked);
    let takers = [
        (node(Op::Output(Output), &[1]), "no shares of masks"),
        (node(Op::Add(Add), &[1, 1]), "no shares of masks"),
        (node(Op::Drop(DropBits(1)), &[1]), "no shares of masks"),
        (node(Op::Slice(Slice { first: 0, count: 1 }), &[1]), "no shares of masks"),
        (node(Op::Gain(Gain::new(weights(1, 1, 8, 4), 0)), &[1]), "no shares of masks"),
        (node(Op::Linear(Linear::new(weights(1, 8, 1, 4), 0)), &[1]), "no shares of masks"),
        (node(Op::Open(Open::shared(Ring::new(52))), &[1]), "no shares of masks"),
        (node(own(52, 52), &[1]), "it takes a masked wire"),
    ];
    for (taker, reason) in takers {
        refused(vec![x(), node(own(52, 52), &[0]), taker], reason);
    }
    let subtract = node(Op::SubtractRow(SubtractRow), &[2, 1]);
    refused(vec![column(), node(own(52, 52), &[0]), x(), subtract], "one column of equal scale and form");
    let subtract = node(Op::SubtractRow(SubtractRow), &[1, 0]);
    refused(vec![column(), node(own(52, 52), &[0]), subtract], "no shares of masks");
    let dropped = node(Op::Drop(DropBits(2)), &[0]);
    refused(vec![x(), dropped, node(own(50, 50), &[1])], "the dealer ships them");
    refused(vec![x(), node(dealt(PadOf::Top, 51, 3, 9), &[0])], "it takes a masked wire of 51 bits");
    refused(vec![x(), node(dealt(PadOf::Top, 52, 13, 9), &[0])], "no 13 fractional bits");
    assert!(Pads::own(Ring::new(40), Ring::new(41)).is_err());
}

#[test]
fn scales_take_the_shares_that_they_need() {
    let (matrix, values) = (extended(52, 22), extended(48, 20));
    let mut nodes = Nodes::default();
    let x = nodes.input(shape(4, 8), 52, 34, Form::Masked);
    let y = nodes.input(shape(4, 1), 48, 36, Form::Masked);
    let pads = [
        (PadOf::Quotient, matrix, 64, x),
        (PadOf::Top, matrix, 34, x),
        (PadOf::Quotient, values, 64, y),
        (PadOf::Top, values, 36, y),
        (PadOf::TopQuotient, matrix, 33, x),
    ];
    let [mu, c, nu, c_row, both] = pads.map(|(of, from, to, wire)| nodes.dealt(of, from, to, wire));
    let scale = Op::Scale(Scale::new(matrix, values, None, FULL).expect("bits are left"));
    let squares = Op::SquareSum(SquareSum::new(matrix, FULL).expect("bits are left"));
    let heads = Some(Heads { heads: 2, tokens: 2 });
    let of_heads = Op::Scale(Scale::new(matrix, values, heads, FULL).expect("bits are left"));
    let narrow = Op::Scale(Scale::new(extended(52, 21), values, None, FULL).expect("bits are left"));
    let refusals = [
        (scale.clone(), vec![x, y, c, mu, nu, c_row], "node 3 is not 64 bits of the mask"),
        (scale.clone(), vec![x, y, mu, c, mu, c_row], "node 2 is not 64 bits of the mask"),
        (scale.clone(), vec![x, y, mu, c, nu, c], "node 3 is not 36 bits of the mask's top bit"),
        (scale.clone(), vec![x, y, mu, c, nu], "it takes two wires and four of shares"),
        (scale.clone(), vec![x, x, mu, c, nu, c_row], "it takes a masked wire of 48 bits"),
        (of_heads, vec![x, y, mu, c, nu, c_row], "it takes 8 x 1 values"),
        (narrow, vec![x, y, mu, c, nu, c_row], "node 2 is not 64 bits of the mask, 21 bits dropped"),
        (squares.clone(), vec![x, mu, c, c], "node 3 is not 33 bits of the mask times its top bit"),
        (squares.clone(), vec![x, mu, c], "it takes a wire and three of shares"),
        (squares, vec![y, nu, c_row, both], "it takes a masked wire of 52 bits"),
    ];
    for (op, inputs, reason) in refusals {
        let mut nodes = nodes.0.clone();
        nodes.push((op, inputs));
        refused(nodes, reason);
    }
    assert!(Scale::new(extended(64, 10), values, None, Ring::new(54)).is_err());
    assert!(SquareSum::new(extended(64, 10), Ring::new(55)).is_err());
}

#[test]
fn local_operations_on_rows_take_what_fits() {
    let x = || input(shape(4, 8), 52, 12, Form::Masked);
    for slice in
        [Slice { first: 0, count: 0 }, Slice { first: 1, count: 8 }, Slice { first: u32::MAX, count: 2 }]
    {
        refused(vec![x(), node(Op::Slice(slice), &[0])], "columns from");
    }
    let gain = |rows, cols, frac| Op::Gain(Gain::new(weights(1, rows, cols, 4), frac));
    refused(vec![x(), node(gain(8, 1, 0), &[0])], "are not one for each column");
    refused(vec![x(), node(gain(1, 7, 0), &[0])], "are not one for each column");
    refused(vec![x(), node(gain(1, 8, 40), &[0])], "exceeds the ring");
    for (rows, frac) in [(3, 12), (4, 11)] {
        let values = input(shape(rows, 1), 52, frac, Form::Masked);
        refused(vec![x(), values, node(Op::SubtractRow(SubtractRow), &[0, 1])], "one column of equal scale");
    }
}
