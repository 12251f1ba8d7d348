//! A layer of a transformer without its softmax and its feed-forward block, whose values the client gives: products of masked
//! wires in every form.

use suf_gate::{
    Form, NodeId, Program, Ring, TensorShape,
    ops::{
        Add, DropBits, Extended, Factors, Gain, Heads, Input, Linear, Op, Open, Output, Pad, PadOf, Pads,
        Product, Scale, Shift, Slice, SquareSum, SubtractRow,
    },
};

use super::{FULL, numbers, shares, weights};

/// The size of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) batch: u32,
    pub(crate) heads: u32,
    pub(crate) dim: u32,
    pub(crate) tokens: u32,
    /// Columns of a wire with a row for each token: the more, the smaller the tiles of all such wires.
    pub(crate) wide: u32,
}

impl Size {
    fn heads(self) -> Heads {
        Heads { heads: self.heads, tokens: self.tokens }
    }

    fn hidden(self) -> u32 {
        self.heads * self.dim
    }

    fn shape(rows: u32, cols: u32) -> TensorShape {
        TensorShape::new(rows, cols).expect("a tensor")
    }

    fn tokens_of(self, cols: u32) -> TensorShape {
        Self::shape(self.batch * self.tokens, cols)
    }

    fn scores_of(self, cols: u32) -> TensorShape {
        Self::shape(self.batch * self.heads * self.tokens, cols)
    }
}

/// Nodes in the making.
#[derive(Default)]
pub(crate) struct Nodes(pub(crate) Vec<(Op, Vec<NodeId>)>);

impl Nodes {
    pub(crate) fn add(&mut self, op: Op, inputs: &[NodeId]) -> NodeId {
        self.0.push((op, inputs.to_vec()));
        NodeId(self.0.len() as u16 - 1)
    }

    pub(crate) fn input(&mut self, shape: TensorShape, bits: u8, frac: u8, form: Form) -> NodeId {
        self.add(Op::Input(Input::new(shape, Ring::new(bits), frac, form)), &[])
    }

    pub(crate) fn dealt(&mut self, of: PadOf, from: Extended, to: u8, wire: NodeId) -> NodeId {
        self.add(Op::Pads(Pads::dealt(Pad { of, from, to: Ring::new(to) })), &[wire])
    }

    pub(crate) fn own(&mut self, bits: u8, wire: NodeId) -> NodeId {
        let pads = Pads::own(Ring::new(bits), Ring::new(bits)).expect("the same ring");
        self.add(Op::Pads(pads), &[wire])
    }

    pub(crate) fn finish(self) -> Program {
        Program::new(self.0).expect("a program")
    }
}

pub(crate) fn extended(bits: u8, drop: u8) -> Extended {
    Extended::new(Ring::new(bits), drop).expect("bits are left")
}

const ROOT: u64 = 40;

