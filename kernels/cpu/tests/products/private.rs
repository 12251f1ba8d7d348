//! Products with matrices of a load, on the processor: loaded, and then used.

use std::{collections::HashSet, sync::Arc};

use suf_cpu::{CpuBackend, simd::Level};
use suf_gate::{
    Backend, BackendError, Form, NodeId, Part, Party, Program, ProgramError, Ring, TwoParties, WeightStore,
    ops::{
        Input, Op, Output, Pads,
        private::{Chosen, Factor, LOADED, Left, MAX_TERMS, Private, Term},
    },
    two_parties::Loaded,
};

use super::super::blocks::{
    FULL, assert_right_on,
    layer::Nodes,
    private::{
        self, SIZES, Size, half, inputs, load_program, matrix, program, run, seeds, shape, values, whole,
    },
};

fn load(size: Size, batch: u8, values: &[Vec<i64>]) -> Loaded {
    private::load(&CpuBackend::new(), size, batch, values)
}

#[test]
fn sums_of_products_with_loaded_matrices_are_right_in_every_tiling() {
    for (at, size) in SIZES.into_iter().enumerate() {
        let values = values(size, 50);
        let load = load(size, at as u8 + 1, &values);
        for to in [54, 50, 37] {
            assert_right_on(&values, &CpuBackend::new(), &run(size, to, load.clone()), &inputs(size));
        }
    }
    let tiles = SIZES.map(|size| load_program(size).nodes().map(|(_, node)| node.tiles()).max());
    assert_eq!(tiles, [Some(1), Some(1), Some(4), Some(9)]);
}

#[test]
fn levels_agree_to_the_bit() {
    let size = SIZES[2];
    let parties = run(size, 54, load(size, 1, &values(size, 50)));
    let found: Vec<_> = Level::ALL
        .into_iter()
        .filter(|level| level.supported())
        .map(|level| {
            let backend = CpuBackend::at(level);
            let run = parties.run(&backend, [&backend, &backend], &inputs(size));
            let run = run.expect("the processor computes");
            let keys: Vec<_> = run.keys.values().flatten().map(|key| key.expose().to_vec()).collect();
            (keys, run.messages, run.values)
        })
        .collect();
    assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
}

/// A node costs one opened wire and one share of a product, however many terms it has.
#[test]
fn a_sum_costs_one_round_and_its_ring_for_each_element() {
    let size = SIZES[1];
    let program = program(size, 54);
    let (_, node) = program.nodes().find(|(_, node)| matches!(node.op(), Op::Private(_))).expect("a sum");
    let bits = u64::from(54 * size.rows * size.made);
    let declared = node.declared();
    assert_eq!((declared.rounds, declared.bits), (1, bits));
    assert_eq!((declared.explicit_key_bits, declared.seeded_key_bits), (bits, 0));
}

#[test]
fn programs_are_read_as_they_are_written_and_nothing_else_is() {
    let (program, store) = (program(SIZES[0], 54), WeightStore::default());
    let bytes = program.encoded();
    assert_eq!(Program::decode(bytes, &store).as_ref(), Ok(&program));
    assert_eq!(program.load(), Some(load_program(SIZES[0]).digest()));
    assert_eq!(load_program(SIZES[0]).load(), None);
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
}

#[test]
fn a_part_without_its_load_is_refused() {
    let size = SIZES[0];
    let parties = run(size, 54, load(size, 1, &values(size, 50)));
    let program = parties.program();
    let (id, _) = program.nodes().find(|(_, node)| matches!(node.op(), Op::Private(_))).expect("a sum");
    let part = Part::new(id, 0);
    let backend = CpuBackend::new();
    let [key, _] = parties.deal(&backend, part).expect("it has its load");
    let other = Size { inner: 6, ..size };
    let other = load(other, 1, &values(other, 50));
    let without = TwoParties::new(Arc::clone(program), [9; 16], seeds(0x20));
    for parties in [without.clone(), without.with_load(other)] {
        let dealt = parties.deal(&backend, part);
        assert!(matches!(dealt, Err(BackendError::Misuse("a program without its load"))));
        let staged = backend.stage(&parties.eval_job(Party::P0, part), key.clone());
        assert!(matches!(staged, Err(BackendError::Misuse("a program without its load"))));
    }
}

