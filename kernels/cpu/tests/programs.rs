//! Programs of several nodes on the processor: every node against its integer function, and no randomness twice.

mod blocks;
mod products;
#[path = "programs/softmax.rs"]
mod softmax;

use std::{collections::HashSet, sync::Arc};

use blocks::{
    FULL, assert_right, dpf, entered, feed_forward, mixed_inputs, mixed_operations, numbers, onehot, parties,
    shares, weights,
};
use suf_cpu::{CpuBackend, simd::Level};
use suf_gate::{
    Form, NodeId, Part, Party, Program, ProgramError, Protocol, Ring, Seed, Source, TensorShape, TwoParties,
    catalog,
    gatefile::GateFile,
    layout::FieldId,
    ops::{Add, DropBits, Entry, GateOp, Input, Linear, Op, Open, Output, Shift},
    prg::MASK,
    ring::{FRAC, WIRE},
};

#[test]
fn every_node_of_a_feed_forward_block_is_right() {
    let (rows, hidden, inner) = (128, 384, 1536);
    for gate in [onehot(), dpf()] {
        let program = feed_forward(gate, rows, hidden, inner);
        assert_eq!((program.node(NodeId(2)).tiles(), program.node(NodeId(0)).tiles()), (4, 4));
        let silent = [1, 3].map(|node| program.node(NodeId(node)));
        assert!(
            silent.iter().all(|node| node.exchanges() == 0 && !node.is_keyed() && node.message_bits() == 0)
        );
        // Of standard deviation 1.
        let x: Vec<i64> =
            numbers(5).map(|number| (number >> 37).cast_signed() - (1 << 26)).take(128 * 384).collect();
        assert_right(&CpuBackend::new(), &parties(program, 1), &[shares(FULL, &x)]);
    }
}

#[test]
fn mixed_operations_are_right_on_every_element() {
    let file = GateFile::builtin("gelu").expect("built in");
    for protocol in [Protocol::Sigma, Protocol::Suf, Protocol::Onehot, Protocol::Dpf] {
        let gate = catalog::gate(&file, protocol, None).expect("in the file");
        let program = mixed_operations(GateOp::new(Arc::new(gate)));
        for salt in 0..8 {
            assert_right(&CpuBackend::new(), &parties(program.clone(), salt), &mixed_inputs());
        }
    }
}

/// One input under many masks, and inputs at the ends of the domain: wraps and carries of every kind.
#[test]
fn extended_wires_are_right_under_many_masks() {
    for (gate, ring, drop) in [
        (onehot(), FULL, 28),
        (dpf(), FULL, 28),
        (onehot(), Ring::new(48), 16),
        (dpf(), Ring::new(57), 25),
        (onehot(), FULL, 10),
    ] {
        let program = entered(gate, Entry { ring, drop }, 4096);
        let bound = (127i64 << (FRAC + drop)) - 1;
        for x in [0, 1, -1, bound, -bound, 5 << (FRAC + drop - 2), -(3 << (FRAC + drop - 1))] {
            let inputs = [shares(ring, &vec![x; 4096])];
            assert_right(&CpuBackend::new(), &parties(program.clone(), 3), &inputs);
        }
    }
}

#[test]
fn levels_agree_to_the_bit_on_mixed_operations_and_blocks() {
    let file = GateFile::builtin("gelu").expect("built in");
    let gate = catalog::gate(&file, Protocol::Onehot, None).expect("in the file");
    let block: Vec<i64> =
        numbers(5).map(|number| (number >> 37).cast_signed() - (1 << 26)).take(9 * 24).collect();
    let cases = [
        (mixed_operations(GateOp::new(Arc::new(gate))), mixed_inputs().to_vec()),
        (feed_forward(onehot(), 9, 24, 50), vec![shares(FULL, &block)]),
        (feed_forward(dpf(), 9, 24, 50), vec![shares(FULL, &block)]),
    ];
    for (program, inputs) in cases {
        let parties = parties(program, 2);
        let run = |level| {
            let backend = CpuBackend::at(level);
            parties.run(&backend, [&backend, &backend], &inputs).expect("the processor computes")
        };
        let expected = run(Level::Portable);
        for level in Level::ALL.into_iter().filter(|level| level.supported()) {
            let found = run(level);
            assert!(found.messages == expected.messages && found.values == expected.values, "{level}");
            for (part, keys) in &found.keys {
                let same = keys.iter().zip(&expected.keys[part]).all(|(a, b)| a.expose() == b.expose());
                assert!(same, "{part}, {level}");
            }
        }
    }
}