/// The layer: rings and scales are those of MiniLM.
pub(crate) fn layer(size: Size, is_masked: bool) -> Program {
    let mut nodes = Nodes::default();
    let hidden = size.hidden();
    let x = nodes.input(size.tokens_of(hidden), 64, 26, Form::Masked);
    let linear = |nodes: &mut Nodes, seed, cols, bits, wire| {
        nodes.add(Op::Linear(Linear::new(weights(seed, hidden, cols, bits), bits as u8)), &[wire])
    };
    // Queries and keys of all heads, then those of this group: all of them, from a wider wire.
    let all = linear(&mut nodes, ROOT, 2 * hidden + 1, 14, x);
    let scores_ring = 33;
    let [q, k] = [0, hidden + 1].map(|first| {
        let part = nodes.add(Op::Slice(Slice { first, count: hidden }), &[all]);
        let part = nodes.add(Op::Drop(DropBits(28)), &[part]);
        let pads = nodes.dealt(PadOf::Quotient, extended(36, 0), scores_ring, part);
        (part, pads)
    });
    let (rings, to) = ([Ring::new(36); 2], Ring::new(scores_ring));
    let scores = if is_masked {
        let mask = nodes.input(size.tokens_of(1), scores_ring, 24, Form::Shared);
        let product = Product::masked_scores(size.heads(), rings, to).expect("they fit");
        nodes.add(Op::Product(product), &[q.0, k.0, q.1, k.1, mask])
    } else {
        let product = Product::new(Factors::Scores(size.heads()), rings, to).expect("they fit");
        nodes.add(Op::Product(product), &[q.0, k.0, q.1, k.1])
    };
    nodes.add(Op::Output(Output), &[scores]);
    let v = linear(&mut nodes, ROOT + 2, hidden, 14, x);
    let v = nodes.add(Op::Open(Open::masked(FULL, 28, Ring::new(48)).expect("bits are left")), &[v]);
    let e = nodes.input(size.scores_of(size.tokens), 48, 24, Form::Masked);
    let pads = [e, v].map(|wire| nodes.own(48, wire));
    let mix = Product::new(Factors::Mix(size.heads()), [Ring::new(48); 2], Ring::new(48));
    let mixed = nodes.add(Op::Product(mix.expect("they fit")), &[e, v, pads[0], pads[1]]);
    let rho = nodes.input(size.scores_of(1), 48, 36, Form::Masked);
    let o = scaled(&mut nodes, mixed, extended(48, 18), rho, extended(48, 20), Some(size.heads()), None);
    // The projection, and the residual: gains and biases, minus the mean of each row.
    let o = nodes.add(Op::Drop(DropBits(12)), &[o]);
    let y = linear(&mut nodes, ROOT + 4, hidden, 12, o);
    let gains = nodes.add(Op::Gain(Gain::new(weights(ROOT + 6, 1, hidden, 10), 10)), &[x]);
    let mean = linear(&mut nodes, ROOT + 8, 1, 15, x);
    let mean = nodes.add(Op::Shift(Shift(4)), &[mean]);
    let mean = nodes.add(Op::Drop(DropBits(9)), &[mean]);
    let residual = nodes.add(Op::SubtractRow(SubtractRow), &[gains, mean]);
    let residual = nodes.add(Op::Drop(DropBits(2)), &[residual]);
    let h = nodes.add(Op::Add(Add), &[y, residual]);
    // The norm.
    let of_h = extended(52, 22);
    let mu = nodes.dealt(PadOf::Quotient, of_h, 64, h);
    let c = nodes.dealt(PadOf::Top, of_h, 64 - 30, h);
    let both = nodes.dealt(PadOf::TopQuotient, of_h, 64 - 31, h);
    let squares = SquareSum::new(of_h, FULL).expect("bits are left");
    let squares = nodes.add(Op::SquareSum(squares), &[h, mu, c, both]);
    nodes.add(Op::Output(Output), &[squares]);
    let root = nodes.input(size.tokens_of(1), 64, 52, Form::Masked);
    let made = scaled(&mut nodes, h, of_h, root, extended(64, 38), None, Some([mu, c]));
    nodes.add(Op::Output(Output), &[made]);
    if size.wide > 0 {
        let wide = linear(&mut nodes, ROOT + 10, size.wide, 8, made);
        nodes.add(Op::Output(Output), &[wide]);
    }
    nodes.finish()
}

/// `scale` in the full ring, with its shares; those of the matrix may be there.
fn scaled(
    nodes: &mut Nodes,
    matrix: NodeId,
    of_matrix: Extended,
    values: NodeId,
    of_values: Extended,
    heads: Option<Heads>,
    known: Option<[NodeId; 2]>,
) -> NodeId {
    let mut pads = |wire, of: Extended| {
        [(PadOf::Quotient, 64), (PadOf::Top, 64 - of.kept())].map(|(pad, to)| nodes.dealt(pad, of, to, wire))
    };
    let [mu, c] = known.unwrap_or_else(|| pads(matrix, of_matrix));
    let [nu, c_row] = pads(values, of_values);
    let scale = Scale::new(of_matrix, of_values, heads, FULL).expect("bits are left");
    nodes.add(Op::Scale(scale), &[matrix, values, mu, c, nu, c_row])
}

/// Numbers in `0..2^bits`, less `below`.
pub(crate) fn around(seed: u64, bits: u32, below: i64, count: u64) -> Vec<i64> {
    numbers(seed).map(|number| (number >> (64 - bits)).cast_signed() - below).take(count as usize).collect()
}

/// Inputs of [`layer`].
pub(crate) fn inputs(size: Size, is_masked: bool) -> Vec<[Vec<u64>; 2]> {
    let of = |shape: TensorShape, bits: u8, seed, width: u32, below| {
        shares(Ring::new(bits), &around(seed, width, below, shape.elems()))
    };
    let mut all = vec![of(size.tokens_of(size.hidden()), 64, 1, 27, 1 << 26)];
    all.extend(is_masked.then(|| of(size.tokens_of(1), 33, 2, 33, 1 << 32)));
    all.push(of(size.scores_of(size.tokens), 48, 3, 24, 0));
    all.push(of(size.scores_of(1), 48, 4, 38, 0));
    all.push(of(size.tokens_of(1), 64, 5, 56, 0));
    all
}
