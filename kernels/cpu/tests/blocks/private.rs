//! Loads, and sums of products with loaded matrices.

use std::sync::Arc;

use suf_gate::{
    Backend, Form, NodeId, Program, Ring, Seed, TensorShape, TwoParties,
    ops::{
        DropBits, Keep, Op, Output, Pad, Pads,
        private::{Chosen, Factor, LOADED, Left, Matrix, Private, Term},
    },
    two_parties::Loaded,
};

use super::{
    assert_right,
    layer::{Nodes, around},
    shares,
};

/// Columns of the first wire, of the sums, and rows of the wires: of one tile and of several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) inner: u32,
    pub(crate) made: u32,
    pub(crate) rows: u32,
}

pub(crate) const SIZES: [Size; 4] = [
    Size { inner: 5, made: 3, rows: 2 },
    Size { inner: 40, made: 7, rows: 33 },
    Size { inner: 300, made: 400, rows: 9 },
    Size { inner: 9, made: 20_000, rows: 5 },
];

/// Fractional bits of the wires, of the matrices that multiply them, and of the sums.
pub(crate) const FRAC: [u8; 3] = [26, 10, 36];

pub(crate) fn shape(rows: u32, cols: u32) -> TensorShape {
    TensorShape::new(rows, cols).expect("a tensor")
}

/// The matrices of the load: a product, the product behind a dropped wire, gains, summands.
pub(crate) fn matrices(size: Size) -> [(TensorShape, u8); 4] {
    let Size { inner, made, .. } = size;
    let [_, weight, sum] = FRAC;
    // Twice as many columns, of which some are chosen.
    [
        (shape(inner, 2 * made + 1), weight),
        (shape(inner + 3, made), weight),
        (shape(1, made), weight),
        (shape(1, 2 * made + 1), sum),
    ]
}

pub(crate) fn load_program(size: Size) -> Program {
    let mut nodes = Nodes::default();
    let inputs = matrices(size).map(|(shape, frac)| nodes.input(shape, LOADED.bits(), frac, Form::Masked));
    inputs.into_iter().for_each(|input| {
        nodes.add(Op::Keep(Keep), &[input]);
    });
    nodes.finish()
}

pub(crate) fn matrix(size: Size, input: usize) -> Matrix {
    let (shape, frac) = matrices(size)[input];
    Matrix { input: NodeId(input as u16), shape, frac }
}

pub(crate) fn whole(size: Size, input: usize, factor: Factor) -> Term {
    let matrix = matrix(size, input);
    Term { matrix, rows: Chosen::all(matrix.shape.rows()), cols: Chosen::all(matrix.shape.cols()), factor }
}

/// Half of the columns, or one more, in two ranges.
pub(crate) fn half(made: u32) -> Chosen {
    let first = made.div_ceil(2);
    let ranges = [0..first, 2 * made + 1 - (made - first)..2 * made + 1];
    Chosen::new(ranges.into_iter().filter(|range| !range.is_empty()).collect()).expect("they lie apart")
}

/// A sum with every kind of term, of a wire, of a narrow one that is shifted, and of one without its lowest bits.
pub(crate) fn program(size: Size, to: u8) -> Program {
    let Size { inner, made, rows } = size;
    let [wire, weight, sum] = FRAC;
    let load = *load_program(size).digest();
    let mut nodes = Nodes::default();
    let x = nodes.input(shape(rows, inner), 64, wire, Form::Masked);
    let of_x = nodes.own(64, x);
    let y = nodes.input(shape(rows, made), 48, wire - 10, Form::Masked);
    let of_y = nodes.own(48, y);
    let z = nodes.input(shape(rows, inner + 1), 64, wire + 10, Form::Masked);
    let z = nodes.add(Op::Drop(DropBits(10)), &[z]);
    let of_z = nodes.add(Op::Pads(Pads::dealt(Pad::whole(Ring::new(54), Ring::new(54)))), &[z]);
    let left = |bits, shift| Left { ring: Ring::new(bits), shift };
    let rows_of = |chosen: &[std::ops::Range<u32>]| Chosen::new(chosen.to_vec()).expect("they lie apart");
    let terms = vec![
        Term { cols: half(made), ..whole(size, 0, Factor::Rows(left(64, 0))) },
        Term { rows: rows_of(&[0..1, 3..inner + 3]), ..whole(size, 1, Factor::Rows(left(54, 0))) },
        whole(size, 2, Factor::Elements(left(48, 10))),
        Term { cols: half(made), ..whole(size, 3, Factor::One) },
    ];
    let private = |terms, to| Op::Private(Private::new(load, terms, Ring::new(to), sum).expect("they fit"));
    let sums = nodes.add(private(terms, to), &[x, z, y, of_x, of_z, of_y]);
    nodes.add(Op::Output(Output), &[sums]);
    let alone = nodes.add(private(vec![whole(size, 0, Factor::Rows(left(64, 0)))], 64), &[x, of_x]);
    nodes.add(Op::Output(Output), &[alone]);
    assert_eq!(wire + weight, sum);
    nodes.finish()
}

/// What the owner has: numbers of 14 bits, summands of 50.
pub(crate) fn values(size: Size, seed: u64) -> Vec<Vec<i64>> {
    let of = |(input, (shape, _)): (usize, (TensorShape, u8))| {
        let bits = if input == 3 { 50 } else { 14 };
        around(seed + input as u64, bits, 1 << (bits - 1), shape.elems())
    };
    matrices(size).into_iter().enumerate().map(of).collect()
}

pub(crate) fn inputs(size: Size) -> [[Vec<u64>; 2]; 3] {
    let Size { inner, made, rows } = size;
    let of = |cols, bits: u8, seed, width: u32| {
        shares(Ring::new(bits), &around(seed, width, 1 << (width - 1), u64::from(rows * cols)))
    };
    [of(inner, 64, 1, 27), of(made, 48, 2, 17), of(inner + 1, 64, 3, 37)]
}

pub(crate) fn seeds(salt: u8) -> [Seed; 3] {
    [1, 2, 3].map(|who| Seed::new([salt + who; 32]))
}

/// Loads `values` with the batch `batch`, and checks what is kept.
pub(crate) fn load(backend: &dyn Backend, size: Size, batch: u8, values: &[Vec<i64>]) -> Loaded {
    let parties = TwoParties::new(Arc::new(load_program(size)), [batch; 16], seeds(0x10));
    let inputs: Vec<_> = values.iter().map(|values| shares(LOADED, values)).collect();
    assert_right(backend, &parties, &inputs);
    let transcript = parties.run(backend, [backend, backend], &inputs).expect("the backend computes");
    parties.loaded(&transcript)
}

pub(crate) fn run(size: Size, to: u8, load: Loaded) -> TwoParties {
    TwoParties::new(Arc::new(program(size, to)), [9; 16], seeds(0x20)).with_load(load)
}
