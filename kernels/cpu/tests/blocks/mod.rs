//! Programs of several nodes, and what is right about them: for the tests of any backend.

pub(crate) mod layer;
pub(crate) mod private;
pub(crate) mod softmax;

use std::sync::Arc;

use suf_cpu::CpuBackend;
use suf_gate::{
    Backend, Curve, Form, Gate, NodeId, Part, Party, Program, Ring, Seed, Shape, Side, TensorShape,
    TwoParties,
    check::{self, Observed},
    dpf::Dpf,
    gatefile::GateFile,
    layout::FieldId,
    onehot::Onehot,
    ops::{Add, DropBits, Entry, GateOp, Input, Linear, Op, Open, Output, Shift, Weights},
    ring::{FRAC, WIRE},
    two_parties::Transcript,
};

pub(crate) const FULL: Ring = Ring::new(64);

fn curve() -> Curve {
    GateFile::builtin("gelu").expect("built in").curve
}

/// GELU for abs(x) < 128: one digit of 6 bits, or 15 bits of t.
pub(crate) fn onehot() -> Arc<Gate> {
    let shape = Onehot::new(curve(), vec![6]).expect("a shape");
    Arc::new(Gate::new("gelu", Shape::Onehot(shape)).expect("a gate"))
}

pub(crate) fn dpf() -> Arc<Gate> {
    let shape = Dpf::new(curve(), 15).expect("a shape");
    Arc::new(Gate::new("gelu", Shape::Dpf(shape)).expect("a gate"))
}

/// Numbers that look random (splitmix64).
pub(crate) fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    (1..).map(move |i: u64| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    })
}

pub(crate) fn weights(seed: u64, rows: u32, cols: u32, bits: u32) -> Arc<Weights> {
    let small = |bits: u32| move |number: u64| (number >> (64 - bits)).cast_signed() - (1 << (bits - 1));
    let values = numbers(seed).map(small(bits)).map(|weight| weight as i32);
    let values = values.take((rows * cols) as usize).collect();
    let bias = numbers(seed + 1).map(small(30)).take(cols as usize).collect();
    Arc::new(Weights::new(rows, cols, values, bias).expect("they fit"))
}

pub(crate) fn parties(program: Program, salt: u8) -> TwoParties {
    let seeds = [0, 1, 2].map(|who: u8| Seed::new(*blake3::hash(&[who, salt]).as_bytes()));
    TwoParties::new(Arc::new(program), [salt; 16], seeds)
}

/// Both parties' shares of `x`, in `ring`.
pub(crate) fn shares(ring: Ring, x: &[i64]) -> [Vec<u64>; 2] {
    let mine: Vec<u64> = numbers(9).map(|number| ring.reduce(number)).take(x.len()).collect();
    let theirs = x.iter().zip(&mine).map(|(x, mine)| ring.sub(ring.encode(*x), *mine)).collect();
    [mine, theirs]
}

struct Seen<'a> {
    parties: &'a TwoParties,
    transcript: &'a Transcript,
    /// The matrices of the load that the program takes, in the order of the load program's inputs, which come first.
    loaded: &'a [Vec<i64>],
}

impl Observed for Seen<'_> {
    fn made(&self, part: Part) -> [&[u64]; 2] {
        self.transcript.values[&part].each_ref().map(Vec::as_slice)
    }

    fn mask(&self, part: Part) -> Vec<u64> {
        CpuBackend::new().mask(self.parties, part)
    }

    fn loaded(&self, input: NodeId) -> &[i64] {
        &self.loaded[input.index()]
    }

    fn streams(&self, part: Part, field: FieldId, bytes: usize) -> [Vec<u8>; 2] {
        CpuBackend::new().streams(self.parties, part, field, bytes)
    }
}

/// What a checker sees of a run. `loaded` are the matrices of the load that the program takes.
pub(crate) fn observed<'a>(
    parties: &'a TwoParties,
    transcript: &'a Transcript,
    loaded: &'a [Vec<i64>],
) -> impl Observed + 'a {
    Seen { parties, transcript, loaded }
}

/// Runs a program on `backend` and asserts that every node is right on every element.
pub(crate) fn assert_right(backend: &dyn Backend, parties: &TwoParties, inputs: &[[Vec<u64>; 2]]) {
    assert_right_on(&[], backend, parties, inputs);
}

/// The same of a program that takes the matrices of a load: they are `loaded`.
pub(crate) fn assert_right_on(
    loaded: &[Vec<i64>],
    backend: &dyn Backend,
    parties: &TwoParties,
    inputs: &[[Vec<u64>; 2]],
) {
    let transcript = parties.run(backend, [backend, backend], inputs).expect("the backend computes");
    let program = parties.program();
    assert_costs(program);
    let found = check::check(program, &observed(parties, &transcript, loaded));
    for node in found {
        let name = program.node(node.node).op().def().name();
        assert_eq!((node.wrong, node.out_of_range), (0, 0), "{} {name}", node.node);
    }
}

/// What each node declares is what its messages and keys add up to.
fn assert_costs(program: &Program) {
    for (id, node) in program.nodes() {
        let (declared, name) = (node.declared(), node.op().def().name());
        let parts = || (0..node.tiles()).map(|tile| Part::new(id, tile));
        let bits: u64 = parts()
            .map(|part| {
                let steps = 0..node.exchanges();
                steps.filter_map(|step| program.frame_bits(part, step)).sum::<u64>()
            })
            .sum();
        assert_eq!(declared.bits, bits, "{id} {name}");
        let key = |side| {
            let shape = node.op().def().key_shape();
            parts().map(|part| shape.bits(side, program.counts(part))).sum::<u64>()
        };
        let keys = (declared.seeded_key_bits, declared.explicit_key_bits);
        assert_eq!(keys, (key(Side::Seeded), key(Side::Explicit)), "{id} {name}");
        // Padding to whole bytes is less than one for each field of each part.
        let fields = (node.op().def().key_shape().fields().len() as u64) * u64::from(node.tiles());
        let bytes = Party::BOTH.map(|party| program.node_key_bytes(party, id)).iter().sum::<u64>();
        let least = (keys.0 + keys.1).div_ceil(8);
        assert!((least..=least + 128 * fields).contains(&bytes), "{id} {name}: {bytes}, {least}");
    }
}

/// The feed-forward block of a transformer: `rows` tokens, `hidden` wide, `inner` between.
pub(crate) fn feed_forward(gate: Arc<Gate>, rows: u32, hidden: u32, inner: u32) -> Program {
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

/// The operations of `docs/protocols/programs.md` and a gate, in rings that are no whole bytes too.
pub(crate) fn mixed_operations(gate: GateOp) -> Program {
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

/// The inputs of [`mixed_operations`].
pub(crate) fn mixed_inputs() -> [[Vec<u64>; 2]; 2] {
    let x: Vec<i64> =
        numbers(6).map(|number| (number >> 43).cast_signed() - (1 << 20)).take(37 * 8).collect();
    [shares(Ring::new(51), &x), shares(Ring::new(45), &vec![0; x.len()])]
}

/// A gate on a wire that enters it as `entry` says, of the number of elements.
pub(crate) fn entered(gate: Arc<Gate>, entry: Entry, elems: u64) -> Program {
    let shape = TensorShape::flat(elems).expect("few elements");
    let op = GateOp::entering(gate, entry).expect("the gate takes it");
    Program::new([
        (Op::Input(Input::new(shape, entry.ring, FRAC + entry.drop, Form::Masked)), vec![]),
        (Op::Gate(op), vec![NodeId(0)]),
        (Op::Output(Output), vec![NodeId(1)]),
    ])
    .expect("a program")
}
