//! Programs of several nodes on the processor: every node against its integer function, and no randomness twice.

use std::{collections::HashSet, sync::Arc};

use suf_cpu::{CpuBackend, simd::Level};
use suf_gate::{
    Curve, Form, Gate, NodeId, Part, Party, Program, ProgramError, Protocol, Ring, Seed, Shape, Source,
    TensorShape, TwoParties, catalog,
    check::{self, Observed},
    dpf::Dpf,
    gatefile::GateFile,
    layout::FieldId,
    onehot::Onehot,
    ops::{Add, DropBits, Entry, GateOp, Input, Linear, Op, Open, Output, Shift, Weights},
    prg::MASK,
    ring::{FRAC, WIRE},
    two_parties::Transcript,
};

const FULL: Ring = Ring::new(64);

fn curve() -> Curve {
    GateFile::builtin("gelu").expect("built in").curve
}

/// GELU for abs(x) < 128: one digit of 6 bits, or 15 bits of t.
fn onehot() -> Arc<Gate> {
    let shape = Onehot::new(curve(), vec![6]).expect("a shape");
    Arc::new(Gate::new("gelu", Shape::Onehot(shape)).expect("a gate"))
}

fn dpf() -> Arc<Gate> {
    let shape = Dpf::new(curve(), 15).expect("a shape");
    Arc::new(Gate::new("gelu", Shape::Dpf(shape)).expect("a gate"))
}

/// Numbers that look random (splitmix64).
fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    (1..).map(move |i: u64| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    })
}

fn weights(seed: u64, rows: u32, cols: u32, bits: u32) -> Arc<Weights> {
    let small = |bits: u32| move |number: u64| (number >> (64 - bits)).cast_signed() - (1 << (bits - 1));
    let values = numbers(seed).map(small(bits)).map(|weight| weight as i32);
    let values = values.take((rows * cols) as usize).collect();
    let bias = numbers(seed + 1).map(small(30)).take(cols as usize).collect();
    Arc::new(Weights::new(rows, cols, values, bias).expect("they fit"))
}

fn parties(program: Program, salt: u8) -> TwoParties {
    let seeds = [0, 1, 2].map(|who: u8| Seed::new(*blake3::hash(&[who, salt]).as_bytes()));
    TwoParties::new(Arc::new(program), [salt; 16], seeds)
}

/// Both parties' shares of `x`, in `ring`.
fn shares(ring: Ring, x: &[i64]) -> [Vec<u64>; 2] {
    let mine: Vec<u64> = numbers(9).map(|number| ring.reduce(number)).take(x.len()).collect();
    let theirs = x.iter().zip(&mine).map(|(x, mine)| ring.sub(ring.encode(*x), *mine)).collect();
    [mine, theirs]
}

struct Seen<'a> {
    parties: &'a TwoParties,
    transcript: &'a Transcript,
}

impl Observed for Seen<'_> {
    fn made(&self, part: Part) -> [&[u64]; 2] {
        self.transcript.values[&part].each_ref().map(Vec::as_slice)
    }

    fn mask(&self, part: Part) -> Vec<u64> {
        CpuBackend::new().mask(self.parties, part)
    }
}

/// Runs a program and asserts that every node is right on every element.
fn assert_right(parties: &TwoParties, inputs: &[[Vec<u64>; 2]]) -> Transcript {
    let backend = CpuBackend::new();
    let transcript = parties.run(&backend, [&backend, &backend], inputs).expect("the processor computes");
    let program = parties.program();
    let found = check::check(program, &Seen { parties, transcript: &transcript });
    for node in found {
        let name = program.node(node.node).op().def().name();
        assert_eq!((node.wrong, node.out_of_range), (0, 0), "{} {name}", node.node);
    }
    transcript
}

/// The feed-forward block of a transformer: `rows` tokens, `hidden` wide, `inner` between.
fn feed_forward(gate: Arc<Gate>, rows: u32, hidden: u32, inner: u32) -> Program {
    let shape = TensorShape::new(rows, hidden).expect("a tensor");
    let gelu = GateOp::entering(gate, Entry { ring: FULL, drop: 28 }).expect("the gate takes it");
    Program::new([
        (Op::Input(Input::new(shape, FULL, 26, Form::Masked)), vec![]),
        (Op::Linear(Linear::new(weights(1, hidden, inner, 14), 14)), vec![NodeId(0)]),
        (Op::Gate(gelu), vec![NodeId(1)]),
        (Op::Linear(Linear::new(weights(2, inner, hidden, 14), 14)), vec![NodeId(2)]),
        (Op::Output(Output), vec![NodeId(3)]),
    ])
    .expect("a program")
}

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
        assert_right(&parties(program, 1), &[shares(FULL, &x)]);
    }
}

