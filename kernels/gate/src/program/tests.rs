use super::*;
use crate::ops::{Add, Keep};
use crate::{Party, Protocol, catalog};

fn gate(protocol: Protocol) -> Arc<Gate> {
    Arc::new(catalog::builtin().find(|gate| gate.protocol() == protocol).expect("built in"))
}

fn of(protocol: Protocol, elems: u64) -> Program {
    Program::of_gate(gate(protocol), elems).expect("a program")
}

/// input, gate, gate, output: the second gate is the first one again.
fn twice(protocol: Protocol, elems: u64) -> Program {
    let gate = gate(protocol);
    let shape = TensorShape::flat(elems).expect("few elements");
    Program::new([
        (Op::Input(Input::new(shape, WIRE, FRAC, Form::Masked)), vec![]),
        (Op::gate(Arc::clone(&gate)), vec![NodeId(0)]),
        (Op::gate(gate), vec![NodeId(1)]),
        (Op::Output(Output), vec![NodeId(2)]),
    ])
    .expect("a program")
}

#[test]
fn a_program_of_one_gate_costs_what_the_gate_costs() {
    for gate in catalog::builtin().map(Arc::new) {
        for elems in [1, 65536, 65537, 200_000] {
            let program = Program::of_gate(Arc::clone(&gate), elems).expect("a program");
            assert_eq!(program.rounds(), gate.declared().rounds.into());
            assert_eq!(program.message_bits(), gate.batch_message_bits(elems));
            for party in [Party::P0, Party::P1] {
                assert_eq!(program.key_bytes(party), gate.batch_key_bytes(party, elems), "{}", gate.name());
                let parts = program.keyed_parts().map(|part| program.key_bytes_of(party, part) as u64);
                assert_eq!(program.key_bytes(party), parts.sum::<u64>(), "{}", gate.name());
            }
        }
    }
}

#[test]
fn rounds_add_up_along_wires_and_a_gate_is_described_once() {
    let (once, twice) = (of(Protocol::Onehot, 9), twice(Protocol::Onehot, 9));
    assert_eq!(twice.rounds(), 2 * once.rounds());
    assert_eq!(twice.message_bits(), 2 * once.message_bits());
    assert_eq!(twice.gates().len(), 1);
    assert_eq!((once.only_gate(), twice.only_gate()), (Some(&gate(Protocol::Onehot)), None));
    assert_eq!((once.input_elems(), twice.input_elems()), (9, 9));
    // Equal nodes have different roles: each party ships half.
    let roles = [1, 2].map(|node| twice.side(Party::P0, Part::new(NodeId(node), 0)));
    assert_eq!(roles, [Side::Seeded, Side::Explicit]);
}

#[test]
fn encodings_round_trip_and_digests_differ() {
    let programs = [
        of(Protocol::Onehot, 9),
        of(Protocol::Onehot, 10),
        of(Protocol::SufLut, 9),
        twice(Protocol::Onehot, 9),
        twice(Protocol::Dpf, 9),
    ];
    for program in &programs {
        assert_eq!(
            &Program::decode(program.encoded(), &WeightStore::default()).expect("its own encoding"),
            program
        );
        assert_eq!(programs.iter().filter(|other| other.digest() == program.digest()).count(), 1);
    }
}

#[test]
fn what_is_cut_or_lengthened_is_refused_and_every_byte_means_something() {
    let program = twice(Protocol::Onehot, 9);
    let bytes = program.encoded();
    for end in 0..bytes.len() {
        assert!(Program::decode(&bytes[..end], &WeightStore::default()).is_err(), "{end} bytes");
    }
    assert!(Program::decode(&[bytes, &[0]].concat(), &WeightStore::default()).is_err());
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 0xFF;
        if let Ok(other) = Program::decode(&changed, &WeightStore::default()) {
            assert_ne!(other.digest(), program.digest(), "byte {at} means nothing");
        }
    }
}

#[test]
fn gates_out_of_order_or_twice_are_not_canonical() {
    let program = of(Protocol::Onehot, 9);
    let encoded = gate(Protocol::Onehot).encode();
    let length = (encoded.len() as u32).to_le_bytes();
    let bytes = program.encoded();
    let tail = &bytes[5 + 2 + 4 + encoded.len()..];
    let twice = [&bytes[..5], &[2, 0], &length, &encoded, &length, &encoded, tail].concat();
    assert_eq!(
        Program::decode(&twice, &WeightStore::default()),
        Err(ProgramError::Encoding("not canonical"))
    );
}

