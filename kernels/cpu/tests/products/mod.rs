//! Products of masked wires, and all that a layer of a transformer does with them, on the processor.

mod misuse;
mod private;
mod random;
mod refused;

use std::{collections::HashSet, sync::Arc};

use suf_cpu::{CpuBackend, simd::Level};
use suf_gate::{
    Form, Program, ProgramError, Ring, Seed, TensorShape, TwoParties, WeightStore,
    ops::{Extended, Factors, Op, Output, Pad, PadOf, Pads, Product, Scale, SquareSum},
};

use super::blocks::{
    assert_right,
    layer::{Nodes, Size, extended, inputs, layer},
    numbers, parties, shares,
};

/// The weights of a layer.
fn store(program: &Program) -> WeightStore {
    let mut store = WeightStore::default();
    for (_, node) in program.nodes() {
        match node.op() {
            Op::Linear(op) => store.add(op.weights().clone()),
            Op::Gain(op) => store.add(op.weights().clone()),
            _ => {}
        }
    }
    store
}

const SIZES: [Size; 6] = [
    Size { batch: 1, heads: 1, dim: 1, tokens: 1, wide: 1 },
    Size { batch: 1, heads: 2, dim: 4, tokens: 5, wide: 0 },
    Size { batch: 3, heads: 2, dim: 4, tokens: 7, wide: 9 },
    Size { batch: 5, heads: 3, dim: 2, tokens: 4, wide: 30_000 },
    Size { batch: 2, heads: 3, dim: 8, tokens: 128, wide: 1500 },
    Size { batch: 1, heads: 5, dim: 8, tokens: 131, wide: 1300 },
];

#[test]
fn every_node_of_a_layer_is_right_in_every_tiling() {
    for (size, salt) in SIZES.into_iter().zip(1..) {
        for is_masked in [false, true] {
            let program = layer(size, is_masked);
            assert_right(&CpuBackend::new(), &parties(program, salt), &inputs(size, is_masked));
        }
    }
    let [_, _, _, narrow, wide, odd] = SIZES.map(|size| layer(size, false));
    let tiles = |program: &Program| program.nodes().map(|(_, node)| node.tiles()).max();
    assert_eq!([&narrow, &wide, &odd].map(tiles), [Some(10), Some(6), Some(3)]);
}

/// A tile goes to the parts that take some of it, and a part takes the tiles that hold what it reads.
#[test]
fn takers_are_the_parts_that_take() {
    for size in SIZES {
        let program = layer(size, true);
        let mut takers = std::collections::BTreeMap::<_, Vec<_>>::new();
        for part in program.parts() {
            for taken in program.taken(part) {
                taken.parts().for_each(|tile| takers.entry(tile).or_default().push(part));
            }
        }
        for part in program.parts() {
            let mut found = program.takers(part);
            found.sort_unstable();
            assert_eq!(found, takers.remove(&part).unwrap_or_default(), "{size:?}, {part}");
        }
        assert!(takers.is_empty());
    }
}

#[test]
fn levels_agree_to_the_bit() {
    let size = SIZES[5];
    let (parties, inputs) = (parties(layer(size, true), 2), inputs(size, true));
    let run = |level| {
        let backend = CpuBackend::at(level);
        parties.run(&backend, [&backend, &backend], &inputs).expect("the processor computes")
    };
    let expected = run(Level::Portable);
    for level in Level::ALL.into_iter().filter(|level| level.supported()) {
        let found = run(level);
        assert!(found.messages == expected.messages && found.values == expected.values, "{level}");
    }
}

#[test]
fn programs_are_read_as_they_are_written_and_nothing_else_is() {
    for is_masked in [false, true] {
        let program = layer(SIZES[2], is_masked);
        let (store, bytes) = (store(&program), program.encoded());
        assert_eq!(Program::decode(bytes, &store).as_ref(), Ok(&program));
        for end in 0..bytes.len() {
            assert!(Program::decode(&bytes[..end], &store).is_err(), "{end} bytes");
        }
        for at in 0..bytes.len() {
            for flip in [1, 0x80, 0xFF] {
                let mut changed = bytes.to_vec();
                changed[at] ^= flip;
                if let Ok(other) = Program::decode(&changed, &store) {
                    assert_ne!(other.digest(), program.digest(), "byte {at} means nothing");
                }
            }
        }
        let missing = Program::decode(bytes, &WeightStore::default());
        assert!(matches!(missing, Err(ProgramError::Weights(_))));
    }
}

/// Elementwise products: of own and of dealt shares, in rings of no whole bytes and in small ones.
#[test]
fn products_of_elements_are_right_in_rings_of_many_widths() {
    let shape = TensorShape::new(33, 31).expect("a tensor");
    for (x, y, to) in [(64, 64, 64), (48, 48, 48), (52, 41, 37), (3, 5, 3), (64, 1, 1)] {
        for is_dealt in [false, true] {
            let mut nodes = Nodes::default();
            let wires = [x, y].map(|bits| nodes.input(shape, bits, 0, Form::Masked));
            let pads = [0, 1].map(|i| {
                let (from, to) = (Ring::new([x, y][i]), Ring::new(to));
                let own = Pads::own(from, to).expect("a smaller ring");
                let pads = if is_dealt { Pads::dealt(Pad::whole(from, to)) } else { own };
                nodes.add(Op::Pads(pads), &[wires[i]])
            });
            let product =
                Product::new(Factors::Elements, [x, y].map(Ring::new), Ring::new(to)).expect("they fit");
            let made = nodes.add(Op::Product(product), &[wires[0], wires[1], pads[0], pads[1]]);
            nodes.add(Op::Output(Output), &[made]);
            let of = |bits, seed| {
                let ring = Ring::new(bits);
                let x: Vec<_> = numbers(seed).map(|number| ring.decode(number)).take(33 * 31).collect();
                shares(ring, &x)
            };
            assert_right(&CpuBackend::new(), &parties(nodes.finish(), to), &[of(x, 1), of(y, 2)]);
        }
    }
}