/// Every operation, in rings that are no whole bytes too.
fn all_operations(gate: GateOp) -> Program {
    let (ring, shape) = (Ring::new(51), TensorShape::new(37, 8).expect("a tensor"));
    let node = |op, inputs: &[u16]| (op, inputs.iter().copied().map(NodeId).collect());
    Program::new([
        node(Op::Input(Input::new(shape, ring, 20, Form::Masked)), &[]),
        node(Op::Input(Input::new(shape, Ring::new(45), 20, Form::Shared)), &[]),
        // 2
        node(Op::Open(Open::shared(Ring::new(45))), &[1]),
        node(Op::Add(Add), &[0, 2]),
        node(Op::Linear(Linear::new(weights(3, 8, 16, 6), 4)), &[3]),
        node(Op::Drop(DropBits(6)), &[4]),
        // 6
        node(Op::Shift(Shift(2)), &[5]),
        node(Op::Open(Open::masked(Ring::new(39), 8, WIRE).expect("bits are left")), &[6]),
        node(Op::Gate(gate), &[7]),
        node(Op::Output(Output), &[8]),
        // 10
        node(Op::Open(Open::masked(Ring::new(39), 3, Ring::new(33)).expect("bits are left")), &[6]),
        node(Op::Output(Output), &[10]),
        node(Op::Output(Output), &[4]),
    ])
    .expect("a program")
}

#[test]
fn every_operation_is_right_on_every_element() {
    let file = GateFile::builtin("gelu").expect("built in");
    for protocol in [Protocol::Sigma, Protocol::Suf, Protocol::Onehot, Protocol::Dpf] {
        let gate = catalog::gate(&file, protocol, None).expect("in the file");
        let program = all_operations(GateOp::new(Arc::new(gate)));
        let x: Vec<i64> =
            numbers(6).map(|number| (number >> 43).cast_signed() - (1 << 20)).take(37 * 8).collect();
        let zeros = vec![0; x.len()];
        for salt in 0..8 {
            let inputs = [shares(Ring::new(51), &x), shares(Ring::new(45), &zeros)];
            assert_right(&parties(program.clone(), salt), &inputs);
        }
    }
}

/// One input under many masks, and inputs at the ends of the domain: wraps and carries of every kind.
#[test]
fn extended_wires_are_right_under_many_masks() {
    let shape = TensorShape::flat(4096).expect("few elements");
    for (gate, ring, drop) in [
        (onehot(), FULL, 28),
        (dpf(), FULL, 28),
        (onehot(), Ring::new(48), 16),
        (dpf(), Ring::new(57), 25),
        (onehot(), FULL, 10),
    ] {
        let entry = Entry { ring, drop };
        let op = GateOp::entering(gate, entry).expect("the gate takes it");
        let program = Program::new([
            (Op::Input(Input::new(shape, ring, FRAC + drop, Form::Masked)), vec![]),
            (Op::Gate(op), vec![NodeId(0)]),
            (Op::Output(Output), vec![NodeId(1)]),
        ])
        .expect("a program");
        let bound = (127i64 << (FRAC + drop)) - 1;
        for x in [0, 1, -1, bound, -bound, 5 << (FRAC + drop - 2), -(3 << (FRAC + drop - 1))] {
            let inputs = [shares(ring, &vec![x; 4096])];
            assert_right(&parties(program.clone(), 3), &inputs);
        }
    }
}

#[test]
fn levels_agree_to_the_bit_on_every_operation() {
    let file = GateFile::builtin("gelu").expect("built in");
    let gate = catalog::gate(&file, Protocol::Onehot, None).expect("in the file");
    let x: Vec<i64> =
        numbers(6).map(|number| (number >> 43).cast_signed() - (1 << 20)).take(37 * 8).collect();
    let block: Vec<i64> =
        numbers(5).map(|number| (number >> 37).cast_signed() - (1 << 26)).take(9 * 24).collect();
    let inputs = vec![shares(Ring::new(51), &x), shares(Ring::new(45), &vec![0; x.len()])];
    let cases = [
        (all_operations(GateOp::new(Arc::new(gate))), inputs),
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
    for (nodes, reason) in [
        (vec![input(FULL, 40), node(Op::gate(onehot()), &[0])], "it takes elements of 48 bits"),
        (
            vec![input(FULL, 26), node(Op::Linear(Linear::new(weights(1, 9, 2, 8), 8)), &[0])],
            "has not 9 columns",
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