/// The sum with `terms`, of a wire of `bits` bits and shares of its mask.
fn refused(terms: Vec<Term>, to: u8, reason: &str) {
    let error = Private::new([7; 32], terms, Ring::new(to), 36).expect_err(reason);
    assert!(error.contains(reason), "{error}");
}

#[test]
fn terms_that_do_not_fit_are_refused() {
    let size = SIZES[1];
    let rows = |bits, shift| Factor::Rows(Left { ring: Ring::new(bits), shift });
    let elements = |shift| Factor::Elements(Left { ring: FULL, shift });
    let product = |bits, shift| whole(size, 1, rows(bits, shift));
    refused(Vec::new(), 54, "no term has a wire");
    refused(vec![Term { cols: half(size.made), ..whole(size, 3, Factor::One) }], 54, "no term has a wire");
    refused(vec![product(64, 0); MAX_TERMS + 1], 54, "at most 16 terms");
    refused(vec![product(48, 5)], 54, "a wire of 48 bits shifted by 5 cannot make one of 54 bits");
    refused(vec![product(64, 27)], 54, "a product of another scale");
    refused(vec![product(64, 0)], 36, "36 fractional bits exceed a ring of 36");
    refused(vec![product(64, 0), whole(size, 0, rows(64, 0))], 54, "unequal numbers of columns");
    refused(vec![product(64, 0), whole(size, 2, Factor::One)], 54, "a summand of another scale");
    refused(vec![whole(size, 1, elements(0))], 54, "more rows than one");
    let beyond = Term { rows: Chosen::all(size.inner + 4), ..product(64, 0) };
    refused(vec![beyond], 54, "rows or columns that a matrix");
    for ranges in [vec![], vec![0..2, 3..3], vec![0..2, 2..4], vec![5..6, 0..2]] {
        assert!(Chosen::new(ranges.clone()).is_err(), "{ranges:?}");
    }
}

#[test]
fn wires_that_do_not_fit_are_refused() {
    let size = SIZES[1];
    let left = Left { ring: FULL, shift: 0 };
    let sum = |load: u8| {
        let terms = vec![whole(size, 1, Factor::Rows(left))];
        Op::Private(Private::new([load; 32], terms, Ring::new(54), 36).expect("they fit"))
    };
    let node = |op, inputs: &[u16]| (op, inputs.iter().copied().map(NodeId).collect::<Vec<_>>());
    let input = |cols, bits, frac| {
        node(Op::Input(Input::new(shape(4, cols), Ring::new(bits), frac, Form::Masked)), &[])
    };
    let own = |from, to, of| {
        node(Op::Pads(Pads::own(Ring::new(from), Ring::new(to)).expect("a smaller ring")), &[of])
    };
    let cols = size.inner + 3;
    let refused = |nodes: Vec<_>, reason: &str| {
        let error = Program::new(nodes).expect_err(reason);
        assert!(matches!(error, ProgramError::Node { .. }) && error.to_string().contains(reason), "{error}");
    };
    let x = || input(cols, 64, 26);
    refused(vec![x(), own(64, 64, 0), node(sum(1), &[0])], "it takes 2 wires, not 1");
    refused(vec![x(), own(64, 54, 0), node(sum(1), &[0, 1])], "node 1 is not 64 bits of the mask");
    refused(vec![x(), own(64, 64, 0), node(sum(1), &[0, 0])], "node 0 is not 64 bits of the mask");
    refused(vec![input(cols, 63, 26), own(63, 63, 0), node(sum(1), &[0, 1])], "a masked wire of 64 bits");
    refused(
        vec![input(cols, 64, 25), own(64, 64, 0), node(sum(1), &[0, 1])],
        "has 35 fractional bits, not 36",
    );
    refused(
        vec![input(cols - 1, 64, 26), own(64, 64, 0), node(sum(1), &[0, 1])],
        "it takes a wire of 4 x 43",
    );
    let two = [sum(1), sum(2)].map(|sum| node(sum, &[0, 1]));
    let error = Program::new([vec![x(), own(64, 64, 0)], two.to_vec()].concat()).expect_err("two loads");
    assert!(error.to_string().contains("load"), "{error}");
}