#[test]
fn nodes_that_do_not_fit_are_refused_by_number() {
    let shape = TensorShape::flat(9).expect("few elements");
    let input = |ring, frac, form| (Op::Input(Input::new(shape, ring, frac, form)), vec![]);
    let node = |op, inputs: &[u16]| (op, inputs.iter().copied().map(NodeId).collect());
    let onehot = Op::gate(gate(Protocol::Onehot));
    let lut = Op::gate(gate(Protocol::SufLut));
    let masked = || input(WIRE, FRAC, Form::Masked);
    let refused = [
        (vec![masked(), node(onehot.clone(), &[1])], "node 1 before it makes no wire"),
        (vec![masked(), node(onehot.clone(), &[0, 0])], "it takes one wire, not 2"),
        (vec![masked(), node(onehot.clone(), &[])], "it takes one wire, not 0"),
        (vec![masked(), node(lut, &[0])], "it takes a shared wire"),
        (vec![input(WIRE, FRAC, Form::Shared), node(onehot.clone(), &[0])], "it takes a masked wire"),
        (vec![input(Ring::new(64), FRAC, Form::Masked), node(onehot.clone(), &[0])], "of 48 bits"),
        (vec![input(WIRE, 10, Form::Masked), node(onehot, &[0])], "12 of them fractional"),
        (vec![masked(), node(Op::Output(Output), &[0]), node(Op::Output(Output), &[1])], "makes no wire"),
    ];
    for (nodes, reason) in refused {
        let last = nodes.len() - 1;
        let error = Program::new(nodes).expect_err(reason).to_string();
        assert!(error.starts_with(&format!("node {last} (")) && error.contains(reason), "{error}");
    }
    assert!(matches!(Program::new([masked()]), Err(ProgramError::Limit(_))), "nothing comes out");
    assert!(matches!(Program::of_gate(gate(Protocol::Dpf), 0), Err(ProgramError::Limit(_))));
}

#[test]
fn keys_come_in_segments_of_whole_nodes() {
    let small = twice(Protocol::Onehot, 9);
    assert_eq!((small.segments(), small.segment_of(NodeId(3))), (1, 0));
    // The first node's keys are 65 MB, hence the second one's are a segment of their own.
    let large = twice(Protocol::Onehot, 400_000);
    assert_eq!(large.segments(), 2);
    assert_eq!([0, 1, 2, 3].map(|node| large.segment_of(NodeId(node))), [0, 0, 1, 1]);
    let cut = (0..large.segments()).flat_map(|segment| large.segment_parts(segment));
    assert!(cut.eq(large.keyed_parts()));
}

/// What operations declare is what their messages and keys add up to.
#[test]
fn declared_costs_are_those_of_messages_and_keys() {
    for gate in catalog::builtin().map(Arc::new) {
        let program = Program::of_gate(gate, 70_000).expect("a program");
        for (id, node) in program.nodes() {
            let declared = node.declared();
            let mut bits = 0;
            for tile in 0..node.tiles() {
                let part = Part::new(id, tile);
                bits += (0..node.exchanges()).filter_map(|step| program.frame_bits(part, step)).sum::<u64>();
            }
            assert_eq!(declared.bits, bits, "{}", node.op().def().name());
            let counts = program.node_counts(id);
            let key = |side| node.op().def().key_shape().bits(side, counts);
            let found = (key(Side::Seeded), key(Side::Explicit));
            assert_eq!((declared.seeded_key_bits, declared.explicit_key_bits), found);
        }
    }
}

#[test]
fn a_program_that_keeps_inputs_keeps_each_once_and_does_nothing_else() {
    let shape = TensorShape::new(2, 3).expect("few elements");
    let input = |form| (Op::Input(Input::new(shape, Ring::new(64), FRAC, form)), vec![]);
    let node = |op, inputs: &[u16]| (op, inputs.iter().copied().map(NodeId).collect::<Vec<_>>());
    let masked = || input(Form::Masked);
    let keep = |taken: u16| node(Op::Keep(Keep), &[taken]);
    let load = Program::new([masked(), masked(), keep(1), keep(0)]).expect("a program");
    assert!(load.loads() && load.outputs().next().is_none());
    assert!(load.results().eq([NodeId(2), NodeId(3)]));
    let counted = (load.rounds(), load.message_bits(), load.key_bytes(Party::P0), load.input_elems());
    assert_eq!(counted, (0, 0, 0, 12));
    let read = Program::decode(load.encoded(), &WeightStore::default()).expect("its own encoding");
    assert_eq!(read, load);
    assert!(!of(Protocol::Onehot, 9).loads());
    for nodes in [
        vec![masked(), masked(), keep(0)],
        vec![masked(), keep(0), keep(0)],
        vec![masked(), keep(0), node(Op::Output(Output), &[0])],
        vec![masked(), masked(), keep(0), node(Op::Output(Output), &[1])],
        vec![masked(), masked(), node(Op::Add(Add), &[0, 1]), keep(0), keep(1)],
    ] {
        let error = Program::new(nodes).expect_err("it does more").to_string();
        assert!(error.contains("keeps each of them once"), "{error}");
    }
    let error = Program::new([input(Form::Shared), keep(0)]).expect_err("shared").to_string();
    assert!(error.contains("a matrix is kept masked"), "{error}");
}
