//! Tiles of a program, for `tests/same_path.py`, which steps through it instruction by instruction: whether what is executed
//! depends on secrets. `same_path PROGRAM SECRETS`: PROGRAM is a protocol, whose gate gelu is the program, or `products`. Every
//! secret follows from the number SECRETS, everything public is always the same. All is done twice; the second time, a call of the
//! system (`getppid`) parts one operation from the next.

use std::{hint::black_box, os::unix::process::parent_id, sync::Arc};

use suf_cpu::CpuBackend;
use suf_gate::{
    Backend, Form, HostValue, KeyBytes, NodeId, Part, Party, Program, Protocol, Ring, SecretBytes, Seed,
    TensorShape, TwoParties, Value, catalog,
    gatefile::GateFile,
    ops::{
        DropBits, Extended, Factors, Gain, Heads, Input, Linear, Op, Open, Output, Pad, PadOf, Pads, Product,
        Scale, Slice, SquareSum, SubtractRow, Weights,
    },
};

/// Elements of the tile: whole vector blocks and a rest.
const ELEMS: usize = 300;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, name, secrets] = &arguments[..] else { panic!("same_path PROGRAM SECRETS") };
    let secrets: u8 = secrets.parse().expect("a small number");
    let program = Arc::new(if name == "products" { products() } else { of_gate(name) });
    let backend = CpuBackend::new();
    run(&backend, &program, secrets, || {});
    run(&backend, &program, secrets, || {
        black_box(parent_id());
    });
}

fn of_gate(protocol: &str) -> Program {
    let protocol = Protocol::ALL.into_iter().find(|known| known.name() == protocol).expect("a protocol");
    let file = GateFile::builtin("gelu").expect("gelu is built in");
    let gate = Arc::new(catalog::gate(&file, protocol, None).expect("in the file"));
    Program::of_gate(gate, ELEMS as u64).expect("few elements")
}

/// Products of masked wires in every form, and the operations on rows.
fn products() -> Program {
    let (x, values) = (Ring::new(52), Ring::new(48));
    let shape = TensorShape::new(ELEMS as u32 / 10, 10).expect("few elements");
    let node = |op, inputs: &[u16]| (op, inputs.iter().copied().map(NodeId).collect::<Vec<_>>());
    let dealt = |of, from: Ring, drop, to, wire| {
        let from = Extended::new(from, drop).expect("bits are left");
        node(Op::Pads(Pads::dealt(Pad { of, from, to: Ring::new(to) })), &[wire])
    };
    let [of_x, of_values] =
        [(x, 12), (values, 20)].map(|(ring, drop)| Extended::new(ring, drop).expect("bits are left"));
    let full = Ring::new(64);
    let weights = |rows: u32, cols: u32| {
        let values = (0..rows * cols).map(|i| i as i32 - 7).collect();
        Arc::new(Weights::new(rows, cols, values, vec![3; cols as usize]).expect("they fit"))
    };
    let product = |factors| Op::Product(Product::new(factors, [x; 2], x).expect("they fit"));
    let heads = Heads { heads: 2, tokens: 5 };
    Program::new([
        node(Op::Input(Input::new(shape, x, 20, Form::Masked)), &[]),
        node(Op::Input(Input::new(shape.column(), values, 20, Form::Masked)), &[]),
        node(Op::Pads(Pads::own(x, x).expect("the same ring")), &[0]),
        // 3
        node(product(Factors::Elements), &[0, 0, 2, 2]),
        node(product(Factors::Scores(heads)), &[0, 0, 2, 2]),
        dealt(PadOf::Quotient, x, 12, 64, 0),
        dealt(PadOf::Top, x, 12, 24, 0),
        // 7
        dealt(PadOf::TopQuotient, x, 12, 23, 0),
        dealt(PadOf::Quotient, values, 20, 64, 1),
        dealt(PadOf::Top, values, 20, 36, 1),
        // 10
        node(Op::Scale(Scale::new(of_x, of_values, None, full).expect("bits are left")), &[0, 1, 5, 6, 8, 9]),
        node(Op::SquareSum(SquareSum::new(of_x, full).expect("bits are left")), &[0, 5, 6, 7]),
        node(Op::Gain(Gain::new(weights(1, 10), 2)), &[0]),
        // 13
        node(Op::Linear(Linear::new(weights(10, 1), 2)), &[0]),
        node(Op::SubtractRow(SubtractRow), &[12, 13]),
        node(Op::Slice(Slice { first: 2, count: 7 }), &[14]),
        node(Op::Drop(DropBits(2)), &[15]),
        // 17
        node(Op::Open(Open::masked(Ring::new(50), 10, full).expect("bits are left")), &[16]),
        node(Op::Output(Output), &[17]),
    ])
    .expect("a program")
}