/// Two equal gates in a row, and once more in another batch: whatever is random about them differs.
#[test]
fn equal_nodes_and_equal_runs_share_no_block_of_mask_or_key() {
    for protocol in [Protocol::Sigma, Protocol::Suf, Protocol::Onehot, Protocol::Dpf] {
        let file = GateFile::builtin("gelu").expect("built in");
        let gate = Arc::new(catalog::gate(&file, protocol, None).expect("in the file"));
        let shape = TensorShape::flat(256).expect("few elements");
        let program = Program::new([
            (Op::Input(Input::new(shape, WIRE, FRAC, Form::Masked)), vec![]),
            (Op::gate(Arc::clone(&gate)), vec![NodeId(0)]),
            (Op::gate(gate), vec![NodeId(1)]),
            (Op::Output(Output), vec![NodeId(2)]),
        ])
        .expect("a program");
        let (mut seen, mut blocks) = (HashSet::new(), 0);
        // The seeds are the same, as they never are: the batch alone has to tell the runs apart.
        for batch in [[1; 16], [2; 16]] {
            let seeds = [1, 2, 3].map(|who| Seed::new([who; 32]));
            let parties = TwoParties::new(Arc::new(program.clone()), batch, seeds);
            let mut add = |what: &str, bytes: &[u8]| {
                for block in bytes.as_chunks::<16>().0 {
                    blocks += 1;
                    assert!(seen.insert(*block), "{protocol}: a block of {what} twice");
                }
            };
            for node in [0, 1, 2] {
                let job = parties.deal_job(Part::new(NodeId(node), 0));
                for seed in job.party_seeds {
                    let mut mask = [0; 256 * 6];
                    let key = job.domain().stream(seed, MASK);
                    suf_cpu::prg::Stream::new(Level::best(), &key).fill(0, &mut mask);
                    add("a mask", &mask);
                }
            }
            for node in [1, 2] {
                let part = Part::new(NodeId(node), 0);
                let job = parties.deal_job(part);
                let keys = parties.deal(&CpuBackend::new(), part).expect("a key");
                for (index, field) in job.key_shape().fields().iter().enumerate() {
                    // Common fields are the same at both parties. A level's bit stands in four bytes of the right bits.
                    let parties =
                        if field.source == Source::Common { &Party::BOTH[..1] } else { &Party::BOTH };
                    for party in parties.iter().filter(|_| field.name != "right_bits") {
                        let place = job.key_shape().range(FieldId(index as u16), job.side(*party), 256);
                        add(field.name, place.map_or(&[][..], |place| &keys[party.index()].expose()[place]));
                    }
                }
            }
        }
        assert!(blocks > 2 * 3 * 2 * 96, "{protocol}: {blocks} blocks were looked at");
    }
}

#[test]
fn wires_that_an_operation_does_not_take_are_refused_in_words() {
    let shape = TensorShape::new(4, 8).expect("a tensor");
    let input = |ring, frac| (Op::Input(Input::new(shape, ring, frac, Form::Masked)), vec![]);
    let node = |op, inputs: &[u16]| (op, inputs.iter().copied().map(NodeId).collect::<Vec<_>>());
    let extended = |gate, drop| GateOp::entering(gate, Entry { ring: FULL, drop });
    let sigma = catalog::gate(&GateFile::builtin("gelu").expect("built in"), Protocol::Sigma, None);
    let sigma = Arc::new(sigma.expect("in the file"));
    for (refused, reason) in [
        (extended(Arc::clone(&sigma), 28), "put `open` before it"),
        (extended(dpf(), 44), "20 bits are left"),
        (extended(onehot(), 64), "64 bits cannot be dropped of 64"),
    ] {
        let error = refused.expect_err(reason).to_string();
        assert!(error.contains(reason), "{error}");
    }
    let lut = catalog::gate(&GateFile::builtin("gelu").expect("built in"), Protocol::SufLut, None);
    let lut = Arc::new(lut.expect("in the file"));
    let shared = || (Op::Input(Input::new(shape, WIRE, FRAC, Form::Shared)), vec![]);
    for (nodes, reason) in [
        (vec![input(FULL, 40), node(Op::gate(onehot()), &[0])], "it takes elements of 48 bits"),
        (
            vec![input(FULL, 26), node(Op::Linear(Linear::new(weights(1, 9, 2, 8), 8)), &[0])],
            "does not have 9 columns",
        ),
        (
            vec![input(FULL, 60), node(Op::Linear(Linear::new(weights(1, 8, 2, 8), 8)), &[0])],
            "exceeds the ring",
        ),
        (vec![input(FULL, 26), input(FULL, 25), node(Op::Add(Add), &[0, 1])], "one shape, scale and form"),
        (vec![input(FULL, 26), node(Op::Drop(DropBits(27)), &[0])], "no 27 fractional bits to drop"),
        (vec![input(FULL, 26), node(Op::Shift(Shift(38)), &[0])], "cannot be shifted by 38"),
        (
            vec![input(FULL, 26), node(Op::Drop(DropBits(6)), &[0]), node(Op::Output(Output), &[1])],
            "no shares of the wire's mask",
        ),
        (vec![input(FULL, 26), node(Op::Open(Open::shared(FULL)), &[0])], "takes a Shared wire"),
        (
            vec![shared(), shared(), node(Op::Add(Add), &[0, 1]), node(Op::gate(lut), &[2])],
            "the wire's mask is derived",
        ),
    ] {
        let error = Program::new(nodes).expect_err(reason);
        assert!(matches!(error, ProgramError::Node { .. }) && error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn weights_that_are_not_here_are_named_by_their_digest() {
    use suf_gate::WeightStore;
    let program = feed_forward(onehot(), 3, 8, 16);
    let mut store = WeightStore::default();
    store.add(weights(1, 8, 16, 14));
    let error = Program::decode(program.encoded(), &store).expect_err("half of the weights are missing");
    let hex = blake3::Hash::from_bytes(*weights(2, 16, 8, 14).digest()).to_hex().to_string();
    assert_eq!(error, ProgramError::Weights(hex));
    store.add(weights(2, 16, 8, 14));
    assert_eq!(Program::decode(program.encoded(), &store), Ok(program));
}

/// Each node takes the wire before it twice. Who derives the last mask by following every way would never end.
#[test]
fn a_wire_that_is_doubled_at_every_node_is_derived_once_at_each() {
    let shape = TensorShape::new(1, 2).expect("a tensor");
    let ring = Ring::new(64);
    let mut nodes = vec![(Op::Input(Input::new(shape, ring, 0, Form::Masked)), vec![])];
    nodes.extend((0..60).map(|node| (Op::Add(Add), vec![NodeId(node); 2])));
    nodes.push((Op::Output(Output), vec![NodeId(60)]));
    let program = Program::new(nodes).expect("a program");
    assert_right(&CpuBackend::new(), &parties(program, 1), &[shares(ring, &[1, -3])]);
}