/// Equal sums of equal wires, in two batches under equal seeds: whatever is random about them differs. The mask of the matrix
/// does not, and none of it is in a key.
#[test]
fn equal_sums_share_no_block_of_a_key() {
    let size = SIZES[1];
    let load = load(size, 1, &values(size, 50));
    let left = Left { ring: FULL, shift: 0 };
    let mut nodes = Nodes::default();
    let x = nodes.input(shape(size.rows, size.inner), 64, 26, Form::Masked);
    let of_x = nodes.own(64, x);
    for _ in 0..2 {
        let terms = vec![whole(size, 0, Factor::Rows(left))];
        let sum = Private::new(*load_program(size).digest(), terms, FULL, 36).expect("they fit");
        let sum = nodes.add(Op::Private(sum), &[x, of_x]);
        nodes.add(Op::Output(Output), &[sum]);
    }
    let program = Arc::new(nodes.finish());
    let (mut seen, mut blocks) = (HashSet::new(), 0);
    for batch in [[1; 16], [2; 16]] {
        let parties = TwoParties::new(Arc::clone(&program), batch, seeds(0x20)).with_load(load.clone());
        for part in program.keyed_parts() {
            for key in parties.deal(&CpuBackend::new(), part).expect("a key") {
                for block in key.expose().as_chunks::<16>().0 {
                    blocks += 1;
                    assert!(seen.insert(*block), "{part}: a block twice");
                }
            }
        }
    }
    let cols = matrix(size, 0).shape.cols();
    assert_eq!(blocks, 2 * 2 * (size.rows * cols / 2) as usize);
}

/// Why a batch serves for one load alone: another matrix under the same mask shows the difference of both. Under the mask of
/// another batch nothing of it shows.
#[test]
fn a_mask_that_meets_two_matrices_shows_their_difference() {
    let size = SIZES[1];
    let (mine, other) = (values(size, 50), values(size, 70));
    let opened = |batch, values| load(size, batch, values).kept[0].matrix(NodeId(0)).expect("kept").to_vec();
    let differences = |one: Vec<u64>, other: Vec<u64>| -> Vec<i64> {
        one.iter().zip(&other).map(|(one, other)| LOADED.decode(LOADED.sub(*one, *other))).collect()
    };
    let secret: Vec<i64> = mine[0].iter().zip(&other[0]).map(|(mine, other)| mine - other).collect();
    assert_eq!(differences(opened(1, &mine), opened(1, &other)), secret);
    let shown = differences(opened(1, &mine), opened(2, &other));
    assert!(shown.iter().zip(&secret).all(|(shown, secret)| shown != secret));
}

/// Shares of a product belong to the dealer's masks: with those of another load the sums are wrong, and nobody sees that.
#[test]
fn keys_for_another_load_make_other_sums() {
    let size = SIZES[0];
    let values = values(size, 50);
    let [right, other] = [1, 2].map(|batch| load(size, batch, &values));
    let backend = CpuBackend::new();
    let outputs = |load: Loaded| {
        let parties = run(size, 54, load);
        let made = parties.run(&backend, [&backend, &backend], &inputs(size)).expect("it computes");
        let output = parties.program().outputs().next().expect("it has outputs");
        let [first, second] = made.value(parties.program(), output);
        first.iter().zip(&second).map(|(a, b)| Ring::new(54).add(*a, *b)).collect::<Vec<_>>()
    };
    let mixed = Loaded { dealt: Arc::clone(&other.dealt), kept: right.kept.clone() };
    let (right, mixed) = (outputs(right), outputs(mixed));
    assert!(right.iter().zip(&mixed).all(|(right, mixed)| right != mixed));
}