/// Dealing, both parties' evaluations and openings of the inputs, with `mark` before each and after the last.
fn run(backend: &CpuBackend, program: &Arc<Program>, secrets: u8, mark: impl Fn()) {
    let seeds = [0, 1, 2].map(|who: u8| Seed::new(*blake3::hash(&[who, secrets]).as_bytes()));
    let parties = TwoParties::new(Arc::clone(program), [0; 16], seeds);
    mark();
    let deal = |part| parties.deal(backend, part).expect("the processor deals");
    let dealt: Vec<[KeyBytes; 2]> = program.parts().map(deal).collect();
    for party in Party::BOTH {
        mark();
        for (part, keys) in program.parts().zip(&dealt) {
            let node = program.node(part.node);
            if !node.is_input() && !node.is_output() {
                let taken = program.taken(part).flat_map(|taken| taken.parts());
                let inputs = taken.map(|part| value(program, part, secrets)).collect();
                evaluate(backend, &parties, party, part, keys[party.index()].clone(), inputs);
            }
        }
        mark();
        for input in program.inputs().filter(|input| program.node(*input).exchanges() > 0) {
            let (part, no_key) = (Part::new(input, 0), SecretBytes::default().into());
            let shares = elements(program, part, &[6, secrets]);
            evaluate(backend, &parties, party, part, no_key, vec![shares]);
        }
    }
    mark();
}

/// What a node made: public, or shares.
fn value(program: &Program, part: Part, secrets: u8) -> Arc<dyn Value> {
    let node = part.node.0 as u8;
    match program.node(part.node).wire().map(|wire| wire.form) {
        Some(Form::Masked) => elements(program, part, &[4, node]),
        _ => elements(program, part, &[3, node, secrets]),
    }
}

fn evaluate(
    backend: &CpuBackend,
    parties: &TwoParties,
    party: Party,
    part: Part,
    key: KeyBytes,
    inputs: Vec<Arc<dyn Value>>,
) {
    let program = parties.program();
    let message = |step| {
        let len = program.message_bytes(part, step).expect("an exchange of the part");
        bytes(&[5, step as u8], len)
    };
    let incoming: Vec<Vec<u8>> = (0..program.node(part.node).exchanges()).map(message).collect();
    let staged = backend.stage(&parties.eval_job(party, part), key).expect("the key fits");
    let mut eval = staged.begin(inputs).expect("the inputs fit");
    let mut last: &[u8] = &[];
    for (step, next) in incoming.iter().enumerate() {
        black_box(eval.step(step, last).expect("a step"));
        last = next;
    }
    black_box(eval.finish(last).expect("an output"));
}

fn elements(program: &Program, part: Part, name: &[u8]) -> Arc<dyn Value> {
    let ring = program.node(part.node).ring().expect("it makes a wire");
    let eight = bytes(name, 8 * program.elems(part));
    let words = eight.as_chunks().0.iter().map(|element| ring.reduce(u64::from_le_bytes(*element)));
    HostValue::shared(words.collect())
}

fn bytes(name: &[u8], len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(name).finalize_xof().fill(&mut out);
    out
}