/// A scale and a square sum of one wire, from masked inputs.
fn scaled(shape: TensorShape, matrix: Extended, values: Extended, to: u8) -> Program {
    let mut nodes = Nodes::default();
    let x = nodes.input(shape, matrix.ring.bits(), matrix.drop, Form::Masked);
    let y = nodes.input(shape.column(), values.ring.bits(), values.drop, Form::Masked);
    let (a, b) = (matrix.kept(), values.kept());
    let mu = nodes.dealt(PadOf::Quotient, matrix, to, x);
    let c = nodes.dealt(PadOf::Top, matrix, to - a, x);
    let both = nodes.dealt(PadOf::TopQuotient, matrix, to - a - 1, x);
    let nu = nodes.dealt(PadOf::Quotient, values, to, y);
    let c_row = nodes.dealt(PadOf::Top, values, to - b, y);
    let scale = Scale::new(matrix, values, None, Ring::new(to)).expect("bits are left");
    let made = nodes.add(Op::Scale(scale), &[x, y, mu, c, nu, c_row]);
    let squares = SquareSum::new(matrix, Ring::new(to)).expect("bits are left");
    let squares = nodes.add(Op::SquareSum(squares), &[x, mu, c, both]);
    nodes.add(Op::Output(Output), &[made]);
    nodes.add(Op::Output(Output), &[squares]);
    nodes.finish()
}

/// One value under many masks, and values at the ends of the bounds: wraps of either factor, of both and of none.
#[test]
fn scales_and_square_sums_are_right_at_the_ends_of_their_bounds() {
    let shape = TensorShape::new(64, 63).expect("a tensor");
    let backend = CpuBackend::new();
    for (matrix, values, to) in [
        (extended(52, 22), extended(64, 38), 64),
        (extended(45, 14), extended(64, 38), 64),
        (extended(48, 18), extended(48, 20), 64),
        (extended(64, 24), extended(40, 3), 64),
        (extended(62, 0), extended(63, 1), 64),
        (extended(20, 10), extended(12, 9), 37),
        (extended(5, 3), extended(3, 1), 5),
        (extended(3, 1), extended(3, 1), 4),
    ] {
        let program = scaled(shape, matrix, values, to);
        let ends = |of: Extended| {
            let bound = (1i64 << (of.ring.bits() - 2)) - 1;
            [bound, -bound, 0, -1, bound / 3]
        };
        for (x, y) in ends(matrix)
            .into_iter()
            .zip(ends(values))
            .chain(ends(matrix).into_iter().zip(ends(values).into_iter().rev()))
        {
            let inputs = [
                shares(matrix.ring, &vec![x; shape.elems() as usize]),
                shares(values.ring, &vec![y; shape.rows() as usize]),
            ];
            assert_right(&backend, &parties(program.clone(), 3), &inputs);
        }
    }
}

/// Equal nodes on equal wires, in two batches under equal seeds: whatever is random about them differs.
#[test]
fn equal_nodes_and_equal_runs_share_no_block_of_a_key() {
    let (matrix, values) = (extended(52, 22), extended(48, 20));
    let mut nodes = Nodes::default();
    let shape = TensorShape::new(16, 16).expect("a tensor");
    let x = nodes.input(shape, 52, 34, Form::Masked);
    let y = nodes.input(shape.column(), 48, 36, Form::Masked);
    for _ in 0..2 {
        let pads = [
            (PadOf::Quotient, matrix, 64, x),
            (PadOf::Top, matrix, 34, x),
            (PadOf::Quotient, values, 64, y),
            (PadOf::Top, values, 36, y),
            (PadOf::TopQuotient, matrix, 33, x),
        ];
        let [mu, c, nu, c_row, both] = pads.map(|(of, from, to, wire)| nodes.dealt(of, from, to, wire));
        let scale = Scale::new(matrix, values, None, Ring::new(64)).expect("bits are left");
        let scaled = nodes.add(Op::Scale(scale), &[x, y, mu, c, nu, c_row]);
        let squares = SquareSum::new(matrix, Ring::new(64)).expect("bits are left");
        nodes.add(Op::SquareSum(squares), &[x, mu, c, both]);
        nodes.add(Op::Output(Output), &[scaled]);
    }
    let program = Arc::new(nodes.finish());
    let (mut seen, mut blocks) = (HashSet::new(), 0);
    for batch in [[1; 16], [2; 16]] {
        let seeds = [1, 2, 3].map(|who| Seed::new([who; 32]));
        let parties = TwoParties::new(Arc::clone(&program), batch, seeds);
        for part in program.keyed_parts() {
            for key in parties.deal(&CpuBackend::new(), part).expect("a key") {
                for block in key.expose().as_chunks::<16>().0 {
                    blocks += 1;
                    assert!(seen.insert(*block), "{part}: a block twice");
                }
            }
        }
    }
    // Of each batch and each of the two: some 37 bytes for each element of the matrix.
    assert!(blocks > 2 * 2 * 256 * 2, "{blocks} blocks were looked at");
}
